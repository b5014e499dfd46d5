"""No secret leaves in a report: an answer of the API, or an adapter's error, may quote one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.plan import CycleReport, Finding, Outcome
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
        outcomes={run_id: _outcome(outcome, hide) for run_id, outcome in report.outcomes.items()},
    )


def _scope(scope: ScopeView, hide: Hide) -> ScopeView:
    error, incomplete = scope.error and hide(scope.error), scope.incomplete and hide(scope.incomplete)
    return replace(scope, error=error, incomplete=incomplete)


def _finding(finding: Finding, hide: Hide) -> Finding:
    reason = hide(finding.reason)
    return finding if reason == finding.reason else replace(finding, reason=reason)


def _outcome(outcome: Outcome, hide: Hide) -> Outcome:
    return replace(outcome, detail=hide(outcome.detail), alarm=outcome.alarm and hide(outcome.alarm))
