"""Whose resource it is: this attempt's, another's, or only a part of what runs the flow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide import decide
from reconciler.model import Guard, Verdict
from reconciler.snapshot import Case

from .spec import (
    POLICY,
    ago,
    alive,
    beat,
    case,
    exited,
    gone,
    history,
    look,
    resource,
    run,
    scope,
    sighting,
    snapshot,
    verdict,
)
from .test_decide import SECOND_ATTEMPT


class TestWhoseResourceItIs:
    """Two hosts may serve one pool, and ids may be copied: what a scope shows need not be what runs the flow."""

    def test_an_end_that_the_pid_does_not_name(self) -> None:
        r = run(pid="base:elsewhere")
        one = case(r, look(exited(r)))
        assert verdict(one).verdict is Verdict.UNKNOWN
        assert verdict(one, scope("a", exclusive=True)).verdict is Verdict.ZOMBIE, "it can be nowhere else"
        seen = look(exited(r), sightings=(sighting(r, name="elsewhere"),))
        assert verdict(case(r, seen)).verdict is Verdict.ZOMBIE, "what the pid names was here, and is not said to be"

    def test_a_sighting_that_the_pid_does_not_name(self) -> None:
        r = run(pid="base:elsewhere")
        assert verdict(case(r, look(gone(r), sightings=(sighting(r),)))).verdict is Verdict.UNMANAGED

    def test_a_pid_that_is_known_as_an_earlier_attempt_s(self) -> None:
        r = run(pid="base:old")
        old = sighting(r, made=800, name="old")
        seen = look(gone(r), sightings=(sighting(r), old))
        assert verdict(case(r, seen, past=history(r, *SECOND_ATTEMPT))).verdict is Verdict.ZOMBIE

    def test_what_had_ended_when_running_was_reported_did_not_report_it(self) -> None:
        r = run(age=60)
        assert verdict(case(r, look(exited(r, ended=70)))).verdict is Verdict.UNKNOWN

    def test_and_nor_did_it_when_only_the_memory_of_its_end_is_left(self) -> None:
        r = run(age=60)
        seen = replace(sighting(r, ended=70), live_seen=None)
        assert verdict(case(r, look(gone(r), sightings=(seen,)))).verdict is Verdict.UNMANAGED

    def test_a_dead_run_that_somebody_cancels_is_told_as_such(self) -> None:
        r = run("CANCELLING", age=700)
        past = history(r, ("PENDING", 960), ("RUNNING", 955))
        finding = verdict(case(r, look(exited(r, ended=900, made=950)), past=past))
        assert (finding.verdict, finding.rule) == (Verdict.HELD, "9")

    def test_a_part_of_what_runs_the_flow_says_nothing_of_the_whole(self) -> None:
        """A tool that a flow starts carries its run's id; the flow's own process need not show it."""
        r = run(pid=None)
        seen = sighting(r)
        part = replace(seen, resource=replace(seen.resource, is_whole=False))
        assert verdict(case(r, look(gone(r), sightings=(seen,)))).verdict is Verdict.ZOMBIE
        assert verdict(case(r, look(gone(r), sightings=(part,)))).verdict is Verdict.UNMANAGED

    def test_an_attempt_without_a_pending_is_an_attempt(self) -> None:
        r = run("PENDING", age=100)
        past = history(r, ("SCHEDULED", 900), ("RUNNING", 890), ("FAILED", 700), ("SCHEDULED", 110))
        assert verdict(case(r, look(exited(r, ended=700, made=895)), past=past)).verdict is Verdict.WAITING

    def test_before_its_history_is_read_every_end_makes_a_suspect(self) -> None:
        """Else the container that an earlier attempt left would hide for ever that this one's is gone."""
        r = run(age=60, pid="base:elsewhere")
        assert verdict(replace(case(r, look(exited(r, ended=70)), confirmed=False), history=None)).is_suspect

    def test_a_sighting_from_before_the_run_left_a_final_state(self) -> None:
        r = run(age=60)
        past = history(r, ("PENDING", 900), ("RUNNING", 890), ("FAILED", 700), ("SCHEDULED", 80))
        assert verdict(case(r, look(gone(r), sightings=(sighting(r),)), past=past)).verdict is Verdict.UNMANAGED

    def test_a_sighting_last_seen_before_the_attempt_began(self) -> None:
        r = run()
        seen = replace(sighting(r, made=350), last_seen=ago(370))
        one = case(r, look(gone(r), sightings=(seen,)), past=history(r, *SECOND_ATTEMPT))
        assert verdict(one).verdict is Verdict.UNMANAGED

    def test_alive_and_not_what_the_pid_names_is_reported_in_time(self) -> None:
        for age, told in ((800, False), (1000, True)):
            r = run(age=age, pid="base:elsewhere")
            assert verdict(case(r, look(alive(r)))).is_notable is told


class TestAnEndOfAPartOnly:
    """What a flow starts may carry its labels: such a thing may end, as it should, while the flow lives."""

    def unmapped(self, **changes: object) -> tuple[Case, Case]:
        """A run without a pid; what a scope that is not mapped to it showed of it has ended, or was removed."""
        r = run(pid=None, **changes)
        there = {"mapped": False, "sightings": (sighting(r),)}
        return case(r, look(exited(r, 0), **there)), case(r, look(gone(r), **there))

    def test_without_a_pid_an_end_where_the_run_is_not_mapped(self) -> None:
        ended, removed = self.unmapped(work_pool=None)
        for one in (ended, removed, replace(ended, history=None), replace(removed, history=None)):
            finding = verdict(one)
            assert (finding.verdict, finding.rule, finding.is_suspect) == (Verdict.UNMANAGED, "5", False)
            assert finding.reason.startswith("it has neither work pool nor infrastructure_pid (a script or .serve())")
        assert verdict(ended).reason.endswith(
            "; Docker container res-1 on engine a exited with code 0 at 11:59:00 UTC, which may be a part of it only"
        )

    def test_and_the_same_of_a_pool_that_runs_elsewhere(self) -> None:
        ended, removed = self.unmapped(work_pool="other")
        told = (
            "it has no infrastructure_pid, and scope 'a' is not mapped to it: "
            'if it runs there, add `work_pools = ["other"]` to that scope'
        )
        for one in (ended, removed, replace(ended, history=None), replace(removed, history=None)):
            finding = verdict(one, scope("a", exclusive=True))
            assert (finding.verdict, finding.rule, finding.is_suspect) == (Verdict.UNMANAGED, "5", False)
            assert finding.reason.startswith(told)
        assert "may be a part of it only" in verdict(ended).reason

    def test_where_it_is_mapped_what_ended_is_what_runs_it(self) -> None:
        r = run(pid=None)
        assert verdict(case(r, look(exited(r)))).rule == "6"

    def test_what_ended_elsewhere_does_not_hinder_the_scope_that_it_is_mapped_to(self) -> None:
        r = run(pid=None)
        part = look(exited(r, name="res-2"), scope="b", mapped=False)
        finding = verdict(case(r, look(gone(r), sightings=(sighting(r),)), part))
        assert (finding.verdict, finding.rule, finding.scope) == (Verdict.ZOMBIE, "7", "a")

    def masked(self, **changes: object) -> Case:
        """What the pid names is gone, and a thing that it does not name has ended before."""
        r = run(**changes)  # type: ignore[arg-type]
        seen = (sighting(r), sighting(r, name="res-2"))
        return case(r, look(exited(r, 0, ended=250, name="res-2"), gone(r), sightings=seen))

    def test_what_the_pid_names_is_gone_and_another_thing_has_ended(self) -> None:
        finding = verdict(self.masked())
        assert (finding.verdict, finding.rule, finding.is_sighted) == (Verdict.ZOMBIE, "7", True)
        assert finding.reason.startswith("Docker container res-1 on engine a was removed; last seen running")
        once = verdict(replace(self.masked(), first_look=None))
        assert (once.verdict, once.wants_time) == (Verdict.WAITING, True)
        assert verdict(replace(self.masked(), first_look=None, history=None)).wants_time
        assert verdict(self.masked(age=29)).verdict is Verdict.WAITING
        late = replace(self.masked(), run=replace(self.masked().run, state_since=ago(200)))
        late = replace(late, history=history(late.run))
        assert verdict(late).rule == "7", "what ended before Running was reported did not report it: no doubt"

    def test_it_neither_passes_nor_dilutes_the_breaker(self) -> None:
        for past in (True, False):
            lost = [self.masked() if past else replace(self.masked(), history=None) for _ in range(3)]
            plan = decide(snapshot(*lost), POLICY)
            assert [(one.absent, one.counted) for one in plan.breakers] == [(3, 3)]
            assert not plan.zombies

    def test_never_sighted_its_absence_needs_the_mapping_and_no_heartbeat(self) -> None:
        r = run()
        one, here = case(r, look(exited(r, name="res-2"), gone(r))), scope("a", exclusive=True)
        finding = verdict(one)
        assert (finding.verdict, finding.rule) == (Verdict.UNMANAGED, "5")
        assert "exclusive = true" in finding.reason
        assert "res-2 on engine a exited with code 137" in finding.reason
        assert verdict(one, here).rule == "7"
        assert verdict(one, here, heartbeats={r.id: beat(199)}).guard is Guard.QUIET
        assert verdict(one, scope("a", exclusive=True, known_since=ago(9))).guard is Guard.IDENTITY

    def second(self, state: str = "RUNNING", *, known: bool = True) -> Case:
        """The pid still names the first attempt's container, which is gone; the second attempt's has ended."""
        r = run(state, pid="base:old", age=300)
        old = replace(sighting(r, made=800, ended=600, name="old"), live_seen=None)
        seen = look(exited(r), gone(r, resource=resource(r, name="old")), sightings=(sighting(r), old)[: 1 + known])
        return case(r, seen, past=history(r, *SECOND_ATTEMPT))

    @pytest.mark.parametrize("state", ["RUNNING", "PENDING"])
    def test_an_end_of_this_attempt_when_the_pid_is_an_earlier_one_s(self, state: str) -> None:
        finding = verdict(self.second(state))
        assert (finding.verdict, finding.rule) == (Verdict.ZOMBIE, "6"), finding.reason
        unread = replace(self.second(state), history=None, first_look=None)
        assert verdict(unread).is_suspect, "else its history is never read, which says that the pid is an earlier one's"

    def test_and_when_nothing_is_known_of_what_the_pid_names(self) -> None:
        finding = verdict(self.second(known=False))
        assert (finding.verdict, finding.rule) == (Verdict.UNMANAGED, "5")
        assert "its infrastructure_pid may be an earlier attempt's; Docker container res-1" in finding.reason
