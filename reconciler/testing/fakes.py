"""Fakes of the two ports, and a flow run to feed them with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event
from uuid import uuid4

from reconciler.model import (
    EXACT,
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
)
from reconciler.plan import Finding, Listing, Outcome
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
    """A Prefect API in memory. `written` is every settlement proposed."""

    runs: list[FlowRun] = field(default_factory=list)
    past: dict[RunId, list[StateRecord]] = field(default_factory=dict)
    hearts: dict[RunId, Heartbeat] | None = field(default_factory=dict)
    signs: dict[RunId, LifeSign] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    error: OrchestratorError | None = None
    written: list[Finding] = field(default_factory=list)
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
        return Listing(runs=tuple(self.runs), problems=self.problems)

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        self.calls += 1
        return {run.id: run for run in self.runs if run.id in run_ids}

    def history(self, run_id: RunId) -> Sequence[StateRecord]:
        self.calls += 1
        run = next(run for run in self.runs if run.id == run_id)
        now = StateRecord(id=run.state_id, type=run.state_type, name=run.state_name, timestamp=run.state_since)
        return [*self.past.get(run_id, ()), now]

    def heartbeats(self, run_ids: Collection[RunId], window: timedelta = HOUR) -> Mapping[RunId, Heartbeat] | None:
        self.calls += 1
        return self.hearts

    def life_signs(self, run_ids: Collection[RunId], window: timedelta) -> Mapping[RunId, LifeSign]:
        self.calls += 1
        return {run_id: self.signs[run_id] for run_id in run_ids if run_id in self.signs}

    def settle(self, finding: Finding) -> Outcome:
        self.calls += 1
        self.written.append(finding)
        return Outcome(OutcomeKind.ACCEPTED, "")
