"""Each rule's whole finding: the sentence that an operator reads, what it rests on, and what is to be done next."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from reconciler.decide import RULES, decide, judge, rule_7_gone
from reconciler.matter import Matter
from reconciler.model import AbsenceCounts, Observation, Place, Verdict
from reconciler.plan import Finding
from reconciler.sentences import NOTHING
from reconciler.snapshot import Case, FirstLook
from reconciler.weigh import weigh

from .spec import (
    NOW,
    POLICY,
    ago,
    alive,
    asleep,
    case,
    exited,
    first_look,
    gone,
    history,
    look,
    resource,
    run,
    scope,
    sighting,
    snapshot,
    unknown,
    vanished,
    verdict,
)
from .test_decide import SECOND_ATTEMPT

RES = "Docker container res-1 on engine a"
REMOVED = f"{RES} was removed; last seen running 11:58:30 UTC"
ENDED = f"{RES} exited with code 137 at 11:59:00 UTC"
SIGHTED = AbsenceCounts.SIGHTED


def found(one: Case, expected: str, rule: str, reason: str, seen: Observation | None = None, **more: object) -> None:
    """Assert all of it: a field that is not named has its default."""
    where, by = ("a", "docker") if seen is not None else (None, None)
    whole = {"run": one.run, "verdict": Verdict(expected), "rule": rule, "reason": reason, "observation": seen}
    cause = seen.why if seen is not None and expected == "ZOMBIE" else None
    whole |= {"cause": cause}
    assert verdict(one) == Finding(**({"scope": where, "adapter": by} | whole | more))  # type: ignore[arg-type]


def test_the_table_has_this_order() -> None:
    assert [rule.__name__.split("_")[1] for rule in RULES] == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]


def test_rule_1_a_subflow_in_its_parents_process() -> None:
    one = case(run(parent_task_run_id=uuid4(), pid=None, work_pool=None))
    told = "its parent flow run was deleted, so nothing tells in whose process it ran"
    found(one, "UNMANAGED", "1", told)


class TestRule3Alive:
    def test_what_runs_has_no_remark(self) -> None:
        r = run(age=9999)
        found(case(r, look(alive(r))), "HEALTHY", "3", f"{RES} is running", alive(r))
        r = run(pid=None, age=9999)
        found(case(r, look(alive(r))), "HEALTHY", "3", f"{RES} is running", alive(r))

    @pytest.mark.parametrize("condition", ["STARTING", "STOPPING"])
    def test_what_only_starts_or_stops_is_told_with_the_state_s_age(self, condition: str) -> None:
        r = run()
        seen = alive(r, condition)
        found(case(r, look(seen)), "HEALTHY", "3", f"{RES} is running; the run is Running for 5 min", seen)

    def test_what_the_pid_does_not_name(self) -> None:
        r = run(pid="base:elsewhere")
        told = f"{RES} is running; it is not what the run's infrastructure_pid names"
        found(case(r, look(alive(r))), "HEALTHY", "3", told, alive(r))
        both = (alive(r), alive(r, name="elsewhere"))
        found(case(r, look(*both)), "HEALTHY", "3", f"{RES} is running", both[0])

    def test_both_remarks_are_worth_a_line_in_time(self) -> None:
        r = run(pid="base:elsewhere", age=1000)
        seen = alive(r, "STARTING")
        found(
            case(r, look(seen)), "HEALTHY", "3",
            f"{RES} is running; the run is Running for 17 min; it is not what the run's infrastructure_pid names",
            seen, is_notable=True,
        )  # fmt: skip

    def test_of_several_the_one_that_runs_is_told_then_the_first_scope_s(self) -> None:
        r = run()
        starting, stopping, running = alive(r, "STARTING"), alive(r, "STOPPING", name="res-2"), alive(r, name="res-3")
        for there in ((stopping, starting, running), (running, starting, stopping), (starting, running)):
            assert verdict(case(r, look(*there))).observation == running
        assert verdict(case(r, look(stopping, starting))).observation == starting
        assert verdict(case(r, look(alive(r), scope="b"), look(alive(r), scope="a"))).scope == "a"


class TestRule4Blind:
    def test_what_could_not_tell(self) -> None:
        told = "scope 'a' could not tell: cannot be read"
        found(case(run(), look(unknown())), "UNKNOWN", "4", told, unknown())
        found(case(run(), look(error="refused")), "UNKNOWN", "4", "scope 'a' could not tell: refused")

    def test_every_doubt_is_told(self) -> None:
        r = run()
        one = case(r, look(exited(r), unknown("is odd")), look(scope="b", error="timed out"))
        found(
            replace(one, history=None, history_error="503"), "UNKNOWN", "4",
            "scope 'a' could not tell: is odd; scope 'b' could not tell: timed out; "
            "its state history could not be read: 503", unknown("is odd"),
        )  # fmt: skip

    def test_a_history_that_is_not_there(self) -> None:
        r = run()
        found(case(r, look(exited(r)), past=()), "UNKNOWN", "4", "the server has no state history of it")

    def test_a_history_out_of_order(self) -> None:
        r = run()
        *before, now = history(r)
        other = history(run())[-1]
        told = "its state history is out of order: the server's replicas may have different clocks"
        for past in ((now, *before, other), (*before, now, other), (*before, now, now)):
            found(case(r, look(exited(r)), past=past), "UNKNOWN", "4", told)


def test_rule_5_says_why_of_each_scope() -> None:
    r = run()
    why = (
        "it was never seen in scope '{}', and others may run it: "
        "set `exclusive = true` on that scope if its runs can be nowhere else"
    )
    one = case(r, look(gone(r)), look(gone(r), scope="b"))
    found(one, "UNMANAGED", "5", f"{why.format('a')}; {why.format('b')}")


class TestRule6Exited:
    def test_a_zombie_is_looked_at_again_before_it_is_written(self) -> None:
        r = run()
        one = case(r, look(exited(r)))
        found(one, "ZOMBIE", "6", ENDED, exited(r), is_suspect=True)
        found(
            replace(one, first_look=None), "WAITING", "10", f"{ENDED}; awaited: a second look, in every scope",
            exited(r), is_suspect=True,
        )  # fmt: skip
        found(
            replace(one, first_look=None, history=None), "WAITING", "10",
            f"{ENDED}; awaited: its state history is still to be read", exited(r), is_suspect=True,
        )  # fmt: skip

    def test_a_state_that_has_moved_on_is_no_suspect(self) -> None:
        r = run()
        one = case(r, look(exited(r)), past=history(run()))
        told = f"{ENDED}; awaited: its state has changed since it was listed"
        found(one, "WAITING", "10", told, exited(r))

    def test_an_end_without_a_time_is_looked_at_twice(self) -> None:
        r = run()
        seen = exited(r, ended=None)
        one = case(r, look(seen), confirmed=False)
        told = f"{RES} exited with code 137; awaited: its end has no time, so it is looked at twice"
        found(one, "WAITING", "10", told, seen, is_suspect=True, wants_time=True)

    @pytest.mark.parametrize(
        ("state", "code", "name"),
        [
            ("RUNNING", 1, "settle_failed of 10 s"),
            ("RUNNING", 0, "settle_zero of 30 s"),
            ("PENDING", 1, "settle_starting of 45 s"),
        ],
    )
    def test_which_settle_time_has_not_passed(self, state: str, code: int, name: str) -> None:
        r = run(state)
        seen = exited(r, code, ended=4)
        told = f"{RES} exited with code {code} at 11:59:56 UTC; awaited: {name} has not passed (4 s so far)"
        found(case(r, look(seen)), "WAITING", "10", told, seen)


class TestRule7Gone:
    def test_a_zombie_is_looked_at_again_before_it_is_written(self) -> None:
        one = vanished()
        seen = gone(one.run)
        found(one, "ZOMBIE", "7", REMOVED, seen, is_suspect=True, absence=SIGHTED)
        twice = f"{REMOVED}; awaited: a second look after 10 s"
        suspected = {"is_suspect": True, "wants_time": True, "absence": SIGHTED}
        for before in (None, first_look(9, *one.looks), FirstLook(ago(600)), FirstLook(ago(600), frozenset({"b"}))):
            found(replace(one, first_look=before), "WAITING", "10", twice, seen, **suspected)
        found(
            replace(one, history=None), "WAITING", "10", f"{REMOVED}; awaited: its state history is still to be read",
            seen, is_suspect=True, absence=SIGHTED,
        )  # fmt: skip

    def test_a_state_that_has_moved_on_is_no_suspect(self) -> None:
        one = replace(vanished(), history=history(run()))
        told = f"{REMOVED}; awaited: its state has changed since it was listed"
        found(one, "WAITING", "10", told, gone(one.run), absence=SIGHTED)

    def test_grace(self) -> None:
        one = vanished(age=20)
        told = f"{REMOVED}; awaited: the state is 20 s old, grace is 30 s"
        found(one, "WAITING", "10", told, gone(one.run), absence=SIGHTED)

    def test_what_counts_is_told(self) -> None:
        r = run()
        one = case(r, look(gone(r), place=Place.HERE))
        found(one, "ZOMBIE", "7", f"{RES} was removed", gone(r), is_suspect=True, absence=AbsenceCounts.LOCATED)

    def test_nothing_of_this_attempt_is_an_absence_too(self) -> None:
        """Only what an earlier attempt left is there, so that nobody said what became of this one's."""
        r = run()
        one = case(
            r, look(exited(r, made=800), sightings=(sighting(r, name="res-1"),)), past=history(r, *SECOND_ATTEMPT)
        )
        told = f"{RES} is no longer there; last seen running 11:58:30 UTC"
        found(one, "ZOMBIE", "7", told, NOTHING, is_suspect=True, absence=SIGHTED)

    def test_a_late_place(self) -> None:
        one = vanished(age=40)
        finding = verdict(one, scope("a", lag=POLICY.quiet))
        assert finding == Finding(
            run=one.run, verdict=Verdict.WAITING, rule="10", scope="a", adapter="docker", observation=gone(one.run),
            absence=SIGHTED, reason=f"{REMOVED}; awaited: the state is 40 s old, "
            "and scope 'a' may not show yet what was made within 3 min",
        )  # fmt: skip

    def test_it_is_silent_about_what_has_ended_or_was_never_there(self) -> None:
        r = run()
        for one in (
            case(r, look(gone(r), sightings=(sighting(r),)), look(exited(r), scope="b")),
            case(r, look(gone(r))),
            case(r),
        ):
            snap = snapshot(one)
            assert rule_7_gone(Matter(weigh(one, snap), snap, POLICY)) is None


class TestRules8To10:
    def test_pending(self) -> None:
        r = run("PENDING", age=60)
        told = "pending for 60 s, and no infrastructure was found; an image pull looks the same, "
        found(case(r, look(gone(r))), "WAITING", "10", f"{told}reported after 15 min")
        r = run("PENDING", age=1200)
        told = told.replace("60 s", "20 min")
        left = "so it is left to a person (or to `crash_pending = true` in an `exclusive` scope)"
        found(case(r, look(gone(r))), "HELD", "8", f"{told}{left}")

    def test_cancelling(self) -> None:
        r = run("CANCELLING", age=500)
        told = f"{ENDED}; cancelling for 8 min, reported after 10 min"
        found(case(r, look(exited(r))), "WAITING", "10", told, exited(r))
        one = vanished(state="CANCELLING", age=700)
        remedy = "set it Cancelled by hand (or let `finish_cancelling = true` do it)"
        told = f"{REMOVED}; cancelling for 12 min: servers before 3.7.5 leave it so, {remedy}"
        found(one, "HELD", "9", told, gone(one.run))

    def test_cancelling_and_gone_is_no_absence_for_the_breaker(self) -> None:
        one = vanished(state="CANCELLING", age=500)
        found(one, "WAITING", "10", f"{REMOVED}; cancelling for 8 min, reported after 10 min", gone(one.run))

    def test_asleep_until_its_retry(self) -> None:
        r = asleep(due=-60)
        one = case(r, look(gone(r), sightings=(sighting(r),)))
        found(one, "WAITING", "10", f"{REMOVED}; its retry is due at 12:01:00 UTC", gone(r), absence=SIGHTED)
        seen = exited(r, ended=60)
        told = f"{ENDED}; its retry is due at 12:01:00 UTC"
        found(case(r, look(seen)), "WAITING", "10", told, seen)
        there = look(gone(r), scope="b", sightings=(sighting(r, "b"),))
        found(case(r, look(seen), there), "WAITING", "10", told, seen)

    def test_asleep_and_no_time_is_said(self) -> None:
        r = asleep(due=None)  # type: ignore[arg-type]
        told = f"{ENDED}; its retry says no time, so it is left to a person"
        found(case(r, look(exited(r))), "HELD", "10", told, exited(r))


class TestASecondDecisionOfACycle:
    def test_judges_only_the_suspects_again(self) -> None:
        fine, sick = run(), run()
        first = decide(snapshot(case(fine, look(alive(fine))), case(sick, look(exited(sick)), confirmed=False)), POLICY)
        assert [finding.run.id for finding in first.suspects] == [sick.id]
        ended = [case(of, look(exited(of))) for of in (fine, sick)]
        second = decide(snapshot(*ended), POLICY, first)
        assert {f.run.id: str(f.verdict) for f in second.findings} == {fine.id: "HEALTHY", sick.id: "ZOMBIE"}
        assert {f.verdict for f in decide(snapshot(*ended), POLICY).findings} == {Verdict.ZOMBIE}

    def test_remembers_when_and_under_which_scopes_each_run_was_judged(self) -> None:
        r = run()
        one = case(r, look(exited(r)))
        snap = snapshot(one)
        judged = judge(one, snap, POLICY)
        assert (judged.at, judged.finding.rule, judged.weighed.case) == (NOW, "6", one)
        assert judged.scopes is snap.scopes
        assert resource(r) == judged.weighed.ended[0].observation.resource
