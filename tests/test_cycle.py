"""The seven steps with fakes: what is asked, what is written, what is said."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest

from reconciler.clock import Clock, since_boot
from reconciler.cycle import Cycle
from reconciler.memory import Memory
from reconciler.model import (
    ClockOffset,
    FlowRun,
    Guard,
    Heartbeat,
    LifeSign,
    RunId,
    RunMapping,
    Seen,
    StateRecord,
    StateType,
    Verdict,
)
from reconciler.outlook import Outlook
from reconciler.plan import CycleReport, Finding, Listing, Outcome, Policy
from reconciler.ports import AdapterError, BoundScope, Misconfigured, OrchestratorError
from reconciler.report import as_json, exit_code, lines, summary
from reconciler.testing import FakeOrchestrator, FakeScope, flow_run

EVERY = RunMapping(work_pools=frozenset({"pool"}))
POLICY = Policy(confirm_after=timedelta(0))


class Bench:
    """A cycle over fakes. `passes` runs whole cycles with one memory."""

    def __init__(
        self, *scopes: FakeScope, mapping: RunMapping = EVERY, pin: str | None = None, path: Path | None = None
    ):
        self.api, self.scopes, self.waited = FakeOrchestrator(), scopes or (FakeScope(),), list[float]()
        self.memory = Memory(path)
        bounds = [BoundScope(scope, "fake", mapping, pin) for scope in self.scopes]
        self.outlook = Outlook(bounds, self.memory, deadline=1.0)
        self.cycle = Cycle(self.api, self.outlook, POLICY, wait=self.waited.append)

    @property
    def scope(self) -> FakeScope:
        return self.scopes[0]

    def alive(self, **changes: object) -> FlowRun:
        run = flow_run("pid", **changes)
        self.api.runs.append(run)
        self.scope.answers[run.id] = [self.scope.alive(run)]
        return run

    def run(self, *, dry: bool = False) -> CycleReport:
        planned = self.cycle.plan()
        return self.cycle.report(planned, None if dry else self.cycle.settle(planned))

    def slow_histories(self, seconds: float) -> None:
        history = self.api.history

        def slowly(run_id: RunId) -> Sequence[StateRecord]:
            time.sleep(seconds)
            return history(run_id)

        self.api.history = slowly  # type: ignore[method-assign]

    def verdict(self, report: CycleReport, run: FlowRun) -> Verdict:
        return next(finding.verdict for finding in report.plan.findings if finding.run.id == run.id)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.outlook.close()


def test_a_removed_resource_that_was_sighted_is_settled(bench: Bench) -> None:
    runs = [bench.alive() for _ in range(4)]
    assert not bench.run().plan.zombies
    del bench.scope.answers[runs[0].id]
    report = bench.run()
    assert [finding.run.id for finding in bench.api.written] == [runs[0].id]
    assert bench.api.written[0].message.startswith("fake test-run at engine-1 was removed; last seen running ")
    assert "1 accepted" in summary(report)
    assert exit_code(report, tells_zombies=False) == 0


def test_the_same_in_a_dry_run_writes_nothing_and_keeps_sightings(bench: Bench) -> None:
    runs = [bench.alive() for _ in range(4)]
    bench.run(dry=True)
    del bench.scope.answers[runs[0].id]
    report = bench.run(dry=True)
    assert len(report.plan.zombies) == 1
    assert not bench.api.written
    assert (exit_code(report, tells_zombies=True), exit_code(report, tells_zombies=False)) == (3, 0)
    assert any("would be set to Crashed" in line for line in lines(report))


def test_never_sighted_is_never_settled(bench: Bench) -> None:
    run = bench.alive()
    del bench.scope.answers[run.id]
    assert bench.verdict(bench.run(), run) is Verdict.UNMANAGED
    assert not bench.api.written


def test_healthy_runs_cost_no_calls(bench: Bench) -> None:
    for _ in range(500):
        bench.alive()
    bench.run()
    assert bench.api.calls == 2, "the list; and once what an earlier process did not finish"
    bench.run()
    assert bench.api.calls == 3
    assert bench.waited == []


def test_only_suspects_are_looked_at_again_and_only_absence_waits(bench: Bench) -> None:
    bench.cycle.policy = Policy()
    runs = [bench.alive() for _ in range(4)]
    bench.run()
    ended = datetime.now(UTC) - timedelta(minutes=1)
    bench.scope.answers[runs[0].id] = [bench.scope.exited(runs[0], 137, ended)]
    bench.scope.asked.clear()
    bench.run()
    assert bench.waited == []
    assert bench.scope.asked == [[run.id for run in runs], [runs[0].id]]
    del bench.scope.answers[runs[1].id]
    bench.api.runs.remove(runs[0])
    bench.run()
    assert bench.waited == [10.0]


def test_alive_at_the_second_look_is_healthy(bench: Bench) -> None:
    runs = [bench.alive() for _ in range(4)]
    bench.run()
    del bench.scope.answers[runs[0].id]
    looks = iter([None, lambda: bench.scope.answers.update({runs[0].id: [bench.scope.alive(runs[0])]})])
    bench.scope.on_observe = lambda: (look := next(looks, None)) and look()
    assert bench.verdict(bench.run(), runs[0]) is Verdict.HEALTHY
    assert not bench.api.written


def test_alive_in_a_scope_that_is_not_mapped_is_found_at_the_second_look() -> None:
    bench, _, there = two_places(exclusive=True)
    run = flow_run("pid")
    bench.api.runs.append(run)
    there.answers[run.id] = [there.alive(run)]
    assert bench.verdict(bench.run(), run) is Verdict.HEALTHY


def test_strangers_of_in_flight_runs_are_sightings() -> None:
    bench = Bench(mapping=RunMapping(work_pools=frozenset({"another"})))
    runs = [flow_run(f"container-{number}") for number in range(4)]
    bench.api.runs += runs
    bench.scope.strangers = [replace(bench.scope.resource(run), id=run.pid, key="") for run in runs]
    assert {f.verdict for f in bench.run().plan.findings} == {Verdict.HEALTHY}
    bench.scope.strangers.pop(0)
    bench.scope.answers |= {run.id: [bench.scope.alive(run)] for run in runs[1:]}
    bench.run()
    assert [f.run.id for f in bench.api.written] == [runs[0].id]


def test_since_when_it_is_absent_is_known_to_the_next_pass(bench: Bench) -> None:
    run = bench.alive()
    for _ in range(4):
        bench.alive()
    bench.run()
    bench.cycle.policy = replace(POLICY, grace=timedelta(hours=1))
    bench.scope.answers[run.id] = [bench.scope.gone(run)]
    absent = bench.run().taken_at
    bench.cycle.policy = POLICY
    bench.api.signs[run.id] = LifeSign("log line", datetime.now(UTC) + timedelta(seconds=3))
    report = bench.run()
    finding = next(finding for finding in report.plan.findings if finding.run.id == run.id)
    assert finding.guard is Guard.LIFE_SIGN
    assert report.snapshot is not None
    looks = next(case.looks for case in report.snapshot.cases if case.run.id == run.id)
    assert looks[0].absent_since is not None
    assert absent <= looks[0].absent_since < bench.api.signs[run.id].at
    bench.scope.answers[run.id] = [bench.scope.alive(run)]
    report = bench.run()
    assert report.snapshot is not None
    assert all(look.absent_since is None for case in report.snapshot.cases for look in case.looks)


@pytest.mark.parametrize("ends", [True, False])
def test_a_pool_that_is_deleted_while_its_runs_run(ends: bool) -> None:
    """The server takes the pool from its runs then (`ondelete="SET NULL"`, 3.8.8), and leaves them their pid."""
    bench = Bench()
    runs = [bench.alive(worker="w-1") for _ in range(4)]
    bench.run()
    bench.api.runs[:] = [replace(run, work_pool=None) for run in runs]
    dead = runs[0]
    bench.scope.answers[dead.id] = (
        [bench.scope.exited(dead, 1, dead.state_since + timedelta(seconds=60))] if ends else [bench.scope.gone(dead)]
    )
    bench.run()
    assert [f.run.id for f in bench.api.written] == [dead.id]


def test_the_line_that_would_map_a_run_without_a_pool_names_what_it_has() -> None:
    bench = Bench(mapping=RunMapping(tags=frozenset({"none"})))
    bench.api.runs += [
        flow_run("pid", work_pool=None, worker="w-1"),
        flow_run("pid", work_pool=None, tags=frozenset("b")),
    ]
    reasons = " ".join(finding.reason for finding in bench.run().plan.findings)
    assert '`workers = ["w-1"]`' in reasons
    assert '`tags = ["b"]`' in reasons
    assert "None" not in reasons


def test_what_another_scope_showed_under_a_name_that_anybody_may_take_proves_nothing() -> None:
    """A process number, or a Job's name, is there on another host and in another cluster too; the pid names neither."""
    bench = Bench(mapping=RunMapping(work_pools=frozenset({"another"})))
    runs = [flow_run("4711") for _ in range(2)]
    bench.api.runs += runs
    bench.scope.strangers = [bench.scope.resource(run) for run in runs]
    assert {f.verdict for f in bench.run().plan.findings} == {Verdict.HEALTHY}
    bench.scope.strangers.clear()
    bench.scope.answers[runs[1].id] = [bench.scope.exited(runs[1], 1, runs[1].state_since + timedelta(seconds=60))]
    report = bench.run()
    assert {f.verdict for f in report.plan.findings} == {Verdict.UNMANAGED}
    assert all('add `work_pools = ["pool"]` to that scope' in f.reason for f in report.plan.findings)
    assert not bench.api.written


def test_what_ends_or_vanishes_where_a_run_without_a_pid_is_not_mapped_says_nothing_of_it() -> None:
    bench = Bench(mapping=RunMapping(work_pools=frozenset({"another"})))
    run = flow_run(None, work_pool=None)
    bench.api.runs.append(run)
    bench.scope.strangers = [bench.scope.resource(run)]
    assert bench.verdict(bench.run(), run) is Verdict.HEALTHY
    bench.scope.strangers.clear()
    for answer in (bench.scope.exited(run, 0, run.state_since + timedelta(seconds=60)), bench.scope.gone(run)):
        bench.scope.answers[run.id] = [answer]
        report = bench.run()
        assert bench.verdict(report, run) is Verdict.UNMANAGED
        assert exit_code(report, tells_zombies=True) == 0
    assert not bench.api.written


def two_places(**mapping: bool) -> tuple[Bench, FakeScope, FakeScope]:
    """Runs are mapped to `here`; `there` only shows them."""
    here, there = FakeScope("here"), FakeScope("there", place="engine-2")
    bench = Bench(here, there)
    other = RunMapping(tags=frozenset({"none"}))
    bounds = [BoundScope(here, "fake", replace(EVERY, **mapping)), BoundScope(there, "fake", other)]
    bench.outlook = bench.cycle.outlook = Outlook(bounds, bench.memory, deadline=1.0)
    return bench, here, there


def test_blind_where_it_was_only_sighted_is_unknown() -> None:
    bench, _, there = two_places(exclusive=True)
    runs = [flow_run("pid") for _ in range(4)]
    bench.api.runs += runs
    there.strangers = [there.resource(run) for run in runs]
    assert {f.verdict for f in bench.run().plan.findings} == {Verdict.HEALTHY}
    there.error = AdapterError("refused")
    assert {f.verdict for f in bench.run().plan.findings} == {Verdict.UNKNOWN}
    assert not bench.api.written


def test_a_heart_that_beats_between_the_looks_is_heard(bench: Bench) -> None:
    runs = [bench.alive() for _ in range(4)]
    bench.run()
    del bench.scope.answers[runs[0].id]
    bench.cycle.wait = lambda _: bench.api.hearts.update({runs[0].id: Heartbeat(9, beat(500), beat(0))})
    report = bench.run()
    assert [f.guard for f in report.plan.findings if f.run.id == runs[0].id] == [Guard.LIFE_SIGN]
    assert not bench.api.written


def beat(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def test_a_run_that_ends_between_the_looks_is_no_longer_in_flight(bench: Bench) -> None:
    runs = [bench.alive() for _ in range(4)]
    bench.run()
    for run in runs[:2]:
        bench.scope.answers[run.id] = [bench.scope.exited(run, 1, beat(60))]
    ended = replace(runs[0], state_type=StateType.FAILED, state_id=uuid4())
    restarted = replace(runs[1], state_id=uuid4())
    bench.api.reread = lambda _: {run.id: run for run in (ended, restarted)}  # type: ignore[method-assign]
    report = bench.run(dry=True)
    assert runs[0].id not in {f.run.id for f in report.plan.findings}
    assert bench.verdict(report, runs[1]) is Verdict.WAITING
    assert "its state has changed" in next(f.reason for f in report.plan.findings if f.run.id == runs[1].id)


def test_a_run_that_was_not_looked_at_again_keeps_its_verdict(bench: Bench) -> None:
    """The second look's clocks and failures are the suspects' business."""
    runs = [bench.alive() for _ in range(4)]
    bench.run()
    del bench.scope.answers[runs[0].id]
    looks = iter([None, lambda: setattr(bench.scope, "incomplete", "page 2 is missing")])
    bench.scope.on_observe = lambda: (look := next(looks, None)) and look()
    report = bench.run()
    assert [bench.verdict(report, run) for run in runs] == [Verdict.UNKNOWN, *[Verdict.HEALTHY] * 3]


def test_gone_only_at_the_second_look_is_not_seen_twice(bench: Bench) -> None:
    runs = [bench.alive() for _ in range(4)]
    bench.run()
    bench.scope.answers[runs[0].id] = [bench.scope.exited(runs[0], 137, beat(60))]
    looks = iter([None, lambda: bench.scope.answers.pop(runs[0].id)])
    bench.scope.on_observe = lambda: (look := next(looks, None)) and look()
    assert bench.verdict(bench.run(), runs[0]) is Verdict.WAITING
    assert not bench.api.written


def test_a_bug_while_settling_does_not_hide_what_was_written(bench: Bench) -> None:
    runs = [bench.alive() for _ in range(2)]
    for run in runs:
        bench.scope.answers[run.id] = [bench.scope.exited(run, 137, beat(60))]
    real, calls = bench.api.settle, iter([True, False])
    bench.api.settle = lambda finding: real(finding) if next(calls) else {}["oops"]  # type: ignore[method-assign]
    report = bench.run()
    assert sorted(outcome.kind for outcome in report.outcomes.values()) == ["ACCEPTED", "FAILED"]
    assert exit_code(report, tells_zombies=False) == 1


def test_an_exclusive_scope_is_not_trusted_at_first_contact() -> None:
    bench = Bench(mapping=replace(EVERY, exclusive=True))
    bench.api.runs += [flow_run("pid")]
    assert [f.guard for f in bench.run().plan.findings] == [Guard.IDENTITY]
    assert not bench.api.written


def test_without_heartbeat_events_it_says_so(bench: Bench) -> None:
    runs = [bench.alive() for _ in range(4)]
    bench.run()
    del bench.scope.answers[runs[0].id]
    bench.api.hearts = None
    report = bench.run()
    assert "counts no heartbeat events" in report.warnings[0]
    assert exit_code(report, tells_zombies=False) == 0


class TestAnAdapterThatSlips:
    """Whatever an adapter gets wrong is UNKNOWN for its scope, never a verdict, and never the end of the pass."""

    def test_its_answers(self, bench: Bench) -> None:
        run, other = bench.alive(), bench.alive()
        naive = datetime(2026, 1, 1)  # noqa: DTZ001
        exited = bench.scope.exited(run, 137, beat(60))
        for slip in (
            replace(exited, ended_at=naive),
            replace(exited, resource=None),
            replace(exited, resource=bench.scope.resource(other)),
            replace(exited, resource=replace(bench.scope.resource(run), created_at=naive)),
        ):
            bench.scope.answers[run.id] = [slip]
            report = bench.run()
            assert {f.verdict for f in report.plan.findings} == {Verdict.UNKNOWN}
            assert not bench.api.written
            assert exit_code(report, tells_zombies=False) == 1

    def test_a_coarse_time_is_uncertain_by_as_much(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """HTTP Date headers are whole seconds: an end is no older than the place's clock can tell."""
        run, observe = bench.alive(), FakeScope.observe
        bench.scope.answers[run.id] = [bench.scope.exited(run, 137, beat(11))]
        bench.run()
        assert len(bench.api.written) == 1

        within = timedelta(seconds=20)

        def coarsely(*args: Any) -> Seen:
            return replace(observe(*args), place_time_within=within)

        monkeypatch.setattr(FakeScope, "observe", coarsely)
        report = bench.run()
        assert bench.verdict(report, run) is Verdict.WAITING
        assert 20 <= report.scopes[0].clock.uncertainty.total_seconds() < 21
        within = timedelta(seconds=-20)
        assert bench.verdict(bench.run(), run) is Verdict.UNKNOWN, "no clock is better than exact"
        assert len(bench.api.written) == 1

    def test_no_identity(self) -> None:
        bench = Bench(FakeScope(place=""), mapping=replace(EVERY, exclusive=True))
        bench.api.runs += [flow_run("pid")]
        assert {f.verdict for f in bench.run().plan.findings} == {Verdict.UNKNOWN}

    def test_no_strangers(self, bench: Bench) -> None:
        bench.alive()
        bench.scope.strangers = None  # type: ignore[assignment]
        assert {f.verdict for f in bench.run().plan.findings} == {Verdict.UNKNOWN}

    def test_a_pid_that_it_chokes_on(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        run = bench.alive()
        del bench.scope.answers[run.id]
        monkeypatch.setattr(FakeScope, "locate", lambda *_: {}["oops"])
        report = bench.run()
        assert bench.verdict(report, run) is Verdict.UNKNOWN


class TestWhatGoesWrong:
    def vanish(self, bench: Bench) -> FlowRun:
        runs = [bench.alive() for _ in range(4)]
        bench.run()
        del bench.scope.answers[runs[0].id]
        return runs[0]

    def refused(self, bench: Bench, run: FlowRun, *words: str) -> CycleReport:
        report = bench.run()
        assert not bench.api.written
        assert exit_code(report, tells_zombies=False) == 1
        assert all(any(word in problem for problem in report.problems) for word in words), report.problems
        return report

    def test_api_down(self, bench: Bench) -> None:
        run = self.vanish(bench)
        bench.api.error = OrchestratorError("http://fake/api answered 503")
        self.refused(bench, run, "503")

    @pytest.mark.parametrize("error", [AdapterError("refused"), Misconfigured("denied"), RuntimeError("bug")])
    def test_scope_down(self, bench: Bench, error: Exception) -> None:
        run = self.vanish(bench)
        bench.scope.error = error
        report = self.refused(bench, run, str(error))
        assert bench.verdict(report, run) is Verdict.UNKNOWN

    def test_a_part_missing(self, bench: Bench) -> None:
        run = self.vanish(bench)
        bench.scope.incomplete = "page 2 is missing"
        assert bench.verdict(self.refused(bench, run, "page 2"), run) is Verdict.UNKNOWN

    def test_another_place_at_the_same_address(self, bench: Bench) -> None:
        run = self.vanish(bench)
        bench.scope.place = "engine-2"
        report = self.refused(bench, run, "engine-1", "engine-2")
        assert bench.verdict(report, run) is Verdict.UNMANAGED
        self.refused(bench, run, "another place")

    def test_the_place_is_swapped_while_it_is_looked_at(self, bench: Bench) -> None:
        run = self.vanish(bench)
        bench.scope.on_observe = lambda: setattr(bench.scope, "place", "engine-2")
        assert bench.verdict(self.refused(bench, run, "changed while"), run) is Verdict.UNKNOWN

    def test_pinned_to_another_place(self) -> None:
        bench = Bench(mapping=replace(EVERY, exclusive=True), pin="engine-9")
        run = bench.alive()
        del bench.scope.answers[run.id]
        assert bench.verdict(self.refused(bench, run, "engine-1", "engine-9"), run) is Verdict.UNKNOWN

    def test_a_scope_that_hangs_does_not_stop_the_others_and_gets_no_second_call(self) -> None:
        hung, well = FakeScope("hung", hangs=Event()), FakeScope("well")
        bench = Bench(hung, well)
        bench.outlook._deadline = 0.2
        run = flow_run("pid")
        bench.api.runs.append(run)
        well.answers[run.id] = [well.alive(run)]
        assert bench.verdict(bench.run(), run) is Verdict.HEALTHY
        report = bench.run()
        assert any("still has not answered" in problem for problem in report.problems)
        assert hung.asked == []
        assert hung.hangs is not None
        hung.hangs.set()
        hung.hangs = None
        bench.outlook._askers[0]._call.done.wait(5)  # type: ignore[union-attr]
        hung.answers[run.id] = [hung.alive(run)]
        assert not bench.run().problems

    def test_everything_vanishes_at_once(self, bench: Bench) -> None:
        for _ in range(3):
            bench.alive()
        bench.run()
        bench.scope.answers.clear()
        report = bench.run()
        assert {f.guard for f in report.plan.findings} == {Guard.BREAKER}
        assert exit_code(report, tells_zombies=True) == 4

    def test_a_short_list_forgets_nothing(self, bench: Bench) -> None:
        run = self.vanish(bench)
        bench.api.problems = ("3 runs are missing",)
        report = bench.run()
        assert exit_code(report, tells_zombies=False) == 1
        assert [f.run.id for f in bench.api.written] == [run.id], "single rows that are missing hold nobody"


def test_a_doubt_does_not_turn_into_a_verdict_when_its_evidence_is_pruned(bench: Bench) -> None:
    runs = [bench.alive() for _ in range(4)]
    run = runs[0]
    bench.scope.answers[run.id] = [bench.scope.exited(run, 1, run.state_since - timedelta(seconds=60))]
    assert bench.verdict(bench.run(), run) is Verdict.UNKNOWN
    del bench.scope.answers[run.id]
    assert bench.verdict(bench.run(), run) is Verdict.UNMANAGED
    assert not bench.api.written


def test_a_scope_that_does_not_tell_its_time_is_not_believed(bench: Bench) -> None:
    run = bench.alive()
    real = bench.scope.observe
    bench.scope.observe = lambda *asked: replace(real(*asked), place_time=None)  # type: ignore[method-assign]
    assert bench.verdict(bench.run(), run) is Verdict.UNKNOWN


def test_sightings_outlive_the_process(tmp_path: Path) -> None:
    first = Bench(path=tmp_path / "state" / "memory.sqlite3")
    runs = [first.alive() for _ in range(4)]
    first.run(dry=True)
    first.outlook.close()
    second = Bench(path=tmp_path / "state" / "memory.sqlite3")
    second.api.runs = runs
    second.scope.answers = {run.id: [second.scope.alive(run)] for run in runs[1:]}
    second.run()
    assert [f.run.id for f in second.api.written] == [runs[0].id]
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_json_counts_all_six_verdicts_and_lists_every_run(bench: Bench) -> None:
    bench.alive()
    document = as_json(bench.run(dry=True))
    assert document["counts"] == {
        "in_flight": 1,
        "HEALTHY": 1,
        "UNMANAGED": 0,
        "UNKNOWN": 0,
        "WAITING": 0,
        "HELD": 0,
        "ZOMBIE": 0,
    }
    assert len(document["runs"]) == 1  # type: ignore[arg-type]
    assert document["dry_run"] is True
    assert str(document["taken_at"]).endswith("Z")


def test_names_cannot_steer_the_terminal(bench: Bench) -> None:
    run = bench.alive(name="evil\x1b[2J\n\x07name", work_pool="other")
    del bench.scope.answers[run.id]
    text = list(lines(bench.run()))
    assert not any(set("\x1b\x07\n") & set(line) for line in text)


class Hours:
    """Clocks to be set by hand."""

    def __init__(self) -> None:
        self.wall, self.since_boot, self.off = datetime.now(UTC), 5000.0, timedelta(0)
        self.clock = Clock(lambda: self.wall, lambda: self.since_boot, lambda: self.since_boot)

    def set_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.off += timedelta(seconds=seconds)

    def pass_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.since_boot += seconds


class TestTime:
    """Clocks that jump, deadlines, and an end in the middle of a pass."""

    @pytest.mark.parametrize("step", [3600, -3600])
    @pytest.mark.parametrize("moment", ["between", "listing", "waiting"])
    def test_a_clock_that_was_set_holds_the_zombie_for_the_amnesty(
        self, bench: Bench, step: float, moment: str
    ) -> None:
        hours = Hours()
        bench.cycle.clock = bench.outlook._now = hours.clock  # type: ignore[assignment]
        bench.cycle.policy = replace(POLICY, confirm_after=timedelta(seconds=1))
        bench.cycle.wait = hours.pass_by

        def go() -> CycleReport:
            bench.api.clock = ClockOffset(-hours.off)  # nobody set the server's
            return bench.run()

        runs = [bench.alive() for _ in range(4)]
        go()
        hours.pass_by(30)
        del bench.scope.answers[runs[0].id]
        if moment == "between":
            hours.set_by(step)
        elif moment == "listing":
            bench.scope.on_observe = lambda: hours.set_by(step)  # at every look: it goes on and on
        else:
            bench.cycle.wait = lambda seconds: (hours.pass_by(seconds), hours.set_by(step))
        (finding,) = [one for one in go().plan.findings if one.run.id == runs[0].id]
        assert (finding.verdict, finding.guard) == (Verdict.HELD, Guard.AMNESTY), finding.reason
        bench.scope.on_observe, bench.cycle.wait = lambda: None, hours.pass_by
        go()
        hours.pass_by(50)
        assert bench.verdict(go(), runs[0]) is Verdict.HELD
        hours.pass_by(15)
        assert bench.verdict(go(), runs[0]) is Verdict.ZOMBIE
        assert [one.run.id for one in bench.api.written] == [runs[0].id]

    def test_after_the_deadline_nothing_is_begun(self, bench: Bench) -> None:
        runs = [bench.alive() for _ in range(9)]
        bench.run()
        for run in runs[:2]:
            del bench.scope.answers[run.id]
        bench.cycle.time_limit = 0.2
        settle = bench.api.settle

        def slowly(finding: Finding) -> Outcome:
            time.sleep(0.3)
            return settle(finding)

        bench.api.settle = slowly  # type: ignore[method-assign]
        report = bench.run()
        assert sorted(outcome.kind for outcome in report.outcomes.values()) == ["ACCEPTED", "FAILED"]
        assert "the pass had reached its deadline (cycle_deadline)" in " ".join(report.problems)
        assert exit_code(report, tells_zombies=False) == 1
        assert len(bench.api.written) == 1
        bench.cycle.time_limit = 60
        bench.run()
        assert {one.run.id for one in bench.api.written} == {run.id for run in runs[:2]}

    def test_the_api_is_told_the_deadline(self, bench: Bench) -> None:
        bench.cycle.time_limit = 120
        bench.run()
        (deadline,) = bench.api.begun
        assert 115 < deadline - since_boot() <= 120

    def test_a_process_that_is_to_end_begins_no_settlement(self, bench: Bench) -> None:
        run = bench.alive()
        others = [bench.alive() for _ in range(3)]
        bench.run()
        del bench.scope.answers[run.id]
        over = Event()
        bench.cycle.is_over = over.is_set
        bench.cycle.wait = lambda _: over.set()
        report = bench.run()
        assert not bench.api.written
        assert [outcome.detail for outcome in report.outcomes.values()] in (
            [],
            ["it was not proposed: this process was told to end"],
        )
        assert len(others) == 3

    def test_an_early_end_of_the_wait_is_no_confirmation(self, bench: Bench) -> None:
        """SIGTERM during the wait before the second look: that look comes too soon to count."""
        bench.cycle.policy = replace(POLICY, confirm_after=timedelta(seconds=10))
        run = bench.alive()
        for _ in range(3):
            bench.alive()
        bench.run()
        del bench.scope.answers[run.id]
        report = bench.run()  # the bench's wait returns at once
        assert bench.verdict(report, run) is Verdict.WAITING
        assert not bench.api.written

    def test_many_suspects_are_settled_over_several_passes(self, bench: Bench) -> None:
        """The histories, one call each, must not eat the time to confirm and to settle."""
        runs = [bench.alive() for _ in range(30)]
        bench.run()
        ended = datetime.now(UTC) - timedelta(minutes=1)
        for run in runs[:20]:
            bench.scope.answers[run.id] = [bench.scope.exited(run, 137, ended)]
        bench.slow_histories(0.05)
        bench.cycle.time_limit = 0.6
        written = []
        for _ in range(12):
            report = bench.run()
            if len(report.plan.zombies) < 20 - sum(written[-1:]):
                assert "were left for the next pass" in " ".join(report.problems)
            written.append(len(bench.api.written))
            bench.api.runs = [run for run in bench.api.runs if run.id not in {one.run.id for one in bench.api.written}]
        assert 0 < written[0] < 20
        assert not bench.run().problems
        assert written[-1] == 20
        assert len({one.run.id for one in bench.api.written}) == 20

    def test_those_that_are_held_do_not_keep_the_others_out(self, bench: Bench) -> None:
        """Which suspects' histories are read is left to chance, when there is no time for all."""
        bench.cycle.policy = replace(POLICY, exclude_tags=frozenset({"mine"}))
        ended = datetime.now(UTC) - timedelta(minutes=1)
        for number in range(11):
            run = bench.alive(tags=frozenset({"mine"} if number < 10 else ()))
            bench.scope.answers[run.id] = [bench.scope.exited(run, 137, ended)]
        bench.slow_histories(0.05)
        bench.cycle.time_limit = 0.5
        for _ in range(60):  # five of eleven each time: to be left out by chance in all is 1 in 10^15
            bench.run()
            if bench.api.written:
                break
        assert [finding.run.id for finding in bench.api.written] == [run.id]

    def test_a_slow_list_leaves_time_for_histories(self, bench: Bench) -> None:
        """Half of what is left, not of the whole."""
        run = bench.alive()
        bench.run()
        bench.scope.answers[run.id] = [bench.scope.exited(run, 137, datetime.now(UTC) - timedelta(minutes=1))]
        in_flight = bench.api.in_flight

        def slowly() -> Listing:
            time.sleep(0.6)
            return in_flight()

        bench.api.in_flight = slowly  # type: ignore[method-assign]
        bench.cycle.time_limit = 1.0
        bench.run()
        assert len(bench.api.written) == 1

    def test_nothing_is_remembered_of_a_pass_in_which_the_clock_was_set(self, bench: Bench) -> None:
        hours = Hours()
        bench.cycle.clock = bench.outlook._now = hours.clock  # type: ignore[assignment]
        runs = [bench.alive() for _ in range(4)]
        bench.run()
        for run in runs:
            del bench.scope.answers[run.id]
        bench.cycle.wait = lambda _: hours.set_by(3600)
        assert bench.run().plan.breakers
        assert not bench.memory.breakers(), "it would be an hour old in the next pass"


def test_an_end_later_than_its_place_s_present_has_no_time(bench: Bench) -> None:
    """Its clock was set back since; the true time of the end is not known."""
    run = bench.alive()
    bench.run()
    for seconds, known in ((-60, True), (3600, False)):
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        bench.scope.answers[run.id] = [bench.scope.exited(run, 137, at)]
        (finding,) = bench.run(dry=True).plan.findings
        assert finding.observation is not None
        assert (finding.observation.ended_at is not None) is known
