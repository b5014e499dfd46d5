"""Lines of subflows: decided again from the line alone, byte for byte, with their root in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.account.policies import Effect
from reconciler.account.replay import Result
from reconciler.account.tally import told
from reconciler.evidence import Line, decoded, encoded, lines_of, rejudge
from reconciler.model import Guard, Verdict
from reconciler.plan import CycleReport, Mode, Policy, Resumption
from reconciler.snapshot import Case, Snapshot
from tests.account.families import ended, families, inside, over, root_case, script, subflow, vanished_root
from tests.account.test_replay import altered, replayed, summary, write
from tests.spec import NOW, POLICY, ago, alive, beat, case, exited, gone, look, run, scope, sighting, snapshot, vanished
from tests.test_evidence import report_of

POLICIES = [
    POLICY,
    replace(POLICY, breaker_count=1, max_settlements=1),
    replace(POLICY, crash_pending=True, finish_cancelling=True, max_settlements=2, label_settled=True),
    replace(POLICY, resume_max=1, resume_work_pools=frozenset({"pool"}), resume_causes=frozenset()),
]


def lines(report: CycleReport) -> dict[object, Line]:
    ids = {finding.run.id for finding in report.plan.findings}
    made = lines_of(report, ids, written_at=NOW, reconciler="1", configuration="c")
    return {line.run_id: line for line in made}


def assert_all_again(report: CycleReport) -> None:
    findings = {finding.run.id: finding for finding in report.plan.findings}
    for line in lines(report).values():
        again = decoded(encoded(line, str))
        assert again == line
        assert rejudge(again) == findings[line.run_id]


class TestRule1:
    """The root is in flight: what became of it is the subflow's too."""

    def report(self, policy: Policy = POLICY, **changes: object) -> CycleReport:
        one = vanished(age=400)
        herd = [case(r, look(alive(r), sightings=(sighting(r),))) for r in (run() for _ in range(5))]
        child, grandchild = subflow(), subflow()
        family = [inside(child, one.run), inside(grandchild, child, one.run)]
        return report_of(snapshot(one, *family, *herd, **changes), policy)  # type: ignore[arg-type]

    def test_the_line_holds_the_root_with_all_that_was_seen_of_it(self) -> None:
        report = self.report()
        made = lines(report)
        family = [one for one in report.plan.findings if one.root]
        assert [(one.verdict, one.rule, one.scope) for one in family] == [(Verdict.ZOMBIE, "1", "a")] * 2
        for finding in family:
            line = made[finding.run.id]
            (root,) = line.snapshot.roots.values()
            assert root == line.root
            assert root.run.id == finding.root
            assert root.looks[0].sightings
            assert root.history
            assert set(line.snapshot.scopes) == {"a"}
        assert_all_again(report)

    def test_a_family_has_one_place_among_those_that_are_settled(self) -> None:
        older, younger = vanished(age=500), vanished(age=400)
        herd = [case(r, look(alive(r), sightings=(sighting(r),))) for r in (run() for _ in range(5))]
        families = [[one, inside(subflow(), one.run), inside(subflow(), one.run)] for one in (older, younger)]
        policy = replace(POLICY, max_settlements=1)
        report = report_of(snapshot(*(one for family in families for one in family), *herd), policy)
        made = lines(report)
        assert [[made[one.run.id].ahead for one in family] for family in families] == [[0] * 3, [1] * 3]
        assert [{made[one.run.id].guard for one in family} for family in families] == [{None}, {Guard.RATE}]
        assert_all_again(report)

    def test_the_guard_that_holds_the_root_holds_again(self) -> None:
        report = self.report(clock_jumped=ago(5))
        assert {one.guard for one in report.plan.findings if one.root} == {Guard.AMNESTY}
        assert_all_again(report)

    def test_the_root_s_heartbeats_are_in_its_line(self) -> None:
        of, child = run(), subflow()
        place = scope(exclusive=True, pinned=True)
        beats = {of.id: beat(50), run().id: beat(1)}
        report = report_of(snapshot(case(of, look(gone(of))), inside(child, of), scopes=(place,), heartbeats=beats))
        line = lines(report)[child.id]
        assert line.guard is Guard.QUIET
        assert line.snapshot.heartbeats.keys() == {of.id}
        assert_all_again(report)

    def test_the_breaker_of_the_root_s_scope(self) -> None:
        several, child = [vanished() for _ in range(4)], subflow()
        report = report_of(snapshot(*several, inside(child, several[0].run)))
        line = lines(report)[child.id]
        assert line.guard is Guard.BREAKER
        assert [breaker.scope for breaker in line.breakers] == ["a"]
        assert_all_again(report)


ROOTS: dict[str, Case] = {
    "its resource has ended": root_case(one := ended(), over(one)),
    "it is not there": root_case(one := ended(), vanished_root(one)),
    "its end was reported": root_case(script()),
    "nobody vouches": root_case(ended(ours=False)),
    "it lives": root_case(one := ended(), look(alive(one))),
    "a scope could not tell": root_case(one := ended(), look(error="503")),
    "too young": root_case(ended(age=100)),
}


class TestRule2:
    """The root has ended."""

    @pytest.mark.parametrize("what", ROOTS)
    def test_it_is_decided_again(self, tmp_path: Path, what: str) -> None:
        root, child = ROOTS[what], subflow(age=1000)
        report = report_of(snapshot(inside(child, root.run), roots={root.run.id: root}))
        (finding,) = report.plan.findings
        assert finding.rule == "2"
        assert_all_again(report)
        (found,) = replayed(write(tmp_path / "lines", report))
        assert (found.result, found.differences) == (Result.SAME, ())

    @pytest.mark.parametrize("lineage", ["deleted", "unreadable"])
    def test_without_a_root(self, lineage: str) -> None:
        one = inside(subflow())
        if lineage == "unreadable":
            one = replace(one, lineage=replace(one.lineage, error="503"))  # type: ignore[type-var, arg-type]
        report = report_of(snapshot(one))
        assert lines(report)[one.run.id].root is None
        assert_all_again(report)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(families(), st.sampled_from(POLICIES))
def test_whatever_was_decided_of_a_family_is_decided_again(snap: Snapshot, policy: Policy) -> None:
    assert_all_again(report_of(snap, policy))


class TestTheLine:
    @pytest.fixture
    def line(self) -> Line:
        root, child = root_case(one := ended(), over(one)), subflow()
        return lines(report_of(snapshot(inside(child, root.run), roots={root.run.id: root})))[child.id]

    def test_an_altered_root_is_caught(self, tmp_path: Path, line: Line) -> None:
        path = tmp_path / "lines"
        path.write_bytes(encoded(line, str))

        def alive_again(document: dict[str, object]) -> None:
            (root,) = document["snapshot"]["roots"].values()  # type: ignore[index]
            root["run"]["name"] = "somebody else"

        altered(path, alive_again)
        (found,) = replayed(path)
        assert found.result is Result.DIFFERENT
        assert any("reason: " in difference for difference in found.differences)

    def test_a_root_s_scope_that_is_missing_makes_it_none(self, line: Line) -> None:
        document = json.loads(encoded(line, str))
        document["snapshot"]["scopes"] = {}
        assert decoded(json.dumps(document).encode()) is None

    def test_a_root_s_time_without_a_zone_makes_it_none(self, line: Line) -> None:
        document = json.loads(encoded(line, str))
        (root,) = document["snapshot"]["roots"].values()
        root["run"]["state_since"] = "2026-11-22T11:00:00"
        assert decoded(json.dumps(document).encode()) is None

    def test_lines_from_before_are_read_and_reproduced(self, tmp_path: Path) -> None:
        """They know neither roots and lineages nor the newer settings."""
        path = write(tmp_path / "lines", report_of(snapshot(vanished())))
        newer = ("subflow_grace", "crash_pending", "finish_cancelling", "settle_task_runs", "label_settled")
        resume = tuple(key for key in Policy.__dataclass_fields__ if key.startswith("resume_"))

        def older(document: dict[str, object]) -> None:
            assert "roots" not in document["snapshot"]  # type: ignore[operator]
            for key in (*newer, *resume):
                del document["policy"][key]  # type: ignore[attr-defined]

        altered(path, older)
        (found,) = replayed(path)
        assert (found.result, found.differences) == (Result.SAME, ())
        assert found.line.root is None

    def test_no_secret_of_the_root_gets_in(self, line: Line) -> None:
        text = encoded(line, lambda text: text.replace("parent", "***"))
        assert b'"parent"' not in text
        again = msgspec.json.decode(text, type=Line)
        assert again.root
        assert again.root.run.name == "***"


class TestAnotherPolicy:
    def test_subflow_grace(self, tmp_path: Path) -> None:
        root = root_case(script(age=300))
        child = inside(subflow(age=1000), root.run)
        path = write(tmp_path / "lines", report_of(snapshot(child, roots={root.run.id: root})))
        (late,) = replayed(path, "subflow_grace=6m")
        assert (late.effect, late.settled_at and (late.settled_at - NOW).total_seconds()) == (Effect.LATER, 60)
        (same,) = replayed(path, "subflow_grace=10s")
        assert same.effect is Effect.NONE

    def test_crash_pending(self, tmp_path: Path) -> None:
        of = run("PENDING", age=1000, pid=None)
        one = replace(case(of, look(gone(of)), confirmed=False), history=None)
        report = report_of(snapshot(one, scopes=(scope(exclusive=True, pinned=True),)))
        assert [(finding.verdict, finding.rule) for finding in report.plan.findings] == [(Verdict.HELD, "8")]
        path = write(tmp_path / "lines", report)
        (found,) = replayed(path, "crash_pending=true")
        assert found.effect is Effect.SOONER
        assert (
            "with crash_pending=true: 1 decision would have been different" in summary(path, "crash_pending=true")[-1]
        )
        assert replayed(path, "crash_pending=false")[0].effect is Effect.NONE

    def test_finish_cancelling(self, tmp_path: Path) -> None:
        of = run("CANCELLING", age=1000)
        path = write(tmp_path / "lines", report_of(snapshot(case(of, look(exited(of))))))
        (found,) = replayed(path, "finish_cancelling=true")
        assert (found.effect, found.other and found.other.verdict) == (Effect.SOONER, Verdict.ZOMBIE)

    def test_resumptions(self, tmp_path: Path) -> None:
        of = run(deployment_id=subflow().id, tags=frozenset({"again"}))
        path = write(tmp_path / "lines", report_of(snapshot(case(of, look(gone(of), sightings=(sighting(of),))))))
        changes = ["resume_max=2", "resume_tags=again, other", "resume_backoff=5s"]
        (found,) = replayed(path, *changes)
        assert found.other
        assert found.other.resumption == Resumption(1, 2, POLICY.resume_backoff / 6)
        assert found.effect is Effect.RESUMED
        assert summary(path, *changes)[-1].endswith(": 1 run would have been resumed once settled.")
        assert replayed(path, *changes, "resume_causes=OOMKilled")[0].effect is Effect.NONE
        assert replayed(path, *changes, "mode=observe")[0].effect is Effect.NEVER

    @pytest.mark.parametrize(
        ("change", "effect", "words"),
        [
            ("resume_max=0", Effect.NOT_RESUMED, "would not have been resumed once settled"),
            ("resume_causes=Evicted", Effect.NOT_RESUMED, "would not have been resumed once settled"),
            ("resume_tags=other", Effect.NOT_RESUMED, "would not have been resumed once settled"),
            ("resume_backoff=1h", Effect.RESUMED_LATER, "would have been resumed later"),
            ("resume_backoff=1s", Effect.RESUMED_SOONER, "would have been resumed sooner"),
            ("resume_max=9", Effect.NONE, ""),
            ("grace=31s", Effect.NONE, ""),
        ],
    )
    @pytest.mark.parametrize("mode", Mode)
    def test_what_was_resumed(self, tmp_path: Path, change: str, effect: Effect, words: str, mode: Mode) -> None:
        policy = replace(POLICY, mode=mode, resume_max=2, resume_tags=frozenset({"again"}))
        cases = [vanished(deployment_id=subflow().id, tags=frozenset({"again"})) for _ in range(2)]
        path = write(tmp_path / "lines", report_of(snapshot(*cases), policy))
        assert [one.effect for one in replayed(path, change)] == [effect] * 2
        said = "\n".join(summary(path, change))
        if effect is Effect.NONE:
            assert "no decision would have been another" in said
            return
        assert f"2 decisions would have been different: 2 runs {words}." in said
        assert ("What `mode` or `trust` held is compared as if" in said) is (mode is Mode.OBSERVE)

    def test_the_line_says_after_how_long(self, tmp_path: Path) -> None:
        policy = replace(POLICY, resume_max=2, resume_tags=frozenset({"again"}))
        one = vanished(deployment_id=subflow().id, tags=frozenset({"again"}))
        (found,) = replayed(write(tmp_path / "lines", report_of(snapshot(one), policy)), "resume_backoff=1h")
        (line,) = told(found)
        assert (
            "ZOMBIE (rule 7, resumed 1 of 2 after 30 s) -> ZOMBIE (rule 7, resumed 1 of 2 after 60 min), resumed later"
        ) in line

    def test_where_the_root_s_scope_is_not_trusted_nothing_is_sooner(self, tmp_path: Path) -> None:
        root = root_case(one := ended(age=100), over(one), confirmed=False)
        child = inside(subflow(age=1000), root.run, confirmed=False)
        for place, effect in ((scope(), Effect.SOONER), (scope(observes=True), Effect.OTHERWISE)):
            path = tmp_path / f"lines-{effect.name}"
            write(path, report_of(snapshot(child, roots={root.run.id: root}, scopes=(place,))))
            assert replayed(path, "subflow_grace=10s")[0].effect is effect
        observed = report_of(snapshot(child, roots={root.run.id: root}), replace(POLICY, mode=Mode.OBSERVE))
        assert replayed(write(tmp_path / "observed", observed), "subflow_grace=10s")[0].effect is Effect.OTHERWISE
