"""Pass after pass: what opens a case, what is asked, what is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from reconciler.clock import since_boot
from reconciler.grading.casebook import Casebook
from reconciler.grading.cases import Case, Grade, Kind
from reconciler.grading.grader import Graded, Grader
from reconciler.model import FlowRun, Guard, Heartbeat, LifeSign, RunId, StateRecord, StateType
from reconciler.plan import CycleReport, transition_id
from reconciler.ports import OrchestratorError
from reconciler.testing import FakeOrchestrator, flow_run
from tests.grading.histories import START
from tests.grading.reports import TOOK, healthy, held, report_of, resource, unknown, zombie

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@dataclass
class Api(FakeOrchestrator):
    """Keeps what it was asked, and may fail."""

    fails: bool = False

    def __post_init__(self) -> None:
        self.reread_ids: list[list[RunId]] = []
        self.histories: list[RunId] = []

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        self.reread_ids.append(list(run_ids))
        if self.fails:
            raise OrchestratorError("the Prefect API does not answer")
        return super().reread(run_ids)

    def history(self, run_id: RunId) -> Sequence[StateRecord]:
        self.histories.append(run_id)
        if self.fails:
            raise OrchestratorError("the Prefect API does not answer")
        return super().history(run_id)


class World:
    """A grader with one run, and Prefect as it would answer."""

    def __init__(self, book: Casebook | None = None) -> None:
        self.api = Records(self)
        self.book = book or Casebook()
        self.grader = Grader(self.book, self.api, lambda text: text.replace("hunter2", "***"))
        self.judged = flow_run(state_since=START - HOUR)
        self.record = self._record(self.judged, uuid4())
        self.api.runs = [self.judged]

    def pass_(self, report: CycleReport) -> Graded:
        return self.grader.note(report)

    def settle(self, at: object = START) -> Graded:
        graded = self.pass_(report_of(at, [zombie(self.judged)]))  # type: ignore[arg-type]
        self.goes("CRASHED", transition_id(self.judged.id, self.judged.state_id), judged=True)
        return graded

    def shadow(self) -> Graded:
        return self.pass_(report_of(START, [held(self.judged)]))

    def goes(self, type_: str, transition: object = None, *, judged: bool = False, **changes: object) -> FlowRun:
        """The run goes to another state; FakeOrchestrator makes the newest record of the row itself."""
        run = self.api.runs[0]
        self.api.past[run.id] = [*self.api.past.get(run.id, ()), self.record]
        state = {"state_id": uuid4(), "state_type": StateType(type_), "state_name": type_.capitalize()}
        row = replace(run, **(state | changes))  # type: ignore[arg-type]
        self.api.runs = [row]
        self.record = self._record(row, transition)
        return row

    @property
    def case(self) -> Case:
        (case,) = self.book.cases()
        return case

    def _record(self, row: FlowRun, transition: object) -> StateRecord:
        return StateRecord(
            id=row.state_id,
            type=row.state_type,
            name=row.state_name,
            timestamp=START,
            transition_id=transition,  # type: ignore[arg-type]
        )


class Records(Api):
    """Gives the histories that `World` wrote, with their transition ids."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def history(self, run_id: RunId) -> Sequence[StateRecord]:
        return [*list(super().history(run_id))[:-1], self._world.record]


@pytest.fixture
def world() -> World:
    return World()


def test_a_shadow_is_opened_once_and_costs_nothing_while_it_is_listed(world: World) -> None:
    assert world.shadow().watched == 1
    assert world.pass_(report_of(START + MINUTE, [held(world.judged)])).watched == 1
    assert (world.case.kind, world.case.judged_at, world.case.guard) == (Kind.SHADOW, START, "mode")
    assert world.case.resource == f"res-{world.judged.id}"
    assert world.api.calls == 0


def test_nothing_watched_costs_no_call(world: World) -> None:
    world.pass_(report_of(START, [healthy(world.judged)]))
    assert world.api.calls == 0
    assert world.book.cases() == []


@pytest.mark.parametrize("guard", [guard for guard in Guard if guard not in (Guard.MODE, Guard.TRUST)])
def test_what_another_guard_holds_would_not_have_been_settled(world: World, guard: Guard) -> None:
    world.pass_(report_of(START, [held(world.judged, guard)]))
    assert world.book.cases() == []


def test_trust_and_dry_runs_make_shadows_and_refused_settlements_nothing(world: World) -> None:
    world.pass_(report_of(START, [zombie(world.judged)], accepted=False))
    assert world.book.cases() == []
    world.pass_(report_of(START, [zombie(world.judged)], dry_run=True))
    other = flow_run()
    world.pass_(report_of(START, [held(other, Guard.TRUST)]))
    assert [(one.kind, one.guard) for one in world.book.cases()].count((Kind.SHADOW, "trust")) == 1
    assert len(world.book.cases()) == 2


def test_a_shadow_that_completes_was_false(world: World) -> None:
    world.shadow()
    world.goes("COMPLETED", uuid4())
    graded = world.pass_(report_of(START + MINUTE))
    assert world.case.grade is Grade.FALSE
    assert world.case.why.startswith("ended by itself: it reported Completed")
    assert graded.shadows[Grade.FALSE] == 1
    assert (graded.watched, graded.alarms, graded.false_crashes) == (0, (), {})
    assert world.api.calls == 2
    world.pass_(report_of(START + 2 * MINUTE))
    assert world.api.calls == 2


def test_a_shadow_whose_resource_lives_was_false(world: World) -> None:
    world.shadow()
    alive = {world.judged.id: resource(world.judged, "another of this attempt")}
    world.pass_(report_of(START + MINUTE, [healthy(world.judged)], live=alive))
    assert world.case.why.startswith("showed life: container otter is running, seen 2026-03-01 12:01:01 UTC")


def test_a_look_that_began_before_the_verdict_does_not_contradict_it(world: World) -> None:
    world.shadow()
    early = report_of(START - MINUTE, [healthy(world.judged)], live={world.judged.id: resource(world.judged)})
    world.pass_(early)
    assert world.case.grade is Grade.OPEN


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("what", ["heartbeat", "log line"])
def test_a_sign_of_life_counts_if_it_is_later_than_the_verdict(world: World, what: str, *, late: bool) -> None:
    world.shadow()
    at = START + timedelta(seconds=31 if late else 29)
    beats = {world.judged.id: Heartbeat(2, START, at)} if what == "heartbeat" else {}
    signs = {world.judged.id: LifeSign("log line", at)} if what != "heartbeat" else {}
    world.pass_(report_of(START + MINUTE, [held(world.judged)], heartbeats=beats, life_signs=signs))
    assert world.case.grade is (Grade.FALSE if late else Grade.OPEN)
    assert (f"a {what} of" in world.case.why) is late


def test_who_stays_a_zombie_for_an_hour_was_judged_right_and_a_later_sign_overturns_it(world: World) -> None:
    world.shadow()
    world.pass_(report_of(START + HOUR, [unknown(world.judged)]))
    assert world.case.grade is Grade.OPEN
    world.pass_(report_of(START + HOUR, [held(world.judged)], life_signs_error="503"))
    assert world.case.grade is Grade.OPEN
    assert world.pass_(report_of(START + HOUR, [held(world.judged)])).shadows[Grade.RIGHT] == 1
    assert world.case.closed_at is None
    world.goes("RUNNING", uuid4(), state_name="Retrying")
    graded = world.pass_(report_of(START + 2 * HOUR, [healthy(world.api.runs[0])]))
    assert (graded.shadows[Grade.RIGHT], graded.shadows[Grade.FALSE]) == (0, 1)


def test_after_a_day_the_watch_is_over(world: World) -> None:
    world.shadow()
    world.pass_(report_of(START + HOUR, [held(world.judged)]))
    assert world.pass_(report_of(START + 24 * HOUR, [held(world.judged)])).watched == 0
    assert (world.case.grade, world.case.closed_at) == (Grade.RIGHT, START + 24 * HOUR + TOOK)


def test_who_is_deleted_is_not_graded(world: World) -> None:
    world.shadow()
    world.api.runs = []
    world.pass_(report_of(START + MINUTE))
    assert (world.case.grade, world.case.why) == (Grade.UNGRADED, "was deleted")


def test_what_others_settled_was_right_and_the_time_is_kept(world: World) -> None:
    world.shadow()
    world.goes("CRASHED")
    world.record = replace(world.record, transition_id=None)
    world.pass_(report_of(START + MINUTE))
    assert (world.case.grade, world.case.others_at) == (Grade.RIGHT, START)


def test_a_settlement_is_watched_with_one_call_and_less_and_less(world: World) -> None:
    world.settle()
    for number in range(1, 11):
        world.pass_(report_of(START + number * MINUTE / 2))
    assert len(world.api.reread_ids) == 10
    assert world.api.histories == [world.judged.id]  # which Crashed is ours
    asked = len(world.api.reread_ids)
    for number in range(120):
        world.pass_(report_of(START + 10 * HOUR + number * MINUTE / 2))
    assert len(world.api.reread_ids) - asked == 12
    graded = world.pass_(report_of(START + 24 * HOUR))
    assert (graded.watched, graded.alarms) == (0, ())
    assert world.case.why == "showed no life for 24 h"


def test_a_false_crash_is_loud_counted_and_told_once(world: World) -> None:
    world.settle()
    world.pass_(report_of(START + MINUTE))
    world.goes("COMPLETED", uuid4())
    (alarm,) = world.pass_(report_of(START + 2 * MINUTE)).alarms
    assert alarm.startswith(
        f"FALSE CRASH: flow run {world.judged.id} (test-run) was set to Crashed by us at 2026-03-01"
    )
    assert "and reported Completed at 2026-03-01 12:00:00 UTC, with no Scheduled between" in alarm
    assert f"its resource was res-{world.judged.id}" in alarm
    assert alarm.endswith("1 of 2 within 24 h that make scope 'prod' untrusted")
    graded = world.pass_(report_of(START + 3 * MINUTE))
    assert (graded.alarms, graded.false_crashes, graded.distrusted) == ((), {"prod": 1}, {})


def test_a_run_that_ran_and_crashed_again_between_two_passes_is_not_missed(world: World) -> None:
    world.settle()
    world.goes("RUNNING", uuid4(), run_count=2)
    world.goes("CRASHED", uuid4(), run_count=2)
    assert world.pass_(report_of(START + MINUTE)).alarms


def test_a_ui_retry_is_no_false_crash_and_its_end_neither(world: World) -> None:
    world.settle()
    world.goes("SCHEDULED", state_name="AwaitingRetry")
    assert world.pass_(report_of(START + MINUTE)).alarms == ()
    for state in ("PENDING", "RUNNING"):
        row = world.goes(state, uuid4(), run_count=2)
        assert world.pass_(report_of(START + 2 * MINUTE, [healthy(row)])).alarms == ()
    world.goes("COMPLETED", uuid4(), run_count=2)
    assert world.pass_(report_of(START + 3 * MINUTE)).alarms == ()
    assert world.case.grade is Grade.OPEN


@pytest.mark.parametrize("retried", [True, False])
def test_its_very_resource_alive_is_a_false_crash_also_after_a_retry(world: World, *, retried: bool) -> None:
    world.settle()
    if retried:
        row = world.goes("RUNNING", uuid4(), run_count=2)
        seen = report_of(START + MINUTE, [healthy(row)], live={row.id: resource(row)})
    else:
        seen = report_of(START + MINUTE, strangers=[resource(world.judged)])
    (alarm,) = world.pass_(seen).alarms
    assert "showed life: container otter is" in alarm


def test_another_resource_of_the_run_is_none(world: World) -> None:
    world.settle()
    graded = world.pass_(report_of(START + MINUTE, strangers=[resource(world.judged, "another")]))
    assert graded.alarms == ()


def test_two_false_crashes_take_the_trust_and_it_is_said_until_it_is_given_back(world: World) -> None:
    for number in range(2):
        world.judged = flow_run()
        world.api.runs = [world.judged]
        world.settle()
        graded = world.pass_(report_of(START + (number + 1) * MINUTE, strangers=[resource(world.judged)]))
    assert "2 within 24 h, so scope 'prod' is not trusted any more" in graded.alarms[0]
    assert set(graded.distrusted) == {"prod"}
    assert "`reconcile --trust prod`" in world.pass_(report_of(START + 3 * MINUTE)).warnings[0]
    world.book.trust("prod", START + 4 * MINUTE)
    assert world.pass_(report_of(START + 5 * MINUTE)).warnings == ()


def test_what_cannot_be_told_is_a_warning_once(world: World) -> None:
    world.record = replace(world.record, transition_id=None)
    world.settle()
    world.goes("COMPLETED")
    graded = world.pass_(report_of(START + MINUTE))
    assert graded.alarms == ()
    assert graded.warnings[0].startswith("perhaps a false crash, which is not counted")
    assert world.pass_(report_of(START + 2 * MINUTE)).warnings == ()
    assert graded.false_crashes == {}


@pytest.mark.parametrize("is_new", [True, False])
def test_a_history_that_the_cycle_has_read_is_not_read_again(world: World, *, is_new: bool) -> None:
    world.shadow()
    row = world.goes("RUNNING", uuid4(), state_name="Retrying")
    known = (*world.api.past[row.id], world.record) if is_new else (*world.api.past[row.id],)
    report = report_of(START + MINUTE, [healthy(row)])
    assert report.snapshot is not None
    cases = tuple(replace(case, history=known) for case in report.snapshot.cases)
    world.pass_(replace(report, snapshot=replace(report.snapshot, cases=cases)))
    assert world.case.grade is Grade.FALSE
    assert len(world.api.histories) == (0 if is_new else 1)


def test_a_false_crash_that_cannot_be_kept_is_told_all_the_same(tmp_path: Path) -> None:
    world = World(Casebook(tmp_path / "grades.sqlite3"))
    world.settle()
    other = sqlite3.connect(tmp_path / "grades.sqlite3")
    other.execute("begin immediate")  # may be read, not written
    seen = report_of(START + MINUTE, strangers=[resource(world.judged)])
    graded = world.pass_(seen)
    assert len(graded.alarms) == 1
    assert "locked" in graded.warnings[0]
    other.rollback()
    other.close()
    assert len(world.pass_(seen).alarms) == 1
    assert world.pass_(seen).alarms == ()
    assert world.book.scopes()["prod"].false_crashes == 1


def test_an_api_that_fails_is_a_warning_and_is_asked_again(world: World) -> None:
    world.settle()
    world.goes("COMPLETED", uuid4())
    world.api.fails = True
    graded = world.pass_(report_of(START + MINUTE))
    assert "1 flow runs could not be read to grade" in graded.warnings[0]
    world.api.fails = False
    assert world.pass_(report_of(START + 2 * MINUTE)).alarms


def test_no_call_after_the_deadline_nor_without_a_list(world: World) -> None:
    world.settle()
    world.grader.note(report_of(START + MINUTE), since_boot() - 1)
    world.grader.note(report_of(START + MINUTE, was_listed=False))
    assert world.api.calls == 0


def test_a_pass_reads_no_more_than_its_bound(world: World) -> None:
    runs = [flow_run() for _ in range(450)]
    world.pass_(report_of(START, [held(run) for run in runs]))
    world.api.runs = [
        replace(run, state_id=uuid4(), state_type=StateType.COMPLETED, state_name="Completed") for run in runs
    ]
    world.pass_(report_of(START + MINUTE))
    assert [len(ids) for ids in world.api.reread_ids] == [400]
    assert len(world.api.histories) == 50


def test_a_bug_is_a_warning(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.settle()

    def broken(_: object) -> Mapping[RunId, FlowRun]:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(world.api, "reread", broken)
    (warning,) = world.pass_(report_of(START + MINUTE)).warnings
    assert "a bug of ours (RuntimeError: ***)" in warning


def test_texts_from_outside_are_clean_bounded_and_without_secrets(world: World) -> None:
    world.judged = flow_run(name="evil\x1b[31m" + "x" * 10_000)
    finding = replace(held(world.judged), reason="hunter2 \u202e" + "y" * 10_000)
    world.pass_(report_of(START, [finding]))
    assert world.case.name.startswith("evil\N{REPLACEMENT CHARACTER}[31m")
    assert len(world.case.name) == 100
    assert world.case.died.startswith("*** \N{REPLACEMENT CHARACTER}y")
    assert len(world.case.died) == 400
