"""Evidence: every decision that must be accounted for, once, and enough to decide it again."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import evidence_file
from reconciler.clock import Clock
from reconciler.decide import decide
from reconciler.evidence import Line, encoded, lines_of, read, rejudge
from reconciler.evidence_file import Evidence, fingerprint
from reconciler.logs import Redactor
from reconciler.model import FlowRun, Guard, Heartbeat, OutcomeKind, StateRecord, StateType, Verdict
from reconciler.news import is_telling
from reconciler.plan import CycleReport, Mode, Outcome, Policy, transition_id
from reconciler.ports import AdapterError
from reconciler.snapshot import Snapshot
from reconciler.testing import FakeScope, flow_run

from .spec import NOW, POLICY, case, exited, look, run, snapshot, vanished
from .test_cycle import EVERY, Bench
from .test_cycle import POLICY as AT_ONCE
from .test_decide_properties import snapshots

Benches = Callable[..., Bench]


@pytest.fixture
def benches() -> Iterator[Benches]:
    made: list[Bench] = []

    def make(*scopes: FakeScope, **options: object) -> Bench:
        made.append(Bench(*scopes, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for bench in made:
        bench.outlook.close()


def writer(folder: Path, **options: object) -> Evidence:
    return Evidence(folder, configuration="abc", version="0.1.0", **options)  # type: ignore[arg-type]


def lines_in(folder: Path) -> list[Line]:
    reading = read(folder / "evidence.jsonl")
    lines = list(reading)
    assert reading.skipped == 0
    return lines


def noted(folder: Path, report: CycleReport) -> list[Line]:
    evidence = writer(folder)
    evidence.note(report)
    assert evidence.problems == ()
    return lines_in(folder)


def report_of(snapshot: Snapshot, policy: Policy = POLICY, **changes: object) -> CycleReport:
    """Make the report of a pass that decided upon this snapshot."""
    values: dict[str, object] = {
        "taken_at": snapshot.taken_at, "duration": timedelta(0), "api_url": "http://fake/api", "api_calls": 1,
        "server_version": None, "scopes": tuple(snapshot.scopes.values()), "plan": decide(snapshot, policy),
        "outcomes": {}, "problems": (), "warnings": (), "dry_run": True, "was_listed": True, "policy": policy,
        "snapshot": snapshot,
    }  # fmt: skip
    return CycleReport(**(values | changes))  # type: ignore[arg-type]


def standing(number: int = 1) -> CycleReport:
    """A pass with so many zombies in it."""
    runs = [run() for _ in range(number)]
    return report_of(snapshot(*(case(one, look(exited(one))) for one in runs)))


def assert_rejudged(lines: list[Line], report: CycleReport) -> None:
    findings = {finding.run.id: finding for finding in report.plan.findings}
    assert {line.run_id for line in lines} == {run_id for run_id, one in findings.items() if is_telling(one)}
    for line in lines:
        finding = findings[line.run_id]
        assert rejudge(line) == finding
        assert (line.verdict, line.rule, line.guard, line.reason) == (
            finding.verdict, finding.rule, finding.guard, finding.reason,
        )  # fmt: skip
        assert line.outcome == report.outcomes.get(line.run_id)
        assert line.policy == report.policy


def seconds_ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def vanish(bench: Bench, number: int = 1, of: int = 4) -> list[FlowRun]:
    """Let some of the runs that were seen vanish."""
    runs = [bench.alive() for _ in range(of)]
    bench.run()
    for one in runs[:number]:
        del bench.scope.answers[one.id]
    return runs[:number]


def end(bench: Bench, seconds: float = 60, **changes: object) -> FlowRun:
    one = bench.alive(**changes)
    bench.scope.answers[one.id] = [bench.scope.exited(one, 137, seconds_ago(seconds))]
    return one


class TestADecisionIsMadeAgainFromItsLine:
    """For each kind of finding, by a real pass over fakes."""

    def only(self, folder: Path, report: CycleReport, verdict: Verdict, guard: Guard | None = None) -> list[Line]:
        lines = noted(folder, report)
        assert {(line.verdict, line.guard) for line in lines} == {(verdict, guard)}
        assert_rejudged(lines, report)
        return lines

    def test_ended_and_settled(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        one = end(bench)
        (line,) = self.only(tmp_path, bench.run(), Verdict.ZOMBIE)
        assert (line.rule, line.condition, line.resource) == ("6", "EXITED", f"res-{one.id}")
        assert line.outcome
        assert (line.outcome.kind, line.outcome.detail) == (OutcomeKind.ACCEPTED, "")
        assert (line.version, line.reconciler, line.configuration, line.dry_run) == (1, "0.1.0", "abc", False)

    def test_removed_and_settled(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        (one,) = vanish(bench)
        bench.api.hearts = {one.id: Heartbeat(3, seconds_ago(900), seconds_ago(800)), uuid4(): Heartbeat(1, NOW, NOW)}
        (line,) = self.only(tmp_path, bench.run(), Verdict.ZOMBIE)
        assert (line.rule, line.condition, line.scope) == ("7", "GONE", "fake")
        assert line.snapshot.heartbeats.keys() == {one.id}, "of this run alone"
        assert line.snapshot.cases[0].history
        assert line.snapshot.cases[0].looks[0].sightings

    def test_a_dry_run_has_no_outcome(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        end(bench)
        (line,) = self.only(tmp_path, bench.run(dry=True), Verdict.ZOMBIE)
        assert (line.dry_run, line.outcome) == (True, None)

    def test_waiting(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        end(bench, seconds=3)
        (line,) = self.only(tmp_path, bench.run(), Verdict.WAITING)
        assert line.outcome is None

    def test_a_blind_scope(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        vanish(bench)
        bench.scope.error = AdapterError("the engine refused the connection")
        assert len(self.only(tmp_path, bench.run(), Verdict.UNKNOWN)) == 4

    def test_again(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        one, before = end(bench), uuid4()
        bench.api.past[one.id] = [
            StateRecord(id=before, type=StateType.RUNNING, name="Running", timestamp=seconds_ago(360)),
            StateRecord(
                id=uuid4(), type=StateType.CRASHED, name="Crashed", timestamp=seconds_ago(330),
                transition_id=transition_id(one.id, before),
            ),
        ]  # fmt: skip
        self.only(tmp_path, bench.run(), Verdict.HELD, Guard.AGAIN)

    def test_listing(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        vanish(bench)
        real = bench.api.in_flight
        bench.api.in_flight = lambda: replace(real(), is_whole=False)  # type: ignore[method-assign]
        self.only(tmp_path, bench.run(), Verdict.HELD, Guard.LISTING)

    @pytest.mark.parametrize("count", [1, 3])
    def test_breaker(self, benches: Benches, tmp_path: Path, count: int) -> None:
        """Also where one run alone would trip it: what counts is the pass, not the line."""
        bench = benches()
        bench.cycle.policy = replace(AT_ONCE, breaker_count=count)
        vanish(bench, 3)
        lines = self.only(tmp_path, bench.run(), Verdict.HELD, Guard.BREAKER)
        assert [(one.absent, one.counted, one.holds) for one in lines[0].breakers] == [(3, 4, True)]

    def test_breaker_not_tripped(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        bench.cycle.policy = replace(AT_ONCE, breaker_count=1)
        vanish(bench)
        self.only(tmp_path, bench.run(), Verdict.ZOMBIE)

    def test_identity(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches(mapping=replace(EVERY, exclusive=True))
        bench.api.runs.append(flow_run("pid"))
        self.only(tmp_path, bench.run(), Verdict.HELD, Guard.IDENTITY)

    def test_amnesty(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        vanish(bench)
        bench.outlook.keep_time = lambda reading: seconds_ago(5)  # type: ignore[method-assign]
        (line,) = self.only(tmp_path, bench.run(), Verdict.HELD, Guard.AMNESTY)
        assert line.snapshot.clock_jumped

    def test_quiet(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches(mapping=replace(EVERY, exclusive=True), pin="engine-1")
        one = flow_run("pid")
        bench.api.runs.append(one)
        bench.api.hearts = {one.id: Heartbeat(9, seconds_ago(300), seconds_ago(10))}
        self.only(tmp_path, bench.run(), Verdict.HELD, Guard.QUIET)

    def test_an_end_that_nobody_saw(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        one = bench.alive()
        bench.scope.answers[one.id] = [replace(bench.scope.exited(one, None, seconds_ago(60)), unseen_end=True)]
        bench.api.hearts = {one.id: Heartbeat(9, seconds_ago(300), seconds_ago(70))}
        (line,) = self.only(tmp_path, bench.run(), Verdict.HELD, Guard.QUIET)
        ((seen,),) = (look.observations for look in line.snapshot.cases[0].looks)
        assert seen.unseen_end

    @pytest.mark.parametrize("beat", [0.0, None])
    def test_life_sign(self, benches: Benches, tmp_path: Path, beat: float | None) -> None:
        bench = benches()
        (one,) = vanish(bench)
        if beat is None:
            from reconciler.ports import OrchestratorError

            def fails(_: object) -> None:
                raise OrchestratorError("http://fake/api answered 503")

            bench.api.heartbeats = fails  # type: ignore[assignment]
        else:
            hearts = {one.id: Heartbeat(9, seconds_ago(500), datetime.now(UTC) + timedelta(seconds=1))}
            bench.api.hearts = hearts
        self.only(tmp_path, bench.run(), Verdict.HELD, Guard.LIFE_SIGN)

    def test_selection_and_mode(self, benches: Benches, tmp_path: Path) -> None:
        policies = {
            Guard.SELECTION: replace(AT_ONCE, only_pools=frozenset({"other"}), only_runs=frozenset({uuid4()})),
            Guard.MODE: replace(AT_ONCE, mode=Mode.OBSERVE, exclude_tags=frozenset({"a", "b"})),
        }
        for guard, policy in policies.items():
            bench = benches()
            bench.cycle.policy = policy
            end(bench)
            self.only(tmp_path / guard, bench.run(), Verdict.HELD, guard)

    def test_rate(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        bench.cycle.policy = replace(AT_ONCE, max_settlements=2)
        runs = [end(bench, state_since=seconds_ago(300 + number)) for number in range(5)]
        report = bench.run()
        lines = noted(tmp_path, report)
        assert_rejudged(lines, report)
        places = {line.run_id: (line.ahead, line.guard) for line in lines}
        assert [places[one.id] for one in reversed(runs)] == [
            (0, None), (1, None), (2, Guard.RATE), (3, Guard.RATE), (4, Guard.RATE),
        ]  # fmt: skip

    def test_another_policy_gives_another_decision(self, benches: Benches, tmp_path: Path) -> None:
        bench = benches()
        bench.cycle.policy = replace(AT_ONCE, max_settlements=1)
        for number in range(2):
            end(bench, state_since=seconds_ago(300 + number))
        lines = noted(tmp_path, bench.run())
        (late,) = [line for line in lines if line.guard]
        assert rejudge(late, replace(late.policy, max_settlements=10**12)).verdict is Verdict.ZOMBIE
        assert rejudge(late, replace(late.policy, settle_failed=timedelta(hours=1))).verdict is Verdict.WAITING

    def test_a_run_that_was_not_looked_at_again_is_judged_as_of_its_own_look(
        self, benches: Benches, tmp_path: Path
    ) -> None:
        """A confirmation takes 10 s: the same case judged after it would be another decision."""
        bench, passed = benches(), [0.0]
        bench.cycle.policy = Policy()
        began = datetime.now(UTC)
        bench.cycle.clock = Clock(lambda: began + timedelta(seconds=passed[0]), lambda: passed[0], lambda: passed[0])
        vanish(bench)
        waits = end(bench, seconds=3)
        bench.scope.answers[waits.id] = [bench.scope.exited(waits, 137, began - timedelta(seconds=3))]
        bench.cycle.wait = lambda seconds: passed.__setitem__(0, passed[0] + seconds)
        looks = iter([None, lambda: setattr(bench.scope, "incomplete", "page 2 is missing")])
        bench.scope.on_observe = lambda: (look := next(looks, None)) and look()
        report = bench.run()
        lines = noted(tmp_path, report)
        assert_rejudged(lines, report)
        (line,) = [line for line in lines if line.run_id == waits.id]
        assert line.verdict is Verdict.WAITING
        assert report.snapshot
        assert report.snapshot.taken_at - line.snapshot.taken_at == timedelta(seconds=10)
        assert line.snapshot.scopes["fake"].incomplete is None, "the scope as it was then, too"


def test_nothing_is_written_of_what_is_healthy_or_unmanaged(benches: Benches, tmp_path: Path) -> None:
    bench = benches()
    bench.alive()
    del bench.scope.answers[bench.alive().id]
    report = bench.run()
    assert {finding.verdict for finding in report.plan.findings} == {Verdict.HEALTHY, Verdict.UNMANAGED}
    evidence = writer(tmp_path / "state")
    evidence.note(report)
    assert not (tmp_path / "state").exists()
    assert evidence.problems == ()


@settings(max_examples=150, deadline=None)
@given(snapshots(), st.sampled_from([POLICY, replace(POLICY, breaker_count=1, max_settlements=1)]))
def test_whatever_was_decided_is_decided_again(snap: Snapshot, policy: Policy) -> None:
    report = report_of(snap, policy)
    findings = {finding.run.id: finding for finding in report.plan.findings}
    for line in lines_of(report, findings.keys(), written_at=NOW, reconciler="1", configuration="c"):
        again = msgspec.json.decode(encoded(line, str), type=Line)
        assert again == line
        assert rejudge(again) == findings[line.run_id]


class TestALineIsWrittenWhenTheDecisionChanges:
    def test_once_while_it_stands(self, tmp_path: Path) -> None:
        report, evidence = standing(), writer(tmp_path)
        for _ in range(3):
            evidence.note(report)
        assert len(lines_in(tmp_path)) == 1
        (finding,) = report.plan.findings
        evidence.note(replace(report, outcomes={finding.run.id: Outcome(OutcomeKind.ACCEPTED, "")}))
        assert [line.outcome and line.outcome.kind for line in lines_in(tmp_path)] == [None, "ACCEPTED"]

    def test_once_over_restarts_and_rotations(self, tmp_path: Path) -> None:
        report = standing(3)
        for _ in range(3):
            writer(tmp_path).note(report)
        assert len(lines_in(tmp_path)) == 3
        (tmp_path / "evidence.jsonl").rename(tmp_path / "evidence.jsonl.1")
        (tmp_path / "evidence.jsonl").touch()
        writer(tmp_path).note(report)
        assert lines_in(tmp_path) == []

    @pytest.mark.parametrize("restarts", [False, True])
    def test_again_after_it_was_well(self, benches: Benches, tmp_path: Path, *, restarts: bool) -> None:
        bench = benches()
        bench.cycle.policy = replace(AT_ONCE, mode=Mode.OBSERVE)
        (one,) = vanish(bench)
        evidence = writer(tmp_path)
        for healthy in (False, False, True, False):
            bench.scope.answers.pop(one.id, None)
            if healthy:
                bench.scope.answers[one.id] = [bench.scope.alive(one)]
            evidence = writer(tmp_path) if restarts else evidence
            evidence.note(bench.run())
        assert [line.verdict for line in lines_in(tmp_path)] == [Verdict.HELD, Verdict.HELD]

    def test_what_is_over_is_not_remembered(self, tmp_path: Path) -> None:
        evidence, none = writer(tmp_path), report_of(snapshot())
        evidence.note(standing(5))
        assert len(json.loads((tmp_path / "evidence.known").read_bytes())) == 5
        evidence.note(report_of(replace(snapshot(), is_whole=False)))
        assert len(json.loads((tmp_path / "evidence.known").read_bytes())) == 5, "half a list says nothing is over"
        evidence.note(replace(none, snapshot=None, was_listed=False))
        assert len(json.loads((tmp_path / "evidence.known").read_bytes())) == 5, "nor does none"
        evidence.note(none)
        assert json.loads((tmp_path / "evidence.known").read_bytes()) == {}

    def test_anew_when_the_file_was_removed(self, tmp_path: Path) -> None:
        report, evidence = standing(), writer(tmp_path)
        evidence.note(report)
        (tmp_path / "evidence.jsonl").unlink()
        evidence.note(report)
        assert len(lines_in(tmp_path)) == 1

    def test_anew_when_the_memory_is_garbage(self, tmp_path: Path) -> None:
        report = standing()
        writer(tmp_path).note(report)
        (tmp_path / "evidence.known").write_bytes(b'{"a": \xff')
        evidence = writer(tmp_path)
        evidence.note(report)
        evidence.note(report)
        assert evidence.problems == ()
        assert len(lines_in(tmp_path)) == 2


def _write(folder: Path, reports: list[CycleReport], limit: int) -> None:
    evidence = writer(folder, limit=limit, keep=100)
    for report in reports:
        evidence.note(report)
        assert evidence.problems == ()


def test_several_processes_lose_and_tear_nothing(tmp_path: Path) -> None:
    """Each run is seen by every process, which all look at the same list; and the files are rotated meanwhile."""
    context = multiprocessing.get_context("spawn")
    runs = [run() for _ in range(60)]
    cases = [case(one, look(exited(one))) for one in runs]
    reports = [report_of(snapshot(*cases[: number + 3])) for number in range(0, 60, 3)]
    writers = [context.Process(target=_write, args=(tmp_path, reports, 30_000)) for _ in range(2)]
    for one in writers:
        one.start()
    for one in writers:
        one.join(120)
    assert [one.exitcode for one in writers] == [0, 0]
    files = sorted(tmp_path.glob("evidence.jsonl*"))
    assert len(files) > 2
    lines = [line for file in files for line in whole(file)]
    assert {line.run_id for line in lines} == {one.id for one in runs}


def whole(path: Path) -> list[Line]:
    reading = read(path)
    lines = list(reading)
    assert reading.skipped == 0
    assert path.read_bytes().endswith(b"\n")
    return lines


def _write_own(folder: Path, report: CycleReport) -> None:
    evidence = writer(folder, limit=20_000, keep=200)
    cases = report.snapshot.cases if report.snapshot else ()
    for number in range(0, len(cases), 2):
        # the others' runs are missing from this list, which broke off
        part = report_of(replace(snapshot(*cases[number : number + 2]), is_whole=False))
        evidence.note(part)
        assert evidence.problems == ()


def test_several_processes_with_runs_of_their_own_write_each_exactly_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    reports = [standing(100) for _ in range(2)]
    writers = [context.Process(target=_write_own, args=(tmp_path, report)) for report in reports]
    for one in writers:
        one.start()
    for one in writers:
        one.join(120)
    assert [one.exitcode for one in writers] == [0, 0]
    lines = [line for file in tmp_path.glob("evidence.jsonl*") for line in whole(file)]
    ids = [finding.run.id for report in reports for finding in report.plan.findings]
    assert sorted(line.run_id for line in lines) == sorted(ids)


@pytest.mark.parametrize("keep", [1, 3])
def test_rotation_keeps_so_many_files_and_whole_lines(tmp_path: Path, keep: int) -> None:
    evidence, last = writer(tmp_path, limit=10_000, keep=keep), standing()
    for _ in range(30):
        evidence.note(standing())
    evidence.note(last)
    files = sorted(tmp_path.glob("evidence.jsonl*"))
    assert [file.name for file in files] == ["evidence.jsonl", "evidence.jsonl.1", "evidence.jsonl.2"][:keep]
    assert all(whole(file) and file.stat().st_size <= 10_000 for file in files)
    assert [line.run_id for line in whole(files[0])][-1] == last.plan.findings[0].run.id
    ages = [line.written_at for file in reversed(files) for line in whole(file)]
    assert ages == sorted(ages)


def test_one_pass_may_fill_several_files(tmp_path: Path) -> None:
    evidence = writer(tmp_path, limit=50_000, keep=20)
    report = standing(100)
    evidence.note(report)
    files = list(tmp_path.glob("evidence.jsonl*"))
    assert len(files) > 3
    assert all(file.stat().st_size <= 50_000 for file in files)
    assert len([line for file in files for line in whole(file)]) == 100


def test_only_we_may_read_it(tmp_path: Path) -> None:
    writer(tmp_path / "new" / "state").note(standing())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*")}
    assert modes == {"state": 0o700, "evidence.jsonl": 0o600, "evidence.known": 0o600}


class TestWhatCannotBeWritten:
    def refused(self, evidence: Evidence, report: CycleReport, *words: str) -> None:
        evidence.note(report)
        (problem,) = evidence.problems
        assert all(word in problem for word in words), problem

    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("a file")
        report, evidence = standing(), writer(tmp_path / "state")
        self.refused(evidence, report, "evidence could not be written to", "make its folder writable")
        (tmp_path / "state").unlink()
        evidence.note(report)
        assert evidence.problems == ()
        assert len(lines_in(tmp_path / "state")) == 1, "tried again, since it was not written"

    def test_a_folder_that_may_only_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the error that the system gives: root may write anywhere."""
        real = os.open

        def denied(path: str, flags: int, *mode: int) -> int:
            if flags & os.O_CREAT:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path, flags, *mode)

        report, evidence = standing(), writer(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", denied)
            self.refused(evidence, report, "Permission denied")
        evidence.note(report)
        assert len(lines_in(tmp_path)) == 1

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It takes a part of the line; that part is taken back."""
        evidence, first, second = writer(tmp_path), standing(), standing()
        evidence.note(first)
        before, real = (tmp_path / "evidence.jsonl").read_bytes(), os.write
        both = report_of(snapshot(*(first.snapshot.cases + second.snapshot.cases)))  # type: ignore[union-attr]
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda handle, text: real(handle, text[:100]))
            self.refused(evidence, both, "No space left")
        assert (tmp_path / "evidence.jsonl").read_bytes() == before
        evidence.note(both)
        assert evidence.problems == ()
        assert [line.run_id for line in lines_in(tmp_path)] == [
            one.plan.findings[0].run.id for one in (first, second)
        ]  # fmt: skip

    def test_a_memory_that_cannot_be_kept_repeats_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report, evidence = standing(2), writer(tmp_path)

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(evidence_file, "_save", full)
            self.refused(evidence, report, "No space left")
            self.refused(evidence, report, "No space left")
        evidence.note(report)
        assert evidence.problems == ()
        writer(tmp_path).note(report)
        assert len(lines_in(tmp_path)) == 2

    def test_a_process_that_keeps_the_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evidence_file, "_PATIENCE", 0.1)
        report, evidence, other = standing(), writer(tmp_path), writer(tmp_path)
        with other._file.held({}):
            self.refused(evidence, report, "another process has held", "end the process")
        evidence.note(report)
        assert len(lines_in(tmp_path)) == 1

    def test_a_bug(self, tmp_path: Path) -> None:
        evidence = writer(tmp_path, redact=lambda text: {}[text])
        self.refused(evidence, standing(), "a bug of ours (KeyError")


class TestReading:
    def test_a_torn_line_is_skipped_and_the_next_begins_anew(self, tmp_path: Path) -> None:
        file = tmp_path / "evidence.jsonl"
        writer(tmp_path).note(standing())
        with file.open("ab") as torn:
            torn.write(file.read_bytes()[:200])
        reading = read(file)
        assert (len(list(reading)), reading.skipped) == (1, 1)
        writer(tmp_path).note(standing())
        reading = read(file)
        assert (len(list(reading)), reading.skipped) == (2, 1)

    def test_garbage_and_other_versions_are_skipped(self, tmp_path: Path) -> None:
        file = tmp_path / "evidence.jsonl"
        writer(tmp_path).note(standing())
        good = file.read_bytes()
        other = json.dumps(json.loads(good) | {"version": 2}).encode()
        stray = json.dumps(json.loads(good) | {"run_id": str(UUID(int=0))}).encode()
        blind = json.loads(good)
        blind["snapshot"]["scopes"] = {}
        garbage = [b"\xff\x00", b"[" * 100_000, b"{}", b"null", other, stray, json.dumps(blind).encode()]
        file.write_bytes(b"\n".join([*garbage, b"", good, good[:-1]]))
        reading = read(file)
        assert (len(list(reading)), reading.skipped) == (2, len(garbage))
        assert (len(list(reading)), reading.skipped) == (2, len(garbage)), "counted anew"

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            list(read(tmp_path / "evidence.jsonl"))

    def test_the_policy_is_there_in_full_and_the_rest_without_what_was_not_given(self, tmp_path: Path) -> None:
        """Defaults change from version to version, and thresholds are what a decision hangs on."""
        writer(tmp_path).note(standing())
        document = json.loads((tmp_path / "evidence.jsonl").read_bytes())
        assert document["policy"]["grace"] == "PT30S"
        assert document["policy"].keys() == Policy.__dataclass_fields__.keys()
        assert "tags" not in document["snapshot"]["cases"][0]["run"]
        assert None not in document.values()


class TestPrivacy:
    SECRET = 'pnu_6f"1c/é9a0d'

    def test_no_secret_gets_in(self, benches: Benches, tmp_path: Path) -> None:
        redactor = Redactor()
        redactor.redact(self.SECRET)
        bench = benches(FakeScope(name=f"engine {self.SECRET}"))
        end(bench, name=f"otter-{self.SECRET}")
        bench.scope.place = f"http://me:{self.SECRET}@engine:2375"
        end(bench, seconds=1)
        report = bench.run()
        evidence = writer(tmp_path, redact=redactor.text)
        evidence.note(report)
        evidence.note(report)
        assert evidence.problems == ()
        for file in tmp_path.iterdir():
            documents = [json.loads(text) for text in file.read_text().splitlines()]
            assert self.SECRET not in json.dumps(documents, ensure_ascii=False).replace('\\"', '"')
        lines = lines_in(tmp_path)
        assert {line.run_id for line in lines} == {finding.run.id for finding in report.plan.findings}
        for line in lines:
            assert rejudge(line).verdict is line.verdict
            assert "***" in line.snapshot.cases[0].looks[0].scope

    def test_a_pattern_that_reaches_over_quotes_breaks_no_line(self, tmp_path: Path) -> None:
        one = run(name="see http://host:80", worker="me@host")
        evidence = writer(tmp_path, redact=lambda text: re.sub(r"://[^/@\s]+@", "://***@", text))
        evidence.note(report_of(snapshot(case(one, look(exited(one))))))
        (line,) = lines_in(tmp_path)
        assert line.snapshot.cases[0].run == one

    def test_half_a_character(self, tmp_path: Path) -> None:
        one = run(name="otter \ud83e")
        report = report_of(snapshot(case(one, look(exited(one)))))
        (line,) = noted(tmp_path, report)
        assert line.name == "otter ?"
        assert rejudge(line).reason == report.plan.findings[0].reason


def test_ten_thousand_at_once(tmp_path: Path) -> None:
    report = report_of(snapshot(*(vanished() for _ in range(10_000))))
    assert {finding.guard for finding in report.plan.findings} == {Guard.BREAKER}
    evidence = writer(tmp_path, limit=100_000_000)
    evidence.note(report)
    assert evidence.problems == ()
    reading = read(tmp_path / "evidence.jsonl")
    assert (sum(1 for _ in reading), reading.skipped) == (10_000, 0)
    assert (tmp_path / "evidence.jsonl").stat().st_size / 10_000 < 4_000, "bytes of a line"


def test_a_fingerprint_is_short_and_its_own() -> None:
    assert re.fullmatch("[0-9a-f]{16}", fingerprint("a"))
    assert fingerprint("a") != fingerprint("b")
    assert fingerprint("\ud83e")
