"""Rules 8 and 9 where the operator lets them settle: `crash_pending` and `finish_cancelling`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from reconciler.decide import decide
from reconciler.model import AbsenceCounts, Action, Cause, FlowRun, Guard, LifeSign, Place, Verdict
from reconciler.plan import Finding, Plan, Policy
from reconciler.snapshot import Case, FirstLook, Look

from .spec import (
    ago,
    alive,
    beat,
    case,
    exited,
    gone,
    herd,
    history,
    judged,
    look,
    run,
    scope,
    sighting,
    snapshot,
    unknown,
    unknown_namespace,
    vanished,
)

LATE, OVERDUE = 900.0, 600.0  # report_after, cancelling_limit
PENDING, CANCELLING = Policy(crash_pending=True), Policy(finish_cancelling=True)
EXCLUSIVE = scope("a", exclusive=True)
TWICE = (("PENDING", 5000.0), ("RUNNING", 4990.0), ("SCHEDULED", 2000.0))


def told(finding: Finding) -> tuple[str, str]:
    return finding.verdict.value, finding.rule


def found(one: Case, policy: Policy, **kw: object) -> Finding:
    return judged(one, policy=policy, **kw)[one.run.id]  # type: ignore[arg-type]


def pending(*, age: float = LATE, **kw: object) -> Case:
    """Never seen, where it must be."""
    r = run("PENDING", age=age, pid=None)
    return case(r, look(gone(r)), past=history(r, ("SCHEDULED", age + 60)), **kw)  # type: ignore[arg-type]


def cancelled(*looks: Look, of: FlowRun) -> Case:
    return case(of, *looks, past=history(of, ("PENDING", 5000), ("RUNNING", 4990)))


class TestPending:
    """An image pull looks the same, so it is off unless it is asked for."""

    def test_off_it_is_left_to_a_person(self) -> None:
        for age, expected in ((LATE - 1, ("WAITING", "10")), (LATE, ("HELD", "8"))):
            assert told(found(pending(age=age), Policy(), scopes=(EXCLUSIVE,))) == expected
        left = "pending for 15 min, and no infrastructure was found; an image pull looks the same"
        for views, remedy in (((EXCLUSIVE,), ""), ((), " in an `exclusive` scope")):
            reason = found(pending(), Policy(), scopes=views).reason
            assert reason == f"{left}, so it is left to a person (or to `crash_pending = true`{remedy})"

    def test_where_it_can_be_nowhere_else(self) -> None:
        for age, expected in ((LATE - 1, ("WAITING", "10")), (LATE, ("ZOMBIE", "8"))):
            assert told(found(pending(age=age), PENDING, scopes=(EXCLUSIVE,))) == expected
        finding = found(pending(), PENDING, scopes=(EXCLUSIVE,))
        assert finding.reason == "pending for 15 min, and no infrastructure was found"
        assert (finding.absence, finding.action) == (AbsenceCounts.EXCLUSIVE, Action.CRASH)
        assert finding.cause is Cause.REMOVED

    def test_elsewhere_it_may_be_pulled_by_another(self) -> None:
        finding = found(pending(), PENDING)
        assert told(finding) == ("HELD", "8")
        assert "crash_pending cannot judge it: nothing of this attempt was ever seen in scope 'a'" in finding.reason

    def test_each_scope_says_why_its_absence_says_nothing(self) -> None:
        r = run("PENDING", age=LATE, pid=None)
        never = "nothing of this attempt was ever seen in scope"
        whys = [f"{never} '{name}', and it has no infrastructure_pid" for name in "ab"]
        reason = found(case(r, look(gone(r)), look(gone(r), scope="b")), PENDING).reason
        assert reason.endswith(f"; crash_pending cannot judge it: {'; '.join(whys)}")

    def test_no_scope_is_asked(self) -> None:
        assert told(found(case(run("PENDING", age=LATE)), PENDING)) == ("UNMANAGED", "5")

    def test_twice_confirm_after_apart(self) -> None:
        one = pending()
        for first, expected in (
            (None, "WAITING"),
            (FirstLook(ago(9.9), frozenset("a")), "WAITING"),
            (FirstLook(ago(10), frozenset("b")), "WAITING"),
            (FirstLook(ago(10), frozenset("a")), "ZOMBIE"),
        ):
            finding = found(replace(one, first_look=first), PENDING, scopes=(EXCLUSIVE,))
            assert finding.verdict.value == expected
            assert finding.is_suspect
            assert finding.wants_time is (expected == "WAITING")

    def test_report_after_is_the_least_and_grace_and_lag_hold_too(self) -> None:
        quick = Policy(crash_pending=True, report_after=timedelta(0))
        for age, expected in ((29, "WAITING"), (30, "ZOMBIE")):
            assert found(pending(age=age), quick, scopes=(EXCLUSIVE,)).verdict.value == expected
        slow = replace(EXCLUSIVE, lag=timedelta(hours=1))
        assert found(pending(age=3599), PENDING, scopes=(slow,)).verdict is Verdict.WAITING
        assert found(pending(age=3600), PENDING, scopes=(slow,)).verdict is Verdict.ZOMBIE

    def test_what_lives_or_cannot_be_told(self) -> None:
        r = run("PENDING", age=LATE, pid=None)
        for seen, expected in ((alive(r, "STARTING"), "HEALTHY"), (unknown(), "UNKNOWN")):
            assert found(case(r, look(seen)), PENDING, scopes=(EXCLUSIVE,)).verdict.value == expected
        blind = case(r, look(gone(r)), look(scope="b", error="x"))
        assert found(blind, PENDING, scopes=(EXCLUSIVE,)).verdict is Verdict.UNKNOWN

    def test_what_ended_before_it_began_needs_no_leave(self) -> None:
        r = run("PENDING", age=60)
        assert told(found(case(r, look(exited(r, 127, ended=46))), Policy())) == ("ZOMBIE", "6")

    def test_a_pid_of_an_earlier_attempt_names_nothing(self) -> None:
        """Neither where it is, nor that it was: but where it can be nowhere else, that is not needed."""
        r = run("PENDING", age=LATE)
        past, old = history(r, *TWICE), sighting(r, made=4995)
        for there in (look(gone(r), place=Place.HERE), look(gone(r), sightings=(old,)), look(exited(r, made=4995))):
            assert told(found(case(r, there, past=past), PENDING)) == ("HELD", "8")
            assert told(found(case(r, there, past=past), PENDING, scopes=(EXCLUSIVE,))) == ("ZOMBIE", "8")

    def test_that_holds_for_pending_alone(self) -> None:
        r = run(age=LATE)
        one = case(r, look(gone(r)), past=history(r, *TWICE, ("PENDING", LATE + 60)))
        assert told(found(one, PENDING, scopes=(EXCLUSIVE,))) == ("UNMANAGED", "5")

    def test_a_pid_that_points_elsewhere_or_to_an_unknown_namespace(self) -> None:
        r = run("PENDING", age=LATE)
        for there in (look(gone(r), place=Place.ELSEWHERE), look(unknown_namespace(r))):
            assert told(found(case(r, there), PENDING, scopes=(EXCLUSIVE,))) == ("HELD", "8")

    def test_its_own_pid(self) -> None:
        r = run("PENDING", age=LATE)
        past = history(r, ("SCHEDULED", LATE + 60))
        for there in (look(gone(r), place=Place.HERE), look(gone(r), sightings=(sighting(r),))):
            assert told(found(case(r, there, past=past), PENDING)) == ("ZOMBIE", "8")

    def test_guards_hold_it_like_any_other(self) -> None:
        one = pending()
        for view, guard in (
            (replace(EXCLUSIVE, back_since=ago(5)), Guard.AMNESTY),
            (replace(EXCLUSIVE, known_since=ago(5)), Guard.IDENTITY),
            (replace(EXCLUSIVE, observes=True), Guard.MODE),
            (replace(EXCLUSIVE, distrusted_since=ago(5)), Guard.TRUST),
        ):
            assert found(one, PENDING, scopes=(view,)).guard is guard
        kw = {"scopes": (EXCLUSIVE,)}
        assert found(one, PENDING, heartbeats={one.run.id: beat(199)}, **kw).guard is Guard.QUIET
        assert found(one, PENDING, life_signs={one.run.id: LifeSign("task run", ago(1))}, **kw).guard is Guard.LIFE_SIGN
        assert found(one, PENDING, is_whole=False, **kw).guard is Guard.LISTING

    def test_it_is_never_resumed(self) -> None:
        policy, one = replace(PENDING, resume_max=3, resume_work_pools=frozenset({"pool"})), pending()
        one = replace(one, run=replace(one.run, deployment_id=uuid4()))  # it lacks nothing else
        finding = found(one, policy, scopes=(EXCLUSIVE,))
        assert (finding.verdict, finding.resumption) == (Verdict.ZOMBIE, None)


class TestCancelling:
    """A person's wish: never Crashed, and Cancelled only if asked for."""

    R = run("CANCELLING", age=OVERDUE)

    def ends(self) -> dict[str, Case]:
        r = self.R
        return {
            "exited": cancelled(look(exited(r, made=4995, ended=500)), of=r),
            "removed": cancelled(look(gone(r), sightings=(sighting(r, made=4995),)), of=r),
        }

    def test_off_it_is_left_to_a_person(self) -> None:
        for one in self.ends().values():
            finding = found(one, Policy())
            assert told(finding) == ("HELD", "9")
            assert "finish_cancelling = true" in finding.reason
            assert not finding.is_suspect

    def test_it_becomes_cancelled(self) -> None:
        for one in self.ends().values():
            finding = found(one, CANCELLING)
            assert told(finding) == ("ZOMBIE", "9")
            assert finding.action is Action.CANCEL
        assert found(self.ends()["removed"], CANCELLING).reason.endswith("; cancelling for 10 min")

    def test_where_nothing_tells_it_is_said_for_how_long(self) -> None:
        for age, expected in ((OVERDUE - 1, ""), (OVERDUE, "; cancelling for 10 min")):
            finding = found(case(run("CANCELLING", age=age, pid=None, work_pool=None)), CANCELLING)
            assert told(finding) == ("UNMANAGED", "5")
            assert finding.reason.endswith(f"so nothing outside it names it{expected}")

    def test_not_before_its_limit(self) -> None:
        r = run("CANCELLING", age=OVERDUE - 1)
        for seen in (look(exited(r, made=4995, ended=500)), look(gone(r), sightings=(sighting(r, made=4995),))):
            assert told(found(cancelled(seen, of=r), CANCELLING)) == ("WAITING", "10")

    def test_whatever_is_asked_for_it_is_never_crashed(self) -> None:
        for policy in (Policy(), PENDING, CANCELLING, Policy(crash_pending=True, finish_cancelling=True)):
            for age in (1.0, OVERDUE, 90_000.0):
                r = run("CANCELLING", age=age)
                for seen in (look(exited(r)), look(gone(r), sightings=(sighting(r),)), look(alive(r))):
                    finding = found(cancelled(seen, of=r), policy)
                    assert finding.verdict is not Verdict.ZOMBIE or finding.action is Action.CANCEL

    def test_its_end_has_settled_or_was_seen_twice(self) -> None:
        r = self.R
        for seconds, expected in ((9, "WAITING"), (10, "ZOMBIE")):
            one = cancelled(look(exited(r, made=4995, ended=seconds)), of=r)
            assert found(one, CANCELLING).verdict.value == expected
        untimed = cancelled(look(exited(r, made=4995, ended=None)), of=r)
        assert found(untimed, CANCELLING).verdict is Verdict.ZOMBIE
        assert found(replace(untimed, first_look=FirstLook(ago(10))), CANCELLING).verdict is Verdict.WAITING

    def test_its_absence_counts_and_is_seen_twice(self) -> None:
        removed = self.ends()["removed"]
        for first in (None, FirstLook(ago(9), frozenset("a")), FirstLook(ago(60), frozenset("b"))):
            assert found(replace(removed, first_look=first), CANCELLING).verdict is Verdict.WAITING
        uncounted = cancelled(look(gone(self.R)), of=self.R)
        assert told(found(uncounted, CANCELLING)) == ("UNMANAGED", "5")

    def test_an_old_pid_says_nothing_where_it_can_be_nowhere_else_either(self) -> None:
        """Unlike PENDING, it has run: it may do so where it was seen last."""
        past = history(self.R, *TWICE, ("PENDING", 1900), ("RUNNING", 1890))
        for there in (
            look(gone(self.R), place=Place.HERE),
            look(gone(self.R), sightings=(sighting(self.R, made=4995),)),
        ):
            one = case(self.R, there, past=past)
            assert told(found(one, CANCELLING, scopes=(EXCLUSIVE,))) == ("UNMANAGED", "5")

    def test_what_lives_is_let_live(self) -> None:
        for condition in ("ALIVE", "STOPPING"):
            one = cancelled(look(alive(self.R, condition)), of=self.R)
            assert found(one, CANCELLING).verdict is Verdict.HEALTHY

    def test_it_is_never_resumed(self) -> None:
        policy = replace(CANCELLING, resume_max=3, resume_work_pools=frozenset({"pool"}))
        for one in self.ends().values():
            finding = found(replace(one, run=replace(one.run, deployment_id=uuid4())), policy)
            assert (finding.verdict, finding.resumption) == (Verdict.ZOMBIE, None)


class TestBreaker:
    """What is settled by an absence is counted as one, and only then."""

    def plan(self, policy: Policy, *cases: Case) -> Plan:
        return decide(snapshot(*cases, scopes=(EXCLUSIVE,)), policy)

    @pytest.mark.parametrize("healthy", [3, 4])
    def test_pending_runs_take_their_share(self, healthy: int) -> None:
        plan = self.plan(PENDING, *(pending() for _ in range(3)), *herd(healthy))
        assert [(one.absent, one.counted) for one in plan.breakers] == ([(3, 6)] if healthy == 3 else [])
        guards = {finding.guard for finding in plan.findings if finding.rule == "8"}
        assert guards == ({Guard.BREAKER} if healthy == 3 else {None})

    def test_cancelling_runs_take_theirs(self) -> None:
        lost = [cancelled(look(gone(r)), of=r) for r in (run("CANCELLING", age=OVERDUE) for _ in range(3))]
        plan = self.plan(CANCELLING, *lost, *herd(3))
        assert [(one.absent, one.counted) for one in plan.breakers] == [(3, 6)]

    def test_they_dilute_nothing_while_they_are_let_wait(self) -> None:
        waiting = [pending(age=LATE - 1) for _ in range(20)]
        plan = self.plan(PENDING, *waiting, *(vanished() for _ in range(3)), *herd(3))
        assert [(one.absent, one.counted) for one in plan.breakers] == [(3, 6)]
