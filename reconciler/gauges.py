"""The gauges of the metrics: they describe the last cycle.

They are read from one immutable `Picture`, swapped per cycle, so that a scrape never sees half of it and a scope that
left the configuration is gone. Labels hold what the operator or this code chose, never what came with a run.
"""

from __future__ import annotations

from collections import Counter as CounterOf
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from reconciler.model import Verdict
from reconciler.news import News
from reconciler.plan import CycleReport, Finding
from reconciler.snapshot import ScopeView

PREFIX = "prefect_reconciler"

SLUGS: Mapping[tuple[Verdict, str], str] = {
    (Verdict.UNMANAGED, "1"): "subflow",
    (Verdict.UNKNOWN, "1"): "subflow",
    (Verdict.WAITING, "1"): "subflow",
    (Verdict.HELD, "1"): "subflow",
    (Verdict.WAITING, "2"): "parent ended",
    (Verdict.UNKNOWN, "2"): "parent ended",
    (Verdict.UNMANAGED, "2"): "parent ended",
    (Verdict.HELD, "2"): "cancelling",
    (Verdict.UNKNOWN, "4"): "could not tell",
    (Verdict.UNMANAGED, "5"): "no evidence",
    (Verdict.HELD, "8"): "pending",
    (Verdict.HELD, "9"): "cancelling",
    (Verdict.HELD, "10"): "retry without time",
    (Verdict.WAITING, "10"): "not yet",
}
"""Why a run is not settled, by verdict and rule, where no guard says so. Dashboards are built on them: rename none."""

NOT_SETTLED = frozenset({Verdict.HELD, Verdict.UNKNOWN, Verdict.WAITING, Verdict.UNMANAGED})
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
    silent: int  # unmanaged, and have beaten, and do no longer

    @classmethod
    def of(cls, news: News) -> Listed:
        report = news.report
        return cls(
            runs=CounterOf((finding.verdict, finding.scope or "") for finding in report.plan.findings),
            mapped={scope.name: scope.mapped for scope in report.scopes},
            tripped=frozenset(breaker.scope for breaker in report.plan.breakers if breaker.holds),
            held=_longest((reason_of(f), _age(news, f)) for f in report.plan.findings if f.verdict is Verdict.HELD),
            silent=sum(finding.silent_since is not None for finding in report.plan.findings),
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
    false_crashes: Mapping[str, int]  # by scope, so far
    shadows: Mapping[str, int]  # by grade
    orphans: Mapping[str, tuple[int, float]]  # by scope: how many, and seconds since the first of their runs ended

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
            false_crashes=report.false_crashes,
            shadows=report.shadows,
            orphans=_orphans(report, before.orphans if before else {}),
        )

    def families(self) -> Iterator[GaugeMetricFamily]:
        yield _gauge("api_up", "1 if the last cycle could list every in-flight flow run.", [((), self.listed_now)])
        yield _gauge("last_cycle_timestamp_seconds", "When the last cycle ended.", [((), self.ended_at.timestamp())])
        complete = [((), self.completed_at.timestamp())] if self.completed_at else []
        yield _gauge("last_complete_cycle_timestamp_seconds", "When the last complete cycle ended.", complete)
        up = ((_place(scope), not (scope.error or scope.incomplete)) for scope in self.scopes)
        yield _gauge("scope_up", "1 if the last cycle could read the whole scope.", up, "scope", "adapter")
        trusted = (((scope.name,), scope.distrusted_since is None) for scope in self.scopes)
        yield _gauge(
            "scope_trusted", "0 if false crashes were found there, so that nothing is written.", trusted, "scope"
        )
        false = (((scope.name,), self.false_crashes.get(scope.name, 0)) for scope in self.scopes)
        yield _gauge("false_crashes", "Settlements that proved to be wrong, so far.", false, "scope")
        graded = (((grade,), count) for grade, count in sorted(self.shadows.items()))
        yield _gauge(
            "would_be_settlements", "What was not written, by how it proved; kept for 30 days.", graded, "grade"
        )
        alive = [(scope.name, self.orphans[scope.name]) for scope in self.scopes if scope.name in self.orphans]
        orphans = (((name,), count) for name, (count, _) in alive)
        yield _gauge("orphans", "Live resources whose flow run has ended.", orphans, "scope")
        oldest = (((name,), age) for name, (count, age) in alive if count)
        yield _gauge("orphan_oldest_age_seconds", "Since when the oldest orphan is one.", oldest, "scope")
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
        yield _gauge("silent_runs", "Unmanaged runs that have beaten, and do no longer.", [((), listed.silent)])
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


def _age(news: News, finding: Finding) -> float:
    """Seconds since the run has its verdict; 0 if our clock was set back."""
    return max((news.report.ended_at - news.standing(finding.run.id)).total_seconds(), 0.0)


def _orphans(report: CycleReport, known: Mapping[str, tuple[int, float]]) -> Mapping[str, tuple[int, float]]:
    """What is known of a scope stays while it, or the flow runs, cannot be read."""
    if report.orphans is None:
        return known
    ages = {
        scope: [(report.ended_at - one.since).total_seconds() for one in many] for scope, many in report.orphans.items()
    }
    seen = {scope: (len(many), max(many, default=0.0)) for scope, many in ages.items()}
    return seen | {scope.name: known[scope.name] for scope in report.scopes if scope.error and scope.name in known}


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
