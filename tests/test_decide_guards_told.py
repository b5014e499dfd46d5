"""What an operator reads when a guard holds a zombie, and each guard's threshold."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from reconciler.decide import decide
from reconciler.guards import Watchman
from reconciler.model import ClockOffset, Guard, LifeSign, StateRecord, StateType
from reconciler.plan import Finding, Mode, Policy, transition_id
from reconciler.snapshot import Case, ScopeView

from .spec import (
    POLICY,
    ago,
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
    vanished,
    verdict,
)

SECOND = timedelta(seconds=1)
UNSURE = scope("a", clock=ClockOffset(uncertainty=3 * SECOND))


def ended(**changes: object) -> Case:
    r = run(**changes)  # type: ignore[arg-type]
    return case(r, look(exited(r)))


def never_seen() -> Case:
    r = run()
    return case(r, look(gone(r)))


def held(finding: Finding) -> str | None:
    """What the guard adds to the rule's own reason."""
    return finding.reason.partition("; held: ")[2] or None


class TestSentences:
    def test_again_is_counted_from_the_attempt_s_beginning(self) -> None:
        one = ended()
        first, now = history(one.run)
        ours = StateRecord(
            id=uuid4(), type=StateType.CRASHED, name="Crashed", timestamp=first.timestamp,
            transition_id=transition_id(one.run.id, first.id),
        )  # fmt: skip
        assert held(verdict(replace(one, history=(first, ours, now)))) == "it came back after we crashed it"

    def test_listing(self) -> None:
        told = "the list of flow runs broke off, so what share of the scope vanished is not known"
        assert held(verdict(vanished(), is_whole=False)) == told

    def test_breaker(self) -> None:
        plan = decide(snapshot(*(vanished() for _ in range(4))), POLICY)
        told = (
            "breaker: 4 of 4 runs are missing from scope 'a', which looks like a fault of the scope "
            "(released after 5 min, or by `reconcile --accept-scope-loss a` if it is lost)"
        )
        assert [held(finding) for finding in plan.findings] == [told] * 4

    def test_identity(self) -> None:
        assert held(verdict(vanished(), scope("a", known_since=ago(50), former_identity="x"))) == (
            "scope 'a' changed its identity 50 s ago"
        )
        assert held(verdict(never_seen(), scope("a", exclusive=True, known_since=ago(50)))) == (
            "scope 'a' is known for 50 s only, held until 3 min (or pin it)"
        )

    @pytest.mark.parametrize(("seconds", "since"), [(20, "20 s"), (-5, "0 s")])
    def test_amnesty(self, seconds: float, since: str) -> None:
        assert held(verdict(ended(), clock_jumped=ago(seconds))) == (
            f"this machine's clock jumped, or it slept, {since} ago (or its memory cannot tell); held until 60 s"
        )

    def test_quiet_and_life_sign(self) -> None:
        one = never_seen()
        told = "its last heartbeat is 100 s old, held until 3 min"
        assert held(verdict(one, scope("a", exclusive=True), heartbeats={one.run.id: beat(100)})) == told
        assert held(verdict(ended(), heartbeats_error="503")) == "its heartbeats could not be read: 503"

    @pytest.mark.parametrize(
        ("policy", "told"),
        [
            (Policy(only_pools=frozenset({"x"})), "not among the runs chosen with --pool or --run"),
            (Policy(exclude_work_pools=frozenset({"pool"})), "work pool 'pool' is excluded"),
            (Policy(exclude_work_queues=frozenset({"fast"})), "work queue 'fast' is excluded"),
            (Policy(exclude_tags=frozenset({"b", "a", "x"})), "tag 'a' is excluded"),
            (Policy(include_work_pools=frozenset({"x"})), "its work pool is not included"),
            (Policy(include_work_queues=frozenset({"x"})), "its work queue is not included"),
            (Policy(include_deployments=frozenset({"x"})), "its deployment is not included"),
            (Policy(include_tags=frozenset({"x"})), "none of its tags is included"),
            (Policy(mode=Mode.OBSERVE), 'mode is "observe", nothing is written'),
        ],
    )
    def test_what_the_operator_chose(self, policy: Policy, told: str) -> None:
        assert held(verdict(ended(work_queue="fast", tags=frozenset({"b", "a"})), policy=policy)) == told

    def test_an_excluded_deployment(self) -> None:
        one = ended(deployment_id=uuid4())
        policy = Policy(exclude_deployments=frozenset({str(one.run.deployment_id)}))
        assert held(verdict(one, policy=policy)) == f"deployment '{one.run.deployment_id}' is excluded"

    def test_rate(self) -> None:
        plan = decide(snapshot(ended(age=300), ended(age=301)), Policy(max_settlements=1))
        assert [held(finding) for finding in plan.findings if finding.guard] == [
            "at most 1 are settled in one pass (max_settlements)"
        ]


class TestThresholds:
    def test_amnesty_of_another_scope_holds_absences_alone(self) -> None:
        r = run()
        one = case(r, look(exited(r)), look(gone(r), scope="b"))
        assert verdict(one, scope("b", back_since=ago(5))).guard is None

    @pytest.mark.parametrize(
        ("seconds", "guard"), [(1, Guard.AMNESTY), (0, Guard.AMNESTY), (-3, Guard.AMNESTY), (-3.000001, None)]
    )
    def test_a_start_in_the_future_within_the_clocks_doubt(self, seconds: float, guard: Guard | None) -> None:
        finding = verdict(vanished(), replace(UNSURE, started=ago(seconds)))
        assert finding.guard is guard
        if seconds <= 0 and guard:
            assert held(finding) == "scope 'a' has been up for 0 s, held until 60 s"

    @pytest.mark.parametrize(("seconds", "guard"), [(55, None), (54.999999, Guard.LIFE_SIGN)])
    def test_a_sign_later_than_the_end_by_more_than_both_clocks_doubts(
        self, seconds: float, guard: Guard | None
    ) -> None:
        one, server = ended(), ClockOffset(uncertainty=2 * SECOND)
        beats, signs = {one.run.id: beat(seconds)}, {one.run.id: LifeSign("log line", ago(seconds - 2))}
        assert verdict(one, UNSURE, server_clock=server, heartbeats=beats).guard is guard
        assert verdict(one, UNSURE, server_clock=server, life_signs=signs).guard is guard

    @pytest.mark.parametrize(
        ("seconds", "cadence", "guard"),
        [
            (199.999999, 30, Guard.QUIET),
            (200, 30, None),
            (359.999999, 300, Guard.QUIET),
            (360, 300, None),
        ],
    )
    def test_how_long_a_heartbeat_is_believed(self, seconds: float, cadence: float, guard: Guard | None) -> None:
        one = never_seen()
        beats = {one.run.id: beat(seconds, cadence=cadence)}
        assert verdict(one, scope("a", exclusive=True), heartbeats=beats).guard is guard


class TestWhenAnEndWithoutATimeWas:
    def guard(self, one: Case, seconds: float, *views: ScopeView) -> Guard | None:
        return verdict(one, *views, heartbeats={one.run.id: beat(seconds)}).guard

    def test_as_the_memory_has_it(self) -> None:
        r = run()
        known = sighting(r, ended=60)
        one = case(r, look(exited(r, ended=None), sightings=(known,)))
        assert (self.guard(one, 61), self.guard(one, 59)) == (None, Guard.LIFE_SIGN)

    def test_not_that_of_another_resource_or_scope(self) -> None:
        r = run()
        others = (sighting(r), sighting(r, name="res-2", ended=60))
        there = look(gone(r), scope="b", sightings=(sighting(r, "b", ended=60),))
        one = case(r, look(exited(r, ended=None), sightings=others), there)
        assert (self.guard(one, 11), self.guard(one, 9)) == (None, Guard.LIFE_SIGN)

    def test_what_is_gone_and_names_nothing_was_first_missed_at_the_first_look(self) -> None:
        r = run(pid=None)
        one = case(r, look(gone(r), sightings=(sighting(r, ended=60),)))
        assert (self.guard(one, 11), self.guard(one, 9)) == (None, Guard.LIFE_SIGN)


def test_the_guards_are_asked_in_the_order_of_their_names() -> None:
    """All but the rate, which looks at all zombies together."""
    asked = Watchman(snapshot(), POLICY, {}).guards
    assert [guard for guard, _ in asked] == [guard for guard in Guard if guard is not Guard.RATE]
    assert [speaks.__name__ for _, speaks in asked] == [guard.name.lower() for guard, _ in asked]
