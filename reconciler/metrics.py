"""The metrics of the daemon, fed once per cycle; docs/metrics.md has the one table of them.

Counters and histograms grow with each cycle. The gauges describe the last cycle: they are read from one immutable
`Picture`, swapped per cycle, so that a scrape never sees half of it and a scope that left the configuration is gone.
Labels hold what the operator or this code chose, never what came with a run.
"""

from __future__ import annotations

from collections import Counter as CounterOf
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from reconciler.model import Guard, OutcomeKind, Verdict
from reconciler.news import News
from reconciler.plan import CycleReport, Finding
from reconciler.snapshot import ScopeView

PREFIX = "prefect_reconciler"

SLUGS: Mapping[tuple[Verdict, str], str] = {
    (Verdict.UNMANAGED, "1"): "subflow",
    (Verdict.UNKNOWN, "4"): "could not tell",
    (Verdict.UNMANAGED, "5"): "no evidence",
    (Verdict.HELD, "8"): "pending",
    (Verdict.HELD, "9"): "cancelling",
    (Verdict.HELD, "10"): "retry without time",
    (Verdict.WAITING, "10"): "not yet",
}
"""Why a run is not settled, by verdict and rule, where no guard says so. Dashboards are built on them: rename none."""

NOT_SETTLED = frozenset({Verdict.HELD, Verdict.UNKNOWN, Verdict.WAITING, Verdict.UNMANAGED})
RESULTS = ("complete", "incomplete", "failed")
RELOADS = ("taken", "refused")

# From the quickest settlement (`settle_failed` and part of an interval) over `quiet` and `breaker_release` to an hour.
DEATH_BUCKETS = (5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1800, 3600)
# From an idle pass over `confirm_after` and `scope_deadline` to beyond `cycle_deadline`.
CYCLE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 12.5, 15, 20, 30, 45, 60, 120, 300)

Row = tuple[tuple[str, ...], float]


def reason_of(finding: Finding) -> str:
    """The guard that holds the run, else the slug of its rule, else "rule N"."""
    if finding.guard is not None:
        return str(finding.guard)
    return SLUGS.get((finding.verdict, finding.rule), f"rule {finding.rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What the last whole list of runs gave. It is kept while the API cannot list: no run has vanished by that."""

    runs: Mapping[tuple[Verdict, str], int]  # by verdict and scope; "": none
    mapped: Mapping[str, int]  # by scope
    tripped: frozenset[str]  # scopes whose breaker holds
    held: Mapping[str, float]  # seconds of the longest standing, by reason
    unknown: Mapping[str, float]  # the same by scope

    @classmethod
    def of(cls, news: News) -> Listed:
        report = news.report
        return cls(
            runs=CounterOf((finding.verdict, finding.scope or "") for finding in report.plan.findings),
            mapped={scope.name: scope.mapped for scope in report.scopes},
            tripped=frozenset(breaker.scope for breaker in report.plan.breakers if breaker.holds),
            held=_longest((reason_of(f), _age(news, f)) for f in report.plan.findings if f.verdict is Verdict.HELD),
            unknown=_longest(
                (f.scope or "", _age(news, f)) for f in report.plan.findings if f.verdict is Verdict.UNKNOWN
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All that the gauges show."""

    ended_at: datetime
    completed_at: datetime | None  # None: no pass was complete yet
    listed_now: bool
    listed: Listed | None  # None: never yet
    scopes: tuple[ScopeView, ...]

    @classmethod
    def of(cls, news: News, before: Picture | None) -> Picture:
        report, listed_now = news.report, news.report.is_whole
        completed_at, listed = (before.completed_at, before.listed) if before else (None, None)
        return cls(
            ended_at=report.ended_at,
            completed_at=report.ended_at if report.is_complete else completed_at,
            listed_now=listed_now,
            listed=Listed.of(news) if listed_now else listed,
            scopes=report.scopes,
        )

    def families(self) -> Iterator[GaugeMetricFamily]:
        yield _gauge("api_up", "1 if the last cycle could list every in-flight flow run.", [((), self.listed_now)])
        yield _gauge("last_cycle_timestamp_seconds", "When the last cycle ended.", [((), self.ended_at.timestamp())])
        complete = [((), self.completed_at.timestamp())] if self.completed_at else []
        yield _gauge("last_complete_cycle_timestamp_seconds", "When the last complete cycle ended.", complete)
        up = ((_place(scope), not (scope.error or scope.incomplete)) for scope in self.scopes)
        yield _gauge("scope_up", "1 if the last cycle could read the whole scope.", up, "scope", "adapter")
        if self.listed is not None:
            yield from self._listed(self.listed)

    def _listed(self, listed: Listed) -> Iterator[GaugeMetricFamily]:
        """Of the scopes that are configured now; the list may be older."""
        names = ["", *(scope.name for scope in self.scopes)]
        runs = (((verdict, name), listed.runs.get((verdict, name), 0)) for name in names for verdict in Verdict)
        yield _gauge("runs", "In-flight flow runs by verdict.", runs, "verdict", "scope")
        mapped = ((_place(scope), listed.mapped.get(scope.name, 0)) for scope in self.scopes)
        yield _gauge("scope_mapped_runs", "Flow runs that the scope is asked about.", mapped, "scope", "adapter")
        tripped = (((scope.name,), scope.name in listed.tripped) for scope in self.scopes)
        yield _gauge("breaker_open", "1 if too many runs vanished from the scope at once.", tripped, "scope")
        held = (((reason,), age) for reason, age in sorted(listed.held.items()))
        yield _gauge("held_seconds", "How long the longest held flow run is HELD.", held, "reason")
        unknown = (((name,), listed.unknown[name]) for name in names if name in listed.unknown)
        yield _gauge("unknown_seconds", "How long the longest unknown flow run is UNKNOWN.", unknown, "scope")


class LastCycle(Collector):
    """The gauges of the last cycle; none before the first."""

    def __init__(self) -> None:
        self.picture: Picture | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        picture = self.picture
        if picture is not None:
            yield from picture.families()


class Metrics:
    """A listener of the cycle's news, and what a scrape of it gives. `note` and `exposition` may be in two threads."""

    def __init__(self, *, version: str, process: bool = True) -> None:
        self.registry = registry = CollectorRegistry()
        self._last = LastCycle()
        registry.register(self._last)
        if process:
            ProcessCollector(registry=registry)
        Info(PREFIX, "The running version.", registry=registry).info({"version": version})
        self._not_settled = self._counter("not_settled", "Runs that newly stand so, by why.", "verdict", "reason")
        self._settlements = self._counter("settlements", "Proposals to settle a run, by outcome.", "outcome")
        self._cycles = self._counter("cycles", "Cycles, by how they ended.", "result")
        self._reloads = self._counter("configuration_reloads", "Reloads of the configuration.", "result")
        self._calls = self._counter("api_calls", "Requests sent to the Prefect API.")
        self._errors = self._counter("api_errors", "Of these, without an answer or refused (429 and 5xx among them).")
        self._reload_ok = Gauge(
            f"{PREFIX}_configuration_last_reload_successful", "0: an older one is in force.", registry=registry
        )
        self._cycle_seconds = self._histogram("cycle_seconds", "How long a cycle took.", CYCLE_BUCKETS)
        self._death = self._histogram(
            "death_to_settlement_seconds", "From the end of the resource, as far as known, to Crashed.", DEATH_BUCKETS
        )
        self._start_at_zero()

    def note(self, news: News) -> None:
        """Take in one cycle. From the cycle's thread."""
        report = news.report
        for finding in news.changed:
            if finding.verdict in NOT_SETTLED:
                self._not_settled.labels(finding.verdict, reason_of(finding)).inc()
        for outcome in report.outcomes.values():
            self._settlements.labels(outcome.kind).inc()
        for seconds in _seconds_to_settle(report):
            self._death.observe(seconds)
        self._cycles.labels("complete" if report.is_complete else "incomplete").inc()
        self._cycle_seconds.observe(max(report.duration.total_seconds(), 0.0))
        self._calls.inc(report.api_calls)
        self._errors.inc(report.api_errors)
        self._last.picture = Picture.of(news, self._last.picture)

    def reloaded(self, *, ok: bool) -> None:
        """A new configuration was taken, or refused."""
        self._reloads.labels("taken" if ok else "refused").inc()
        self._reload_ok.set(ok)

    def failed(self) -> None:
        """A cycle ended by a bug of ours, without a report."""
        self._cycles.labels("failed").inc()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type: OpenMetrics if the Accept header asks for it, else the text format."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=PREFIX, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, namespace=PREFIX, registry=self.registry, buckets=buckets)

    def _start_at_zero(self) -> None:
        """Let every series exist from the start: an increase from nothing to 1 is invisible to `increase()`."""
        for kind in OutcomeKind:
            self._settlements.labels(kind)
        for result in RESULTS:
            self._cycles.labels(result)
        for result in RELOADS:
            self._reloads.labels(result)
        for guard in Guard:
            self._not_settled.labels(Verdict.HELD, guard)
        for (verdict, _), slug in SLUGS.items():
            self._not_settled.labels(verdict, slug)
        self._reload_ok.set(1)


def _seconds_to_settle(report: CycleReport) -> Iterator[float]:
    """Of each accepted settlement of whose run the time of death is known; a clock ahead of ours counts as 0."""
    for judged in report.plan.judged:
        outcome = report.outcomes.get(judged.finding.run.id)
        if outcome is not None and outcome.kind is OutcomeKind.ACCEPTED and judged.died_by is not None:
            yield max((report.ended_at - judged.died_by).total_seconds(), 0.0)


def _age(news: News, finding: Finding) -> float:
    """Seconds since the run has its verdict; 0 if our clock was set back."""
    return max((news.report.ended_at - news.standing(finding.run.id)).total_seconds(), 0.0)


def _longest(ages: Iterable[tuple[str, float]]) -> dict[str, float]:
    longest: dict[str, float] = {}
    for key, age in ages:
        longest[key] = max(age, longest.get(key, 0.0))
    return longest


def _place(scope: ScopeView) -> tuple[str, str]:
    return scope.name, scope.adapter


def _gauge(name: str, text: str, rows: Iterable[Row], *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
