"""One run on one screen: what is known of it, why it is judged so, what would have it settled."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from rich.console import Console

from reconciler.account.explain import RULES, Sources, explanation
from reconciler.account.explained import Explanation, as_json
from reconciler.account.screen import as_lines, renderable
from reconciler.decide import RULES as TABLE
from reconciler.logs import Redactor
from reconciler.model import (
    ClockOffset,
    FlowRun,
    Guard,
    Heartbeat,
    LifeSign,
    OutcomeKind,
    Place,
    RunMapping,
    StateRecord,
    StateType,
    Verdict,
)
from reconciler.plan import CycleReport, Outcome, Policy, transition_id
from reconciler.ports import AdapterError
from reconciler.snapshot import Snapshot
from tests import test_evidence
from tests.spec import (
    NOW,
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
    vanished,
)
from tests.test_cycle import EVERY, Bench
from tests.test_decide_properties import snapshots
from tests.test_evidence import report_of, seconds_ago, vanish, writer

benches = test_evidence.benches


def screen(told: Explanation, **size: int) -> str:
    return "\n".join(as_lines(told, **size))


def explained(of: FlowRun, report: CycleReport, **sources: object) -> str:
    return screen(explanation(of.id, report, Sources(**sources)))  # type: ignore[arg-type]


def flat(text: str) -> str:
    """The screen without its line breaks."""
    return " ".join(text.split())


class TestARunInFlight:
    @pytest.fixture
    def text(self) -> str:
        of = run(tags=frozenset({"b", "a"}), work_queue="fast", worker="w-1", name="stereotyped-otter")
        missing = case(
            of, look(gone(of), sightings=(sighting(of),)), look(scope="b", place=Place.ELSEWHERE, error="503")
        )
        place = scope(known_since=ago(3 * 86400), pinned=True)
        report = report_of(snapshot(missing, scopes=(place,), heartbeats={of.id: beat(120)},
                                    life_signs={of.id: LifeSign("log line", ago(130))}))  # fmt: skip
        return explained(of, report, mappings={"a": EVERY, "b": RunMapping(worker_types=frozenset({"ecs"}))})

    @pytest.mark.parametrize(
        "words",
        [
            "stereotyped-otter", "Running since 11:55:00 UTC, for 5 min",
            "pool 'pool' (docker), queue 'fast', worker 'w-1'",
            "pid base:res-1; tags a, b", "number 1, began 11:54:00 UTC (6 min ago), 2 states in its history",
            "scope 'a' (docker) id-a (pinned), known for 3 d", "mapped (by work pool 'pool'); its pid names no place",
            "its absence would count: sighted, it was seen here in this attempt",
            "sees GONE: Docker container res-1 on engine a was removed",
            "sighted Docker container res-1 on engine a is running; first 11:54:20 UTC (6 min ago), last 11:58:30 UTC",
            "scope 'b'", "its pid points elsewhere", "error 503",
            "3 heartbeats within the hour, the last 11:58:00 UTC (2 min ago), one every 30 s",
            "last log line 11:57:50 UTC (2 min ago)",
            "UNKNOWN: scope 'b' could not tell: 503",
            "rule 4: a scope that may know of it, or its history, could not tell",
            "acts not by time alone; needed is an answer of scope 'b'", "evidence none of this run",
        ],
    )  # fmt: skip
    def test_it_says(self, text: str, words: str) -> None:
        assert words in flat(text)

    def test_it_fits(self, text: str) -> None:
        assert len(text.splitlines()) <= 40
        assert max(map(len, text.splitlines())) <= 100


def test_a_zombie_that_is_held_with_what_the_other_guards_say() -> None:
    of = run()
    report = report_of(
        snapshot(case(of, look(gone(of))), scopes=(scope(exclusive=True, observes=True, known_since=ago(50)),),
                 heartbeats={of.id: beat(100)})
    )  # fmt: skip
    text = flat(explained(of, report))
    assert "verdict HELD, held by 'identity': " in text
    assert "rule 7: its infrastructure says that there is nothing, where that counts" in text
    assert "guards holds: identity (scope 'a' is known for 50 s only, held until 3 min (or pin it)); " in text
    assert "holds: quiet (its last heartbeat is 100 s old, held until 3 min)" in text
    assert "nothing to say: again, listing, breaker, amnesty, life sign, selection, opt-out, trust, rate" in text
    assert "then 12:02:30 UTC HELD (mode): the mode of scope 'a' is \"observe\", nothing is written" in text
    assert "needed is mode = \"settle\" in scope 'a'; then at 12:02:30 UTC, by the first pass" in text


def test_a_run_that_waits_says_when_it_acts() -> None:
    of = run()
    one = replace(case(of, look(exited(of, ended=3)), confirmed=False), history=None)
    text = flat(explained(of, report_of(snapshot(one)), history=history(of)))
    assert "sees EXITED: Docker container res-1 on engine a exited with code 137 at 11:59:57 UTC (3 s ago)" in text
    assert "WAITING: " in text
    assert "acts if nothing changes: set to Crashed 12:00:07 UTC, in 7 s, by the first pass that ends then" in text
    assert "guards" not in text, "they are asked about zombies only"
    assert "number 1, began" in text


def test_a_zombie_acts_now_and_after_those_that_stand_longer() -> None:
    cases = [vanished(age=300 + number) for number in range(3)]
    report = report_of(snapshot(*cases), replace(POLICY, breaker_count=9, max_settlements=1))
    text = flat(explained(cases[0].run, report))
    assert "held by 'rate'" in text
    assert "holds: rate (2 stand longer, and at most 1 are settled in one pass)" in text
    assert (
        "Crashed not before 12:00:10 UTC, by the pass that comes after 2 more passes, after 2 that stand longer" in text
    )
    assert "set to Crashed now" in flat(explained(cases[2].run, report))


def test_a_healthy_run_says_whether_its_absence_would_count() -> None:
    of = run()
    one = replace(case(of, look(alive(of), sightings=(sighting(of),)), confirmed=False), history=None)
    other = look(scope="b", place=Place.UNSAID, mapped=False)
    text = flat(explained(of, report_of(snapshot(replace(one, looks=(*one.looks, other)))), history=history(of)))
    assert "its absence would count: sighted" in text
    assert "'b'" in text
    assert "only asked whether it shows a live resource" in text
    assert "life signs not read: only those of suspects are" in text
    assert "needed is an end" in text


def test_times_are_in_our_clock() -> None:
    """The place's clock is an hour ahead, and the server's two."""
    hour = timedelta(hours=1)
    of = run(state_since=ago(300) + 2 * hour, created=ago(360) + 2 * hour)
    thing = replace(resource(of), created_at=ago(350) + hour)
    seen = replace(exited(of), resource=thing, ended_at=ago(60) + hour)
    past = tuple(replace(one, timestamp=one.timestamp + 2 * hour if n == 0 else of.state_since)
                 for n, one in enumerate(history(of)))  # fmt: skip
    report = report_of(
        snapshot(case(of, look(seen), past=past), scopes=(scope(clock=ClockOffset(hour)),),
                 server_clock=ClockOffset(2 * hour))
    )  # fmt: skip
    told = explanation(of.id, report, Sources())
    assert told.run
    assert told.run.since == ago(300)
    assert told.attempt
    assert told.attempt.began == ago(360)
    (seen_told,) = told.scopes[0].seen
    assert (seen_told.ended_at, seen_told.created_at) == (ago(60), ago(350))
    assert "its clock is off by +3600 s" in flat(screen(told))


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        (EVERY, "mapped (by work pool 'pool')"),
        (RunMapping(work_pools=frozenset({"pool"}), tags=frozenset({"a", "z"})), "(by work pool 'pool' and tag 'a')"),
        (RunMapping(work_pools=frozenset({"x", "y"})), "its work pool is 'pool', asked for is 'x', 'y'"),
        (RunMapping(workers=frozenset({"x"})), "its worker is not known, asked for is 'x'"),
        (RunMapping(tags=frozenset({"x"})), "its tag is 'a', asked for is 'x'"),
        (RunMapping(worker_types=frozenset({"docker"})), "(by worker type 'docker')"),
        (RunMapping(worker_types=frozenset({"ecs"})), "its worker type is 'docker', asked for is 'ecs'"),
        (RunMapping(), "its worker type is 'docker', asked for is none"),
    ],
)
def test_it_says_why_it_is_mapped_or_not(mapping: RunMapping, words: str) -> None:
    of = run(tags=frozenset({"a"}))
    seen = (look(alive(of)),) if mapping.covers(of) else ()
    text = flat(explained(of, report_of(snapshot(case(of, *seen))), mappings={"a": mapping}))
    assert words in text


def test_a_pool_that_names_its_own_place() -> None:
    of = run(pool_names_place=True)
    mapping = RunMapping(worker_types=frozenset({"docker"}))
    assert "only `work_pools` maps it" in flat(explained(of, report_of(snapshot(case(of))), mappings={"a": mapping}))


class TestARunThatIsNotJudged:
    REPORT = report_of(snapshot())

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            ("COMPLETED", "it is over"), ("CRASHED", "it is over"), ("PAUSED", "it is paused"),
            ("SCHEDULED", "it waits for its time, or for a worker"), ("RUNNING", "was not in this pass"),
        ],
    )  # fmt: skip
    def test_by_its_state(self, state: str, words: str) -> None:
        of = run(state)
        text = flat(explained(of, self.REPORT, row=of, history=history(of)))
        assert words in text
        assert f"state {state.title()} since 11:55:00 UTC, for 5 min" in text
        assert "attempt number 1" in text
        assert "verdict" not in text

    def test_no_such_run(self) -> None:
        told = explanation(uuid4(), self.REPORT, Sources())
        assert (told.run, told.decision, told.forecast) == (None, None, None)
        assert "it was deleted, or never was there" in flat(screen(told))

    def test_nothing_could_be_listed(self) -> None:
        report = replace(self.REPORT, was_listed=False, snapshot=None, problems=("the in-flight flow runs: 503",))
        assert "not judged the in-flight flow runs: 503" in flat(explained(run(), report))

    def test_after_a_settlement_it_says_what_was_done_and_why(
        self, benches: Callable[..., Bench], tmp_path: Path
    ) -> None:
        bench = benches()
        (one,) = vanish(bench)
        for dry in (True, False):
            writer(tmp_path).note(bench.run(dry=dry))
        bench.api.runs.remove(one)
        crash = StateRecord(id=uuid4(), type=StateType.CRASHED, name="Crashed", timestamp=seconds_ago(1),
                            transition_id=transition_id(one.id, one.state_id))  # fmt: skip
        past = [StateRecord(id=one.state_id, type=one.state_type, name="Running", timestamp=one.state_since), crash]
        row = replace(one, state_type=StateType.CRASHED, state_name="Crashed", state_id=crash.id)
        told = explanation(one.id, bench.run(dry=True), Sources(row=row, history=past, folder=tmp_path))
        text = flat(screen(told))
        assert [line.outcome for line in told.settlements] == [OutcomeKind.ACCEPTED]
        assert "ZOMBIE (rule 7, dry run): fake test-run at engine-1 was removed" in text
        assert "ZOMBIE (rule 7) -> set to Crashed: fake test-run at engine-1 was removed; last seen running" in text
        assert "crashed by us at" in text


class TestEvidence:
    def test_the_last_three_lines_of_this_run_over_rotated_files(self, tmp_path: Path) -> None:
        one, evidence = vanished(), writer(tmp_path, limit=6_000, keep=50)
        report = report_of(snapshot(one, *(vanished() for _ in range(3))), replace(POLICY, breaker_count=99))
        kinds = (OutcomeKind.FAILED, OutcomeKind.REFUSED, OutcomeKind.STATE_CHANGED, OutcomeKind.ACCEPTED)
        for kind in kinds:
            evidence.note(replace(report, outcomes={one.run.id: Outcome(kind, f"so it was {kind}")}, dry_run=False))
        assert len(list(tmp_path.glob("evidence.jsonl.*"))) > 1
        told = explanation(one.run.id, report, Sources(folder=tmp_path))
        assert [line.outcome for line in told.evidence] == list(kinds[1:])
        assert [line.outcome for line in told.settlements] == list(kinds)
        text = flat(screen(told))
        assert "settled" in text
        assert "-> failed, so it was FAILED" in text

    def test_a_folder_without(self, tmp_path: Path) -> None:
        one = vanished()
        assert "evidence none of this run" in flat(explained(one.run, report_of(snapshot(one)), folder=tmp_path / "no"))

    def test_what_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "evidence.jsonl").mkdir()
        one = vanished()
        text = flat(explained(one.run, report_of(snapshot(one)), folder=tmp_path))
        assert "our evidence could not be read" in text
        assert "run this as the service's user" in text

    def test_a_line_that_only_mentions_the_run_is_another_s(self, tmp_path: Path) -> None:
        one = vanished()
        other = vanished(name=f"child of {one.run.id}")
        writer(tmp_path).note(report_of(snapshot(other)))
        assert explanation(one.run.id, report_of(snapshot(one)), Sources(folder=tmp_path)).evidence == ()


HOSTILE = "x\x1b[2J\x9b\u202e\n\t" + "\N{PILE OF POO}" * 50 + "y" * 100_000


def test_whatever_comes_from_outside_it_is_one_screen_and_steers_no_terminal(tmp_path: Path) -> None:
    of = run(name=HOSTILE, pid=HOSTILE, work_pool=HOSTILE, work_queue=HOSTILE, worker=HOSTILE, worker_type=HOSTILE,
             state_name=HOSTILE, tags=frozenset(f"{n}{HOSTILE}" for n in range(99)))  # fmt: skip
    thing = replace(resource(of), id=HOSTILE, title=HOSTILE, node=HOSTILE)
    names = [f"s{number}" for number in range(30)]
    seen = [replace(gone(of), reason=HOSTILE, resource=thing)] * 20
    looks = [look(*seen, scope=name, sightings=(sighting(of, name),) * 9) for name in names[:20]]
    views = tuple(scope(name, error=HOSTILE) for name in names)
    report = report_of(snapshot(case(of, *looks, past=history(of)), scopes=views, heartbeats_error=HOSTILE))
    report = replace(report, problems=(HOSTILE,) * 99)
    mappings = {name: RunMapping(work_pools=frozenset({HOSTILE})) for name in names}
    writer(tmp_path).note(report)
    told = explanation(of.id, report, Sources(history=history(of), mappings=mappings, folder=tmp_path))
    lines = as_lines(told)
    assert len(lines) <= 40
    assert all(line.isprintable() and len(line) <= 100 for line in lines)
    assert len(json.dumps(as_json(told))) < 1_000_000
    assert all(char.isprintable() for char in json.dumps(as_json(told), ensure_ascii=False))


def test_no_secret_is_shown(tmp_path: Path) -> None:
    secret, redactor = "pnu_0123456789abcdef", Redactor()
    redactor.redact(secret)
    of = run(name=f"otter {secret}", pid=f"a:{secret}", tags=frozenset({secret}))
    seen = replace(exited(of), reason=f"exited with {secret}")
    one = case(of, look(seen), look(scope="b", error=f"http://me:{secret}@host refused {secret}"))
    report = report_of(snapshot(one, heartbeats_error=secret))
    told = explanation(of.id, replace(report, problems=(secret,)), Sources(hide=redactor.text, mappings={"a": EVERY}))
    assert secret not in json.dumps(as_json(told))
    assert secret not in screen(told)


def test_it_is_cut_to_the_height_and_says_so() -> None:
    one = vanished()
    told = explanation(one.run.id, report_of(snapshot(one)), Sources())
    lines = as_lines(told, height=8)
    assert len(lines) == 8
    assert lines[-1].startswith("... and ")
    assert lines[-1].endswith("more lines: --json has everything")
    assert max(map(len, as_lines(told, width=60))) <= 60


def test_a_terminal_shows_the_same() -> None:
    one = vanished()
    told = explanation(one.run.id, report_of(snapshot(one)), Sources())
    console = Console(width=100, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(renderable(told))
        assert console.export_text().rstrip().splitlines() == [line.rstrip() for line in as_lines(told)]


class TestJson:
    def test_times_are_utc_and_names_are_words(self) -> None:
        of = run()
        one = case(of, look(exited(of, ended=3)))
        document = json.loads(json.dumps(as_json(explanation(of.id, report_of(snapshot(one)), Sources()))))
        assert (document["version"], document["id"], document["at"]) == (1, str(of.id), "2026-11-22T12:00:00Z")
        assert document["run"]["since"] == "2026-11-22T11:55:00Z"
        assert document["scopes"][0]["seen"][0]["ended_at"] == "2026-11-22T11:59:57Z"
        assert document["decision"]["verdict"] == "WAITING"
        assert document["forecast"]["acts_at"] == "2026-11-22T12:00:07Z"
        assert document["forecast"]["stages"][-1]["verdict"] == "ZOMBIE"

    def test_guards_are_all_there(self) -> None:
        one = vanished()
        told = as_json(explanation(one.run.id, report_of(snapshot(one)), Sources()))
        assert [guard["guard"] for guard in told["decision"]["guards"]] == [str(guard) for guard in Guard]


def test_every_rule_has_its_sentence() -> None:
    numbers = {rule.__name__.split("_")[1] for rule in TABLE}
    assert numbers <= RULES.keys()


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(snapshots())
def test_any_run_can_be_explained(snap: Snapshot) -> None:
    report = report_of(snap)
    for finding in report.plan.findings:
        told = explanation(finding.run.id, report, Sources(mappings={"a": EVERY}))
        lines = as_lines(told)
        assert told.decision
        assert told.decision.verdict is finding.verdict
        assert len(lines) <= 40
        assert json.dumps(as_json(told))


def test_one_heartbeat_is_one() -> None:
    one = vanished()
    beats = {one.run.id: Heartbeat(1, ago(100), ago(100))}
    assert "life signs 1 heartbeat within the hour, the last" in flat(
        explained(one.run, report_of(snapshot(one, heartbeats=beats)))
    )


def test_a_whole_pass_with_a_scope_that_is_down(benches: Callable[..., Bench], tmp_path: Path) -> None:
    bench = benches()
    bench.cycle.policy = Policy(confirm_after=timedelta(0))
    (one,) = vanish(bench)
    bench.scope.error = AdapterError("the engine refused the connection")
    report = bench.run(dry=True)
    writer(tmp_path).note(report)
    bench.api.hearts = {one.id: Heartbeat(1, NOW, NOW)}
    told = explanation(
        one.id, report, Sources(folder=tmp_path, history=bench.api.history(one.id), mappings={"fake": EVERY})
    )
    text = flat(screen(told))
    assert told.decision
    assert told.decision.verdict is Verdict.UNKNOWN
    assert "error the engine refused the connection" in text
    assert "its absence would" in text
    assert "evidence " in text
    assert "incomplete " in text


def test_a_run_behind_more_than_one_pass_settles_acts_after_those_passes() -> None:
    cases = [case(of, look(exited(of))) for of in (run(age=300 + number) for number in range(5))]
    report = report_of(snapshot(*cases), replace(POLICY, max_settlements=2))
    assert [flat(explained(one.run, report)).partition(" acts ")[2].partition(" with it ")[0] for one in cases] == [
        "if nothing changes: set to Crashed by the pass that comes after 2 more passes, after 4 that stand longer",
        "if nothing changes: set to Crashed by the pass that comes after 1 more pass, after 3 that stand longer",
        "if nothing changes: set to Crashed by the pass that comes after 1 more pass, after 2 that stand longer",
        "if nothing changes: set to Crashed now, by the first pass that ends then, after 1 that stand longer",
        "if nothing changes: set to Crashed now, by the first pass that ends then",
    ]


def test_the_scope_that_is_in_doubt_is_needed_and_no_other() -> None:
    """The end in 'a' is not what the pid names; 'b' does not answer, and nothing says that it would know."""
    of = run(pid="base:res-2")
    one = case(of, look(exited(of, name="res-1")), look(scope="b", mapped=False, place=Place.ELSEWHERE, error="503"))
    text = flat(explained(of, report_of(snapshot(one))))
    assert "UNKNOWN: scope 'a' could not tell" in text
    assert "needed is an answer of scope 'a' evidence" in text


def test_what_could_not_be_read_is_a_problem_of_the_explanation() -> None:
    told = explanation(uuid4(), report_of(snapshot(vanished())), Sources(problem="the API answered 503"))
    assert told.not_judged == "it is not among the flow runs in flight, and could not be read"
    assert told.problems == ("the API answered 503",)
    assert "incomplete the API answered 503" in flat(screen(told))
