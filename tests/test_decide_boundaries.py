"""Every threshold of the table, one microsecond before it and exactly on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.model import ClockOffset, FlowRun
from reconciler.plan import Finding, Policy
from reconciler.snapshot import Case, ScopeView

from .spec import alive, asleep, case, exited, first_look, gone, look, run, scope, sighting, vanished, verdict

MICROSECOND = timedelta(microseconds=1)
LAG = timedelta(minutes=5)
POLICY = Policy(
    grace=timedelta(seconds=31),
    confirm_after=timedelta(seconds=8),
    settle_failed=timedelta(seconds=13),
    settle_zero=timedelta(seconds=34),
    settle_starting=timedelta(seconds=47),
    report_after=timedelta(minutes=14),
    cancelling_limit=timedelta(minutes=9),
)  # none is a default, so each is read from the policy


def short_of(limit: timedelta) -> tuple[float, float]:
    return (limit - MICROSECOND).total_seconds(), limit.total_seconds()


def judged(one: Case, *scopes: ScopeView) -> Finding:
    return verdict(one, *scopes, policy=POLICY)


def both(of: Callable[[float], Case], limit: timedelta, *scopes: ScopeView) -> list[str]:
    return [str(judged(of(seconds), *scopes).verdict) for seconds in short_of(limit)]


def ended(of: FlowRun, seconds: float, code: int = 1) -> Case:
    return case(of, look(exited(of, code, ended=seconds)))


@pytest.mark.parametrize(
    ("state", "code", "limit"),
    [
        ("RUNNING", 1, POLICY.settle_failed),
        ("RUNNING", 0, POLICY.settle_zero),
        ("PENDING", 0, POLICY.settle_starting),
    ],
)
def test_settle_times(state: str, code: int, limit: timedelta) -> None:
    assert both(lambda seconds: ended(run(state), seconds, code), limit) == ["WAITING", "ZOMBIE"]
    doubtful = scope("a", clock=ClockOffset(uncertainty=timedelta(seconds=2)))
    later = limit + timedelta(seconds=2)
    assert both(lambda seconds: ended(run(state), seconds, code), later, doubtful) == ["WAITING", "ZOMBIE"]


def test_a_settle_time_after_a_retry_s_time() -> None:
    assert both(lambda due: ended(asleep(due=due), 600), POLICY.settle_failed) == ["WAITING", "ZOMBIE"]


def test_a_retry_that_is_due_now_is_awake() -> None:
    for due, told in ((0, "settle_failed of 13 s"), (-MICROSECOND.total_seconds(), "its retry is due at 12:00:00 UTC")):
        assert told in judged(ended(asleep(due=due), 600)).reason


def test_grace_of_the_state() -> None:
    assert both(lambda age: vanished(age=age), POLICY.grace) == ["WAITING", "ZOMBIE"]


def test_grace_of_a_retry() -> None:
    def one(due: float) -> Case:
        r = asleep(due=due)
        return case(r, look(gone(r), sightings=(sighting(r),)))

    assert both(one, POLICY.grace) == ["WAITING", "ZOMBIE"]


def test_the_time_between_two_looks() -> None:
    one = vanished()
    assert both(lambda s: replace(one, first_look=first_look(s, *one.looks)), POLICY.confirm_after) == [
        "WAITING",
        "ZOMBIE",
    ]


def test_what_a_late_place_may_not_show_yet() -> None:
    late = scope("a", lag=LAG)
    assert both(lambda age: vanished(age=age), LAG, late) == ["WAITING", "ZOMBIE"]

    def young(made: float) -> Case:
        r = run(age=900)
        return case(r, look(exited(r, made=made)))

    assert both(young, LAG, late) == ["WAITING", "ZOMBIE"]
    doubtful = scope("a", lag=LAG, clock=ClockOffset(uncertainty=timedelta(seconds=2)))
    for of in (lambda age: vanished(age=age), young):
        assert both(of, LAG + timedelta(seconds=2), doubtful) == ["WAITING", "ZOMBIE"]


def test_what_is_said_of_a_late_place() -> None:
    r, late = run(age=900), scope("a", lag=LAG)
    finding = judged(case(r, look(exited(r, made=100))), late)
    assert (finding.rule, finding.scope, finding.observation) == ("10", "a", exited(r, made=100))
    assert finding.reason == (
        "Docker container res-1 on engine a exited with code 137 at 11:59:00 UTC; awaited: scope 'a' may not show yet "
        "what else was made within 5 min, for another 3 min"
    )
    finding = judged(vanished(age=100), late)
    assert (finding.rule, finding.scope) == ("10", "a")
    assert finding.reason == (
        "Docker container res-1 on engine a was removed; last seen running 11:58:30 UTC; awaited: the state is 100 s "
        "old, and scope 'a' may not show yet what was made within 5 min"
    )


def test_pending_is_held_up_to_light() -> None:
    def one(age: float) -> Case:
        r = run("PENDING", age=age)
        return case(r, look(gone(r)))

    assert both(one, POLICY.report_after) == ["WAITING", "HELD"]


def test_cancelling_is_held_up_to_light() -> None:
    assert both(lambda age: ended(run("CANCELLING", age=age), 60), POLICY.cancelling_limit) == ["WAITING", "HELD"]


def test_alive_with_a_remark_is_worth_a_line_only_after_its_time() -> None:
    limit = POLICY.report_after.total_seconds()
    for age, told in ((limit, False), (limit + MICROSECOND.total_seconds(), True)):
        r = run(age=age)
        assert judged(case(r, look(alive(r, "STARTING")))).is_notable is told


def test_what_was_alive_within_quiet_is_looked_for_twice() -> None:
    for seconds, told in zip(short_of(POLICY.quiet), (True, False), strict=True):
        r = run(age=900)
        other = sighting(r, name="res-2")
        seen = replace(other, live_seen=other.last_seen + timedelta(seconds=90 - seconds))
        one = case(r, look(exited(r), sightings=(sighting(r), seen)), confirmed=False)
        assert judged(one).wants_time is told


def test_what_is_said_of_what_was_alive_of_late() -> None:
    r = run(age=900)
    lost = case(r, look(exited(r), sightings=(sighting(r), sighting(r, name="res-2"))), confirmed=False)
    finding = judged(lost)
    assert (finding.rule, finding.scope, finding.observation) == ("10", "a", exited(r))
    assert finding.reason == (
        "Docker container res-1 on engine a exited with code 137 at 11:59:00 UTC; awaited: a second look, for "
        "Docker container res-2 on engine a was alive before"
    )
