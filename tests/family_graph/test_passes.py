"""Families through whole passes of the core: what is read when, and what that changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from reconciler.cycle import Cycle
from reconciler.memory import Memory
from reconciler.model import FlowRun, Heartbeat, RunId, RunMapping, StateType, Verdict
from reconciler.outlook import Outlook
from reconciler.plan import CycleReport, Policy
from reconciler.ports import BoundScope
from reconciler.testing import FakeOrchestrator, FakeScope, flow_run

POLICY = Policy(confirm_after=timedelta(0))


class Server(FakeOrchestrator):
    before_reread: Callable[[], object] = staticmethod(lambda: None)

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        self.before_reread()
        return super().reread(run_ids)


class Bench:
    """A server, a scope that runs of the pool are mapped to, and one that they are not."""

    def __init__(self) -> None:
        self.api, self.scope, self.other = Server(takes_states=True), FakeScope(), FakeScope("other", "engine-2")
        mapped, elsewhere = RunMapping(work_pools=frozenset({"pool"})), RunMapping(work_pools=frozenset({"x"}))
        bounds = [BoundScope(self.scope, "fake", mapped), BoundScope(self.other, "fake", elsewhere)]
        self.outlook = Outlook(bounds, Memory(), deadline=1.0)
        self.cycle = Cycle(self.api, self.outlook, POLICY, wait=lambda seconds: None)
        self.herd = [self.root() for _ in range(4)]

    def root(self, **changes: object) -> FlowRun:
        one = flow_run("pid", **(_since(1000) | changes))
        self.api.runs.append(one)
        self.scope.answers[one.id] = [self.scope.alive(one)]
        return one

    def kid(self, parent: FlowRun, **changes: object) -> FlowRun:
        one = flow_run(**(_since(990) | {"work_pool": None, "parent_task_run_id": uuid4()} | changes))  # type: ignore[arg-type]
        self.api.runs.append(one)
        assert one.parent_task_run_id is not None
        self.api.owners[one.parent_task_run_id] = parent.id
        return one

    def family(self) -> list[FlowRun]:
        """A root with three levels below it."""
        members = [self.root()]
        for _ in range(3):
            members.append(self.kid(members[-1]))
        return members

    def dies(self, one: FlowRun, seconds: float = 60) -> None:
        self.scope.answers[one.id] = [self.scope.exited(one, 137, datetime.now(UTC) - timedelta(seconds=seconds))]

    def becomes(self, one: FlowRun, state: str, *, seconds: float = 0, transition: UUID | None = None) -> None:
        now = next(each for each in self.api.runs if each.id == one.id)
        after = replace(
            now,
            state_id=uuid4(),
            state_type=StateType(state),
            state_name=state.title(),
            state_since=datetime.now(UTC) - timedelta(seconds=seconds),
            transition_id=transition,
        )
        self.api.runs[self.api.runs.index(now)] = after

    def look(self) -> CycleReport:
        planned = self.cycle.plan()
        return self.cycle.report(planned, self.cycle.settle(planned))

    def written(self) -> list[RunId]:
        self.look()
        return [finding.run.id for finding in self.api.written]


def _since(seconds: float) -> dict[str, object]:
    """Running for so long: before anything of these tests ends."""
    now = datetime.now(UTC)
    return {"state_since": now - timedelta(seconds=seconds), "created": now - timedelta(seconds=seconds + 10)}


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.outlook.close()


def ids(*runs: FlowRun) -> list[RunId]:
    return [one.id for one in runs]


def test_a_container_that_ended(bench: Bench) -> None:
    r, a, b, c = bench.family()
    assert bench.written() == []
    bench.dies(r)
    assert bench.written() == ids(r, c, b, a)
    assert bench.written() == ids(r, c, b, a), "once"


def test_a_container_that_was_removed(bench: Bench) -> None:
    r, a, b, c = bench.family()
    bench.look()
    del bench.scope.answers[r.id]
    assert bench.written() == ids(r, c, b, a)


def test_a_parent_that_its_worker_crashed(bench: Bench) -> None:
    r, a, b, c = bench.family()
    bench.dies(r, 400)
    bench.becomes(r, "CRASHED", seconds=300, transition=uuid4())
    assert bench.written() == ids(c, b, a)


def test_a_parent_that_an_automation_crashed(bench: Bench) -> None:
    """Its children are untouched until its container is gone, which was seen in it before."""
    r, a, b, c = bench.family()
    bench.look()
    bench.becomes(r, "CRASHED", seconds=300)
    for _ in range(3):
        assert bench.written() == []
    del bench.scope.answers[r.id]
    assert bench.written() == ids(c, b, a)


def test_a_parent_that_an_automation_crashed_and_nobody_ever_saw(bench: Bench) -> None:
    r, *_ = bench.family()
    del bench.scope.answers[r.id]
    bench.becomes(r, "CRASHED", seconds=90_000)
    assert bench.written() == []


@pytest.mark.parametrize("state", ["RUNNING", "SCHEDULED", "PENDING", "PAUSED"])
def test_an_ended_parent_that_goes_on_between_the_looks(bench: Bench, state: str) -> None:
    r, *_ = bench.family()
    bench.dies(r, 400)
    bench.becomes(r, "CRASHED", seconds=300, transition=uuid4())
    calls = iter(range(99))
    bench.api.before_reread = lambda: bench.becomes(r, state) if next(calls) == 1 else None  # at the second look
    assert bench.written() == []


@pytest.mark.parametrize("final", ["COMPLETED", "CRASHED"])
def test_a_parent_that_ends_by_itself_between_the_looks(bench: Bench, final: str) -> None:
    """Its subflows have subflow_grace to do so too."""
    r, *_ = bench.family()
    bench.dies(r)
    bench.api.before_reread = lambda: bench.becomes(r, final, transition=uuid4())
    assert bench.written() == []


def test_a_parent_that_lives_where_it_is_not_mapped_to(bench: Bench) -> None:
    r, *_ = bench.family()
    for crashed in (False, True):
        bench.dies(r, 400)
        bench.other.answers[r.id] = [bench.other.alive(r)]
        if crashed:
            bench.becomes(r, "CRASHED", seconds=300, transition=uuid4())
        assert bench.written() == []


@pytest.mark.parametrize("over", [False, True])
def test_a_subflow_that_beats_between_the_looks_saves_its_family(bench: Bench, over: bool) -> None:
    r, _, _, c = bench.family()
    bench.dies(r, 400)
    if over:
        bench.becomes(r, "CRASHED", seconds=300, transition=uuid4())
    now = datetime.now(UTC)
    bench.api.hearts = {c.id: Heartbeat(3, now - timedelta(seconds=90), now)}
    assert bench.written() == []


def test_a_deployment_child_that_lives_beside_a_dead_parent(bench: Bench) -> None:
    r, a, b, c = bench.family()
    own = bench.kid(b, work_pool="pool", deployment_id=uuid4(), pid="mine")
    inside = bench.kid(own)
    bench.scope.answers[own.id] = [bench.scope.alive(own)]
    bench.dies(r)
    assert bench.written() == ids(r, c, b, a)
    assert {run.state_type for run in bench.api.runs if run.id in (own.id, inside.id)} == {StateType.RUNNING}


def test_what_runs_inside_one_whose_pool_was_deleted(bench: Bench) -> None:
    """Ad-hoc infrastructure: a work pool and no deployment. Without the pool its container alone tells that."""
    r = bench.root()
    own = bench.kid(r, work_pool="pool")
    inside = bench.kid(own)
    bench.scope.answers[own.id] = [bench.scope.alive(own)]
    assert bench.written() == []
    bench.api.runs = [replace(one, work_pool=None) if one.id == own.id else one for one in bench.api.runs]
    bench.dies(r)
    assert bench.written() == ids(r)
    assert next(one.state_type for one in bench.api.runs if one.id == inside.id) is StateType.RUNNING


def test_healthy_families_cost_nothing_more(bench: Bench) -> None:
    bench.family()
    bench.look()
    before = bench.api.calls
    report = bench.look()
    assert {finding.verdict for finding in report.plan.findings} == {Verdict.HEALTHY}
    assert bench.api.calls - before == 1
