"""What a scrape shows after cycles over fakes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from types import ModuleType
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from reconciler import condemning, decide, subflows
from reconciler.gauges import NOT_SETTLED, PREFIX, SLUGS, reason_of
from reconciler.metrics import Metrics
from reconciler.model import Cause, Guard, OutcomeKind, StateRecord, StateType, TaskRun, Verdict
from reconciler.news import News, Newsroom
from reconciler.plan import Breaker, CycleReport, Finding, Mode, Orphan, Outcome, Plan, Settled, transition_id
from reconciler.ports import AdapterError, OrchestratorError
from reconciler.testing import FakeScope, flow_run
from tests.spec import NOW, ago, scope, snapshot
from tests.test_cycle import Bench

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5"


class Meter:
    """Metrics and what feeds them; `value` reads from the exposition, as a scraper does."""

    def __init__(self) -> None:
        self.metrics, self.newsroom = Metrics(version="1.2.3", process=False), Newsroom()

    def note(self, report: CycleReport) -> News:
        news = self.newsroom.news(report)
        self.metrics.note(news)
        return news

    def samples(self) -> list[Sample]:
        body, _ = self.metrics.exposition()
        return [sample for family in parse_text(body.decode()) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        found = [one.value for one in self.samples() if one.name == f"{PREFIX}_{name}" and one.labels == labels]
        assert len(found) < 2, f"{name} is there twice"
        return found[0] if found else None

    def values(self, name: str, label: str) -> dict[str, float]:
        return {one.labels[label]: one.value for one in self.samples() if one.name == f"{PREFIX}_{name}"}


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.outlook.close()


def empty(**changes: object) -> CycleReport:
    values: dict[str, object] = {
        "taken_at": NOW,
        "duration": timedelta(seconds=2),
        "api_url": "http://fake/api",
        "api_calls": 3,
        "api_errors": 1,
        "server_version": None,
        "scopes": (scope("a"),),
        "plan": Plan(findings=()),
        "outcomes": {},
        "problems": (),
        "warnings": (),
        "dry_run": False,
        "was_listed": True,
    }
    return CycleReport(**(values | changes))  # type: ignore[arg-type]


class TestBeforeTheFirstCycle:
    def test_nothing_is_claimed_about_runs_or_scopes(self, meter: Meter) -> None:
        told = {sample.name.removeprefix(f"{PREFIX}_") for sample in meter.samples()}
        assert not {
            name for name in told if name.startswith(("runs", "scope_", "api_up", "breaker", "last_", "held", "orphan"))
        }

    def test_counters_start_at_zero(self, meter: Meter) -> None:
        assert meter.values("settlements_total", "outcome") == {str(kind): 0 for kind in OutcomeKind}
        assert meter.values("task_runs_settled_total", "outcome") == {str(kind): 0 for kind in OutcomeKind}
        assert meter.values("resumptions_total", "outcome") == {str(kind): 0 for kind in OutcomeKind}
        assert meter.values("settled_causes_total", "cause") == {str(cause): 0 for cause in Cause}
        assert meter.value("subflows_settled_total") == 0
        assert meter.values("cycles_total", "result") == {"complete": 0, "incomplete": 0, "failed": 0}
        assert meter.values("configuration_reloads_total", "result") == {"taken": 0, "refused": 0}
        assert all(meter.value("not_settled_total", verdict="HELD", reason=guard) == 0 for guard in Guard)

    def test_the_version_is_told(self, meter: Meter) -> None:
        assert meter.value("info", version="1.2.3") == 1


def test_each_has_a_registry_of_its_own() -> None:
    Metrics(version="1"), Metrics(version="1")
    assert not [family for family in REGISTRY.collect() if family.name.startswith(PREFIX)]


def test_the_process_is_measured_if_asked() -> None:
    body, _ = Metrics(version="1").exposition()
    assert b"\nprocess_resident_memory_bytes " in body
    assert b"\nprocess_open_fds " in body


def test_a_settlement_from_sighting_to_crashed(meter: Meter, bench: Bench) -> None:
    runs = [bench.alive() for _ in range(4)]
    meter.note(bench.run())
    assert meter.value("runs", verdict="HEALTHY", scope="fake") == 4
    del bench.scope.answers[runs[0].id]
    report = bench.run()
    meter.note(report)
    assert meter.value("runs", verdict="ZOMBIE", scope="fake") == 1
    assert meter.value("runs", verdict="HEALTHY", scope="fake") == 3
    assert meter.value("runs", verdict="ZOMBIE", scope="") == 0
    assert meter.value("scope_mapped_runs", scope="fake", adapter="fake") == 4
    assert meter.value("settlements_total", outcome="ACCEPTED") == 1
    assert meter.value("death_to_settlement_seconds_count") == 1
    assert meter.value("api_calls_total") == bench.api.calls
    assert meter.value("cycles_total", result="complete") == 2
    assert meter.value("cycle_seconds_count") == 2
    assert meter.value("last_complete_cycle_timestamp_seconds") == pytest.approx(report.ended_at.timestamp())


def test_the_time_of_death_is_that_of_the_end(meter: Meter, bench: Bench) -> None:
    run = bench.alive()
    meter.note(bench.run())
    died = datetime.now(UTC) - timedelta(seconds=70)
    bench.scope.answers[run.id] = [bench.scope.exited(run, 137, died)]
    report = bench.run()
    meter.note(report)
    assert meter.value("death_to_settlement_seconds_sum") == pytest.approx((report.ended_at - died).total_seconds())
    assert meter.value("death_to_settlement_seconds_bucket", le="60.0") == 0
    assert meter.value("death_to_settlement_seconds_bucket", le="90.0") == 1


def test_only_accepted_settlements_have_a_time(meter: Meter, bench: Bench) -> None:
    run = bench.alive()
    bench.run()
    bench.scope.answers[run.id] = [bench.scope.exited(run, 137, datetime.now(UTC) - timedelta(seconds=70))]
    bench.api.settle = lambda finding: Outcome(OutcomeKind.REFUSED, "409")  # type: ignore[method-assign]
    meter.note(bench.run())
    assert meter.value("settlements_total", outcome="REFUSED") == 1
    assert meter.value("death_to_settlement_seconds_count") == 0
    assert meter.value("cycles_total", result="incomplete") == 1


def test_an_unknown_time_of_death_is_not_made_up(meter: Meter, bench: Bench) -> None:
    run = bench.alive()
    bench.scope.answers[run.id] = [bench.scope.exited(run, 137, datetime.now(UTC) - timedelta(seconds=70))]
    report = bench.run()
    (judged,) = report.plan.judged
    assert judged.finding.observation
    timeless = replace(
        judged, finding=replace(judged.finding, observation=replace(judged.finding.observation, ended_at=None))
    )
    assert timeless.died_by is None
    meter.note(replace(report, plan=replace(report.plan, judged=(timeless,))))
    assert meter.value("settlements_total", outcome="ACCEPTED") == 1
    assert meter.value("death_to_settlement_seconds_count") == 0


def test_why_not_is_counted_once_while_a_run_stands_so(meter: Meter, bench: Bench) -> None:
    bench.cycle.policy = replace(bench.cycle.policy, mode=Mode.OBSERVE)
    runs = [bench.alive() for _ in range(4)]
    bench.run()
    del bench.scope.answers[runs[0].id]
    first = bench.run()
    meter.note(first)
    meter.note(replace(bench.run(), taken_at=first.taken_at + timedelta(seconds=30), duration=timedelta(seconds=1)))
    assert meter.value("not_settled_total", verdict="HELD", reason="mode") == 1
    assert meter.value("held_seconds", reason="mode") == pytest.approx(31)


def test_what_is_no_longer_held_is_no_longer_shown(meter: Meter, bench: Bench) -> None:
    bench.cycle.policy = replace(bench.cycle.policy, mode=Mode.OBSERVE)
    runs = [bench.alive() for _ in range(4)]
    bench.run()
    del bench.scope.answers[runs[0].id]
    meter.note(bench.run())
    bench.api.runs.remove(runs[0])
    meter.note(bench.run())
    assert meter.values("held_seconds", "reason") == {}


def test_it_came_back(meter: Meter, bench: Bench) -> None:
    run, earlier = bench.alive(), datetime.now(UTC) - timedelta(minutes=6)
    rows = [(StateType.PENDING, None), (StateType.RUNNING, None), (StateType.CRASHED, "ours")]
    past = [StateRecord(id=flow_run().state_id, type=kind, name=kind, timestamp=earlier) for kind, _ in rows]
    ours = transition_id(run.id, past[1].id)
    bench.api.past[run.id] = [*past[:2], replace(past[2], transition_id=ours)]
    bench.scope.answers[run.id] = [bench.scope.exited(run, 1, datetime.now(UTC) - timedelta(minutes=1))]
    meter.note(bench.run())
    assert meter.values("held_seconds", "reason").keys() == {"again"}


def test_everything_vanishes_at_once(meter: Meter, bench: Bench) -> None:
    for _ in range(3):
        bench.alive()
    meter.note(bench.run())
    assert meter.value("breaker_open", scope="fake") == 0
    bench.scope.answers.clear()
    meter.note(bench.run())
    assert meter.value("breaker_open", scope="fake") == 1
    assert meter.value("not_settled_total", verdict="HELD", reason="breaker") == 3
    meter.note(empty(plan=Plan(findings=(), breakers=(Breaker("a", absent=3, counted=3, holds=False),))))
    assert meter.value("breaker_open", scope="a") == 0, "all of it was released"


def test_a_blind_scope_among_others(meter: Meter) -> None:
    bench = Bench(FakeScope("well"), FakeScope("ill"))
    run = bench.alive()
    bench.scopes[1].error = AdapterError("refused")
    meter.note(bench.run())
    assert meter.values("scope_up", "scope") == {"well": 1, "ill": 0}
    assert meter.value("cycles_total", result="incomplete") == 1
    assert meter.value("last_complete_cycle_timestamp_seconds") is None
    assert meter.value("api_up") == 1
    del bench.scope.answers[run.id]
    meter.note(bench.run())
    assert meter.values("unknown_seconds", "scope").keys() <= {"", "ill"}
    assert meter.value("not_settled_total", verdict="UNKNOWN", reason="could not tell") == 1


def test_half_a_scope_is_not_up(meter: Meter) -> None:
    meter.note(empty(scopes=(scope("a", incomplete="page 2 is missing"), scope("b"))))
    assert meter.values("scope_up", "scope") == {"a": 0, "b": 1}


def zombie(**changes: object) -> Finding:
    values = {"run": flow_run(), "verdict": Verdict.ZOMBIE, "rule": "7", "reason": "was removed", "scope": "a"}
    return Finding(**(values | changes))  # type: ignore[arg-type]


def task_run() -> TaskRun:
    return TaskRun(id=uuid4(), name="t", flow_run_id=uuid4(), state_id=uuid4(), state_type=StateType.RUNNING)


def test_what_follows_settlements_is_counted(meter: Meter) -> None:
    root = zombie(cause=Cause.EVICTED)
    child = zombie(cause=Cause.PARENT_ENDED, inside=root.run, depth=1)
    other = zombie(cause=Cause.EVICTED, inside=root.run, depth=1)
    accepted, refused = Outcome(OutcomeKind.ACCEPTED, ""), Outcome(OutcomeKind.REFUSED, "403")
    outcomes = {root.run.id: accepted, child.run.id: accepted, other.run.id: refused}
    after = Settled(
        outcomes=outcomes,
        task_runs=((task_run(), accepted), (task_run(), accepted), (task_run(), refused)),
        resumed={root.run.id: accepted},
    )
    meter.note(empty(plan=Plan(findings=(root, child, other)), outcomes=outcomes, settled=after))
    assert meter.value("settlements_total", outcome="ACCEPTED") == 2
    assert meter.value("subflows_settled_total") == 1
    assert meter.value("task_runs_settled_total", outcome="ACCEPTED") == 2
    assert meter.value("task_runs_settled_total", outcome="REFUSED") == 1
    assert meter.value("resumptions_total", outcome="ACCEPTED") == 1
    causes = {cause: count for cause, count in meter.values("settled_causes_total", "cause").items() if count}
    assert causes == {"Evicted": 1, "ParentEnded": 1}


class TestOrphans:
    def of(self, *hours: float) -> tuple[Orphan, ...]:
        run = flow_run(state_type=StateType.COMPLETED)
        thing = FakeScope().resource(run)
        return tuple(Orphan(resource=thing, run=run, since=ago(3600 * each)) for each in hours)

    def test_are_counted_with_the_age_of_the_oldest(self, meter: Meter) -> None:
        scopes = (scope("a"), scope("b"))
        meter.note(empty(scopes=scopes, orphans={"a": self.of(1, 3, 2), "b": ()}))
        assert meter.values("orphans", "scope") == {"a": 3, "b": 0}
        assert meter.values("orphan_oldest_age_seconds", "scope") == {"a": 3 * 3600 + 2}

    def test_stay_while_nothing_is_known_of_them(self, meter: Meter) -> None:
        meter.note(empty())
        assert meter.values("orphans", "scope") == {}
        meter.note(empty(orphans={"a": self.of(1)}))
        meter.note(empty())
        meter.note(empty(scopes=(scope("a", error="503"),), orphans={"a": ()}))
        assert meter.values("orphans", "scope") == {"a": 1}
        assert meter.values("orphan_oldest_age_seconds", "scope") == {"a": 3602}
        meter.note(empty(orphans={"a": ()}))
        assert meter.values("orphans", "scope") == {"a": 0}
        assert meter.values("orphan_oldest_age_seconds", "scope") == {}

    def test_leave_with_their_scope(self, meter: Meter) -> None:
        meter.note(empty(orphans={"a": self.of(1)}))
        meter.note(empty(scopes=(scope("b"),)))
        assert meter.values("orphans", "scope") == {}


class TestWhenTheRunsCannotBeListed:
    @pytest.fixture(autouse=True)
    def before(self, meter: Meter, bench: Bench) -> None:
        for _ in range(4):
            bench.alive()
        meter.note(bench.run())

    def check(self, meter: Meter) -> None:
        assert meter.value("api_up") == 0
        assert meter.value("runs", verdict="HEALTHY", scope="fake") == 4, "no run has vanished"
        assert meter.value("scope_mapped_runs", scope="fake", adapter="fake") == 4
        assert meter.value("breaker_open", scope="fake") == 0

    def test_not_at_all(self, meter: Meter, bench: Bench) -> None:
        complete = meter.value("last_complete_cycle_timestamp_seconds")
        bench.api.error = OrchestratorError("http://fake/api answered 503")
        report = bench.run()
        meter.note(report)
        self.check(meter)
        assert meter.value("scope_up", scope="fake", adapter="fake") == 0, "nobody looked"
        assert meter.value("cycles_total", result="incomplete") == 1
        assert meter.value("last_complete_cycle_timestamp_seconds") == complete
        assert meter.value("last_cycle_timestamp_seconds") == pytest.approx(report.ended_at.timestamp())

    def test_only_in_part(self, meter: Meter) -> None:
        part = snapshot(is_whole=False)
        meter.note(empty(scopes=(replace(scope("fake"), adapter="fake"),), snapshot=part, problems=("it broke off",)))
        self.check(meter)
        assert meter.value("scope_up", scope="fake", adapter="fake") == 1

    def test_and_then_again(self, meter: Meter, bench: Bench) -> None:
        meter.note(empty(was_listed=False))
        bench.api.runs.pop()
        meter.note(bench.run())
        assert meter.value("api_up") == 1
        assert meter.value("runs", verdict="HEALTHY", scope="fake") == 3


def test_never_listed_is_not_no_runs(meter: Meter) -> None:
    meter.note(empty(was_listed=False, scopes=(scope("a", error="it was not asked"),)))
    assert meter.value("runs", verdict="HEALTHY", scope="") is None
    assert meter.value("breaker_open", scope="a") is None
    assert meter.value("api_up") == 0


@pytest.mark.parametrize("listed", [True, False])
def test_a_scope_that_left_the_configuration_leaves(meter: Meter, listed: bool) -> None:
    bench = Bench(FakeScope("stays"), FakeScope("leaves"))
    run = flow_run("pid")
    bench.api.runs.append(run)
    bench.scopes[1].answers[run.id] = [bench.scopes[1].alive(run)]
    meter.note(bench.run())
    assert meter.value("runs", verdict="HEALTHY", scope="leaves") == 1
    meter.note(empty(scopes=(scope("stays"),), was_listed=listed))
    assert not [sample for sample in meter.samples() if sample.labels.get("scope") == "leaves"]
    assert meter.value("runs", verdict="HEALTHY", scope="stays") == 0


def test_reloads_and_bugs(meter: Meter) -> None:
    assert meter.value("configuration_last_reload_successful") == 1
    meter.metrics.reloaded(ok=False)
    assert meter.value("configuration_last_reload_successful") == 0
    meter.metrics.reloaded(ok=True)
    meter.metrics.failed()
    assert meter.value("configuration_last_reload_successful") == 1
    assert meter.values("configuration_reloads_total", "result") == {"taken": 1, "refused": 1}
    assert meter.value("cycles_total", result="failed") == 1


def test_calls_and_errors_add_up(meter: Meter) -> None:
    meter.note(empty())
    meter.note(empty())
    assert (meter.value("api_calls_total"), meter.value("api_errors_total")) == (6, 2)


def test_a_clock_that_was_set_back_breaks_nothing(meter: Meter, bench: Bench) -> None:
    run = bench.alive()
    report = replace(bench.run(), duration=timedelta(seconds=-5))
    bench.scope.answers[run.id] = [bench.scope.exited(run, 1, datetime.now(UTC) + timedelta(hours=1))]
    meter.note(report)
    meter.note(replace(bench.run(), duration=timedelta(hours=-1)))
    assert meter.value("cycle_seconds_sum") == 0
    assert all(sample.value >= 0 for sample in meter.samples())


class TestLabels:
    POISON = 'poison"\n\\{}'

    def thousand(self, bench: Bench) -> CycleReport:
        """Runs of every kind whose every field is somebody else's text."""
        for number in range(1000):
            word = f"{self.POISON}{number}"
            state = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)[number % 3]
            pool = "pool" if number % 2 else word
            changes = {"name": word, "state_name": word, "work_pool": pool, "work_queue": word, "worker": word}
            run = bench.alive(state_type=state, tags=frozenset({word}), worker_type=word, **changes)
            if number % 5:
                del bench.scope.answers[run.id]
            if number % 5 == 1:
                bench.scope.answers[run.id] = [bench.scope.exited(run, number % 7, None)]
        return bench.run()

    def test_none_comes_from_a_run_and_their_number_is_bounded(self, meter: Meter, bench: Bench) -> None:
        meter.note(bench.run())
        before = len(meter.samples())
        report = self.thousand(bench)
        meter.note(report)
        body, _ = meter.metrics.exposition()
        assert b"poison" not in body
        assert not [finding for finding in report.plan.findings if str(finding.run.id).encode() in body]
        assert len(meter.samples()) - before <= len(Guard) + len(SLUGS) + 1 + 2, (
            "held_seconds, unknown_seconds, complete"
        )
        allowed = {*map(str, (*Verdict, *Guard, *OutcomeKind, *Cause)), *SLUGS.values(), "", "fake", "1.2.3"}
        allowed |= {"complete", "incomplete", "failed", "taken", "refused"}
        values = {value for sample in meter.samples() for label, value in sample.labels.items() if label != "le"}
        assert values <= allowed

    def test_both_formats_can_be_read(self, meter: Meter, bench: Bench) -> None:
        meter.note(self.thousand(bench))
        text, plain = meter.metrics.exposition()
        assert plain.startswith("text/plain; version=0.0.4")
        body, content_type = meter.metrics.exposition(OPENMETRICS)
        assert content_type.startswith("application/openmetrics-text; version=1.0.0")
        assert body.endswith(b"# EOF\n")
        told = {sample.name: sample for family in parse_openmetrics(body.decode()) for sample in family.samples}  # type: ignore[no-untyped-call]
        same = {sample.name for family in parse_text(text.decode()) for sample in family.samples}
        assert told.keys() == same


def test_a_scrape_during_cycles_sees_one_whole_cycle(meter: Meter) -> None:
    small = empty(scopes=(scope("a", mapped=1),))
    large = empty(scopes=tuple(scope(name, mapped=2) for name in "abcdefgh"))
    meter.note(small)

    def cycles() -> None:
        for _ in range(100):
            meter.note(large)
            meter.note(small)

    thread = Thread(target=cycles)
    thread.start()
    seen = {tuple(meter.values("scope_mapped_runs", "scope").values()) for _ in range(50)}
    thread.join()
    assert seen <= {(1.0,), (2.0,) * 8}


def _calls(module: ModuleType) -> list[ast.Call]:
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


class TestSlugs:
    def stated(self) -> set[tuple[Verdict, str]]:
        """Each verdict with its rule, as the modules of the rules write them down."""
        modules = (decide, condemning, subflows)
        pairs = [call.args[:2] for one in modules for call in _calls(one) if _name(call) == "verdict"]
        return {
            (Verdict[verdict.attr], rule.value)
            for verdict, rule in pairs
            if isinstance(verdict, ast.Attribute) and isinstance(rule, ast.Constant) and isinstance(rule.value, str)
        }

    def test_there_is_one_for_whatever_a_rule_may_say(self) -> None:
        stated = {(verdict, rule) for verdict, rule in self.stated() if verdict in NOT_SETTLED}
        shared = {(verdict, "1") for verdict in NOT_SETTLED}  # whatever is said of the root
        being_cancelled = {(Verdict.HELD, "2")}
        assert stated | shared | being_cancelled == SLUGS.keys()

    def test_they_are_apart_from_the_guards(self) -> None:
        assert not set(SLUGS.values()) & set(Guard)
        assert all(re.fullmatch(r"[a-z ]+", slug) for slug in SLUGS.values())

    def test_a_rule_without_one_is_named_by_its_number(self, bench: Bench) -> None:
        bench.alive()
        (finding,) = bench.run().plan.findings
        assert reason_of(replace(finding, verdict=Verdict.WAITING, rule="7")) == "rule 7"
        assert reason_of(replace(finding, guard=Guard.LIFE_SIGN)) == "life sign"


def test_the_age_is_that_of_the_run_that_stands_longest(meter: Meter, bench: Bench) -> None:
    bench.cycle.policy = replace(bench.cycle.policy, mode=Mode.OBSERVE)
    runs = [bench.alive() for _ in range(8)]
    bench.run()
    for run in runs[:2]:
        del bench.scope.answers[run.id]
    report = replace(bench.run(), taken_at=NOW, duration=timedelta(0))
    meter.metrics.note(News(report, (), {runs[0].id: ago(100), runs[1].id: ago(300)}))
    assert meter.value("held_seconds", reason="mode") == 300
