"""Subflows, resumptions and cancellations, as they are graded."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from reconciler.grading.casebook import GRADES_FILE, Casebook
from reconciler.grading.cases import Case, Grade, Kind
from reconciler.grading.grader import Graded
from reconciler.grading.scorecard import scorecard
from reconciler.grading.showing import as_json, lines
from reconciler.model import Action, FlowRun, Guard, StateType, Verdict
from reconciler.plan import Finding, resumption_id, transition_id
from reconciler.testing import flow_run
from tests.grading.histories import START
from tests.grading.reports import report_of, zombie
from tests.grading.test_casebook import case, with_false_crash
from tests.grading.test_grader import HOUR, MINUTE, World

PARENT = flow_run(name="parent")


@pytest.fixture
def world() -> World:
    """Its one run is an in-process subflow."""
    made = World()
    made.judged = flow_run(work_pool=None, parent_task_run_id=uuid4(), state_since=START - HOUR)
    made.record = made._record(made.judged, uuid4())
    made.api.runs = [made.judged]
    return made


def by_rule_1(run: FlowRun) -> Finding:
    """What its root's finding makes of it: same scope, same observation."""
    reason = f"runs inside flow run {PARENT.id} (parent): container otter exited with code 137"
    return replace(zombie(PARENT), run=run, rule="1", reason=reason, inside=PARENT, depth=1)


def by_rule_2(run: FlowRun, guard: Guard | None = None) -> Finding:
    """Its root has ended, and no scope has a word in it."""
    verdict = Verdict.HELD if guard else Verdict.ZOMBIE
    reason = f"parent flow run {PARENT.id} (parent) is Crashed since 11:00:00 UTC"
    return Finding(run=run, verdict=verdict, rule="2", reason=reason, guard=guard, inside=PARENT, depth=1)


def settle(world: World, finding: Finding) -> None:
    world.pass_(report_of(START, [finding]))
    world.goes("CRASHED", transition_id(world.judged.id, world.judged.state_id))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("count", "words"), [(0, "it exited"), (1, "it exited, and 1 subflow"), (9, "9 subflows")])
def test_a_death_is_one_case_however_many_shared_it(world: World, kind: Kind, count: int, words: str) -> None:
    family = [by_rule_1(flow_run(work_pool=None, parent_task_run_id=uuid4())) for _ in range(count)]
    world.pass_(report_of(START, [*family, zombie(PARENT)], dry_run=kind is Kind.SHADOW))
    assert (world.case.run_id, world.case.kind, world.case.root) == (PARENT.id, kind, None)
    assert world.case.died.endswith(words)


def test_subflows_that_were_not_settled_are_not_counted(world: World) -> None:
    held_by_itself = replace(by_rule_1(world.judged), verdict=Verdict.HELD, guard=Guard.OPT_OUT)
    world.pass_(report_of(START, [held_by_itself, zombie(PARENT)]))
    assert world.case.died == "it exited"


def of_root(run: FlowRun, root: FlowRun = PARENT) -> Finding:
    """Its root's end was seen in a scope."""
    return replace(by_rule_2(run), scope="prod", inside=root)


def settle_wrongly(world: World, finding: Finding, at: datetime) -> Graded:
    """It is settled, and goes on all the same."""
    world.judged = finding.run
    world.api.runs = [world.judged]
    world.pass_(report_of(at, [finding]))
    world.goes("CRASHED", transition_id(world.judged.id, world.judged.state_id))
    world.goes("COMPLETED", uuid4())
    return world.pass_(report_of(at + MINUTE))


def inner() -> FlowRun:
    return flow_run(work_pool=None, parent_task_run_id=uuid4())


def test_false_crashes_of_one_root_s_subflows_are_one_towards_trust(world: World) -> None:
    for number in range(5):
        (alarm,) = settle_wrongly(world, of_root(inner()), START + number * HOUR).alarms
        assert alarm.endswith("1 of 2 within 24 h that make scope 'prod' untrusted")
    assert {case.root for case in world.book.cases()} == {PARENT.id}
    (alarm,) = settle_wrongly(world, of_root(inner(), flow_run()), START + 6 * HOUR).alarms
    assert "2 within 24 h, so scope 'prod' is not trusted any more" in alarm
    assert set(world.book.distrusted()) == {"prod"}


def test_a_root_and_its_subflows_are_one_incident_and_two_attempts_are_two(world: World) -> None:
    settle_wrongly(world, zombie(PARENT), START)
    settle_wrongly(world, of_root(inner()), START + HOUR)
    assert world.book.distrusted() == {}
    again = replace(PARENT, state_id=uuid4())
    settle_wrongly(world, zombie(again), START + 2 * HOUR)
    assert set(world.book.distrusted()) == {"prod"}


def test_so_it_is_while_nothing_can_be_kept(tmp_path: Path) -> None:
    world = World(Casebook(tmp_path / GRADES_FILE))
    cases = [case(root=PARENT.id, grade=Grade.FALSE) for _ in range(3)]
    other = sqlite3.connect(tmp_path / GRADES_FILE)
    other.execute("begin immediate")
    world.book.change(cases, START)
    assert world.book.distrusted() == {}
    assert world.book.recent_false_crashes("prod", START) == 1
    world.book.change([case(grade=Grade.FALSE)], START)
    assert set(world.book.distrusted()) == {"prod"}
    other.close()


@pytest.mark.parametrize(("roots", "enough"), [(1, False), (9, False), (10, True)])
def test_ten_graded_verdicts_are_ten_incidents(roots: int, *, enough: bool) -> None:
    book, parents = Casebook(), [uuid4() for _ in range(roots)]
    right = [case(Kind.SHADOW, guard="mode", grade=Grade.RIGHT, root=parents[n % roots]) for n in range(20)]
    book.add(right)
    advice = scorecard(book, START + HOUR).advice
    assert advice.startswith(
        f"20 of 20 graded would-be settlements were right, the subflows of one run counted once: {roots}: "
    )
    assert advice.endswith('set mode = "settle"') is enough
    assert ("that is little to judge by" in advice) is not enough


def test_one_that_no_scope_spoke_of_is_told_and_counted_against_none(world: World) -> None:
    settle(world, by_rule_2(world.judged))
    world.goes("COMPLETED", uuid4())
    graded = world.pass_(report_of(START + MINUTE))
    (warning,) = graded.warnings
    assert (graded.alarms, graded.false_crashes, graded.distrusted) == ((), {}, {})
    assert warning.startswith(f"false crash, counted against no scope: flow run {world.judged.id}")
    assert f"it was judged on: parent flow run {PARENT.id} (parent) is Crashed since" in warning
    assert world.case.grade is Grade.FALSE
    assert world.pass_(report_of(START + 2 * MINUTE)).warnings == (), "told once"


def test_many_of_them_take_no_scope_s_trust(world: World) -> None:
    for number in range(3):
        world.judged = flow_run(work_pool=None, parent_task_run_id=uuid4())
        world.api.runs = [world.judged]
        settle(world, by_rule_2(world.judged))
        world.goes("COMPLETED", uuid4())
        world.pass_(report_of(START + (number + 1) * MINUTE))
    assert [one.grade for one in world.book.cases()] == [Grade.FALSE] * 3
    assert (dict(world.book.distrusted()), world.book.scopes()) == ({}, {})


@pytest.mark.parametrize("guard", [None, Guard.MODE])
def test_would_be_settlements_by_rule_2(world: World, guard: Guard | None) -> None:
    world.pass_(report_of(START, [by_rule_2(world.judged, guard)], dry_run=guard is None))
    assert (world.case.kind, world.case.scope, world.case.rule) == (Kind.SHADOW, "", "2")
    world.pass_(report_of(START + HOUR, [by_rule_2(world.judged, guard or Guard.MODE)]))
    assert world.case.grade is Grade.RIGHT
    world.goes("COMPLETED", uuid4())
    graded = world.pass_(report_of(START + 2 * HOUR))
    assert (world.case.grade, graded.alarms, graded.warnings) == (Grade.FALSE, (), ())


def test_a_run_that_we_resumed_is_no_false_crash_and_says_who_resumed_it() -> None:
    world = World()
    world.settle()
    crash = world.record.id
    world.goes("SCHEDULED", resumption_id(world.judged.id, crash), state_name="AwaitingRetry")
    assert world.pass_(report_of(START + MINUTE)).alarms == ()
    assert world.case.why.startswith("was resumed by us: AwaitingRetry")
    for state in ("PENDING", "RUNNING", "COMPLETED"):
        world.goes(state, uuid4(), run_count=2)
        assert world.pass_(report_of(START + 9 * MINUTE)).alarms == ()
    assert world.case.grade is Grade.OPEN
    world.pass_(report_of(START + 24 * HOUR))
    assert (world.case.grade, world.case.why[:43]) == (Grade.RIGHT, "showed no life for 24 h (was resumed by us:")


def test_what_lives_and_was_resumed_is_a_false_crash() -> None:
    world = World()
    world.settle()
    world.goes("SCHEDULED", resumption_id(world.judged.id, world.record.id), state_name="AwaitingRetry")
    world.goes("COMPLETED", uuid4())
    (alarm,) = world.pass_(report_of(START + MINUTE)).alarms
    assert "before a worker had fetched it again" in alarm


@pytest.mark.parametrize(("state", "is_false"), [("COMPLETED", True), ("CANCELLED", False)])
def test_a_run_that_we_set_to_cancelled(state: str, *, is_false: bool) -> None:
    world = World()
    world.record = replace(world.record, type=StateType.RUNNING)
    world.goes("CANCELLING")
    world.judged = world.api.runs[0]
    world.pass_(report_of(START, [replace(zombie(world.judged), rule="9")]))
    world.goes("CANCELLED", transition_id(world.judged.id, world.judged.state_id))
    assert world.case.action is Action.CANCEL
    world.goes(state, uuid4())
    alarms = world.pass_(report_of(START + MINUTE)).alarms
    assert bool(alarms) is is_false
    assert all("was set to Cancelled by us" in alarm for alarm in alarms)


def test_the_scorecard_names_what_no_scope_spoke_of() -> None:
    book = Casebook()
    book.add([case(scope=""), case(Kind.SHADOW, scope="", grade=Grade.FALSE, guard="mode"), case(action=Action.CANCEL)])
    card = scorecard(book, START + HOUR)
    text = "\n".join(lines(card))
    assert "\nsubflows whose parents had ended: 1 would-be settlements (0 right, 1 false" in text
    assert "scope ''" not in text
    assert "What to do: subflows whose parents had ended: 1 of 1 graded would-be settlements would have been" in text
    document = json.loads(json.dumps(as_json(card)))
    assert [one["name"] for one in document["scopes"]] == [None, "prod"]
    assert sorted(one["action"] for one in document["cases"]) == ["cancel", "crash", "crash"]
    assert [one["scope"] for one in document["cases"]].count(None) == 2


def as_before(path: Path, book: Casebook, version: int) -> None:
    """Turn the file into one of the version that knew no roots (3), or no cancellations either (2)."""
    book.close()
    with sqlite3.connect(path) as database:
        for name in ("root", "action")[: 4 - version]:
            database.execute(f"alter table cases drop column {name}")
        database.execute(f"pragma user_version = {version}")
    database.close()


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_of_a_version_before_is_kept_with_its_distrust(tmp_path: Path, version: int) -> None:
    path = tmp_path / GRADES_FILE
    book, watched = Casebook(path), case(name="watched")
    with_false_crash(book, "prod")
    with_false_crash(book, "prod")
    book.add([watched])
    as_before(path, book, version)
    for _ in range(2):
        book = Casebook(path)
        assert book.problems == []
        assert dict(book.distrusted()) == {"prod": START}
        assert book.watched() == [watched]
        book.close()
    again: Case = case(action=Action.CANCEL, run_id=UUID(int=1), root=UUID(int=2))
    book = Casebook(path)
    assert book.add([again]) == [again]
    assert again in book.cases()
