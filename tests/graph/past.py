"""The run and its state history, as the server would list them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import cache
from uuid import UUID

from reconciler.model import FlowRun, StateRecord, StateType
from reconciler.plan import transition_id
from tests import spec

from .node import OURS, Node
from .setting import Setting

RUN, STATE, CHANGED = UUID(int=1), UUID(int=2), UUID(int=3)
_IDS = tuple(UUID(int=number) for number in range(10, 40))
_TYPES = {name: StateType(name) for name in ("PENDING", "RUNNING", "SCHEDULED", "CANCELLING", "CRASHED")}


@cache
def ago(seconds: float) -> datetime:
    return spec.ago(seconds)


def run(facts: Node, setting: Setting, state_id: UUID = STATE) -> FlowRun:
    return _run(facts.state, facts.age, facts.due, setting.pid_of(facts.attempt), state_id)


@cache
def _run(state: str, age: float, due: float | None, pid: str | None, state_id: UUID) -> FlowRun:
    asleep = state == "ASLEEP"
    return FlowRun(
        id=RUN,
        name="otter",
        state_id=state_id,
        state_type=_TYPES["SCHEDULED" if asleep else state],
        state_name=state.title(),
        state_since=ago(age),
        created=ago(99_999),
        run_count=1,
        pid=pid,
        work_pool="pool",
        worker_type="docker",
        retry_type="in_process" if asleep else None,
        scheduled_time=ago(due or 0) if asleep else None,
    )


def history(facts: Node) -> tuple[StateRecord, ...]:
    """The states of the run: at most two attempts, a final state that was left, and the present one."""
    return _history(facts.state, facts.age, facts.attempt, facts.left, facts.resumed or 0.0, facts.began or 0.0)


@cache
def _history(state: str, age: float, attempt: int, left: str, resumed: float, start: float) -> tuple[StateRecord, ...]:
    rows = [("PENDING", start + 600), ("RUNNING", start + 590), ("SCHEDULED", start + 100)] * (attempt == 2)
    rows += [("PENDING", start), *([("RUNNING", start - 10)] if state != "PENDING" else [])]
    rows += [("CRASHED", resumed + 0.5)] if left else []
    rows += [("RUNNING", resumed)] if left and resumed > age else []
    rows.append(("SCHEDULED" if state == "ASLEEP" else state, age))
    ids = (*_IDS[: len(rows) - 1], STATE)
    records = [
        StateRecord(id=key, type=_TYPES[name], name=name, timestamp=ago(then))
        for key, (name, then) in zip(ids, rows, strict=True)
    ]
    if left == OURS:
        crash = [name for name, _ in rows].index("CRASHED")
        records[crash] = replace(records[crash], transition_id=transition_id(RUN, ids[crash - 1]))
    return tuple(records)
