"""What would have a run settled, and when: forecasts, held against the passes that come."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.account.forecast import HORIZON, Forecast, _Future, forecast, forecast_of
from reconciler.decide import decide
from reconciler.evidence import lines_of
from reconciler.model import FlowRun, Guard, Heartbeat, LifeSign, Seen, StateRecord, StateType, Verdict
from reconciler.plan import CycleReport, Mode, Policy, transition_id
from reconciler.snapshot import Case, ScopeView, Snapshot
from reconciler.testing import FakeScope, flow_run
from tests.passes import ScopePasses
from tests.spec import (
    NOW,
    POLICY,
    ago,
    alive,
    asleep,
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
)
from tests.test_decide_properties import snapshots


def report_of(snapshot: Snapshot, policy: Policy) -> CycleReport:
    values: dict[str, object] = {
        "taken_at": snapshot.taken_at, "duration": timedelta(0), "api_url": "http://fake/api", "api_calls": 1,
        "server_version": None, "scopes": tuple(snapshot.scopes.values()), "plan": decide(snapshot, policy),
        "outcomes": {}, "problems": (), "warnings": (), "dry_run": True, "was_listed": True, "policy": policy,
        "snapshot": snapshot,
    }  # fmt: skip
    return CycleReport(**values)  # type: ignore[arg-type]


def ahead(one: Case, *scopes: ScopeView, policy: Policy = POLICY, others: int = 9, **changes: object) -> Forecast:
    """Forecast one case among enough healthy runs that the breaker has nothing to say."""
    herd = [case(r, look(alive(r), sightings=(sighting(r),))) for r in (run() for _ in range(others))]
    made = snapshot(one, *herd, scopes=scopes, **changes)
    return forecast(report_of(made, policy), one.run.id)


def seconds(made: Forecast) -> float | None:
    return None if made.acts_at is None else (made.acts_at - NOW).total_seconds()


def stages(made: Forecast) -> list[tuple[Verdict, str]]:
    return [(stage.finding.verdict, str(stage.finding.guard or stage.finding.rule)) for stage in made.stages]


def listed(of: FlowRun, *looks: object) -> Case:
    """As a pass leaves a run that was no suspect: its history unread, looked at once."""
    return replace(case(of, *looks, confirmed=False), history=None)  # type: ignore[arg-type]


class TestByTimeAlone:
    def test_a_zombie_acts_now(self) -> None:
        made = ahead(vanished())
        assert (seconds(made), made.needed, len(made.stages)) == (0, "", 1)

    def test_an_end_waits_for_its_settle_time(self) -> None:
        of = run()
        made = ahead(listed(of, look(exited(of, ended=3))))
        assert seconds(made) == 7
        assert "settle_failed of 10 s" in made.stages[0].why

    def test_an_absence_waits_for_grace_and_then_for_the_second_look(self) -> None:
        of = run(age=4)
        made = ahead(listed(of, look(gone(of), sightings=(replace(sighting(of), last_seen=ago(1)),))))
        assert seconds(made) == 26 + 10

    def test_heartbeats_hold_until_quiet(self) -> None:
        of = run()
        held = case(of, look(gone(of)))
        made = ahead(held, scope(exclusive=True, pinned=True), heartbeats={of.id: beat(50)})
        assert seconds(made) == 150
        assert stages(made) == [(Verdict.HELD, "quiet"), (Verdict.ZOMBIE, "7")]

    def test_or_for_longer_than_their_own_cadence(self) -> None:
        of = run()
        beats = {of.id: beat(50, count=3, cadence=600)}
        made = ahead(case(of, look(gone(of))), scope(exclusive=True, pinned=True), heartbeats=beats)
        assert seconds(made) == 1.2 * 600 - 50

    def test_what_the_window_of_an_hour_no_longer_shows_holds_nothing(self) -> None:
        of = run(age=9000)
        beats = {of.id: Heartbeat(2, ago(3550), ago(50))}
        made = ahead(case(of, look(gone(of))), scope(exclusive=True, pinned=True), heartbeats=beats)
        assert seconds(made) == 3550, "1.2 of its cadence would be 70 minutes"

    def test_one_guard_after_the_other(self) -> None:
        of = run()
        new = scope(exclusive=True, known_since=ago(100), back_since=ago(10))
        made = ahead(case(of, look(gone(of))), new, clock_jumped=ago(5), heartbeats={of.id: beat(20)})
        assert stages(made) == [
            (Verdict.HELD, "identity"), (Verdict.HELD, "quiet"), (Verdict.ZOMBIE, "7"),
        ]  # fmt: skip
        assert [(stage.at - NOW).total_seconds() for stage in made.stages] == [0, 100, 180]

    def test_amnesty_of_a_scope_that_came_back(self) -> None:
        made = ahead(vanished(), scope(back_since=ago(15)))
        assert (stages(made)[0], seconds(made)) == ((Verdict.HELD, "amnesty"), 45)

    def test_a_log_line_after_the_end(self) -> None:
        of = run()
        signs = {of.id: LifeSign("log line", ago(30))}
        made = ahead(case(of, look(exited(of))), life_signs=signs)
        assert (stages(made)[0], seconds(made)) == ((Verdict.HELD, "life sign"), 170)

    def test_a_retry_hours_away(self) -> None:
        of = asleep(due=-3 * 3600)
        made = ahead(listed(of, look(gone(of), sightings=(sighting(of),))))
        assert seconds(made) == 3 * 3600 + 30 + 10
        assert [verdict for verdict, _ in stages(made)] == ["WAITING", "WAITING", "ZOMBIE"]

    def test_the_breaker_is_remembered_from_this_pass_on(self) -> None:
        cases = [vanished() for _ in range(3)]
        made = forecast(report_of(snapshot(*cases), POLICY), cases[0].run.id)
        assert stages(made) == [(Verdict.HELD, "breaker"), (Verdict.ZOMBIE, "7")]
        assert seconds(made) == 300

    def test_the_rate_lets_it_through_in_a_later_pass(self) -> None:
        cases = [vanished(age=300 + number) for number in range(4)]
        policy = replace(POLICY, max_settlements=2, breaker_count=9)
        made = forecast(report_of(snapshot(*cases), policy), cases[0].run.id)
        assert stages(made)[0] == (Verdict.HELD, "rate")
        assert (made.ahead, made.passes_before, made.acts_at is not None) == (3, 1, True)

    def test_a_history_that_was_not_read_can_be_given(self) -> None:
        """The run was rescheduled: what the scope saw then is an earlier attempt's."""
        of = run(age=20, created=ago(400))
        one = listed(of, look(gone(of), sightings=(sighting(of),)))
        again = history(of, ("PENDING", 400), ("RUNNING", 390), ("SCHEDULED", 60), ("PENDING", 40))
        report = report_of(snapshot(one), POLICY)
        assert forecast(report, of.id).acts_at
        made = forecast(report, of.id, again)
        assert (made.acts_at, made.stages[-1].finding.verdict) == (None, Verdict.UNMANAGED)


class TestWhatTimeDoesNotDo:
    def assert_never(self, made: Forecast, *words: str) -> None:
        assert made.acts_at is None
        assert all(word in made.needed for word in words), made.needed

    def test_healthy(self) -> None:
        of = run()
        self.assert_never(ahead(listed(of, look(alive(of)))), "an end", "lives")

    def test_unmanaged(self) -> None:
        of = run()
        self.assert_never(ahead(listed(of, look(gone(of)))), "its reason says", "configuration")
        bare = run(pid=None, work_pool=None)
        self.assert_never(ahead(listed(bare)), "nothing that can be configured")

    def test_unknown(self) -> None:
        of = run()
        self.assert_never(ahead(listed(of, look(error="refused"))), "an answer of scope 'a'")

    def test_a_history_that_cannot_be_read(self) -> None:
        of = run()
        one = replace(case(of, look(exited(of))), history=None, history_error="503")
        self.assert_never(ahead(one), "an answer about its state history")

    def test_pending_is_left_to_a_person_who_may_switch_two_keys_and_it_says_from_when_on(self) -> None:
        of = run("PENDING", age=20)
        made = ahead(listed(of, look(gone(of))))
        self.assert_never(made, "crash_pending = true", "exclusive = true on scope 'a'")
        assert [((stage.at - NOW).total_seconds(), stage.finding.verdict) for stage in made.stages] == [
            (0, Verdict.WAITING), (880, Verdict.HELD),
        ]  # fmt: skip

    def test_cancelling_too(self) -> None:
        of = run("CANCELLING", age=20, created=ago(400))
        made = ahead(listed(of, look(gone(of), sightings=(sighting(of),))))
        self.assert_never(made, "finish_cancelling = true")
        assert made.then_at == NOW + timedelta(seconds=580 + 10)
        assert (made.stages[-1].at - NOW).total_seconds() == 580

    def test_again(self) -> None:
        of, before = run(), uuid4()
        ours = StateRecord(id=uuid4(), type=StateType.CRASHED, name="Crashed", timestamp=ago(330),
                           transition_id=transition_id(of.id, before))  # fmt: skip
        rows = history(of)
        past = (
            rows[0],
            StateRecord(id=before, type=StateType.RUNNING, name="Running", timestamp=ago(350)),
            ours,
            rows[-1],
        )
        self.assert_never(ahead(case(of, look(exited(of)), past=past)), "a person", "crashed by us")

    def test_heartbeats_that_cannot_be_read(self) -> None:
        self.assert_never(ahead(vanished(), heartbeats_error="503"), "life signs")

    def test_half_a_list(self) -> None:
        self.assert_never(ahead(vanished(), is_whole=False), "a list of flow runs")

    def test_a_retry_beyond_the_horizon(self) -> None:
        of = asleep(due=-3 * 86400)
        self.assert_never(ahead(listed(of, look(gone(of), sightings=(sighting(of),)))), "nothing is due within 24 h")


class TestWhatAPersonMaySwitch:
    """Told with what would follow."""

    def test_the_mode(self) -> None:
        of = run()
        made = ahead(listed(of, look(exited(of, ended=3))), policy=replace(POLICY, mode=Mode.OBSERVE))
        assert (made.acts_at, made.needed) == (None, 'mode = "settle" under [policy]')
        assert made.then_at == NOW + timedelta(seconds=7)

    def test_several_one_behind_the_other(self) -> None:
        wrong = scope(observes=True, distrusted_since=ago(900))
        policy = replace(
            POLICY, mode=Mode.OBSERVE, exclude_work_pools=frozenset({"pool"}), only_runs=frozenset({uuid4()})
        )
        made = ahead(vanished(), wrong, policy=policy)
        wanted = ["--run", "exclude_*", "reconcile --trust a", 'settle" under [policy]', "in scope 'a'"]
        places = [made.needed.index(word) for word in wanted]
        assert places == sorted(places)
        assert made.then_at is not None
        assert made.then_at - NOW <= POLICY.confirm_after

    def test_a_breaker_over_runs_that_were_never_seen(self) -> None:
        runs = [run() for _ in range(3)]
        place = scope(exclusive=True, pinned=True)
        made = snapshot(*(case(of, look(gone(of))) for of in runs), scopes=(place,))
        told = forecast(report_of(made, POLICY), runs[0].id)
        assert "--accept-scope-loss a" in told.needed
        assert told.then_at

    def test_every_guard_ends_by_time_or_is_told(self) -> None:
        from reconciler.account.remedies import _EVIDENCE, ENDLESS, SWITCHES

        by_time = {Guard.IDENTITY, Guard.AMNESTY, Guard.QUIET, Guard.RATE}
        assert {*by_time, *SWITCHES, *_EVIDENCE} == set(Guard)
        assert {*SWITCHES, *_EVIDENCE} >= ENDLESS


def test_a_run_that_was_not_judged() -> None:
    with pytest.raises(LookupError, match="was not judged"):
        forecast(report_of(snapshot(vanished()), POLICY), uuid4())


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(snapshots())
def test_it_begins_with_the_present_and_ends_with_a_settlement_or_a_reason(snap: Snapshot) -> None:
    report = report_of(snap, POLICY)
    for finding in report.plan.findings:
        made = forecast(report, finding.run.id)
        assert made.stages[0].finding.verdict is finding.verdict
        assert [stage.at for stage in made.stages] == sorted(stage.at for stage in made.stages)
        assert (made.acts_at is None) == (made.stages[-1].finding.verdict is not Verdict.ZOMBIE)
        assert bool(made.needed) == (made.acts_at is None)
        assert made.acts_at is None or made.acts_at <= snap.taken_at + HORIZON + POLICY.confirm_after


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(snapshots(), st.sampled_from([7, 11]))
def test_no_earlier_pass_would_have_acted(snap: Snapshot, step: int) -> None:
    """Held against passes begun every few seconds of the first ten minutes."""
    report = report_of(snap, POLICY)
    for line in lines_of(
        report, {one.run.id for one in report.plan.findings}, written_at=NOW, reconciler="", configuration=""
    ):
        made, future = forecast_of(line), _Future(line, None)
        begins = (line.snapshot.taken_at + timedelta(seconds=at) for at in range(0, 600, step))
        acts = [one.at for one in map(future._pass, begins) if one.finding.verdict is Verdict.ZOMBIE]
        if acts and made.stages[-1].finding.guard is None:
            assert made.acts_at is not None
            assert made.acts_at <= acts[0]


@pytest.mark.parametrize("of", [run("PENDING", age=20), run(), asleep(due=-3 * 86400)], ids=["pending", "end", "retry"])
def test_it_is_quick(of: FlowRun) -> None:
    seen = exited(of, ended=None) if of.state_type is StateType.RUNNING else gone(of)
    one = case(of, look(seen, sightings=tuple(sighting(of, name=f"res-{n}") for n in range(1, 4))))
    report = report_of(snapshot(one, scopes=(scope(lag=timedelta(minutes=5)),), heartbeats_error="503"), POLICY)
    began = time.process_time()
    forecast(report, of.id)
    assert time.process_time() - began < 0.5


class MovedScope(FakeScope):
    """A place whose clock is ours, moved as ours is."""

    now: object = None

    def observe(self, runs: Sequence[FlowRun], deadline: float) -> Seen:
        return replace(super().observe(runs, deadline), place_time=self.now())  # type: ignore[operator]


class Passes(ScopePasses):
    def __init__(self, *, exclusive: bool = False, pin: str | None = None) -> None:
        self.scope = MovedScope()
        super().__init__(self.scope, "fake", exclusive=exclusive, pin=pin, deadline=5.0, policy=Policy())
        self.scope.now = self.now

    def starts(self, seconds: float = 300) -> FlowRun:
        of = flow_run("pid", state_since=self.now() - timedelta(seconds=seconds))
        self.api.runs.append(of)
        return of

    def forecast(self, of: FlowRun) -> Forecast:
        planned = self.cycle.plan()
        return forecast(self.cycle.report(planned, None), of.id, tuple(self.api.history(of.id)))

    def until(self, then: datetime) -> None:
        """Let a pass end just then, if it waits for its second look."""
        self.later((then - self.now()).total_seconds())


@pytest.fixture
def passes() -> Iterator[list[Passes]]:
    made: list[Passes] = []
    yield made
    for one in made:
        one.close()


class TestThePassesThatComeDoIt:
    """Not before, and then: by whole passes with a clock that is moved."""

    def assert_comes_true(self, bench: Passes, of: FlowRun, wait: float, *, confirms: bool) -> None:
        made = bench.forecast(of)
        assert made.acts_at is not None
        left = (made.acts_at - bench.now()).total_seconds()
        assert wait - 3 <= left <= wait + 3
        looks = 10 if confirms else 0
        bench.later(round(left) - looks - 4)
        assert bench.judged(of).verdict is not Verdict.ZOMBIE
        back = (made.acts_at - bench.now()).total_seconds()
        bench.later(max(0, round(back) - looks + 3))
        assert bench.judged(of).verdict is Verdict.ZOMBIE
        assert len(bench.written) == 1

    def test_an_end(self, passes: list[Passes]) -> None:
        passes.append(bench := Passes())
        of = bench.starts()
        bench.scope.answers[of.id] = [bench.scope.exited(of, 0, bench.now())]
        self.assert_comes_true(bench, of, 30, confirms=False)

    def test_an_absence(self, passes: list[Passes]) -> None:
        passes.append(bench := Passes())
        of = bench.starts(seconds=2)
        bench.scope.answers[of.id] = [bench.scope.alive(of)]
        bench.look()
        del bench.scope.answers[of.id]
        self.assert_comes_true(bench, of, 38, confirms=True)

    def test_heartbeats(self, passes: list[Passes]) -> None:
        passes.append(bench := Passes(exclusive=True, pin="engine-1"))
        of = bench.starts()
        bench.beats(of, ago=20)
        self.assert_comes_true(bench, of, 1.2 * 180 - 20 - 10, confirms=True)

    def test_a_place_that_is_new(self, passes: list[Passes]) -> None:
        passes.append(bench := Passes(exclusive=True))
        of = bench.starts()
        self.assert_comes_true(bench, of, 190, confirms=True)
