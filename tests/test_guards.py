"""The guards that a person, or a place that has just come back, sets going; the others are in test_decide.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from reconciler.decide import decide
from reconciler.model import Guard, LifeSign, Verdict
from reconciler.plan import Mode, Policy
from tests.spec import (
    NOW,
    POLICY,
    ago,
    alive,
    beat,
    case,
    exited,
    gone,
    look,
    run,
    scope,
    sighting,
    snapshot,
    vanished,
    verdict,
)


class TestAmnesty:
    @pytest.mark.parametrize(
        ("what", "words"), [("back_since", "has answered again for"), ("started", "has been up for")]
    )
    def test_a_place_that_has_just_come_back_may_not_show_all(self, what: str, words: str) -> None:
        for seconds, guard in ((0, Guard.AMNESTY), (59, Guard.AMNESTY), (60, None), (9999, None)):
            assert verdict(vanished(), scope("a", **{what: ago(seconds)})).guard is guard
        reason = verdict(vanished(), scope("a", **{what: ago(20)})).reason
        assert reason.endswith(f"held: scope 'a' {words} 20 s, held until 60 s")

    def test_an_end_is_positive_evidence_there_too(self) -> None:
        r = run()
        assert verdict(case(r, look(exited(r))), scope("a", back_since=NOW, started=NOW)).verdict is Verdict.ZOMBIE

    def test_of_another_place_in_which_the_run_may_be(self) -> None:
        """It is mapped to both, and absent from both: the second may not show it yet."""
        r = run()
        one = case(r, look(gone(r), sightings=(sighting(r),)), look(gone(r), scope="b"))
        assert verdict(one).verdict is Verdict.ZOMBIE
        assert verdict(one, scope("b", back_since=ago(5))).guard is Guard.AMNESTY

    def test_a_place_whose_clock_was_set_back_has_not_just_started_for_ever(self) -> None:
        assert verdict(vanished(), scope("a", started=ago(-3600))).verdict is Verdict.ZOMBIE


class TestLifeSigns:
    @pytest.mark.parametrize("what", ["log line", "task run"])
    def test_later_than_the_end_holds_for_quiet(self, what: str) -> None:
        r = run()
        one = case(r, look(exited(r, ended=300)))
        for seconds, guard in ((199, Guard.LIFE_SIGN), (200, None)):
            assert verdict(one, life_signs={r.id: LifeSign(what, ago(seconds))}).guard is guard
        reason = verdict(one, life_signs={r.id: LifeSign(what, ago(100))}).reason
        hint = "(if that was not its own process, set it Crashed by hand)"
        assert reason.endswith(f"held: its last {what} is 100 s old, held until 3 min {hint}")

    def test_last_words_are_none(self) -> None:
        """The place tells whole seconds: what ended at 12:00:05 may have logged at 12:00:05.9."""
        r = run()
        one = case(r, look(exited(r, ended=60)))
        for seconds, guard in ((58, None), (57.999999, Guard.LIFE_SIGN)):
            assert verdict(one, life_signs={r.id: LifeSign("log line", ago(seconds))}).guard is guard
        assert verdict(one, heartbeats={r.id: beat(59)}).guard is Guard.LIFE_SIGN, "those come seldom"

    def test_earlier_than_the_end_says_nothing(self) -> None:
        r = run()
        assert (
            verdict(case(r, look(exited(r, ended=60))), life_signs={r.id: LifeSign("log line", ago(61))}).guard is None
        )

    def test_of_an_absence_counts_from_when_that_was_first_seen(self) -> None:
        one = vanished()
        for seconds, guard in ((7.999999, Guard.LIFE_SIGN), (8, None), (11, None)):
            assert verdict(one, life_signs={one.run.id: LifeSign("task run", ago(seconds))}).guard is guard

    def test_of_an_absence_that_an_earlier_pass_saw_counts_from_then(self) -> None:
        r = run()
        for since, guard in ((45, Guard.LIFE_SIGN), (35, None)):
            one = case(r, look(gone(r), sightings=(sighting(r),), absent_since=ago(since)))
            assert verdict(one, life_signs={r.id: LifeSign("log line", ago(40))}).guard is guard

    def test_of_another_run_says_nothing(self) -> None:
        assert verdict(vanished(), life_signs={uuid4(): LifeSign("log line", NOW)}).verdict is Verdict.ZOMBIE

    def test_that_cannot_be_read_hold(self) -> None:
        r = run()
        for one in (vanished(), case(r, look(exited(r)))):
            finding = verdict(one, life_signs_error="timed out")
            assert finding.guard is Guard.LIFE_SIGN
            assert finding.reason.endswith("held: its life signs could not be read: timed out")

    def test_an_old_heartbeat_does_not_hide_a_young_log_line(self) -> None:
        one = vanished()
        signs = {one.run.id: LifeSign("log line", ago(5))}
        assert verdict(one, life_signs=signs, heartbeats={one.run.id: beat(500)}).guard is Guard.LIFE_SIGN


class TestWhoIsWritten:
    R = run(tags=frozenset({"nightly", "eu"}), work_queue="fast", deployment_id=uuid4())

    def held(self, policy: Policy) -> Guard | None:
        return verdict(case(self.R, look(exited(self.R))), policy=policy).guard

    def test_only_what_is_included(self) -> None:
        mine = {
            "include_work_pools": "pool",
            "include_work_queues": "fast",
            "include_deployments": str(self.R.deployment_id),
            "include_tags": "eu",
        }
        for key, name in mine.items():
            assert self.held(replace(POLICY, **{key: frozenset({name, "another"})})) is None
            assert self.held(replace(POLICY, **{key: frozenset({"another"})})) is Guard.OPT_OUT
        every = {key: frozenset({name}) for key, name in mine.items()}
        assert self.held(replace(POLICY, **every)) is None
        for key in mine:
            assert self.held(replace(POLICY, **every | {key: frozenset({"another"})})) is Guard.OPT_OUT, (
                "kinds join by and"
            )

    def test_who_is_excluded_stays_so(self) -> None:
        both = Policy(include_tags=frozenset({"eu"}), exclude_tags=frozenset({"nightly"}))
        finding = verdict(case(self.R, look(exited(self.R))), policy=both)
        assert finding.reason.endswith("held: tag 'nightly' is excluded")

    def test_what_has_no_such_thing_is_not_included(self) -> None:
        r = run(work_queue=None, deployment_id=None)
        for policy in (
            Policy(include_work_queues=frozenset({"None"})),
            Policy(include_deployments=frozenset({"None"})),
            Policy(include_tags=frozenset({"eu"})),
        ):
            assert verdict(case(r, look(exited(r))), policy=policy).guard is Guard.OPT_OUT
        assert verdict(case(r, look(exited(r))), policy=Policy(exclude_deployments=frozenset({"None"}))).guard is None


class TestModeAndTrust:
    def test_of_one_scope_holds_what_that_scope_judges(self) -> None:
        r = run()
        one = case(r, look(exited(r)), look(scope="b", mapped=False))
        assert verdict(one, scope("b", observes=True)).verdict is Verdict.ZOMBIE
        finding = verdict(one, scope("a", observes=True))
        assert finding.guard is Guard.MODE
        assert finding.reason.endswith("held: the mode of scope 'a' is \"observe\", nothing is written")

    def test_of_the_policy_holds_all(self) -> None:
        assert verdict(vanished(), policy=Policy(mode=Mode.OBSERVE)).guard is Guard.MODE

    def test_a_scope_that_is_not_trusted_is_not_written(self) -> None:
        r = run()
        for one in (vanished(), case(r, look(exited(r)))):
            finding = verdict(one, scope("a", distrusted_since=ago(600)))
            assert finding.guard is Guard.TRUST
            assert finding.reason.endswith(
                "held: scope 'a' is not trusted since 11:50:00 UTC, for false crashes were seen (`reconcile report`): "
                "trust it again with `reconcile --trust a`"
            )
            assert verdict(one, scope("b", distrusted_since=ago(600))).verdict is Verdict.ZOMBIE

    def test_an_absence_rests_on_the_word_of_every_scope_that_does_not_show_it(self) -> None:
        r = run()
        one = case(r, look(gone(r), sightings=(sighting(r),)), look(gone(r), scope="b"))
        assert verdict(one).scope == "a"
        assert verdict(one, scope("b", distrusted_since=ago(500))).guard is Guard.TRUST

    def test_an_end_rests_on_the_word_of_the_scope_that_shows_it(self) -> None:
        r = run()
        one = case(r, look(exited(r)), look(gone(r), scope="b"))
        assert verdict(one, scope("b", distrusted_since=ago(500))).verdict is Verdict.ZOMBIE


class TestAcceptedLoss:
    def test_lifts_the_breaker_of_that_scope_alone(self) -> None:
        lost = [run() for _ in range(4)]
        cases = [case(r, look(gone(r))) for r in lost]
        where = (scope("a", exclusive=True),)
        held = decide(snapshot(*cases, scopes=where), POLICY)
        assert {finding.guard for finding in held.findings} == {Guard.BREAKER}
        assert held.findings[0].reason.endswith("(never seen there: `reconcile --accept-scope-loss a` if it is lost)")
        assert [breaker.holds for breaker in held.breakers] == [True]
        accepted = decide(snapshot(*cases, scopes=where), Policy(accepted_losses=frozenset({"a"})))
        assert {finding.verdict for finding in accepted.findings} == {Verdict.ZOMBIE}
        assert [breaker.holds for breaker in accepted.breakers] == [False]
        other = decide(snapshot(*cases, scopes=where), Policy(accepted_losses=frozenset({"b"})))
        assert {finding.guard for finding in other.findings} == {Guard.BREAKER}

    def test_what_then_comes_later_only_is_not_held_by_the_breaker(self) -> None:
        cases = [case(r, look(gone(r))) for r in (run() for _ in range(6))]
        policy = Policy(accepted_losses=frozenset({"a"}), max_settlements=2)
        plan = decide(snapshot(*cases, scopes=(scope("a", exclusive=True),)), policy)
        assert sorted(str(finding.guard) for finding in plan.findings) == ["None"] * 2 + ["rate"] * 4
        assert [breaker.holds for breaker in plan.breakers] == [False]

    def test_lifts_nothing_else(self) -> None:
        cases = [case(r, look(gone(r))) for r in (run() for _ in range(4))]
        policy = Policy(accepted_losses=frozenset({"a"}))
        new = scope("a", exclusive=True, known_since=ago(10))
        assert {f.guard for f in decide(snapshot(*cases, scopes=(new,)), policy).findings} == {Guard.IDENTITY}
        blind = [case(r, look(error="timed out")) for r in (run() for _ in range(4))]
        assert {f.verdict for f in decide(snapshot(*blind), policy).findings} == {Verdict.UNKNOWN}


def test_the_first_guard_that_speaks_is_named() -> None:
    """A run taken out of writing is told so only when nothing about it is in doubt."""
    r = run(tags=frozenset({"x"}))
    one = case(r, look(gone(r), sightings=(sighting(r),)))
    views = {"back_since": ago(5), "distrusted_since": ago(5), "observes": True}
    policy = Policy(exclude_tags=frozenset({"x"}), max_settlements=1)
    expected = [Guard.AMNESTY, Guard.OPT_OUT, Guard.TRUST, Guard.MODE, None]
    seen = []
    for number in range(5):
        left = dict(list(views.items())[min(1, number) if number < 2 else number - 1 :])
        seen.append(verdict(one, scope("a", **left), policy=policy if number < 2 else POLICY).guard)
    assert seen == expected


def test_life_goes_on_beside_it() -> None:
    r = run()
    here = look(alive(r), sightings=(sighting(r),))
    assert (
        verdict(case(r, here), scope("a", distrusted_since=NOW, back_since=NOW, observes=True)).verdict
        is Verdict.HEALTHY
    )
    assert timedelta(seconds=60) == POLICY.amnesty
