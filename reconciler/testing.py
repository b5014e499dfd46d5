"""Public test kit: fakes of the two ports, and the conformance tests that every adapter must pass.

A third party's adapter is tested like ours: subclass `AdapterContract`, give it a `world` fixture, run pytest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from threading import Event
from typing import Protocol
from uuid import UUID, uuid4

import pytest

from reconciler.model import (
    EXACT,
    ClockOffset,
    Condition,
    FlowRun,
    Heartbeat,
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
from reconciler.ports import AdapterError, OrchestratorError, Problem, Scope


class Fault(StrEnum):
    """What goes wrong between a scope and its place."""

    TIMEOUT = "timeout"
    RESET = "connection reset"
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    PARENT_NOT_FOUND = "404 of the parent"
    EXPIRED = "410"
    THROTTLED = "429"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    TRUNCATED = "truncated body"
    EMPTY = "empty 200"
    MALFORMED = "malformed payload"


class World(Protocol):
    """A place with one scope bound to it, that a test can furnish and break."""

    scope: Scope

    has_exited: bool  # False: an ended resource leaves nothing to look at

    def place(self, condition: Condition) -> FlowRun:
        """Furnish a resource in that condition (GONE: none, with a pid of this adapter's form) and return its run."""

    def inject(self, fault: Fault) -> bool:
        """From now on every call meets the fault. False if the platform cannot have it."""

    def heal(self) -> None: ...

    def slow_down(self, seconds: float) -> bool:
        """From now on every answer takes that long. False if the platform cannot be made to."""

    def replace_identity(self) -> None:
        """Another place answers at the same address."""

    def replace_resource(self, run: FlowRun) -> None:
        """The run's resource is gone; another one of the same name, or pid number, belongs to someone else."""

    def unlabel(self, run: FlowRun) -> bool:
        """The live resource no longer carries the run's id where lists look. False if the platform cannot."""


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
    problems: tuple[str, ...] = ()
    error: OrchestratorError | None = None
    written: list[Finding] = field(default_factory=list)
    url: str = "http://fake/api"
    calls: int = 0
    clock: ClockOffset = EXACT
    server_version: str | None = "3.8.8"

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

    def heartbeats(self, run_ids: Collection[RunId]) -> Mapping[RunId, Heartbeat] | None:
        self.calls += 1
        return self.hearts

    def settle(self, finding: Finding) -> Outcome:
        self.calls += 1
        self.written.append(finding)
        return Outcome(OutcomeKind.ACCEPTED, "")


def conditions(seen: Seen, run: FlowRun) -> set[Condition]:
    """Every condition the scope reports of a run; UNKNOWN if it says nothing."""
    return {observation.condition for observation in seen.observations.get(run.id, ())} or {Condition.UNKNOWN}


def _deadline(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


class AdapterContract:
    """What the core relies on. Give a `world` fixture that returns a `World`."""

    @pytest.mark.parametrize("condition", [Condition.ALIVE, Condition.EXITED, Condition.GONE])
    def test_tells_what_is_there(self, world: World, condition: Condition) -> None:
        if condition is Condition.EXITED and not world.has_exited:
            return
        run = world.place(condition)
        assert conditions(world.scope.observe([run], _deadline()), run) == {condition}

    def test_a_gone_run_among_living_ones(self, world: World) -> None:
        alive, gone = world.place(Condition.ALIVE), world.place(Condition.GONE)
        seen = world.scope.observe([alive, gone], _deadline())
        assert conditions(seen, alive) == {Condition.ALIVE}
        assert conditions(seen, gone) == {Condition.GONE}

    @pytest.mark.parametrize("fault", list(Fault))
    def test_a_fault_is_never_an_answer(self, world: World, fault: Fault) -> None:
        runs = [world.place(Condition.ALIVE), world.place(Condition.GONE)]
        if not world.inject(fault):
            return
        try:
            world.scope.identity(_deadline())
            seen = world.scope.observe(runs, _deadline())
        except AdapterError as error:
            assert str(error), "an error says what failed"
        else:
            said = set[Condition]().union(*(conditions(seen, run) for run in runs))
            assert said <= {Condition.UNKNOWN, Condition.ALIVE} or seen.incomplete, f"{fault} became {said}"
        finally:
            world.heal()
        assert conditions(world.scope.observe(runs, _deadline()), runs[0]) == {Condition.ALIVE}

    def test_a_slow_place_is_still_told_right(self, world: World) -> None:
        alive, gone = world.place(Condition.ALIVE), world.place(Condition.GONE)
        if world.slow_down(0.2):
            seen = world.scope.observe([alive, gone], _deadline())
            assert conditions(seen, alive) == {Condition.ALIVE}
            assert conditions(seen, gone) == {Condition.GONE}

    def test_gone_and_alive_name_the_resource_as_a_pid_does(self, world: World) -> None:
        alive, gone = world.place(Condition.ALIVE), world.place(Condition.GONE)
        seen = world.scope.observe([alive, gone], _deadline())
        for run in (alive, gone):
            resources = [one.resource for one in seen.observations[run.id] if one.resource]
            assert run.pid
            assert any(resource.is_named_by(run.pid) for resource in resources)

    def test_gives_up_by_its_deadline(self, world: World) -> None:
        run = world.place(Condition.ALIVE)
        if not world.inject(Fault.TIMEOUT):
            return
        began = time.monotonic()
        with pytest.raises(AdapterError):
            world.scope.observe([run], _deadline(1.0))
        world.heal()
        assert time.monotonic() - began < 4.0

    def test_another_place_has_another_identity(self, world: World) -> None:
        before = world.scope.identity(_deadline())
        assert before == world.scope.identity(_deadline())
        world.replace_identity()
        assert world.scope.identity(_deadline()) != before

    def test_identity_not_name(self, world: World) -> None:
        run = world.place(Condition.ALIVE)
        world.replace_resource(run)
        assert conditions(world.scope.observe([run], _deadline()), run) <= {Condition.GONE, Condition.UNKNOWN}

    def test_a_removed_label_is_not_absence(self, world: World) -> None:
        run = world.place(Condition.ALIVE)
        if world.unlabel(run):
            assert Condition.GONE not in conditions(world.scope.observe([run], _deadline()), run)

    def test_live_resources_of_others_are_strangers(self, world: World) -> None:
        run = world.place(Condition.ALIVE)
        seen = world.scope.observe([], _deadline())
        assert run.id in {resource.run_id for resource in seen.strangers}
        assert not seen.observations

    @pytest.mark.parametrize(
        "pid", ["", ":", "::", "x" * 10_000, "\x00", "ns:job", "4294967296", "-1", "http://[", "é:1"]
    )
    def test_any_string_may_be_a_pid(self, world: World, pid: str) -> None:
        run = flow_run(pid)
        assert world.scope.locate(run) in Place
        assert Condition.ALIVE not in conditions(world.scope.observe([run], _deadline()), run)

    def test_says_the_place_s_time(self, world: World) -> None:
        seen = world.scope.observe([], _deadline())
        assert seen.place_time is not None
        assert seen.place_time.tzinfo is not None

    def test_only_asked_runs_are_answered(self, world: World) -> None:
        runs: list[FlowRun] = [world.place(Condition.ALIVE), world.place(Condition.EXITED)]
        asked: set[RunId | UUID] = {runs[0].id}
        assert set(world.scope.observe(runs[:1], _deadline()).observations) <= asked
