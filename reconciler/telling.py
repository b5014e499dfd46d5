"""The daemon's log: one line per cycle, and one per run that is not healthy, when that is new or an hour old.

An orphan is told in the same way. Task runs have no lines of their own: the settled flow run's line counts them.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime, timedelta

import structlog

from reconciler.aftermath import Aftermath
from reconciler.model import Guard, OutcomeKind, RunId, Verdict
from reconciler.news import News
from reconciler.orphans import oldest_first, orphan_sentence
from reconciler.plan import CycleReport, Finding, Orphan
from reconciler.report import notable, summary
from reconciler.words import span

_AGAIN_AFTER = timedelta(hours=1)
_LINES = 200  # runs told of in one cycle; a whole cluster may go blind at once
_PROBLEMS = 20

_log = structlog.get_logger(__name__)


class Teller:
    """Writes what a cycle has to say. Bounded by the number of runs in flight, and of orphans."""

    def __init__(self) -> None:
        self._told: dict[RunId, datetime] = {}
        self._orphans: dict[tuple[str, str], datetime] = {}  # when told, by scope and resource
        self._warned: tuple[str, ...] = ()

    def note(self, news: News) -> None:
        """Log one cycle."""
        report = news.report
        self._tell_runs(news)
        self._tell_orphans(report)
        wrong = {"problems": _some(report.problems)} if report.problems else {}
        warned = {"warnings": _some(report.warnings)} if report.warnings else {}
        counts = Counter(str(finding.verdict) for finding in report.plan.findings)
        done = Counter(str(outcome.kind) for outcome in report.outcomes.values())
        level = logging.INFO if report.is_complete and report.warnings == self._warned else logging.WARNING
        self._warned = report.warnings
        _log.log(
            level,
            summary(report),
            counts=dict(sorted(counts.items())),
            seconds=round(report.duration.total_seconds(), 3),
            api_calls=report.api_calls,
            **({"outcomes": dict(sorted(done.items()))} if done else {}),
            **wrong,
            **warned,
        )

    def _tell_runs(self, news: News) -> None:
        report = news.report
        changed = {finding.run.id for finding in news.changed}
        findings = notable(report)
        due = [one for one in findings if one.run.id in changed or _is_due(self._told.get(one.run.id), report)]
        after = Aftermath.of(report)
        for finding in due[:_LINES]:
            self._tell(news, finding, after)
            self._told[finding.run.id] = report.taken_at
        if len(due) > _LINES:
            _log.warning("more flow runs are not healthy than are listed here", left_out=len(due) - _LINES)
        if report.was_listed:
            self._well_again(report, {finding.run.id for finding in findings})

    def _tell_orphans(self, report: CycleReport) -> None:
        if report.orphans is None:  # not known in this pass, so none has left
            return
        orphans = {(scope, one.resource.id): one for scope, one in oldest_first(report.orphans)}
        blind = {scope.name for scope in report.scopes if scope.error}
        self._orphans = {key: told for key, told in self._orphans.items() if key in orphans or key[0] in blind}
        due = [key for key in orphans if _is_due(self._orphans.get(key), report)]
        for key in due[:_LINES]:
            _tell_orphan(report, key[0], orphans[key])
            self._orphans[key] = report.taken_at
        if len(due) > _LINES:
            _log.warning("more orphans are there than are listed here", left_out=len(due) - _LINES)

    def _tell(self, news: News, finding: Finding, after: Aftermath) -> None:
        run, outcome, followed = finding.run, news.report.outcomes.get(finding.run.id), list(after.sequel(finding))
        _log.log(
            _level(finding, news.report),
            f"{_short(run.name)}: {finding.reason}",
            flow_run=str(run.id),
            verdict=str(finding.verdict),
            rule=finding.rule,
            state=run.state_name,
            standing=span(news.report.taken_at - news.standing(run.id)),
            **({"guard": str(finding.guard)} if finding.guard else {}),
            **({"scope": finding.scope} if finding.scope else {}),
            **({"outcome": str(outcome.kind)} if outcome else {}),
            **({"detail": outcome.detail} if outcome and outcome.detail else {}),
            **({"alarm": outcome.alarm} if outcome and outcome.alarm else {}),
            **({"followed": followed} if followed else {}),
        )

    def _well_again(self, report: CycleReport, unwell: set[RunId]) -> None:
        """Say once that a run of which there was a line is healthy; forget it, and those no longer in flight."""
        verdicts = {finding.run.id: finding for finding in report.plan.findings}
        for run_id in self._told.keys() - unwell:
            found = verdicts.get(run_id)
            if found is not None and found.verdict is Verdict.HEALTHY:
                _log.info(f"{_short(found.run.name)}: healthy again: {found.reason}", flow_run=str(run_id))
            del self._told[run_id]


def _tell_orphan(report: CycleReport, scope: str, orphan: Orphan) -> None:
    _log.warning(
        f"orphan: {orphan_sentence(scope, orphan, report.ended_at)}",
        flow_run=str(orphan.run.id),
        scope=scope,
        resource=orphan.resource.id,
    )


def _is_due(told: datetime | None, report: CycleReport) -> bool:
    return told is None or report.taken_at - told >= _AGAIN_AFTER


def _level(finding: Finding, report: CycleReport) -> int:
    outcome = report.outcomes.get(finding.run.id)
    if (outcome and (outcome.alarm or outcome.kind is OutcomeKind.FAILED)) or finding.guard is Guard.AGAIN:
        return logging.ERROR
    return logging.WARNING if finding.verdict in (Verdict.ZOMBIE, Verdict.HELD, Verdict.UNKNOWN) else logging.INFO


def _some(texts: tuple[str, ...]) -> list[str]:
    more = [f"and {len(texts) - _PROBLEMS} more"] if len(texts) > _PROBLEMS else []
    return [*texts[:_PROBLEMS], *more]


def _short(name: str, limit: int = 100) -> str:
    return name if len(name) <= limit else name[:limit] + "..."
