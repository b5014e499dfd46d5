"""Evidence that is decided again: byte for byte, or told how it differs; and under another policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.account.policies import Effect
from reconciler.account.replay import KEYS, BadChange, NoEvidence, Replay, Replayed, Result, changes_of, files
from reconciler.account.resemblance import differ_only_where_hidden
from reconciler.account.tally import Tally, told
from reconciler.evidence import Line, encoded, lines_of
from reconciler.logs import Redactor
from reconciler.model import Cause, Guard, Heartbeat, LifeSign, Verdict
from reconciler.plan import CycleReport, Mode, Policy
from reconciler.snapshot import ScopeView, Snapshot
from tests import test_evidence
from tests.spec import NOW, POLICY, ago, case, exited, gone, look, run, scope, sighting, snapshot, vanished
from tests.test_decide_properties import snapshots
from tests.test_evidence import report_of, writer

benches = test_evidence.benches


def replayed(path: Path, *changes: str, redact: Callable[[str], str] = str) -> list[Replayed]:
    return list(Replay(files(path), changes_of(changes), redact))


def summary(path: Path, *changes: str) -> list[str]:
    replay, tally = Replay(files(path), changes_of(changes)), Tally()
    for one in replay:
        tally.note(one)
    return list(tally.lines(replay.skipped, replay.changes))


def write(path: Path, report: CycleReport, *, at: datetime = NOW, redact: Callable[[str], str] = str) -> Path:
    """Write a line for each run of a report, whatever its verdict."""
    ids = {finding.run.id for finding in report.plan.findings}
    lines = lines_of(report, ids, written_at=at, reconciler="1", configuration="c")
    with path.open("ab") as file:
        file.writelines(encoded(line, redact) for line in lines)
    return path


class TestEveryKindOfLine(test_evidence.TestADecisionIsMadeAgainFromItsLine):
    """Lines of whole passes, over every rule that is accounted for and every guard."""

    def only(self, folder: Path, report: CycleReport, verdict: Verdict, guard: Guard | None = None) -> list[Line]:
        lines = super().only(folder, report, verdict, guard)
        found = replayed(folder)
        assert [one.line for one in found] == lines
        assert {(one.result, one.differences) for one in found} == {(Result.SAME, ())}
        return lines


HELD: dict[Guard, tuple[Policy, ScopeView]] = {
    Guard.OPT_OUT: (replace(POLICY, exclude_tags=frozenset("ab"), include_work_pools=frozenset({"x"})), scope()),
    Guard.TRUST: (POLICY, scope(distrusted_since=ago(100))),
    Guard.MODE: (POLICY, scope(observes=True)),
    Guard.AMNESTY: (POLICY, scope(started=ago(5))),
}


@pytest.mark.parametrize("guard", HELD)
def test_the_other_guards(tmp_path: Path, guard: Guard) -> None:
    policy, place = HELD[guard]
    report = report_of(snapshot(vanished(), scopes=(place,)), policy)
    assert [finding.guard for finding in report.plan.findings] == [guard]
    (found,) = replayed(write(tmp_path / "lines", report))
    assert found.result is Result.SAME


def test_a_log_line_holds_again(tmp_path: Path) -> None:
    one = vanished()
    report = report_of(snapshot(one, life_signs={one.run.id: LifeSign("log line", ago(1))}))
    assert [finding.guard for finding in report.plan.findings] == [Guard.LIFE_SIGN]
    (found,) = replayed(write(tmp_path / "lines", report))
    assert found.result is Result.SAME


@settings(max_examples=40, deadline=None)
@given(snap=snapshots(), policy=st.sampled_from([POLICY, replace(POLICY, breaker_count=1, max_settlements=1)]))
def test_whatever_was_decided_is_reproduced(
    tmp_path_factory: pytest.TempPathFactory, snap: Snapshot, policy: Policy
) -> None:
    path = write(tmp_path_factory.mktemp("lines") / "lines", report_of(snap, policy))
    if path.read_bytes():
        assert {one.result for one in replayed(path)} == {Result.SAME}


def altered(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n")


ALTERED: dict[str, tuple[Callable[[dict[str, object]], object], str]] = {
    "verdict": (lambda line: line.update(verdict="HELD"), "verdict: HELD, now ZOMBIE"),
    "reason": (lambda line: line.update(reason="it was removed by hand"), "reason: it was removed by hand, now "),
    "guard": (lambda line: line.update(guard="quiet"), "guard: quiet, now None"),
    "rule": (lambda line: line.update(rule="6"), "rule: 6, now 7"),
    "name": (lambda line: line.update(name="beaver"), "name: beaver, now otter"),
    "resource": (lambda line: line.pop("resource"), "resource: None, now res-1"),
    "a key of ours that is not": (lambda line: line.update(note="x"), "note: x, now None"),
}


class TestAnAlteredLineIsCaught:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = write(tmp_path / "lines", report_of(snapshot(vanished())))
        altered(path, lambda line: None)
        assert [one.result for one in replayed(path)] == [Result.SAME], "the rig alters nothing by itself"
        return path

    @pytest.mark.parametrize("what", ALTERED)
    def test_in_what_was_decided(self, path: Path, what: str) -> None:
        change, words = ALTERED[what]
        altered(path, change)
        (found,) = replayed(path)
        assert found.result is Result.DIFFERENT
        assert any(words in difference for difference in found.differences), found.differences
        assert any("not reproduced" in line for line in told(found))
        tally = Tally()
        tally.note(found)
        assert not tally.is_reproduced

    def test_in_what_it_was_decided_from(self, path: Path) -> None:
        def earlier(line: dict[str, object]) -> None:
            line["policy"]["grace"] = "PT3600S"  # type: ignore[index]

        altered(path, earlier)
        (found,) = replayed(path)
        assert (found.result, found.again.verdict) == (Result.DIFFERENT, Verdict.WAITING)

    def test_in_its_form_alone(self, path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_bytes())) + "\n")
        (found,) = replayed(path)
        assert (found.result, found.differences) == (Result.DIFFERENT, ("its bytes are not as we write them",))


def test_a_line_without_settings_that_came_later_is_the_same(tmp_path: Path) -> None:
    """What a policy did not know when it was written has its default, and is not in the line."""
    path = write(tmp_path / "lines", report_of(snapshot(vanished())))

    def older(line: dict[str, object]) -> None:
        for key in ("include_tags", "accepted_losses", "amnesty"):
            del line["policy"][key]  # type: ignore[attr-defined]

    altered(path, older)
    assert [one.result for one in replayed(path)] == [Result.SAME]


class TestRedaction:
    def test_parts_that_were_hidden_one_by_one(self, tmp_path: Path) -> None:
        redactor = Redactor()
        redactor.redact("s3cret-name")
        of = run(name="otter s3cret-name")
        hidden = replace(exited(of), reason="exited; s3cret-name; http://me:pw@host")
        path = write(tmp_path / "lines", report_of(snapshot(case(of, look(hidden)))), redact=redactor.text)
        assert b"s3cret" not in path.read_bytes()
        assert [one.result for one in replayed(path)] == [Result.SAME]

    def test_a_pattern_that_only_the_sentence_shows(self, tmp_path: Path) -> None:
        """The title ends with `tcp://me:pw`, the reason begins with `x@host`: each alone hides nothing."""
        redactor, of = Redactor(), run()
        thing = exited(of).resource
        assert thing
        seen = replace(exited(of), resource=replace(thing, title="at tcp://me:pw"), reason="x")
        seen = replace(seen, resource=replace(thing, title="container at tcp://me:pw@host"))
        path = write(tmp_path / "lines", report_of(snapshot(case(of, look(seen)))), redact=redactor.text)
        assert [one.result for one in replayed(path)] == [Result.SAME]
        document = json.loads(path.read_bytes())
        document["reason"] = document["reason"].replace("container at", "***")
        path.write_text(json.dumps(document, separators=(",", ":")) + "\n")
        (found,) = replayed(path)
        assert found.result is Result.HIDDEN
        tally = Tally()
        tally.note(found)
        assert tally.is_reproduced
        assert "1 differs by redaction" in "".join(tally.lines(0, {}))

    def test_the_same_hiding_makes_it_the_same(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "lines", report_of(snapshot(vanished())), redact=lambda text: text.replace("was rem", "***")
        )
        hiding = {"redact": lambda text: text.replace("was rem", "***")}
        assert [one.result for one in replayed(path, **hiding)] == [Result.SAME]

    @pytest.mark.parametrize(
        ("one", "other", "agree"),
        [
            ("a *** b", "a secret b", True), ("a secret b", "a *** b", True), ("***", "", True), ("a***", "b", False),
            ("a***b***c", "a1b2c", True), ("a***b***c", "abc", True), ("a***c", "ac", True), ("ab***ba", "aba", False),
            ("a***b***c", "a1c", False), ("same", "other", False),
        ],
    )  # fmt: skip
    def test_what_counts_as_hidden(self, one: str, other: str, agree: bool) -> None:
        pair = [json.dumps({"reason": text, "verdict": "HELD"}).encode() for text in (one, other)]
        assert differ_only_where_hidden(*pair) is agree

    def test_a_verdict_is_never_hidden(self) -> None:
        pair = [json.dumps({"reason": text, "verdict": text}).encode() for text in ("***", "HELD")]
        assert not differ_only_where_hidden(*pair)


class TestAnotherPolicy:
    def test_the_same_one_changes_nothing(self, tmp_path: Path) -> None:
        path = write(tmp_path / "lines", report_of(snapshot(vanished())))
        assert summary(path, "grace=30s")[-1] == "with grace=30s: no decision would have been another."

    def test_settled_later(self, tmp_path: Path) -> None:
        path = write(tmp_path / "lines", report_of(snapshot(vanished(age=60), vanished(age=300))))
        (late,) = [one for one in replayed(path, "grace=120s") if one.effect is not Effect.NONE]
        assert late.effect is Effect.LATER
        assert late.settled_at == NOW + timedelta(seconds=60 + 10)
        assert late.other
        assert (late.again.verdict, late.other.verdict) == (Verdict.ZOMBIE, Verdict.WAITING)
        (line,) = told(late)
        assert "ZOMBIE (rule 7) -> WAITING (rule 10), settled later at 2026-11-22 12:01:10 UTC" in line
        assert summary(path, "grace=120s") == [
            "2 lines of 2 runs, 2026-11-22 12:00:00 UTC to 2026-11-22 12:00:00 UTC: 2 same.",
            "with grace=2m: 1 decision would have been different: 1 run would have been settled later.",
        ]

    def test_never_settled(self, tmp_path: Path) -> None:
        path = write(tmp_path / "lines", report_of(snapshot(vanished())))
        for change in ("mode=observe", "exclude_work_pools=other, pool", "grace=2d"):
            (found,) = replayed(path, change)
            assert (found.effect, found.settled_at) == (Effect.NEVER, None)
        assert summary(path, "mode=observe")[-1] == (
            "with mode=observe: 1 decision would have been different: 1 run would not have been settled within 24 h."
        )

    def test_settled_at_all(self, tmp_path: Path) -> None:
        path = write(tmp_path / "lines", report_of(snapshot(vanished()), replace(POLICY, mode=Mode.OBSERVE)))
        (found,) = replayed(path, "mode=settle")
        assert (found.effect, found.other and found.other.verdict) == (Effect.SOONER, Verdict.ZOMBIE)

    def test_settled_sooner(self, tmp_path: Path) -> None:
        """It only waited, so its history was not read: it would have been a suspect, and looked at again at once."""
        of = run(age=20)
        one = replace(case(of, look(gone(of), sightings=(sighting(of),)), confirmed=False), history=None)
        path = write(tmp_path / "lines", report_of(snapshot(one)))
        (found,) = replayed(path, "grace=5s")
        assert found.effect is Effect.SOONER

    def test_judged_otherwise(self, tmp_path: Path) -> None:
        of = run("PENDING", age=100)
        path = write(tmp_path / "lines", report_of(snapshot(case(of, look(gone(of))))))
        (found,) = replayed(path, "report_after=1m")
        assert found.effect is Effect.OTHERWISE
        assert "judged otherwise, and not settled either way" in summary(path, "report_after=1m")[-1]

    def test_several_changes_at_once(self, tmp_path: Path) -> None:
        path = write(tmp_path / "lines", report_of(snapshot(vanished(age=60)), replace(POLICY, mode=Mode.OBSERVE)))
        (found,) = replayed(path, "mode=settle", "grace=2m")
        assert (found.effect, found.settled_at) == (Effect.LATER, NOW + timedelta(seconds=60 + 10))
        assert "with mode=settle, grace=2m: " in summary(path, "mode=settle", "grace=2m")[1]

    def test_an_odd_line_is_skipped_and_the_others_are_told(self, tmp_path: Path) -> None:
        path = write(tmp_path / "lines", report_of(snapshot(vanished())))
        good = path.read_bytes()
        odd = [
            lambda line: line["snapshot"].update(taken_at="2026-11-22T12:00:00"),
            lambda line: line["snapshot"]["cases"][0]["run"].update(state_since="2026-11-22T11:00:00"),
            lambda line: line["snapshot"]["cases"][0]["run"].update(state_since="0001-01-01T00:00:00Z"),
            lambda line: line.update(written_at="9999-12-31T23:59:59-14:00"),
            lambda line: line["snapshot"].update(server_clock={"offset": "P999999999D"}),
        ]
        for change in odd:
            path.write_bytes(good)
            altered(path, change)
            path.write_bytes(path.read_bytes() + good)
            assert [one.result for one in replayed(path, "grace=1d")] == [Result.SAME]
            assert summary(path)[1].startswith("1 line skipped: torn, foreign, odd, ")


class TestWhatIsAskedFor:
    def test_values_are_read_as_the_configuration_s(self) -> None:
        given = ["grace=1m30s", "policy.mode=observe", "breaker_share=0.25", "exclude_tags=a, b", "include_tags="]
        assert changes_of(given) == {
            "grace": timedelta(seconds=90), "mode": Mode.OBSERVE, "breaker_share": 0.25,
            "exclude_tags": frozenset({"a", "b"}), "include_tags": frozenset(),
        }  # fmt: skip

    def test_so_are_those_of_families_and_resumptions(self) -> None:
        given = [
            "crash_pending=true", "finish_cancelling=yes", "settle_task_runs=false", "label_settled=1",
            "subflow_grace=90s", "resume_max=3", "resume_backoff=2m", "resume_work_pools=a, b", "resume_tags=",
            "resume_causes=Evicted, oomkilled",
        ]  # fmt: skip
        assert changes_of(given) == {
            "crash_pending": True, "finish_cancelling": True, "settle_task_runs": False, "label_settled": True,
            "subflow_grace": timedelta(seconds=90), "resume_max": 3, "resume_backoff": timedelta(minutes=2),
            "resume_work_pools": frozenset({"a", "b"}), "resume_tags": frozenset(),
            "resume_causes": frozenset({Cause.EVICTED, Cause.OOM_KILLED}),
        }  # fmt: skip

    def test_every_setting_of_the_policy_can_be_asked_for(self) -> None:
        """But for what is only given for one pass."""
        assert Policy.__dataclass_fields__.keys() - set(KEYS) == {"accepted_losses", "only_pools", "only_runs"}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("grase=5s", "there is no 'grase' in a policy; did you mean 'grace'? (known are mode, grace, "),
            ("scope_deadline=5s", "there is no 'scope_deadline' in a policy"),
            ("grace", "'grace' is not KEY=VALUE"),
            ("grace=120", 'grace: 120 has no unit; write "120s" (--with)'),
            ("grace=0s", "must be longer than zero"),
            ("mode=maybe", "must be 'settle' or 'observe'"),
            ("breaker_count=none", "must be a whole number"),
            ("crash_pending=perhaps", "crash_pending: must be true or false"),
            ("resume_causes=Boredom", "names a cause that there is not; known are Evicted, "),
            ("subflow_grace=90", 'subflow_grace: 90 has no unit; write "90s" (--with)'),
        ],
    )
    def test_what_cannot_be_used_is_told(self, text: str, words: str) -> None:
        with pytest.raises(BadChange) as caught:
            changes_of([text])
        assert words in str(caught.value)


class TestFiles:
    def test_a_folder_is_read_oldest_first(self, tmp_path: Path) -> None:
        for number, name in enumerate(["evidence.jsonl.10", "evidence.jsonl.2", "evidence.jsonl.1", "evidence.jsonl"]):
            write(tmp_path / name, report_of(snapshot(vanished())), at=NOW + timedelta(minutes=number))
        (tmp_path / "evidence.known").write_text("{}")
        (tmp_path / "evidence.jsonl.bak").write_text("{}")
        found = replayed(tmp_path)
        assert [one.record.path.name for one in found] == [
            "evidence.jsonl.10", "evidence.jsonl.2", "evidence.jsonl.1", "evidence.jsonl",
        ]  # fmt: skip
        assert summary(tmp_path) == ["4 lines of 4 runs, 2026-11-22 12:00:00 UTC to 2026-11-22 12:03:00 UTC: 4 same."]

    def test_as_the_daemon_writes_and_rotates_them(self, tmp_path: Path) -> None:
        evidence = writer(tmp_path, limit=20_000)
        for _ in range(20):
            evidence.note(test_evidence.standing())
        assert len(files(tmp_path)) > 1
        assert {one.result for one in replayed(tmp_path)} == {Result.SAME}

    def test_torn_and_foreign_lines_are_counted_and_said(self, tmp_path: Path) -> None:
        path = write(tmp_path / "lines", report_of(snapshot(vanished())))
        good = path.read_bytes()
        later = json.dumps(json.loads(good) | {"version": 2}).encode() + b"\n"
        path.write_bytes(b"\xff\n{}\n\n" + b"[" * 100_000 + b"\n" + later + good + good[:500])
        assert len(replayed(path)) == 1
        assert summary(path)[1] == "5 lines skipped: torn, foreign, odd, or of another version of the format."

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(NoEvidence, match="there is no file"):
            files(tmp_path / "nowhere")
        with pytest.raises(NoEvidence, match=r"there is no evidence\.jsonl in"):
            files(tmp_path)
        (tmp_path / "empty").touch()
        assert summary(tmp_path / "empty") == ["0 lines of 0 runs: nothing to decide."]

    def test_a_file_that_is_rotated_meanwhile_is_read_on(self, tmp_path: Path) -> None:
        for name in ("evidence.jsonl.1", "evidence.jsonl"):
            write(tmp_path / name, report_of(snapshot(vanished())))
        reading = iter(Replay(files(tmp_path)))
        first = next(reading)
        (tmp_path / "evidence.jsonl.1").replace(tmp_path / "evidence.jsonl.2")
        (tmp_path / "evidence.jsonl").replace(tmp_path / "evidence.jsonl.1")
        assert {one.line.run_id for one in reading} == {first.line.run_id} ^ ids_in(tmp_path)


def ids_in(folder: Path) -> set[object]:
    return {one.line.run_id for one in replayed_all(folder.glob("evidence.jsonl.*"))}


def replayed_all(paths: Iterable[Path]) -> list[Replayed]:
    return list(Replay(list(paths)))


def test_nothing_told_steers_a_terminal(tmp_path: Path) -> None:
    of = run(name="otter\x1b[2J\u202e" + "x" * 10_000, age=60)
    one = case(of, look(gone(of, reason="was \x1b]0;removed\x07"), sightings=(sighting(of),)))
    path = write(tmp_path / "lines", report_of(snapshot(one)))
    (found,) = replayed(path, "grace=120s")
    (line,) = told(found)
    assert line.isprintable()
    assert len(line) < 1000
    altered(path, lambda document: document.update(rule="\x1b[2J"))
    (found,) = replayed(path)
    assert all(line.isprintable() and len(line) < 1200 for line in told(found))


def test_heartbeats_and_quiet_under_another_policy(tmp_path: Path) -> None:
    of = run()
    place = scope(exclusive=True, pinned=True)
    report = report_of(
        snapshot(case(of, look(gone(of))), scopes=(place,), heartbeats={of.id: Heartbeat(3, ago(160), ago(100))})
    )
    path = write(tmp_path / "lines", report)
    (found,) = replayed(path, "quiet=60s")
    assert (found.line.guard, found.effect) == (Guard.QUIET, Effect.SOONER)
