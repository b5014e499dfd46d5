"""Fakes of the two ports, and a flow run to feed them with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Event
from uuid import UUID, uuid4

from reconciler.model import (
    EXACT,
    Action,
    ClockOffset,
    Condition,
    FlowRun,
    Heartbeat,
    LifeSign,
    Observation,
    OutcomeKind,
    Place,
    Resource,
    RunId,
    Seen,
    StateRecord,
    StateType,
    TaskRun,
)
from reconciler.plan import Finding, Listing, Outcome, resumption_id, transition_id
from reconciler.ports import HOUR, OrchestratorError, Problem


def flow_run(pid: str | None = None, **changes: object) -> FlowRun:
    """Make a RUNNING flow run for tests."""
    now = datetime.now(UTC)
    values: dict[str, object] = {
        "id": uuid4(),
        "name": "test-run",
        "state_id": uuid4(),
        "state_type": StateType.RUNNING,
        "state_name": "Running",
        "state_since": now - timedelta(minutes=5),
        "created": now - timedelta(minutes=6),
        "run_count": 1,
        "pid": pid,
        "work_pool": "pool",
    }
    return FlowRun(**(values | changes))  # type: ignore[arg-type]


@dataclass
class FakeScope:
    """A scope that answers what a test puts into it; runs without an entry are GONE."""

    name: str = "fake"
    place: str = "engine-1"
    answers: dict[RunId, list[Observation]] = field(default_factory=dict)
    strangers: list[Resource] = field(default_factory=list)
    incomplete: str | None = None
    error: Exception | None = None
    hangs: Event | None = None  # a call waits until it is set
    asked: list[list[RunId]] = field(default_factory=list)
    on_observe: Callable[[], object] = lambda: None

    def identity(self, deadline: float) -> str:
        if self.error is not None:
            raise self.error
        return self.place

    def locate(self, run: FlowRun) -> Place:
        return Place.UNSAID

    def observe(self, runs: Sequence[FlowRun], deadline: float) -> Seen:
        if self.hangs is not None:
            self.hangs.wait()
        self.asked.append([run.id for run in runs])
        self.on_observe()
        seen = {run.id: self.answers.get(run.id, [self.gone(run)]) for run in runs}
        return Seen(
            observations=seen, strangers=self.strangers, incomplete=self.incomplete, place_time=datetime.now(UTC)
        )

    def check(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None: ...

    def resource(self, run: FlowRun, created_at: datetime | None = None) -> Resource:
        return Resource(
            id=f"res-{run.id}",
            title=f"fake {run.name} at {self.place}",
            run_id=run.id,
            key=run.pid or "",
            created_at=created_at,
        )

    def alive(self, run: FlowRun) -> Observation:
        return Observation(condition=Condition.ALIVE, reason="is running", resource=self.resource(run))

    def exited(self, run: FlowRun, code: int | None, ended_at: datetime | None) -> Observation:
        words = f"exited with code {code}"
        return Observation(
            condition=Condition.EXITED, reason=words, resource=self.resource(run), exit_code=code, ended_at=ended_at
        )

    def gone(self, run: FlowRun) -> Observation:
        return Observation(condition=Condition.GONE, reason="was removed")


@dataclass
class FakeOrchestrator:
    """A Prefect API in memory, which accepts what is proposed. `written` is every settlement proposed.

    With `takes_states` a run has the state that was written from then on, and what has ended is listed no more; without
    it, the runs stay as the test gave them.
    """

    runs: list[FlowRun] = field(default_factory=list)
    past: dict[RunId, list[StateRecord]] = field(default_factory=dict)
    hearts: dict[RunId, Heartbeat] | None = field(default_factory=dict)
    signs: dict[RunId, LifeSign] = field(default_factory=dict)
    crashed: list[tuple[FlowRun, str]] = field(default_factory=list)
    problems: tuple[str, ...] = ()
    error: OrchestratorError | None = None
    written: list[Finding] = field(default_factory=list)
    owners: dict[UUID, RunId] = field(default_factory=dict)  # the flow run of each task run
    task_runs: list[TaskRun] = field(default_factory=list)  # those that are open
    written_task_runs: list[tuple[TaskRun, str]] = field(default_factory=list)  # and their messages
    resumed: list[tuple[Finding, UUID]] = field(default_factory=list)  # and their Crashed
    takes_states: bool = False
    url: str = "http://fake/api"
    calls: int = 0
    errors: int = 0
    begun: list[float] = field(default_factory=list)
    clock: ClockOffset = EXACT
    server_version: str | None = "3.8.8"

    def begin(self, deadline: float) -> None:
        self.begun.append(deadline)

    def in_flight(self) -> Listing:
        self.calls += 1
        if self.error is not None:
            raise self.error
        listed = tuple(run for run in self.runs if run.is_in_flight or not self.takes_states)
        return Listing(runs=listed, problems=self.problems)

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        self.calls += 1
        return {run.id: run for run in self.runs if run.id in run_ids}

    def history(self, run_id: RunId) -> Sequence[StateRecord]:
        self.calls += 1
        run = next(run for run in self.runs if run.id == run_id)
        return [*self.past.get(run_id, ()), _record(run)]

    def heartbeats(self, run_ids: Collection[RunId], window: timedelta = HOUR) -> Mapping[RunId, Heartbeat] | None:
        self.calls += 1
        return self.hearts

    def life_signs(self, run_ids: Collection[RunId], window: timedelta) -> Mapping[RunId, LifeSign]:
        self.calls += 1
        return {run_id: self.signs[run_id] for run_id in run_ids if run_id in self.signs}

    def parents(self, task_run_ids: Collection[UUID]) -> Mapping[UUID, RunId]:
        self.calls += 1
        return {one: self.owners[one] for one in task_run_ids if one in self.owners}

    def crashed_by_us(self, within: timedelta) -> Sequence[tuple[FlowRun, str]]:
        self.calls += 1
        return self.crashed

    def settle(self, finding: Finding) -> Outcome:
        self.calls += 1
        self.written.append(finding)
        state = StateType.CANCELLED if finding.action is Action.CANCEL else StateType.CRASHED
        run = finding.run
        return self._enter(run.id, state, state.capitalize(), transition_id(run.id, run.state_id))

    def open_task_runs(self, run_ids: Collection[RunId]) -> Sequence[TaskRun]:
        self.calls += 1
        return [task_run for task_run in self.task_runs if task_run.flow_run_id in run_ids]

    def settle_task_run(self, task_run: TaskRun, message: str) -> Outcome:
        self.calls += 1
        self.written_task_runs.append((task_run, message))
        if task_run not in self.task_runs:
            return Outcome(OutcomeKind.SETTLED_ELSEWHERE, "already CRASHED")
        self.task_runs.remove(task_run)
        return Outcome(OutcomeKind.ACCEPTED, "", state_id=uuid4())

    def resume(self, finding: Finding, crash_id: UUID) -> Outcome:
        self.calls += 1
        self.resumed.append((finding, crash_id))
        run = next((run for run in self.runs if run.id == finding.run.id), None)
        if self.takes_states and run is not None and run.state_id != crash_id:
            return Outcome(OutcomeKind.STATE_CHANGED, f"it is {run.state_name} by now: left alone")
        transition = resumption_id(finding.run.id, crash_id)
        return self._enter(finding.run.id, StateType.SCHEDULED, "AwaitingRetry", transition)

    def _enter(self, run_id: RunId, state: StateType, name: str, transition: UUID) -> Outcome:
        """The run, if it is there, has that state from now on."""
        before, state_id = next((run for run in self.runs if run.id == run_id), None), uuid4()
        if self.takes_states and before is not None:
            self.past.setdefault(run_id, []).append(_record(before))
            changes = {"state_id": state_id, "state_type": state, "state_name": name, "transition_id": transition}
            after = replace(before, state_since=datetime.now(UTC), **changes)  # type: ignore[arg-type]
            self.runs = [after if run is before else run for run in self.runs]
        return Outcome(OutcomeKind.ACCEPTED, "", state_id=state_id, is_undisturbed=True)


def _record(run: FlowRun) -> StateRecord:
    return StateRecord(
        id=run.state_id,
        type=run.state_type,
        name=run.state_name,
        timestamp=run.state_since,
        transition_id=run.transition_id,
    )
