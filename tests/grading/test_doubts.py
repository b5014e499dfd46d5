"""What could not be asked, read or kept: never praise, and never trust."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from reconciler.grading import showing
from reconciler.grading.casebook import GRADES_FILE, Casebook
from reconciler.grading.cases import Grade
from reconciler.grading.grader import Graded, Grader
from reconciler.grading.scorecard import scorecard
from reconciler.model import FlowRun, Guard, RunId, StateRecord, StateType
from reconciler.ports import OrchestratorError
from reconciler.testing import FakeOrchestrator, flow_run
from tests.grading.histories import START
from tests.grading.reports import TOOK, held, report_of, resource, unknown, zombie
from tests.grading.test_casebook import with_false_crash
from tests.grading.test_grader import HOUR, MINUTE, World

DAY = 24 * HOUR


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / GRADES_FILE


def falsely(world: World, at: datetime, *, run: FlowRun | None = None) -> Graded:
    """Settle a run, and see its very resource alive."""
    run = run or flow_run()
    world.pass_(report_of(at, [zombie(run)]))
    return world.pass_(report_of(at + timedelta(seconds=10), strangers=[resource(run)]))


def test_an_api_that_is_down_when_the_day_is_over_proves_nothing(world: World) -> None:
    world.settle()
    world.goes("COMPLETED", uuid4())
    world.api.fails = True
    world.pass_(report_of(START + DAY + MINUTE))
    world.pass_(report_of(START + DAY + 2 * MINUTE, was_listed=False))
    assert (world.case.grade, world.case.closed_at) == (Grade.OPEN, None)
    world.api.fails = False
    assert world.pass_(report_of(START + DAY + 9 * MINUTE)).alarms


def test_who_could_not_be_read_for_two_days_is_not_graded(world: World) -> None:
    world.settle()
    world.pass_(report_of(START + 2 * DAY, was_listed=False))
    assert (world.case.grade, world.case.closed_at) == (Grade.UNGRADED, START + 2 * DAY + TOOK)
    assert "could not be read" in world.case.why


class Poisoned(FakeOrchestrator):
    """All runs have completed; the histories of some cannot be read."""

    def __init__(self, runs: Sequence[FlowRun], poison: Collection[RunId]) -> None:
        self.rows = {
            run.id: replace(run, state_id=uuid4(), state_type=StateType.COMPLETED, state_name="Completed")
            for run in runs
        }
        self.poison, self.asked = set(poison), list[RunId]()

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        return {run_id: self.rows[run_id] for run_id in run_ids}

    def history(self, run_id: RunId) -> Sequence[StateRecord]:
        self.asked.append(run_id)
        if run_id in self.poison:
            raise OrchestratorError("the Prefect API answered 500")
        return ()


@pytest.mark.parametrize("poisoned", [1, 3])
def test_histories_that_cannot_be_read_do_not_starve_the_others(poisoned: int) -> None:
    runs = [flow_run(id=UUID(int=number + 1)) for number in range(poisoned + 1)]
    api = Poisoned(runs, {run.id for run in runs[:-1]})
    grader = Grader(Casebook(), api)
    grader.note(report_of(START, [zombie(run) for run in runs]))
    grader.note(report_of(START + MINUTE))
    assert len(api.asked) <= 3
    grader.note(report_of(START + 10 * MINUTE))
    assert runs[-1].id in api.asked


def test_one_that_is_in_flight_does_not_starve_the_others_either() -> None:
    first, second = flow_run(id=UUID(int=1)), flow_run(id=UUID(int=2))
    api = Poisoned([first, second], {first.id})
    grader = Grader(Casebook(), api)
    grader.note(report_of(START, [zombie(first), zombie(second)]))
    grader.note(report_of(START + MINUTE, [unknown(replace(first, state_id=uuid4()))]))
    assert api.asked == [first.id, second.id]


@pytest.mark.parametrize(("made", "counts"), [(-HOUR, True), (MINUTE, False)])
def test_any_live_resource_older_than_the_verdict_is_the_one_that_was_judged(
    world: World, made: timedelta, *, counts: bool
) -> None:
    world.settle()
    one = replace(resource(world.judged, "named otherwise"), created_at=START + made)
    other = replace(resource(world.judged, "of a retry"), created_at=START + MINUTE)
    assert bool(world.pass_(report_of(START + 2 * MINUTE, strangers=[other, one])).alarms) is counts


def test_a_false_crash_that_is_then_crashed_by_hand_is_found(world: World) -> None:
    world.settle()
    world.goes("COMPLETED", uuid4())
    world.goes("CRASHED")
    assert world.pass_(report_of(START + MINUTE)).alarms


def test_a_crashed_of_its_own_after_ours_is_told_and_not_counted(world: World) -> None:
    world.settle()
    world.pass_(report_of(START + MINUTE))
    world.goes("CRASHED", uuid4())
    graded = world.pass_(report_of(START + 2 * MINUTE))
    assert (world.case.grade, graded.alarms, graded.false_crashes) == (Grade.UNCLEAR, (), {})
    assert graded.warnings[0].startswith("perhaps a false crash")


@pytest.mark.parametrize("guard", Guard)
def test_who_is_held_because_the_place_is_doubted_has_not_stayed_a_zombie(world: World, guard: Guard) -> None:
    world.shadow()
    world.pass_(report_of(START + HOUR, [held(world.judged, guard)]))
    judged = {Guard.MODE, Guard.TRUST, Guard.RATE, Guard.OPT_OUT, Guard.SELECTION}
    assert (world.case.grade is Grade.RIGHT) is (guard in judged)


def test_distrust_needs_no_file_that_can_be_written(path: Path) -> None:
    book = Casebook(path)
    world, runs = World(book), [flow_run(), flow_run()]
    world.pass_(report_of(START, [zombie(run) for run in runs]))
    other = sqlite3.connect(path)
    other.execute("begin immediate")  # may be read, not written
    seen = report_of(START + MINUTE, strangers=[resource(run) for run in runs])
    graded = world.pass_(seen)
    assert "2 within 24 h" in graded.alarms[-1]
    assert set(book.distrusted()) == {"prod"}
    other.rollback()
    other.close()
    world.pass_(seen)
    assert set(Casebook(path).distrusted()) == {"prod"}
    assert Casebook(path).trust("prod", START + HOUR).problem is None  # another process
    assert book.distrusted() == {}


def test_a_file_that_is_locked_at_the_start_is_read_when_it_can_be(path: Path) -> None:
    with_false_crash(Casebook(path), "prod")
    with_false_crash(Casebook(path), "prod")
    other = sqlite3.connect(path)
    other.execute("begin exclusive")
    book = Casebook(path)
    assert book.is_unreadable
    assert book.distrusted().get("whatever") is not None
    assert "nothing is written until it can (remove the file to trust all)" in book.problems[0]
    other.rollback()
    other.close()
    book.begin()
    assert (book.is_unreadable, book.problems) == (False, [])
    assert dict(book.distrusted()) == {"prod": START}
    assert book.distrusted().get("whatever") is None


def test_a_corrupt_file_trusts_nobody_until_it_is_removed(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"garbage" * 1000)
    book = Casebook(path)
    assert book.distrusted().get("prod") is not None
    problem = book.trust("prod", START).problem
    assert problem is not None
    assert "scope 'prod' could not be trusted: could not open the grades" in problem
    book.begin()
    assert book.is_unreadable
    path.unlink()
    book.begin()
    assert book.distrusted() == {}
    assert not book.is_unreadable


def test_a_folder_that_cannot_be_believed_is_no_file_of_ours(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    book = Casebook(path)
    assert (book.is_unreadable, book.distrusted()) == (False, {})
    assert book.trust("prod", START).problem is not None


def test_trust_that_cannot_be_kept_is_said_each_time(path: Path) -> None:
    book = Casebook(path)
    with_false_crash(book, "prod")
    with_false_crash(book, "prod")
    other = sqlite3.connect(path)
    other.execute("begin immediate")
    for _ in range(2):
        trusted = book.trust("prod", START + HOUR)
        assert trusted.was_distrusted
        assert "locked" in (trusted.problem or "")
        assert not trusted
    other.rollback()
    other.close()
    assert book.trust("prod", START + HOUR)
    assert book.distrusted() == {}


def test_trust_of_a_clock_that_was_ahead_ends_with_the_next_false_crash() -> None:
    world = World()
    world.book.trust("prod", START + timedelta(days=365))
    falsely(world, START)
    assert falsely(world, START + MINUTE).distrusted


def test_a_false_crash_that_counts_is_not_pushed_out() -> None:
    world = World(Casebook(most=5))
    falsely(world, START)
    world.pass_(report_of(START + MINUTE, [held(flow_run()) for _ in range(9)]))
    assert len(world.book.cases()) == 5
    assert falsely(world, START + 2 * MINUTE).distrusted


def test_only_configured_scopes_are_warned_of(world: World) -> None:
    falsely(world, START)
    falsely(world, START + MINUTE)
    assert world.pass_(report_of(START + HOUR)).warnings
    assert world.pass_(replace(report_of(START + HOUR), scopes=())).warnings == ()


def test_names_are_without_secrets(world: World) -> None:
    world.pass_(report_of(START, [held(replace(world.judged, name="etl hunter2"))]))
    assert "hunter2" not in "\n".join(showing.lines(scorecard(world.book, START + MINUTE)))


def test_a_dry_run_beside_a_daemon_that_settles_is_not_advised_to_observe(world: World) -> None:
    world.settle()
    world.pass_(report_of(START + MINUTE, [zombie(flow_run())], dry_run=True))
    assert scorecard(world.book, START + HOUR).advice.startswith("none of 1 settlements was a false crash")
    world.pass_(report_of(START + 2 * MINUTE, [held(flow_run())]))
    assert "leave it in observe mode" in scorecard(world.book, START + HOUR).advice


def test_figures_that_cannot_be_read_stay_as_they_were(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(Casebook(path))
    world.shadow()
    other = sqlite3.connect(path)
    other.execute("begin exclusive")
    graded = world.pass_(report_of(START + MINUTE, [held(world.judged)]))
    assert (graded.shadows[Grade.OPEN], graded.watched) == (1, 1)
    other.rollback()
    other.close()
    monkeypatch.setattr(world.book, "watched", lambda: 1 / 0)
    graded = world.pass_(report_of(START + MINUTE, [held(world.judged)]))
    assert (graded.shadows[Grade.OPEN], graded.alarms) == (1, ())
    assert "a bug of ours" in graded.warnings[0]
