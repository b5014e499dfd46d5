"""Who runs inside whom: each in-process subflow with its ancestors up to its root, told in batches.

A subflow points at the task run that stands for it, and that at the flow run that it belongs to
(`flow_run.parent_task_run_id` -> `task_run.flow_run_id`). Neither ever changes, so the links are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from reconciler.model import FlowRun, RunId
from reconciler.ports import Orchestrator, OrchestratorError, Unreadable
from reconciler.snapshot import Case, Lineage

_DEEPEST = 100  # Prefect itself does not nest that deep
_Sign = TypeVar("_Sign")


@dataclass(frozen=True, slots=True)
class Kinship:
    """The lineage of every in-process subflow, and those roots that were not among the runs given."""

    lineages: Mapping[RunId, Lineage] = field(default_factory=dict)
    roots: Mapping[RunId, FlowRun] = field(default_factory=dict)


class Families:
    """Climbs from subflows to their roots, all of them one level at a time. Bounded by the subflows in flight."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._parents: dict[UUID, RunId] = {}  # the flow run of each task run
        self._unreadable: dict[RunId, str] = {}  # in this pass, and why

    def resolve(self, runs: Sequence[FlowRun]) -> Kinship:
        """Tell the lineage of each subflow among `runs`. What cannot be read is said in the lineage; raises nothing."""
        self._unreadable.clear()
        known = {run.id: run for run in runs}
        climbs = {run.id: _Climb(run) for run in runs if run.is_in_process_subflow}
        try:
            while climbing := [climb for climb in climbs.values() if climb.goes_on]:
                self._learn({climb.task_run for climb in climbing}, known)
                for climb in climbing:
                    self._step(climb, known)
        except OrchestratorError as error:
            for climb in climbing:
                climb.fail(f"the flow run that it runs in could not be read: {error}")
        used = {task_run for climb in climbs.values() for task_run in climb.task_runs}
        self._parents = {task_run: parent for task_run, parent in self._parents.items() if task_run in used}
        given = {run.id for run in runs}
        roots = {climb.top.id: climb.top for climb in climbs.values() if climb.ancestors and climb.top.id not in given}
        return Kinship({run_id: climb.lineage for run_id, climb in climbs.items()}, roots)

    def _step(self, climb: _Climb, known: Mapping[RunId, FlowRun]) -> None:
        parent_id = self._parents.get(climb.task_run)
        if parent_id in self._unreadable:
            climb.fail(f"the flow run that it runs in could not be read: {self._unreadable[parent_id]}")
        else:
            climb.step(known.get(parent_id) if parent_id else None)

    def _learn(self, task_runs: Collection[UUID], known: dict[RunId, FlowRun]) -> None:
        """Read what is not known yet of these task runs: whose they are, and those flow runs. Raises."""
        if unknown := {task_run for task_run in task_runs if task_run not in self._parents}:
            self._parents |= self._orchestrator.parents(unknown)
        above = {self._parents[task_run] for task_run in task_runs if task_run in self._parents}
        if unread := above - known.keys() - self._unreadable.keys():
            try:
                known |= self._orchestrator.reread(unread)
            except Unreadable as error:  # what one row spoils is one family, not all of them
                known |= error.rows
                self._unreadable |= dict.fromkeys(error.run_ids, str(error))


@dataclass(slots=True)
class _Climb:
    """The way from one subflow up to its root."""

    run: FlowRun
    top: FlowRun = field(init=False)
    ancestors: list[RunId] = field(default_factory=list)
    task_runs: set[UUID] = field(default_factory=set)  # the links climbed so far
    error: str | None = None
    goes_on: bool = True

    def __post_init__(self) -> None:
        self.top = self.run

    @property
    def task_run(self) -> UUID:
        """The one that stands for the topmost run in the next one's process."""
        return self.top.parent_task_run_id or self.top.id

    @property
    def lineage(self) -> Lineage:
        return Lineage(ancestors=tuple(self.ancestors), error=self.error)

    def step(self, parent: FlowRun | None) -> None:
        """One level up; None: the next one was deleted."""
        self.task_runs.add(self.task_run)
        if parent is None:
            self.ancestors, self.goes_on = [], False
        elif parent.id in (self.run.id, *self.ancestors) or len(self.ancestors) >= _DEEPEST:
            self.fail("its ancestors form a ring, so none of them is its root")
        else:
            self.top = parent
            self.ancestors.append(parent.id)
            self.goes_on = parent.is_in_process_subflow

    def fail(self, why: str) -> None:
        self.ancestors, self.error, self.goes_on = [], why, False


def newest_of_family(
    signs: Mapping[RunId, _Sign], cases: Iterable[Case], when: Callable[[_Sign], datetime]
) -> dict[RunId, _Sign]:
    """Give each run the newest sign of all that run in its process: they live and die together."""
    heads = {case.run.id: case.lineage.root_id or case.run.id for case in cases if case.lineage}
    newest: dict[RunId, _Sign] = {}
    for run_id, sign in signs.items():
        head = heads.get(run_id, run_id)
        if head not in newest or when(sign) > when(newest[head]):
            newest[head] = sign
    return newest | {run_id: newest[head] for run_id, head in heads.items() if head in newest}
