"""Whose task runs these are, which ones of a flow run are still open, and the end of one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec

from reconciler.model import OutcomeKind, RunId, StateType, TaskRun
from reconciler.plan import Outcome, transition_id
from reconciler.ports import MOST_OPEN_TASK_RUNS
from reconciler.prefect_api.proposing import Proposal, Proposed
from reconciler.prefect_api.transport import Transport
from reconciler.words import clipped, legible

_OPEN = (StateType.RUNNING, StateType.PENDING)
_NAME = 300

_Id = TypeVar("_Id", bound=UUID)


class _Owned(msgspec.Struct):
    id: UUID
    flow_run_id: UUID | None = None


class _Details(msgspec.Struct):
    child_flow_run_id: object = None


class _State(msgspec.Struct):
    id: UUID
    type: StateType
    state_details: _Details | None = None


class _Row(msgspec.Struct):
    id: UUID
    name: str = ""
    flow_run_id: UUID | None = None
    state: _State | None = None

    def task_run(self, run_ids: Collection[RunId]) -> TaskRun | None:
        """None unless it is what was asked for: servers drop filters silently."""
        run_id = self.flow_run_id
        if run_id is None or run_id not in run_ids or self.state is None or self.state.type not in _OPEN:
            return None
        details = self.state.state_details
        return TaskRun(
            id=self.id,
            name=legible(clipped(self.name, _NAME)),
            flow_run_id=run_id,
            state_id=self.state.id,
            state_type=self.state.type,
            placeholder=details is not None and details.child_flow_run_id is not None,
        )


def read_parents(transport: Transport, task_run_ids: Collection[UUID], limit: int) -> dict[UUID, RunId]:
    """The flow run of each of these task runs; deleted ones, and those of none, are missing.

    Raises OrchestratorError.
    """
    wanted, owners = set(task_run_ids), dict[UUID, RunId]()
    for chunk in _chunks(wanted, limit):
        body = {"task_runs": {"id": {"any_": chunk}}, "limit": len(chunk)}
        answer = transport.ask("POST", "/task_runs/filter", body)
        for row in transport.decode(answer, list[_Owned], "a list of task runs"):
            if row.id in wanted and row.flow_run_id is not None:
                owners[row.id] = row.flow_run_id
    return owners


def read_open(transport: Transport, run_ids: Collection[RunId], limit: int) -> list[TaskRun]:
    """The running and pending task runs of these flow runs, 5,000 at most besides placeholders.

    Raises OrchestratorError.

    They are read before any of them is settled: rows that leave the filter in between would hide others.
    """
    wanted, found, sum_of_work = set(run_ids), dict[UUID, TaskRun](), 0
    for chunk in _chunks(wanted, limit):
        for row in _rows(transport, chunk, limit):
            if sum_of_work >= MOST_OPEN_TASK_RUNS:
                return list(found.values())
            if (task_run := row.task_run(wanted)) is not None:
                found[task_run.id] = task_run
                sum_of_work += not task_run.placeholder
    return list(found.values())


def _rows(transport: Transport, run_ids: Sequence[RunId], limit: int) -> Iterator[_Row]:
    """Page by page. No more than can be open: a server that ignores the offset would go on for ever."""
    asked = {
        "flow_runs": {"id": {"any_": run_ids}},
        "task_runs": {"state": {"type": {"any_": _OPEN}}},
        "sort": "ID_DESC",
    }
    for offset in range(0, 2 * MOST_OPEN_TASK_RUNS, limit):
        answer = transport.ask("POST", "/task_runs/filter", {**asked, "limit": limit, "offset": offset})
        rows = transport.decode(answer, list[_Row], "a list of task runs")
        yield from rows
        if len(rows) < limit:
            return


def settle_task_run(transport: Transport, task_run: TaskRun, message: str) -> Outcome:
    """Propose Crashed. Nothing has to be compared: the server refuses it for what has ended (3.8.8, 2.20).

    Raises nothing: an error is an outcome too.
    """
    if task_run.state_type not in _OPEN:
        return Outcome(OutcomeKind.REFUSED, f"not proposed: a task run that is {task_run.state_type} is left alone")
    proposed = Proposed(
        type=StateType.CRASHED,
        name="Crashed",
        message=message,
        transition=transition_id(task_run.id, task_run.state_id),
    )
    return Proposal(transport, "task", task_run.id, proposed).run()


def _chunks(ids: Collection[_Id], size: int) -> Iterator[Sequence[_Id]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
