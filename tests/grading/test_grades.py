"""The grades as a table: what follows a verdict, and what that makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.grading.cases import Case, Grade, Kind
from reconciler.grading.grades import DELETED, by_age, by_history
from reconciler.model import Action, StateType
from reconciler.testing import flow_run
from tests.grading.histories import START, History, started

Follow = Callable[[History], History]


def case_of(history: History, kind: Kind, **changes: object) -> Case:
    values: dict[str, object] = {
        "run_id": history.run_id,
        "state_id": history.judged,
        "kind": kind,
        "name": "otter",
        "scope": "prod",
        "rule": "6",
        "guard": "",
        "died": "it exited",
        "resource": "res",
        "run_count": 1,
        "judged_at": START,
    }
    return Case(**(values | changes))  # type: ignore[arg-type]


SETTLEMENTS: dict[str, tuple[Follow, Grade | None, str]] = {
    "nothing": (lambda h: h, None, ""),
    "the live flow completes": (lambda h: h.run("COMPLETED"), Grade.FALSE, "reported Completed at 2026-03-01 12:00:05"),
    "the live flow fails": (lambda h: h.run("FAILED"), Grade.FALSE, "no Scheduled between"),
    "a restarted engine": (lambda h: h.run("RUNNING"), Grade.FALSE, "reported Running"),
    "its own late Crashed, then Completed": (lambda h: h.run("CRASHED").run("COMPLETED"), Grade.FALSE, "Completed"),
    "a late report of the worker": (lambda h: h.run("CRASHED"), Grade.UNCLEAR, "by itself or by a worker"),
    "crashed once more by hand": (lambda h: h.hand("CRASHED"), Grade.OPEN, "was set to Crashed"),
    "UI retry": (lambda h: h.hand("SCHEDULED", "AwaitingRetry"), Grade.OPEN, "another attempt: AwaitingRetry"),
    "UI retry that completes": (
        lambda h: h.hand("SCHEDULED", "AwaitingRetry").run("PENDING").run("RUNNING").run("COMPLETED"),
        Grade.OPEN,
        "another attempt",
    ),
    "UI retry without a PENDING": (
        lambda h: h.hand("SCHEDULED", "AwaitingRetry").run("RUNNING"),
        Grade.OPEN,
        "another attempt",
    ),
    "CLI retry": (lambda h: h.run("SCHEDULED").run("PENDING").run("RUNNING"), Grade.OPEN, "another attempt"),
    "resume": (lambda h: h.hand("SCHEDULED", "Resuming").run("PENDING").run("RUNNING"), Grade.OPEN, "another attempt"),
    "retry on remote infrastructure": (lambda h: h.run("PENDING").run("RUNNING"), Grade.OPEN, "another attempt"),
    "an observer's PENDING is no attempt": (
        lambda h: h.run("PENDING", "InfrastructurePending").run("RUNNING"),
        Grade.FALSE,
        "Running",
    ),
    "set Completed by hand": (lambda h: h.hand("COMPLETED"), Grade.OPEN, "by hand or by an automation"),
    "set Running by an automation": (lambda h: h.hand("RUNNING"), Grade.OPEN, "by hand or by an automation"),
    "set Cancelled by hand": (lambda h: h.hand("CANCELLED"), Grade.OPEN, "by hand"),
    "we resume it": (lambda h: h.resume(), Grade.OPEN, "was resumed by us: AwaitingRetry at 2026-03-01 12:00:05"),
    "we resume it, and it completes": (
        lambda h: h.resume().run("PENDING").run("RUNNING").run("COMPLETED"),
        Grade.OPEN,
        "was resumed by us: AwaitingRetry",
    ),
    "we resume it, and crash it again, and resume it": (
        lambda h: h.resume().run("PENDING").run("RUNNING").crash_again().resume().run("PENDING"),
        Grade.OPEN,
        "was resumed by us: AwaitingRetry at 2026-03-01 12:00:05",
    ),
    "we resume what lives, and that completes": (
        lambda h: h.resume().run("COMPLETED"),
        Grade.FALSE,
        "reported Completed at 2026-03-01 12:00:06 UTC, before a worker had fetched it again",
    ),
    "a person retries it, and so do we later": (
        lambda h: h.hand("SCHEDULED", "AwaitingRetry").run("PENDING").run("RUNNING").crash_again().resume(),
        Grade.OPEN,
        "was given another attempt",
    ),
    "set back by hand, and the live flow completes": (
        lambda h: h.hand("RUNNING").run("COMPLETED"),
        Grade.FALSE,
        "reported Completed",
    ),
}


@pytest.mark.parametrize("name", SETTLEMENTS)
def test_settlement(name: str) -> None:
    follow, grade, why = SETTLEMENTS[name]
    history = follow(started().crash())
    opinion = by_history(case_of(history, Kind.SETTLED), history.records)
    assert (opinion.grade if opinion else None) is grade
    assert why in (opinion.why if opinion else "")
    assert (opinion is not None and opinion.is_final) is (grade is Grade.FALSE)


CANCELLATIONS: dict[str, tuple[Follow, Grade | None, str]] = {
    "nothing": (lambda h: h, None, ""),
    "its worker says so too, late": (lambda h: h.run("CANCELLED"), Grade.OPEN, "was set to Cancelled"),
    "the server says so too, late": (lambda h: h.hand("CANCELLED"), Grade.OPEN, "was set to Cancelled"),
    "it completes": (lambda h: h.run("COMPLETED"), Grade.FALSE, "reported Completed"),
    "it fails": (lambda h: h.run("FAILED"), Grade.FALSE, "reported Failed"),
    "it goes on": (lambda h: h.run("RUNNING", "Retrying"), Grade.FALSE, "reported Retrying"),
    "it is ended by a signal": (lambda h: h.run("CRASHED"), Grade.UNCLEAR, "by itself or by a worker"),
    "a person starts it again": (lambda h: h.hand("SCHEDULED", "Scheduled"), Grade.OPEN, "another attempt"),
}


@pytest.mark.parametrize("name", CANCELLATIONS)
def test_a_run_that_we_set_to_cancelled(name: str) -> None:
    follow, grade, why = CANCELLATIONS[name]
    history = follow(started().hand("CANCELLING").cancel())
    opinion = by_history(case_of(history, Kind.SETTLED, action=Action.CANCEL, rule="9"), history.records)
    assert (opinion.grade if opinion else None) is grade
    assert why in (opinion.why if opinion else "")


def test_another_run_s_resumption_is_not_ours() -> None:
    history = started().crash()
    history.run("SCHEDULED", "AwaitingRetry").run("RUNNING")
    opinion = by_history(case_of(history, Kind.SETTLED), history.records)
    assert opinion is not None
    assert (opinion.grade, opinion.why[:24]) == (Grade.OPEN, "was given another attemp")


def test_a_worker_that_fails_to_submit_is_told_from_a_later_attempt_that_ran() -> None:
    history = History().hand("SCHEDULED").run("PENDING").crash().run("FAILED").hand("SCHEDULED").run("RUNNING")
    opinion = by_history(case_of(history, Kind.SETTLED), history.records)
    assert opinion is not None
    assert opinion.grade is Grade.UNCLEAR


def test_a_pending_run_that_starts_after_our_crash() -> None:
    history = History().hand("SCHEDULED").run("PENDING").crash().run("RUNNING").run("COMPLETED")
    opinion = by_history(case_of(history, Kind.SETTLED), history.records)
    assert opinion is not None
    assert opinion.grade is Grade.FALSE
    assert opinion.why.startswith("reported Running")


def test_a_worker_may_report_failed_of_a_run_that_never_ran() -> None:
    history = History().hand("SCHEDULED").run("PENDING").crash().run("FAILED")
    opinion = by_history(case_of(history, Kind.SETTLED), history.records)
    assert opinion is not None
    assert opinion.grade is Grade.UNCLEAR
    assert "a worker that could not submit it" in opinion.why
    assert not opinion.is_final


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETED", "FAILED"])
def test_where_the_client_gives_no_transition_ids_it_cannot_be_told(state: str) -> None:
    history = History().hand("PENDING").hand("RUNNING").crash().hand(state)
    opinion = by_history(case_of(history, Kind.SETTLED), history.records)
    assert opinion is not None
    assert opinion.grade is Grade.UNCLEAR
    assert "cannot be told" in opinion.why


def test_a_crash_that_is_not_ours_says_nothing_of_a_settlement() -> None:
    history = started().judge().run("CRASHED").run("COMPLETED")
    assert by_history(case_of(history, Kind.SETTLED), history.records) is None


SHADOWS: dict[str, tuple[Follow, Grade | None, str]] = {
    "nothing": (lambda h: h, None, ""),
    "it completes": (lambda h: h.run("COMPLETED"), Grade.FALSE, "ended by itself: it reported Completed"),
    "it fails": (lambda h: h.run("FAILED"), Grade.FALSE, "ended by itself: it reported Failed"),
    "it goes on": (lambda h: h.run("RUNNING", "Retrying"), Grade.FALSE, "went on to Retrying"),
    "it pauses": (lambda h: h.run("PAUSED"), Grade.FALSE, "went on to Paused"),
    "its retry in the process has begun": (
        lambda h: h.hand("SCHEDULED", "AwaitingRetry").run("RUNNING"),
        Grade.FALSE,
        "AwaitingRetry at 2026-03-01 12:00:04 UTC in its own process",
    ),
    "it or its worker reports it": (lambda h: h.run("CRASHED"), Grade.UNGRADED, "by itself or by a worker"),
    "an automation crashes it": (lambda h: h.hand("CRASHED"), Grade.RIGHT, "settled by others: Crashed"),
    "the server ends its cancellation": (
        lambda h: h.hand("CANCELLING").hand("CANCELLED"),
        Grade.UNGRADED,
        "was cancelled: Cancelled",
    ),
    "its worker ends its cancellation": (
        lambda h: h.hand("CANCELLING").run("CANCELLED"),
        Grade.UNGRADED,
        "was cancelled: Cancelled",
    ),
    "it is being cancelled": (lambda h: h.hand("CANCELLING"), None, ""),
    "others were wrong as well": (lambda h: h.hand("CRASHED").run("COMPLETED"), Grade.FALSE, "ended by itself"),
    "others settled it, and it is retried": (
        lambda h: h.hand("CRASHED").hand("SCHEDULED", "AwaitingRetry").run("PENDING").run("RUNNING").run("COMPLETED"),
        Grade.RIGHT,
        "settled by others",
    ),
    "rescheduled": (lambda h: h.hand("SCHEDULED", "AwaitingRetry"), Grade.UNGRADED, "was rescheduled"),
    "a new attempt": (lambda h: h.run("PENDING").run("RUNNING"), Grade.UNGRADED, "was rescheduled: Pending"),
    "set Completed by hand": (lambda h: h.hand("COMPLETED"), Grade.UNGRADED, "by hand or by an automation"),
}


@pytest.mark.parametrize("name", SHADOWS)
def test_shadow(name: str) -> None:
    follow, grade, why = SHADOWS[name]
    history = follow(started().judge())
    opinion = by_history(case_of(history, Kind.SHADOW), history.records)
    assert (opinion.grade if opinion else None) is grade
    assert why in (opinion.why if opinion else "")


def test_a_retry_that_waits_in_its_process_is_life() -> None:
    history = started().judge().hand("SCHEDULED", "AwaitingRetry")
    row = flow_run(state_type=StateType.SCHEDULED, retry_type="in_process")
    opinion = by_history(case_of(history, Kind.SHADOW), history.records, replace(row, id=history.run_id))
    assert opinion is not None
    assert opinion.grade is Grade.FALSE


def test_who_settles_it_for_real_ends_the_watch() -> None:
    history = started().crash()
    case = case_of(history, Kind.SHADOW)
    opinion = by_history(case, history.records)
    assert opinion is not None
    assert opinion.grade is Grade.UNGRADED
    assert opinion.is_final
    right = replace(case, grade=Grade.RIGHT, why="stayed").graded(opinion, START)
    assert (right.grade, right.why, right.closed_at) == (Grade.RIGHT, "stayed", START)


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("kind", "grade", "age", "stays", "expected"),
    [
        (Kind.SHADOW, Grade.OPEN, HOUR - timedelta(seconds=1), True, None),
        (Kind.SHADOW, Grade.OPEN, HOUR, True, (Grade.RIGHT, False)),
        (Kind.SHADOW, Grade.OPEN, 2 * HOUR, False, None),
        (Kind.SHADOW, Grade.OPEN, 24 * HOUR, False, (Grade.UNGRADED, True)),
        (Kind.SHADOW, Grade.RIGHT, 2 * HOUR, True, None),
        (Kind.SHADOW, Grade.RIGHT, 24 * HOUR, True, (Grade.RIGHT, True)),
        (Kind.SETTLED, Grade.OPEN, 23 * HOUR, False, None),
        (Kind.SETTLED, Grade.OPEN, 24 * HOUR, False, (Grade.RIGHT, True)),
        (Kind.SETTLED, Grade.UNCLEAR, 24 * HOUR, False, (Grade.UNCLEAR, True)),
    ],
)
def test_what_time_tells(
    kind: Kind, grade: Grade, age: timedelta, *, stays: bool, expected: tuple[Grade, bool] | None
) -> None:
    case = case_of(started().judge(), kind, grade=grade)
    opinion = by_age(case, START + age, stays_zombie=stays, is_read=True)
    assert ((opinion.grade, opinion.is_final) if opinion else None) == expected


@pytest.mark.parametrize(("grade", "end"), [(Grade.OPEN, Grade.UNGRADED), (Grade.UNCLEAR, Grade.UNCLEAR)])
@pytest.mark.parametrize("kind", Kind)
def test_what_cannot_be_read_is_watched_a_day_longer_and_ends_without_praise(
    kind: Kind, grade: Grade, end: Grade
) -> None:
    case = case_of(started().judge(), kind, grade=grade)
    assert by_age(case, START + 47 * HOUR, stays_zombie=False, is_read=False) is None
    opinion = by_age(case, START + 48 * HOUR, stays_zombie=False, is_read=False)
    assert opinion is not None
    assert (opinion.grade, opinion.is_final) == (end, True)
    assert ("could not be read" in opinion.why) is (grade is Grade.OPEN)


def test_deleted_says_nothing_unless_it_was_right_before() -> None:
    case = case_of(started().judge(), Kind.SHADOW)
    assert case.graded(DELETED, START).grade is Grade.UNGRADED
    right = replace(case, grade=Grade.RIGHT).graded(DELETED, START)
    assert (right.grade, right.closed_at) == (Grade.RIGHT, START)
