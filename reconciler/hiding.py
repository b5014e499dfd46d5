"""No secret leaves in a report: an answer of the API, or an adapter's error, may quote one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from reconciler.model import RunId
from reconciler.plan import CycleReport, Finding, Orphan, Outcome, Settled
from reconciler.snapshot import ScopeView

Hide = Callable[[str], str]


def hidden(report: CycleReport, hide: Hide) -> CycleReport:
    """Apply `hide` to every sentence that is told or shown."""
    return replace(
        report,
        problems=tuple(hide(text) for text in report.problems),
        warnings=tuple(hide(text) for text in report.warnings),
        scopes=tuple(_scope(scope, hide) for scope in report.scopes),
        plan=replace(report.plan, findings=tuple(_finding(finding, hide) for finding in report.plan.findings)),
        outcomes=_outcomes(report.outcomes, hide),
        settled=_settled(report.settled, hide),
        orphans=report.orphans and {scope: _orphans(many, hide) for scope, many in report.orphans.items()},
    )


def _scope(scope: ScopeView, hide: Hide) -> ScopeView:
    error, incomplete = scope.error and hide(scope.error), scope.incomplete and hide(scope.incomplete)
    return replace(scope, error=error, incomplete=incomplete)


def _finding(finding: Finding, hide: Hide) -> Finding:
    reason = hide(finding.reason)
    return finding if reason == finding.reason else replace(finding, reason=reason)


def _outcome(outcome: Outcome, hide: Hide) -> Outcome:
    return replace(outcome, detail=hide(outcome.detail), alarm=outcome.alarm and hide(outcome.alarm))


def _outcomes(outcomes: Mapping[RunId, Outcome], hide: Hide) -> dict[RunId, Outcome]:
    return {run_id: _outcome(outcome, hide) for run_id, outcome in outcomes.items()}


def _settled(settled: Settled, hide: Hide) -> Settled:
    return replace(
        settled,
        outcomes=_outcomes(settled.outcomes, hide),
        task_runs=tuple((task_run, _outcome(outcome, hide)) for task_run, outcome in settled.task_runs),
        resumed=_outcomes(settled.resumed, hide),
        problems=tuple(hide(text) for text in settled.problems),
    )


def _orphans(orphans: Iterable[Orphan], hide: Hide) -> tuple[Orphan, ...]:
    """The command and the title quote what the place says of the resource."""
    return tuple(
        replace(one, resource=replace(one.resource, title=hide(one.resource.title), removal=hide(one.resource.removal)))
        for one in orphans
    )
