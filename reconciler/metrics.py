"""The metrics of the daemon, fed once per cycle; docs/metrics.md has the one table of them.

Counters and histograms grow with each cycle; the gauges of the last cycle are in `gauges.py`. Labels hold what the
operator or this code chose, never what came with a run.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder

from reconciler.aftermath import is_accepted, subflows_settled
from reconciler.gauges import NOT_SETTLED, PREFIX, SLUGS, LastCycle, Picture, reason_of
from reconciler.model import Cause, Guard, OutcomeKind, Verdict
from reconciler.news import News
from reconciler.plan import CycleReport

RESULTS = ("complete", "incomplete", "failed")
RELOADS = ("taken", "refused")

# From the quickest settlement (`settle_failed` and part of an interval) over `quiet` and `breaker_release` to an hour.
DEATH_BUCKETS = (5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1800, 3600)
# From an idle pass over `confirm_after` and `scope_deadline` to beyond `cycle_deadline`.
CYCLE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 12.5, 15, 20, 30, 45, 60, 120, 300)


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
        self._task_runs = self._counter("task_runs_settled", "Task runs to settle, by outcome.", "outcome")
        self._subflows = self._counter("subflows_settled", "Of the accepted settlements, those of subflows.")
        self._resumptions = self._counter("resumptions", "Settled runs to resume, by outcome.", "outcome")
        self._causes = self._counter("settled_causes", "Accepted settlements, by cause.", "cause")
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
        self._note_sequel(report)
        for seconds in _seconds_to_settle(report):
            self._death.observe(seconds)
        self._cycles.labels("complete" if report.is_complete else "incomplete").inc()
        self._cycle_seconds.observe(max(report.duration.total_seconds(), 0.0))
        self._calls.inc(report.api_calls)
        self._errors.inc(report.api_errors)
        self._last.picture = Picture.of(news, self._last.picture)

    def _note_sequel(self, report: CycleReport) -> None:
        """Count why runs were settled, and what followed that."""
        for finding in report.plan.findings:
            if finding.cause is not None and is_accepted(report.outcomes.get(finding.run.id)):
                self._causes.labels(finding.cause).inc()
        self._subflows.inc(len(subflows_settled(report)))
        for _, outcome in report.settled.task_runs:
            self._task_runs.labels(outcome.kind).inc()
        for outcome in report.settled.resumed.values():
            self._resumptions.labels(outcome.kind).inc()

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
            self._task_runs.labels(kind)
            self._resumptions.labels(kind)
        for cause in Cause:
            self._causes.labels(cause)
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
