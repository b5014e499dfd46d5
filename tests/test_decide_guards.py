"""What holds a zombie back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from reconciler.decide import decide
from reconciler.guards import guarded_alone
from reconciler.model import Guard, StateRecord, StateType, Verdict
from reconciler.plan import Mode, Policy, transition_id
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
    run,
    scope,
    sighting,
    snapshot,
    unknown_namespace,
    vanished,
    verdict,
)
from .test_decide import SECOND_ATTEMPT


class TestGuards:
    def long_gone(self) -> Case:
        of = run(age=9999)
        seen = replace(sighting(of, made=10020), last_seen=ago(400), live_seen=ago(400))
        return case(of, look(gone(of), sightings=(seen,)), past=history(of, ("PENDING", 10050)))

    def held(self, one: Case, *scopes: object, **kw: object) -> Guard | None:
        finding = verdict(one, *scopes, **kw)  # type: ignore[arg-type]
        assert (finding.verdict is Verdict.HELD) == (finding.guard is not None)
        return finding.guard

    def test_breaker_holds_every_absence_of_the_scope_and_lets_ends_pass(self) -> None:
        lost = [vanished() for _ in range(3)]
        r, h = run(), run()
        plan = decide(
            snapshot(*lost, case(r, look(exited(r))), case(h, look(alive(h), sightings=(sighting(h),)))), POLICY
        )
        by = {finding.run.id: finding for finding in plan.findings}
        assert [by[one.run.id].guard for one in lost] == [Guard.BREAKER] * 3
        assert by[r.id].verdict is Verdict.ZOMBIE
        assert [(b.scope, b.absent) for b in plan.breakers] == [("a", 3)]

    def test_breaker_needs_both_a_count_and_a_share(self) -> None:
        assert not decide(snapshot(vanished(), vanished()), POLICY).breakers
        herd = [case(r, look(alive(r), sightings=(sighting(r),))) for r in (run() for _ in range(4))]
        assert not decide(snapshot(*[vanished() for _ in range(3)], *herd), POLICY).breakers
        assert decide(snapshot(*[vanished() for _ in range(3)], *herd[:3]), POLICY).breakers

    def test_breaker_counts_absences_that_still_wait(self) -> None:
        plan = decide(snapshot(vanished(), *[vanished(age=5) for _ in range(2)]), POLICY)
        assert [f.guard for f in plan.findings if f.rule == "7"] == [Guard.BREAKER]

    def test_breaker_releases_what_was_sighted(self) -> None:
        old = [self.long_gone() for _ in range(3)]
        for seconds, expected in ((299, Verdict.HELD), (300, Verdict.ZOMBIE)):
            plan = decide(snapshot(*old, scopes=(scope("a", breaker_since=ago(seconds)),)), POLICY)
            assert {finding.verdict for finding in plan.findings} == {expected}
            assert [breaker.holds for breaker in plan.breakers] == [expected is Verdict.HELD]

    def test_an_open_breaker_holds_what_vanished_later(self) -> None:
        cases = [*(self.long_gone() for _ in range(3)), *(vanished() for _ in range(3))]
        plan = decide(snapshot(*cases, scopes=(scope("a", breaker_since=ago(9999)),)), POLICY)
        by = {finding.run.id: finding.verdict for finding in plan.findings}
        assert [by[one.run.id] for one in cases] == [Verdict.ZOMBIE] * 3 + [Verdict.HELD] * 3

    def test_the_breaker_s_share_is_of_runs_that_can_be_absent(self) -> None:
        others = [run(state) for state in ("PENDING", "PENDING", "CANCELLING", "CANCELLING")]
        gone_too = [case(r, look(gone(r), sightings=(sighting(r),))) for r in others]
        assert decide(snapshot(*[vanished() for _ in range(3)], *gone_too), POLICY).breakers

    def test_what_has_ended_does_not_dilute_the_breaker(self) -> None:
        ends = [case(r, look(exited(r), sightings=(sighting(r),))) for r in (run() for _ in range(9))]
        plan = decide(snapshot(*[vanished() for _ in range(3)], *ends), POLICY)
        assert [(b.absent, b.counted) for b in plan.breakers] == [(3, 3)]

    def test_what_tripped_at_the_first_look_stays_open_for_the_cycle(self) -> None:
        lost = [vanished() for _ in range(3)]
        first = decide(snapshot(*lost), POLICY)
        plan = decide(snapshot(*lost[1:]), POLICY, first)
        assert {f.guard for f in plan.findings} == {Guard.BREAKER}

    def test_half_a_list_holds_absences_and_lets_ends_pass(self) -> None:
        r = run()
        assert self.held(vanished(), is_whole=False) is Guard.LISTING
        assert self.held(case(r, look(exited(r))), is_whole=False) is None

    def test_first_contact_is_not_trusted_with_what_was_never_seen(self) -> None:
        r = run()
        one = case(r, look(gone(r)))
        assert self.held(one, scope("a", exclusive=True, known_since=ago(199))) is Guard.IDENTITY
        assert self.held(one, scope("a", exclusive=True, known_since=ago(199), pinned=True)) is None
        assert self.held(vanished(), scope("a", known_since=ago(10))) is None

    def test_our_crash_of_a_state_that_had_moved_on_is_ours_too(self) -> None:
        r = run()
        first = history(r, ("PENDING", 360), ("RUNNING", 355))[:2]
        ours = StateRecord(
            id=uuid4(), type=StateType.CRASHED, name="Crashed", timestamp=ago(320),
            transition_id=transition_id(r.id, first[0].id),
        )  # fmt: skip
        assert self.held(case(r, look(exited(r)), past=(*first, ours, history(r)[-1]))) is Guard.AGAIN

    def test_breaker_never_releases_what_was_never_seen(self) -> None:
        cases = [case(r, look(gone(r))) for r in (run() for _ in range(3))]
        view = scope("a", exclusive=True, breaker_since=ago(9999))
        assert {f.guard for f in decide(snapshot(*cases, scopes=(view,)), POLICY).findings} == {Guard.BREAKER}

    def test_a_jump_of_our_clock_holds_everything(self) -> None:
        """No age is what it seems then: not that of an absence, and not that of an end."""
        r = run()
        for one in (vanished(), case(r, look(exited(r)))):
            assert verdict(one).verdict is Verdict.ZOMBIE
            for seconds, expected in ((0, Guard.AMNESTY), (59, Guard.AMNESTY), (60, None)):
                assert self.held(one, clock_jumped=ago(seconds)) is expected
            assert self.held(one, clock_jumped=ago(-5)) is Guard.AMNESTY, "seen in the middle of this pass"
        shorter = replace(POLICY, amnesty=timedelta(seconds=20))
        assert self.held(vanished(), clock_jumped=ago(20), policy=shorter) is None

    def test_an_end_without_a_time_is_as_old_as_what_is_remembered_of_it(self) -> None:
        """Also where a heartbeat, or the present state, came after it."""
        r = run(age=20)
        known = replace(sighting(r), ended_seen=ago(60))
        one = case(r, look(exited(r, ended=None), sightings=(known,)))
        assert verdict(one).verdict is Verdict.UNKNOWN, "Running was reported after it was seen ended"
        r = run()
        known = replace(sighting(r), ended_seen=ago(60))
        one = case(r, look(exited(r, ended=None), sightings=(known,)))
        assert verdict(one).verdict is Verdict.ZOMBIE
        assert self.held(one, heartbeats={r.id: beat(5)}) is Guard.LIFE_SIGN

    def test_identity_change_starts_an_amnesty(self) -> None:
        assert self.held(vanished(), scope("a", known_since=ago(199), former_identity="x")) is Guard.IDENTITY
        assert self.held(vanished(), scope("a", known_since=ago(200), former_identity="x")) is None

    def test_quiet_believes_heartbeats_rather_than_the_mapping(self) -> None:
        r = run()
        one, here = case(r, look(gone(r))), scope("a", exclusive=True)
        assert self.held(one, here, heartbeats={r.id: beat(199)}) is Guard.QUIET
        assert self.held(one, here, heartbeats={r.id: beat(201)}) is None
        assert self.held(one, here, heartbeats={r.id: beat(330, cadence=300)}) is Guard.QUIET
        assert self.held(one, here) is None

    def test_quiet_does_not_hold_what_was_sighted(self) -> None:
        one = vanished()
        assert self.held(one, heartbeats={one.run.id: beat(60)}) is None

    def test_quiet_holds_what_nobody_saw_end(self) -> None:
        r, other = run(), run()
        for one in (
            case(r, look(replace(exited(r, ended=250), unseen_end=True))),
            case(r, look(exited(r, ended=None), replace(exited(r, name="res-2", ended=260), unseen_end=True))),
            case(r, look(gone(r, unseen_end=True), sightings=(replace(sighting(r), last_seen=ago(150)),))),
            case(r, look(gone(r), gone(r, unseen_end=True), sightings=(sighting(r),))),
        ):
            assert self.held(one, heartbeats={r.id: beat(199), other.id: beat(1)}) is Guard.QUIET
            assert self.held(one, heartbeats={r.id: beat(330, cadence=300)}) is Guard.QUIET
            assert self.held(one, heartbeats={r.id: beat(410)}) is None
            assert self.held(one) is None, "without heartbeats there is nothing to wait for"

    def test_an_unseen_end_of_an_earlier_attempt_says_nothing_of_this_one(self) -> None:
        r = run()
        old = replace(exited(r, made=800, name="res-0", ended=600), unseen_end=True)
        one = case(r, look(exited(r), old), past=history(r, *SECOND_ATTEMPT))
        assert self.held(one, heartbeats={r.id: beat(100)}) is None

    def test_the_breaker_counts_no_absence_that_needs_a_sighting(self) -> None:
        lost = [vanished() for _ in range(3)]
        unknown_there = [run() for _ in range(9)]
        cases = [*lost, *(case(r, look(unknown_namespace(r))) for r in unknown_there)]
        plan = decide(snapshot(*cases, scopes=(scope("a", exclusive=True),)), POLICY)
        assert [(one.absent, one.counted) for one in plan.breakers] == [(3, 3)]

    def test_heartbeats_that_cannot_be_read_hold(self) -> None:
        r = run()
        for one in (vanished(), case(r, look(exited(r)))):
            assert self.held(one, heartbeats_error="503") is Guard.LIFE_SIGN

    def test_a_heartbeat_after_the_end_contradicts_it(self) -> None:
        r = run()
        one = case(r, look(exited(r, ended=60)))
        assert self.held(one, heartbeats={r.id: beat(61)}) is None
        assert self.held(one, heartbeats={r.id: beat(59)}) is Guard.LIFE_SIGN
        gone_one = vanished()
        assert self.held(gone_one, heartbeats={gone_one.run.id: beat(9)}) is Guard.LIFE_SIGN

    def test_never_a_second_time_in_one_attempt(self) -> None:
        r = run()
        before = history(r)[0]
        ours = StateRecord(
            id=uuid4(),
            type=StateType.CRASHED,
            name="Crashed",
            timestamp=ago(320),
            transition_id=transition_id(r.id, before.id),
        )
        one = case(r, look(exited(r)), past=(before, ours, history(r)[-1]))
        assert self.held(one) is Guard.AGAIN
        theirs = replace(ours, transition_id=uuid4())
        assert self.held(replace(one, history=(before, theirs, history(r)[-1]))) is None

    def test_a_new_attempt_after_our_crash_is_judged_afresh(self) -> None:
        r = run()
        first, second, now = history(r, ("PENDING", 900), ("PENDING", 360))
        ours = StateRecord(
            id=uuid4(),
            type=StateType.CRASHED,
            name="Crashed",
            timestamp=ago(500),
            transition_id=transition_id(r.id, first.id),
        )
        assert self.held(case(r, look(exited(r)), past=(first, ours, second, now))) is None

    def test_selection_mode_and_exclusions(self) -> None:
        r = run(tags=frozenset({"keep"}), work_queue="q", deployment_id=uuid4())
        one = case(r, look(exited(r)))
        for policy, guard in (
            (Policy(mode=Mode.OBSERVE), Guard.MODE),
            (Policy(exclude_tags=frozenset({"keep"})), Guard.OPT_OUT),
            (Policy(exclude_work_pools=frozenset({"pool"})), Guard.OPT_OUT),
            (Policy(exclude_work_queues=frozenset({"q"})), Guard.OPT_OUT),
            (Policy(exclude_deployments=frozenset({str(r.deployment_id)})), Guard.OPT_OUT),
            (Policy(only_pools=frozenset({"other"})), Guard.SELECTION),
            (Policy(only_runs=frozenset({uuid4()})), Guard.SELECTION),
            (Policy(only_pools=frozenset({"pool"}), only_runs=frozenset({r.id})), None),
        ):
            assert self.held(one, policy=policy) is guard

    def test_rate_lets_the_oldest_through(self) -> None:
        cases = [case(r, look(exited(r))) for r in (run(age=300 + n) for n in range(5))]
        plan = decide(snapshot(*cases), Policy(max_settlements=2))
        assert {f.run.id for f in plan.zombies} == {one.run.id for one in cases[3:]}
        assert [f.guard for f in plan.findings].count(Guard.RATE) == 3


def test_one_run_alone_is_guarded_as_it_is_among_the_others() -> None:
    """What its pass found of the others is given: the scopes whose breaker tripped, and how many zombies come first."""
    r = run(tags=frozenset({"keep"}))
    ends = [case(one, look(exited(one), scope="b")) for one in (run(age=400), run(age=350), r)]
    snap = snapshot(*ends, *(vanished() for _ in range(3)))
    policy = Policy(max_settlements=1, exclude_tags=frozenset({"keep"}))
    plan = decide(snap, policy)
    assert {one.guard for one in plan.findings} == {None, Guard.RATE, Guard.OPT_OUT, Guard.BREAKER}
    for judged, finding in zip(plan.judged, plan.findings, strict=True):
        ahead = 1 if finding.guard is Guard.RATE else 0
        assert guarded_alone(judged, snap, policy, plan.breakers, ahead) == finding
