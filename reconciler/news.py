"""What changed between two cycles, so that log, evidence and counters say a thing once and not every 30 seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler.model import RunId, Verdict
from reconciler.plan import CycleReport, Finding

_WELL = frozenset({Verdict.HEALTHY, Verdict.UNMANAGED})

Key = tuple[str, ...]


def is_telling(finding: Finding) -> bool:
    """Neither HEALTHY nor UNMANAGED: a decision that must be accounted for."""
    return finding.verdict not in _WELL


def key_of(report: CycleReport, finding: Finding) -> Key:
    """What must change for the finding to be news. Its reason is not in it: that counts seconds."""
    seen, outcome = finding.observation, report.outcomes.get(finding.run.id)
    return (
        str(finding.run.state_id),
        str(finding.verdict),
        finding.rule,
        str(finding.guard or ""),
        finding.scope or "",
        str(seen.condition) if seen else "",
        seen.resource.id if seen and seen.resource else "",
        "silent" if finding.silent_since else "",
        str(outcome.kind) if outcome else "",
    )


@dataclass(frozen=True, slots=True)
class News:
    """One cycle's report, and what is new in it. `since` is ours, and has every run of the plan."""

    report: CycleReport
    changed: tuple[Finding, ...] = ()  # judged otherwise than in the cycle before, or new
    since: Mapping[RunId, datetime] | None = None  # since when each run has its present verdict

    def standing(self, run_id: RunId) -> datetime:
        """Since when the run has had its verdict."""
        return (self.since or {}).get(run_id, self.report.taken_at)


Listener = Callable[[News], object]


class Newsroom:
    """Compares each report with the one before. Bounded by the number of runs in flight."""

    def __init__(self) -> None:
        self._keys: dict[RunId, Key] = {}
        self._since: dict[RunId, datetime] = {}

    def news(self, report: CycleReport) -> News:
        """Say what is new. After a pass that could not list the runs nothing is forgotten."""
        findings = report.plan.findings
        keys = {finding.run.id: key_of(report, finding) for finding in findings}
        changed = tuple(finding for finding in findings if self._keys.get(finding.run.id) != keys[finding.run.id])
        same = {run_id for run_id, key in keys.items() if self._keys.get(run_id, ("", ""))[:2] == key[:2]}
        since = {run_id: self._since[run_id] if run_id in same else report.taken_at for run_id in keys}
        self._keys = keys if report.is_whole else self._keys | keys
        self._since = since if report.is_whole else self._since | since
        return News(report, changed, since)
