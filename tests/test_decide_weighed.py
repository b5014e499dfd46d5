"""What a look is worth before any rule: what is of this attempt, what counts as missing, and the words for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.matter import Matter, what_was_seen
from reconciler.model import AbsenceCounts, ClockOffset, FlowRun, Place, Sighting, Verdict
from reconciler.snapshot import Case, FirstLook
from reconciler.weigh import Weighed, weigh

from .spec import (
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
    unknown_namespace,
    verdict,
)
from .test_decide import SECOND_ATTEMPT

RES = "Docker container res-1 on engine a"
AT_ONCE = (("PENDING", 900), ("RUNNING", 890), ("SCHEDULED", 361), ("PENDING", 360))


def weighed(one: Case, **view: object) -> Weighed:
    return weigh(one, snapshot(one, scopes=(scope("a", **view),)))


def second(r: FlowRun, *looks: object) -> Case:
    return case(r, *looks, past=history(r, *SECOND_ATTEMPT))  # type: ignore[arg-type]


class TestParts:
    def test_what_runs_the_flow_is_no_part_of_it(self) -> None:
        r = run()
        assert weighed(case(r, look(exited(r)))).parts == ()

    def test_what_an_earlier_attempt_left_is_no_part_of_this_one(self) -> None:
        r = run()
        assert weighed(second(r, look(exited(r, made=800)))).parts == ()
        r = run(pid=None)
        assert weighed(second(r, look(exited(r, made=800), mapped=False))).parts == ()


class TestAbsence:
    def test_is_nowhere_where_something_of_this_attempt_is(self) -> None:
        r = run()
        for one in (look(alive(r)), look(exited(r)), look(alive(r), gone(r)), look(), look(gone(r), error="cut short")):
            assert weighed(case(r, one)).absent == ()

    def test_is_nothing_where_the_run_is_not_looked_for(self) -> None:
        r = run()
        assert verdict(case(r, look(gone(r), mapped=False))).reason == (
            "no scope is mapped to work pool 'pool' (worker type 'docker'): "
            'add one to the configuration with `work_pools = ["pool"]`'
        )

    @pytest.mark.parametrize(
        ("seen", "view", "counts"),
        [
            ({"sightings": True}, {}, AbsenceCounts.SIGHTED),
            ({"place": Place.HERE}, {}, AbsenceCounts.LOCATED),
            ({}, {"exclusive": True}, AbsenceCounts.EXCLUSIVE),
        ],
    )
    def test_that_counts_needs_no_excuse(self, seen: dict, view: dict, counts: AbsenceCounts) -> None:
        r = run()
        if "sightings" in seen:
            seen = {"sightings": (sighting(r),)}
        (absence,) = weighed(case(r, look(gone(r), **seen)), **view).absent
        assert (absence.counts, absence.why_not) == (counts, "")

    def test_of_a_run_that_nothing_names(self) -> None:
        r = run(pid=None, work_pool=None)
        (absence,) = weighed(case(r, look(gone(r)))).absent
        assert (absence.counts, absence.why_not) == (None, "it has neither work pool nor infrastructure_pid")

    def test_the_best_reason_to_count_it_is_told_then_the_first_scope_s(self) -> None:
        r = run()
        here, there = look(gone(r), place=Place.HERE), look(gone(r), scope="b", sightings=(sighting(r, "b"),))
        assert verdict(case(r, here, there)).scope == "b"
        both = (there, look(gone(r), sightings=(sighting(r),)))
        assert verdict(case(r, *both)).scope == "a"
        r = asleep(due=-60)
        there = look(gone(r), scope="b", sightings=(sighting(r, "b"),))
        assert verdict(case(r, look(gone(r)), there)).scope == "b", "one that does not count is not told"

    def test_what_is_gone_is_lost_and_what_has_ended_is_not(self) -> None:
        r = run()
        before = sighting(r)
        assert weighed(case(r, look(gone(r), sightings=(before,)))).lost == (before,)
        assert weighed(case(r, look(exited(r), sightings=(before,)))).lost == ()


class TestWhyItDoesNotCount:
    def why(self, one: Case) -> str:
        finding = verdict(one)
        assert finding.verdict is Verdict.UNMANAGED
        return finding.reason

    @pytest.mark.parametrize(
        ("pid", "shown"),
        [("base:res-1", "base:res-1"), ("x" * 120, "x" * 120), ("x" * 121, "x" * 120 + "..."), (None, "")],
    )
    def test_a_pid_of_another_place_is_shown_in_short(self, pid: str | None, shown: str) -> None:
        r = run(pid=pid)
        told = f"its infrastructure_pid '{shown}' points outside scope 'a'"
        assert self.why(case(r, look(gone(r), place=Place.ELSEWHERE))) == told

    def sighted(self, r: FlowRun, *seen: Sighting, **kw: object) -> str:
        return self.why(second(r, look(gone(r), sightings=seen, **kw)))

    def test_an_older_pid_and_what_was_seen(self) -> None:
        older = ", and its infrastructure_pid may be an earlier attempt's"
        r = run(pid="base:elsewhere")
        old, mine = sighting(r, made=800), sighting(r)
        unborn = replace(mine, resource=replace(mine.resource, created_at=None))
        assert self.sighted(r, old) == f"nothing of this attempt was ever seen in scope 'a'{older}"
        assert self.sighted(r, old, mine) == (
            f"what scope 'a' showed of it is not known to be what runs it now{older}"
        )  # fmt: skip
        assert self.sighted(r, mine, unborn) == (
            f"what scope 'a' showed was made too near the attempt's beginning to say whose it is{older}"
        )
        assert self.sighted(r, mine, mapped=False) == (
            "what scope 'a' showed of it may be another's, for that scope is not mapped to it: "
            'if it runs there, add `work_pools = ["pool"]` to that scope'
        )


class TestDoubts:
    def doubt(self, one: Case, **view: object) -> str:
        finding = verdict(one, scope("a", **view))
        assert finding.verdict is Verdict.UNKNOWN
        return finding.reason.removeprefix("scope 'a' could not tell: ")

    def test_no_answer(self) -> None:
        assert self.doubt(case(run(), look())) == "it gave no answer about this run"

    def test_an_end_of_nothing(self) -> None:
        r = run()
        assert self.doubt(case(r, look(replace(exited(r), resource=None)))) == "it names no resource that ended"

    def test_an_end_that_the_pid_does_not_name(self) -> None:
        told = "its infrastructure_pid 'base:res-9' names another resource, which may run elsewhere"
        r = run(pid="base:res-9")
        assert self.doubt(case(r, look(exited(r)))) == told
        unknown_there = replace(unknown_namespace(r), resource=None)
        assert self.doubt(case(r, look(exited(r), unknown_there)), exclusive=True) == told

    def test_the_memory_of_another_thing_s_end_is_not_that_of_this_one(self) -> None:
        r = run(age=60)
        seen = look(exited(r, ended=None), sightings=(sighting(r), sighting(r, name="res-2", ended=100)))
        assert verdict(case(r, seen)).rule == "6"


class TestWhoseItIs:
    def test_the_doubts_of_both_clocks_and_of_the_place_s_own_times_add_up(self) -> None:
        r = run()
        one = case(r, look(exited(r, made=358)), past=history(r, *AT_ONCE))
        unsure = ClockOffset(uncertainty=timedelta(seconds=3))
        assert verdict(one).verdict is Verdict.ZOMBIE
        assert verdict(one, server_clock=unsure).verdict is Verdict.UNKNOWN
        coarse = replace(resource(r, made=358), created_within=timedelta(seconds=3))
        coarse_one = case(r, look(replace(exited(r), resource=coarse)), past=history(r, *AT_ONCE))
        assert verdict(coarse_one).verdict is Verdict.UNKNOWN

    def test_made_as_the_attempt_began(self) -> None:
        r = run()
        assert verdict(case(r, look(exited(r, made=360)), past=history(r, *AT_ONCE))).rule == "6"

    @pytest.mark.parametrize(("seconds", "rule"), [(360, "5"), (359.999999, "7")])
    def test_a_sighting_must_be_later_than_the_attempt_s_beginning(self, seconds: float, rule: str) -> None:
        r = run()
        seen = replace(sighting(r), last_seen=ago(seconds))
        assert verdict(case(r, look(gone(r), sightings=(seen,)))).rule == rule

    def test_of_several_sightings_the_last_is_told(self) -> None:
        r = run(pid=None)
        old, new = replace(sighting(r), live_seen=ago(200), last_seen=ago(200)), sighting(r, name="res-2")
        for order in ((old, new), (new, old)):
            told = verdict(case(r, look(gone(r), sightings=order))).reason
            assert told.startswith("Docker container res-2 on engine a was removed; last seen running 11:58:30 UTC")
        same = (sighting(r), sighting(r, name="res-2"))
        assert "res-2" in verdict(case(r, look(gone(r), sightings=same))).reason

    def test_a_pid_whose_old_resource_is_still_shown(self) -> None:
        r = run(pid="base:old")
        seen = look(exited(r, made=800, name="old"), gone(r), sightings=(sighting(r),))
        assert verdict(second(r, seen)).rule == "7"


class TestEnds:
    def test_of_two_at_the_same_time_the_order_says_nothing(self) -> None:
        r = run()
        ends = (exited(r, 0, ended=20), exited(r, 137, ended=20, name="res-2"))
        for order in (ends, ends[::-1]):
            finding = verdict(case(r, look(*order)))
            assert (finding.observation, finding.rule) == (ends[1], "6")

    def test_made_now_and_ended_means_that_the_place_s_clock_was_set_back(self) -> None:
        r = run(age=600)
        late = scope("a", lag=timedelta(minutes=5))
        assert verdict(case(r, look(exited(r, made=0))), late).rule == "6"

    def test_without_a_time_it_is_as_old_as_its_own_memory(self) -> None:
        r = run()
        others = (sighting(r), sighting(r, name="res-2", ended=100))
        there = look(gone(r), scope="b", sightings=(sighting(r, "b", ended=100),))
        here = look(exited(r, ended=None), sightings=others)
        first = first_look(5, here)
        one = replace(case(r, here, there), first_look=FirstLook(ago(5), first.absent_from, first.ended))
        assert verdict(one).reason.endswith("settle_failed of 10 s has not passed (5 s so far)")


def test_what_was_seen_is_told_even_where_no_rule_asks() -> None:
    """Where nothing has ended and no absence counts another rule has answered already."""
    r = run("CANCELLING")
    for one, told in (
        (case(r), "nothing was seen of it"),
        (case(r, look(gone(r)), look(gone(r), scope="b")), f"{RES} was removed"),
    ):
        snap = snapshot(one)
        what, sight = what_was_seen(Matter(weigh(one, snap), snap, POLICY))
        assert (what, sight and sight.scope.name) == (told, "a" if one.looks else None)


def test_what_nobody_says_is_gone_is_not_missing() -> None:
    """All that is shown is another container that ended; of what the pid names there is no word."""
    r = run()
    other = look(exited(r, name="res-x"), mapped=False, sightings=(sighting(r),))
    finding = verdict(case(r, other))
    assert (finding.verdict, finding.rule) == (Verdict.UNMANAGED, "5")
    assert finding.reason.startswith("scope 'a' does not say what became of what its pid names; ")


@pytest.mark.parametrize(
    ("was_mapped", "other", "expected"),
    [(True, False, Verdict.ZOMBIE), (False, False, Verdict.UNMANAGED), (True, True, Verdict.UNMANAGED)],
)
def test_a_name_that_anybody_may_take_counts_where_the_run_was_mapped_then(
    was_mapped: bool, other: bool, expected: Verdict
) -> None:
    """`other`: it was mapped when another thing of it was seen."""
    r = run(pid="4711")
    mine = replace(resource(r), id="boot/4711/9", key="4711")
    known = replace(sighting(r), resource=mine, was_mapped=was_mapped and not other)
    others = replace(sighting(r), resource=replace(mine, id="boot/4711/8", key="4712"), was_mapped=True)
    sightings = (known, others) if other else (known,)
    one = case(r, look(gone(r, resource=mine), mapped=False, sightings=sightings))
    assert verdict(one).verdict is expected
