"""Which cases a cycle's report opens: what it settled, and what it would have settled. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import datetime

from reconciler.grading.cases import Case, Key, Kind
from reconciler.model import Condition, Guard, OutcomeKind, Verdict
from reconciler.plan import CycleReport, Finding, Judged
from reconciler.words import clipped, legible, many

_OF_ITS_ROOT = "1"  # the rule by which a subflow shares its root's verdict
_SHADOWED = frozenset({Guard.MODE, Guard.TRUST})  # but for these it would have been settled


def opened(report: CycleReport, known: Collection[Key], redact: Callable[[str], str] = str) -> Iterator[Case]:
    """One case for each of them that is not among the known ones.

    A subflow that shares its root's verdict has none of its own: there was one death, and the root's case watches it.
    """
    kinds = {finding.run.id: kind for finding in report.plan.findings if (kind := _kind(report, finding))}
    judged = {one.finding.run.id: one for one in report.plan.judged if one.finding.run.id in kinds}
    mine = (one for one in report.plan.findings if one.rule == _OF_ITS_ROOT and one.run.id in kinds)
    shared = Counter(one.root for one in mine)
    for finding in report.plan.findings:
        run, kind = finding.run, kinds.get(finding.run.id)
        is_known = finding.rule == _OF_ITS_ROOT or (run.id, run.state_id, kind) in known
        if kind is not None and not is_known:
            followers = shared[run.id]
            case = _case(finding, judged.get(run.id), kind, report, redact)
            yield replace(case, died=f"{case.died}, and {many(followers, 'subflow')}") if followers else case


def _kind(report: CycleReport, finding: Finding) -> Kind | None:
    if finding.verdict is Verdict.HELD and finding.guard in _SHADOWED:
        return Kind.SHADOW
    if finding.verdict is not Verdict.ZOMBIE:
        return None
    if report.dry_run:
        return Kind.SHADOW
    outcome = report.outcomes.get(finding.run.id)
    return Kind.SETTLED if outcome is not None and outcome.kind is OutcomeKind.ACCEPTED else None


def _case(
    finding: Finding, judged: Judged | None, kind: Kind, report: CycleReport, redact: Callable[[str], str]
) -> Case:
    run = finding.run
    unheld = judged.finding if judged else finding  # a guard adds why it holds
    return Case(
        run_id=run.id,
        state_id=run.state_id,
        kind=kind,
        name=_text(redact(run.name), 100),
        scope=finding.scope or "",
        rule=finding.rule,
        guard=str(finding.guard or ""),
        died=_text(redact(unheld.reason), 400),
        resource=_resource(finding, judged),
        run_count=run.run_count,
        judged_at=_judged_at(judged, report),
        died_by=judged.died_by if judged else None,
        action=finding.action,
        root=finding.root,
    )


def _judged_at(judged: Judged | None, report: CycleReport) -> datetime:
    return judged.at if judged else report.taken_at


def _resource(finding: Finding, judged: Judged | None) -> str:
    """The one that ended; what vanished is known if it was seen before.

    An adapter that finds nothing knows only what the pid said, which need not be the id that it shows of a live one.
    """
    stated = finding.observation
    shown = stated.resource.id if stated is not None and stated.resource is not None else ""
    if stated is not None and stated.condition is not Condition.GONE:
        return shown
    absent = judged.weighed.absent if judged else ()
    seen = [one.sighting for one in absent if one.sighting and one.scope.name == finding.scope]
    return max(seen, key=lambda one: one.last_seen).resource.id if seen else shown


def _text(text: str, limit: int) -> str:
    return clipped(legible(text), limit)
