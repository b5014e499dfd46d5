"""The Prefect API's column of the fault matrix: a real server, with a proxy between it and whole passes of ours.

In each cell three runs live, one vanished, one was killed, and one ends by itself in the middle of a pass while the
fault is on. No time has to pass before a settlement, so nothing but our reading of the API holds one back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.model import OutcomeKind, Verdict
from reconciler.plan import CycleReport
from reconciler.report import EXIT_INCOMPLETE, EXIT_OK, exit_code
from tests.matrix import prefect_faults as faults
from tests.matrix.prefect_faults import Where, Wrong
from tests.matrix.prefect_world import Pool, World, crashes, found, our_crashes, states
from tests.matrix.table import API, Cell, Matrix
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, set_state
from tests.rigs.proxy import FaultProxy

pytestmark = pytest.mark.prefect


@pytest.fixture(scope="module")
def pool(prefect_api_url: str) -> Pool:
    return Pool(prefect_api_url)


@pytest.fixture(scope="module")
def healthy(pool: Pool) -> list[SeededRun]:
    """They live through every cell."""
    return [pool.run(f"healthy-{number}") for number in range(3)]


@pytest.fixture(scope="module")
def proxy(prefect_api_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(prefect_api_url) as proxy:
        yield proxy


@pytest.fixture
def world(proxy: FaultProxy, pool: Pool) -> Iterator[World]:
    with World(proxy, pool) as world:
        yield world
    proxy.reset()


class Scene:
    """One cell: who lives, who is a zombie, who ends by itself."""

    def __init__(self, world: World, pool: Pool, healthy: list[SeededRun]) -> None:
        self.world, self.healthy = world, healthy
        self.spoiled: list[CycleReport] = []  # the passes that met the fault
        self.vanished, self.killed, self.ends = pool.run("vanished"), pool.run("killed"), pool.run("ends")
        self.zombies = (self.vanished, self.killed)
        world.lives([*healthy, *self.zombies, self.ends])
        before = world.look()
        assert exit_code(before, tells_zombies=True) == EXIT_OK, before.problems
        assert before.plan.suspects == ()
        self.zombies_die()

    def zombies_die(self) -> None:
        self.world.vanishes(self.vanished)
        self.world.exits(self.killed, 137)

    def passes(self) -> list[CycleReport]:
        """Three of them; in the second, one run ends by itself: in its middle, if it gets as far as looking."""
        first = self.look()
        self.world.place.on_observe = lambda: self.world.completes(self.ends)
        second = self.look()
        self.world.completes(self.ends)
        return [first, second, self.look()]

    def look(self) -> CycleReport:
        spoiled = self.world.proxy.spoiled
        report = self.world.look()
        if self.world.proxy.spoiled > spoiled:
            self.spoiled.append(report)
        return report

    def is_over(self, cell: Cell) -> None:
        """The fault has ended: fill the cell, and demand of it what the matrix promises."""
        self.world.proxy.reset()
        settled = wait_until(self._all_settled, "the zombies are settled", 20)
        after = self.world.look()
        living = [states(run) for run in self.healthy]
        ended = states(self.ends)
        cell.false_crashes = (cell.false_crashes or 0) + sum(each.count("CRASHED") for each in (*living, ended))
        once = [(crashes(zombie), our_crashes(zombie)) for zombie in self.zombies] == [(1, 1), (1, 1)]
        cell.settled = cell.settled is not False and settled and once
        assert living == [["PENDING", "RUNNING"]] * len(self.healthy)
        assert ended == ["PENDING", "RUNNING", "COMPLETED"]
        assert once, [states(zombie) for zombie in self.zombies]
        assert exit_code(after, tells_zombies=True) == EXIT_OK, after.problems

    def _all_settled(self) -> bool:
        self.world.look()
        return all(states(zombie)[-1] == "CRASHED" for zombie in self.zombies)


@pytest.fixture
def scene(world: World, pool: Pool, healthy: list[SeededRun]) -> Scene:
    return Scene(world, pool, healthy)


@pytest.mark.parametrize(("wrong", "where"), faults.CELLS, ids=str)
def test_a_call_that_fails(scene: Scene, matrix: Matrix, wrong: Wrong, where: Where) -> None:
    cell, landed = matrix.cell(API, wrong.row), wrong.lands and where is faults.WRITE
    where.spoil(scene.world.proxy, wrong.make())

    reports = scene.passes()

    expected = [0 if where.holds_absences else 1, 0 if where.holds else 1]  # vanished, killed
    assert [crashes(zombie) for zombie in scene.zombies] == ([1, 1] if landed else expected)
    assert len(scene.spoiled) == len(reports) or not where.holds or landed
    assert scene.spoiled
    for report in scene.spoiled:
        said = exit_code(report, tells_zombies=False) == EXIT_INCOMPLETE if where.tells else _details(report)
        assert said, where
    scene.is_over(cell)


def _details(report: CycleReport) -> bool:
    """Each settlement says that its log line is missing."""
    return all("no line was added to the flow run's log" in outcome.detail for outcome in report.outcomes.values())


@pytest.mark.parametrize("wrong", faults.REFUSALS, ids=str)
def test_a_proposal_that_is_refused(scene: Scene, matrix: Matrix, wrong: Wrong) -> None:
    faults.WRITE.spoil(scene.world.proxy, wrong.make())

    reports = scene.passes()

    for report in reports:
        assert exit_code(report, tells_zombies=False) == EXIT_INCOMPLETE
        told = [text for text in report.problems if f"the server refused ({wrong.row}): a rule of the server" in text]
        assert len(told) == len(scene.zombies)
    assert [crashes(zombie) for zombie in scene.zombies] == [0, 0]
    scene.is_over(matrix.cell(API, wrong.row))


@pytest.mark.parametrize(("row", "state"), [("ABORT", "COMPLETED"), ("REJECT", "CANCELLING")])
def test_a_proposal_that_the_server_itself_refuses(
    scene: Scene, world: World, pool: Pool, matrix: Matrix, row: str, state: str
) -> None:
    """Somebody is quicker than we, between our last look and our proposal."""
    taken = pool.run("taken")
    world.lives([taken])
    world.look()
    world.exits(taken, 1)
    world.proxy.before("POST", f"/flow_runs/{taken.id}/set_state$", lambda: set_state(taken, state))

    reports = scene.passes()

    assert world.proxy.spoiled == 1
    outcome = reports[0].outcomes[taken.id]
    kind = OutcomeKind.SETTLED_ELSEWHERE if state == "COMPLETED" else OutcomeKind.REFUSED
    assert (outcome.kind, row in outcome.detail) == (kind, kind is OutcomeKind.REFUSED)
    assert states(taken) == ["PENDING", "RUNNING", state]
    set_state(taken, "CANCELLED")
    scene.is_over(matrix.cell(API, row))


class Leavers:
    """They leave Running without a final state, and rightly nothing of them is left in this place."""

    def __init__(self, world: World, pool: Pool) -> None:
        self._world = world
        self.suspended, self.retries, self.moved = pool.run("suspended"), pool.run("retries"), pool.run("moved")
        self.all = (self.suspended, self.retries, self.moved)
        world.lives(self.all)

    def leave(self) -> None:
        set_state(self.suspended, "PAUSED", "Suspended")
        set_state(self.retries, "SCHEDULED", "AwaitingRetry", force=True)
        for state, name in (("SCHEDULED", "AwaitingRetry"), ("PENDING", None), ("RUNNING", None)):
            set_state(self.moved, state, name, force=True)  # it runs again, on a host that nobody sees
        for run in self.all:
            self._world.exits(run, 1)

    def end(self) -> None:
        for run in self.all:
            set_state(run, "CANCELLED", force=True)


@pytest.fixture
def leavers(world: World, pool: Pool) -> Iterator[Leavers]:
    leavers = Leavers(world, pool)
    yield leavers
    leavers.end()


class TestStale:
    """Old answers, while runs leave Running and their resources end: reading alone, the server knows nothing of it."""

    def test_a_list_that_is_kept_for_ever(self, world: World, leavers: Leavers, scene: Scene, matrix: Matrix) -> None:
        world.proxy.rule("POST", "/flow_runs/filter$", faults.keeps_for_ever()())
        world.lives(scene.zombies)
        world.look()
        scene.zombies_die()
        leavers.leave()

        reports = scene.passes()

        assert {found(reports[-1], run).verdict for run in (scene.ends, *leavers.all)} == {Verdict.UNKNOWN}
        assert [crashes(run) for run in leavers.all] == [0, 0, 0]
        scene.is_over(matrix.cell(API, "stale list"))

    def test_a_cache_that_keeps_everything(self, world: World, leavers: Leavers, scene: Scene, matrix: Matrix) -> None:
        """List, re-read and history agree with each other. The last look gets an answer of the server all the same."""
        copy = faults.OldCopy([*scene.healthy, *scene.zombies, scene.ends, *leavers.all])
        cache = faults.keeps_for_ever()()
        world.proxy.rule("*", r"/flow_runs/(filter|count)$|/flow_run_states/$", copy.answer)
        faults.LAST_LOOK.spoil(world.proxy, cache)
        for run in (*scene.zombies, scene.ends, *leavers.all):
            call(world.proxy.url, "GET", f"/flow_runs/{run.id}")
        leavers.leave()

        reports = scene.passes()

        assert {reports[0].outcomes[run.id].kind for run in leavers.all} == {OutcomeKind.STATE_CHANGED}
        assert [crashes(run) for run in leavers.all] == [0, 0, 0]
        assert reports[-1].outcomes[scene.ends.id].detail == "already COMPLETED"
        scene.is_over(matrix.cell(API, "stale list"))

    def test_the_limit_a_copy_that_does_not_follow(self, world: World, leavers: Leavers, scene: Scene) -> None:
        """A replica that lags behind answers every read, the last look among them, and the writes go elsewhere.

        Nothing that can be read tells it from the server, and no proposal can name the state that it expects. What is
        over stays over; what left Running without a final state is written, if its resource has ended by then too. It
        is told: the state that was replaced could not be checked.
        """
        copy = faults.OldCopy([*scene.healthy, *scene.zombies, scene.ends, *leavers.all])
        for where in (faults.LIST, faults.REREAD, faults.COUNT, faults.HISTORY, faults.LAST_LOOK):
            where.spoil(world.proxy, copy.answer)
        leavers.leave()

        reports = scene.passes()

        assert states(scene.ends) == ["PENDING", "RUNNING", "COMPLETED"]
        assert [crashes(run) for run in scene.healthy] == [0, 0, 0]
        assert [our_crashes(run) for run in (*scene.zombies, *leavers.all)] == [1, 1, 1, 1, 1]
        for run in leavers.all:
            assert "what Crashed replaced could not be checked" in str(reports[0].outcomes[run.id].alarm)
