"""What a page shows, as frozen values: the last pass, the settlements, the answers to probes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from reconciler.aftermath import Aftermath
from reconciler.model import Action, Guard, OutcomeKind, RunId, Verdict
from reconciler.news import News
from reconciler.orphans import oldest_first
from reconciler.plan import CycleReport, Finding, Orphan, Outcome
from reconciler.report import notable
from reconciler.words import clipped

SETTLEMENTS, ROWS, REASONS, ORPHANS = 50, 500, 20, 50  # how many are kept
_NAME = 200  # characters: names come from outside, and are kept
_DONE = frozenset({OutcomeKind.ACCEPTED, OutcomeKind.SETTLED_ELSEWHERE, OutcomeKind.STATE_CHANGED})


@dataclass(frozen=True, slots=True)
class Health:
    """An answer to a probe. `reasons` are sentences; none when all is well."""

    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.reasons


NO_PASS_YET = Health(("no pass has ended yet",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What came of one proposal. `reason` is the evidence, `at` our clock."""

    run_id: RunId
    state_id: UUID  # the judged state
    name: str
    at: datetime
    kind: OutcomeKind
    action: Action  # what was to be written
    detail: str
    followed: tuple[str, ...]  # its task runs, its resumption
    alarm: str | None
    reason: str
    scope: str | None
    resource: str | None  # as the platform calls it

    @property
    def key(self) -> tuple[object, ...]:
        """Same for a settlement that is tried, and fails, in every pass: it must not push out the others."""
        return self.run_id, self.state_id, self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run that is worth a line, and that no settlement accounts for. Times: `since` is ours, `state_since` not."""

    run_id: RunId
    name: str
    verdict: Verdict
    guard: Guard | None
    rule: str
    reason: str
    since: datetime  # it has had this verdict
    state_name: str
    state_since: datetime
    work_pool: str | None
    scope: str | None
    outcome: OutcomeKind | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPass:
    """One report without what it was decided from: some 16 MB for 10,000 runs, and only one of it is kept."""

    report: CycleReport  # no snapshot, no `plan.judged`
    is_whole: bool  # the list of flow runs did not break off
    counts: Mapping[Verdict, int]
    rows: tuple[Row, ...]  # the worst first
    more_rows: int
    unmanaged: tuple[tuple[str, int], ...]  # reason, runs; the most frequent first
    more_unmanaged: int  # runs that are unmanaged for other reasons
    orphans: tuple[tuple[str, Orphan], ...] | None  # with their scopes, the oldest first; None: not known
    more_orphans: int

    @property
    def blind(self) -> tuple[str, ...]:
        """Why it did not see everything."""
        return tuple(_blind(self.report, is_whole=self.is_whole))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """All that a page needs, as of one moment."""

    last: LastPass | None  # None: no pass has ended yet
    ago: timedelta | None  # since a pass, or a failed one, ended
    failure: str | None  # the bug that ended the last cycle
    settlements: tuple[Settlement, ...]  # newest first
    configuration_problems: tuple[str, ...]
    readiness: Health
    api_url: str
    ui_url: str  # "": to be derived from the API's


def last_pass(news: News) -> LastPass:
    report = news.report
    lines = [one for one in notable(report) if one.verdict is not Verdict.UNMANAGED or one.silent_since]
    lines = [finding for finding in lines if not _is_done(report.outcomes.get(finding.run.id))]
    unmanaged = Counter(f.reason for f in report.plan.findings if f.verdict is Verdict.UNMANAGED and not f.silent_since)
    orphans = None if report.orphans is None else oldest_first(report.orphans)
    common = tuple((clipped(reason), count) for reason, count in unmanaged.most_common(REASONS))
    return LastPass(
        report=replace(report, snapshot=None, plan=replace(report.plan, judged=())),
        is_whole=report.is_whole,
        counts=Counter(finding.verdict for finding in report.plan.findings),
        rows=tuple(_row(news, finding) for finding in lines[:ROWS]),
        more_rows=max(0, len(lines) - ROWS),
        unmanaged=common,
        more_unmanaged=unmanaged.total() - sum(count for _, count in common),
        orphans=None if orphans is None else tuple(orphans[:ORPHANS]),
        more_orphans=max(0, len(orphans or ()) - ORPHANS),
    )


def _is_done(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.kind in _DONE


def _row(news: News, finding: Finding) -> Row:
    run, outcome = finding.run, news.report.outcomes.get(finding.run.id)
    return Row(
        run_id=run.id,
        name=clipped(run.name, _NAME),
        verdict=finding.verdict,
        guard=finding.guard,
        rule=finding.rule,
        reason=clipped(finding.reason),
        since=news.standing(run.id),
        state_name=clipped(run.state_name, _NAME),
        state_since=run.state_since,
        work_pool=clipped(run.work_pool, _NAME) if run.work_pool else None,
        scope=finding.scope,
        outcome=outcome.kind if outcome else None,
    )


def settlements_of(report: CycleReport) -> Iterator[Settlement]:
    after = Aftermath.of(report)
    for finding in report.plan.findings:
        outcome, seen = report.outcomes.get(finding.run.id), finding.observation
        if outcome is not None:
            yield Settlement(
                run_id=finding.run.id,
                state_id=finding.run.state_id,
                name=clipped(finding.run.name, _NAME),
                at=report.ended_at,
                kind=outcome.kind,
                action=finding.action,
                followed=tuple(clipped(text) for text in after.sequel(finding)),
                detail=clipped(outcome.detail),
                alarm=clipped(outcome.alarm) if outcome.alarm else None,
                reason=clipped(finding.reason),
                scope=finding.scope,
                resource=clipped(seen.resource.id, _NAME) if seen and seen.resource else None,
            )


def newest(fresh: Iterator[Settlement], older: tuple[Settlement, ...]) -> tuple[Settlement, ...]:
    one_each = {settlement.key: settlement for settlement in reversed((*fresh, *older))}
    return tuple(sorted(one_each.values(), key=lambda settlement: settlement.at, reverse=True))[:SETTLEMENTS]


def _blind(report: CycleReport, *, is_whole: bool) -> Iterator[str]:
    if not report.was_listed:
        yield from report.problems[:1] or ("the in-flight flow runs could not be listed",)
        return
    if not is_whole:
        why = f": {report.problems[0]}" if report.problems else ""
        yield f"the list of in-flight flow runs broke off{why}"
    for scope in report.scopes:
        if trouble := scope.error or scope.incomplete:
            yield f"scope '{scope.name}' could not be read: {trouble}"
