"""A cycle's report as a sentence, as lines for people, as one JSON document, and as an exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reconciler.aftermath import Aftermath, counted, is_accepted, subflows_settled
from reconciler.model import Guard, Verdict
from reconciler.orphans import NEVER_REMOVED, oldest_first, orphan_sentence
from reconciler.plan import CycleReport, Finding, Orphan
from reconciler.snapshot import ScopeView
from reconciler.words import legible, many, rfc3339

EXIT_OK, EXIT_INCOMPLETE, EXIT_USAGE, EXIT_ZOMBIES, EXIT_BREAKER, EXIT_BUG, EXIT_CONFIG = 0, 1, 2, 3, 4, 70, 78

_STYLES = {Verdict.ZOMBIE: "bold red", Verdict.HELD: "yellow", Verdict.UNKNOWN: "magenta", Verdict.WAITING: "cyan"}


def exit_code(report: CycleReport, *, tells_zombies: bool) -> int:
    """Choose the first that applies of 4, 1, 3, 0. `tells_zombies` is --exit-code."""
    findings = report.plan.findings
    if any(breaker.holds for breaker in report.plan.breakers):
        return EXIT_BREAKER
    if report.problems:
        return EXIT_INCOMPLETE
    if tells_zombies and any(f.verdict is Verdict.ZOMBIE or f.guard in (Guard.MODE, Guard.RATE) for f in findings):
        return EXIT_ZOMBIES
    return EXIT_OK


def summary(report: CycleReport) -> str:
    """Say what the pass found and did, in one sentence."""
    if not report.was_listed:
        return f"Nothing was judged: the flow runs could not be listed ({_cost(report)})."
    counts = _verdicts(report)
    runs = sum(counts.values())
    found = ", ".join(f"{counts[verdict]} {verdict.lower()}" for verdict in Verdict if counts[verdict])
    listed = f"{many(runs, 'flow run')} in flight" + (f": {found}" if found else "")
    did = "dry run, nothing written" if report.dry_run else counted(report) or "nothing to write"
    orphans = sum(map(len, (report.orphans or {}).values()))
    alive = f"; {many(orphans, 'orphan')}" if orphans else ""
    trouble = f"; incomplete, {many(len(report.problems), 'problem')}" if report.problems else ""
    return f"{listed}; {did}{alive}{trouble} ({_cost(report)})."


def status(report: CycleReport) -> str:
    """Say the same for a status line: with what could not be seen, if anything."""
    wrong = (*report.problems, *report.warnings)
    first = f" {legible(wrong[0])[:300]}" if wrong else ""
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return summary(report) + first + more


def lines(report: CycleReport) -> Iterator[str]:
    """Write plain lines for a pipe: one per run that is not healthy, orphans, problems, the sentence."""
    after = Aftermath.of(report)
    for finding in notable(report):
        run = finding.run
        yield legible(
            f"{finding.verdict:<9} {run.id}  {run.name}  {run.state_name}  [{_rule(finding)}] {finding.reason}"
        )
        yield from (legible(f"          -> {text}") for text in after.account(finding))
    yield from (legible(f"orphan    {text}") for text in _orphans(report))
    yield from (legible(f"problem   {text}") for text in report.problems)
    yield from (legible(f"warning   {text}") for text in report.warnings)
    yield from (f"breaker   {text}" for text in _breakers(report))
    yield summary(report)


def table(report: CycleReport) -> RenderableType:
    """Lay the same out for a terminal."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("verdict", "flow run", "state", "rule"):
        rows.add_column(heading, no_wrap=True)
    rows.add_column("reason", overflow="fold", ratio=1)
    after = Aftermath.of(report)
    for finding in notable(report):
        run = finding.run
        reason = "\n-> ".join(legible(text) for text in (finding.reason, *after.account(finding)))
        rows.add_row(
            Text(finding.verdict, style=_STYLES.get(finding.verdict, "")),
            Text(legible(run.name[:40]) + f"\n{run.id}"),
            Text(legible(run.state_name[:24])),
            Text(finding.rule if finding.guard is None else f"{finding.rule}, {finding.guard}"),
            Text(reason),
        )
    orphans = [Text(legible(f"orphan: {text}"), style="yellow") for text in _orphans(report)]
    problems = [Text(legible(f"problem: {text}"), style="red") for text in report.problems]
    warnings = [Text(legible(f"warning: {text}"), style="yellow") for text in report.warnings]
    breakers = [Text(f"breaker: {text}", style="bold red") for text in _breakers(report)]
    head = [rows] if rows.row_count else []
    return Group(*head, *orphans, *problems, *warnings, *breakers, Text(summary(report)))


def notable(report: CycleReport) -> list[Finding]:
    """Pick the runs worth a line, the worst first."""
    order = (Verdict.ZOMBIE, Verdict.HELD, Verdict.UNKNOWN, Verdict.WAITING, Verdict.UNMANAGED, Verdict.HEALTHY)
    chosen = [f for f in report.plan.findings if f.verdict is not Verdict.HEALTHY or f.is_notable]
    return sorted(chosen, key=lambda finding: (order.index(finding.verdict), finding.run.state_since, finding.run.id))


def as_json(report: CycleReport) -> dict[str, object]:
    """Build the document of --json; times are RFC 3339 in UTC."""
    counts = _verdicts(report)
    return {
        "version": 1,
        "dry_run": report.dry_run,
        "taken_at": rfc3339(report.taken_at),
        "duration_seconds": round(report.duration.total_seconds(), 3),
        "api": {"url": report.api_url, "server_version": report.server_version, "calls": report.api_calls},
        "problems": list(report.problems),
        "scopes": [_scope(scope) for scope in report.scopes],
        "counts": {"in_flight": sum(counts.values())} | {str(verdict): counts[verdict] for verdict in Verdict},
        "silent": sum(finding.silent_since is not None for finding in report.plan.findings),
        "runs": [_run(report, finding) for finding in report.plan.findings],
        "settled_children": [*_settled_children(report)],
        "orphans": None if report.orphans is None else [_orphan(report, *row) for row in oldest_first(report.orphans)],
    }


def _run(report: CycleReport, finding: Finding) -> dict[str, object]:
    run, seen, outcome = finding.run, finding.observation, report.outcomes.get(finding.run.id)
    return {
        "id": str(run.id),
        "name": run.name,
        "state": str(run.state_type),
        "state_name": run.state_name,
        "work_pool": run.work_pool,
        "verdict": str(finding.verdict),
        "rule": finding.rule,
        "guard": str(finding.guard) if finding.guard else None,
        "reason": finding.reason,
        "scope": finding.scope,
        "resource": seen.resource.id if seen and seen.resource else None,
        "condition": str(seen.condition) if seen else None,
        "exit_code": seen.exit_code if seen else None,
        "silent_since": rfc3339(finding.silent_since) if finding.silent_since else None,
        "action": str(finding.action) if finding.verdict is Verdict.ZOMBIE else None,
        "root": str(finding.root) if finding.root else None,
        "cause": str(finding.cause) if finding.cause else None,
        "outcome": str(outcome.kind) if outcome else None,
        "resumption": _resumption(report, finding),
    }


def _resumption(report: CycleReport, finding: Finding) -> dict[str, object] | None:
    planned, outcome = finding.resumption, report.settled.resumed.get(finding.run.id)
    if planned is None:
        return None
    return {
        "number": planned.number,
        "of": planned.most,
        "delay_seconds": planned.delay.total_seconds(),
        "outcome": str(outcome.kind) if outcome else None,
    }


def _settled_children(report: CycleReport) -> Iterator[dict[str, str]]:
    for one in subflows_settled(report):
        yield {"kind": "flow-run", "id": str(one.run.id), "parent": str(one.root)}
    for task_run, outcome in report.settled.task_runs:
        if is_accepted(outcome):
            yield {"kind": "task-run", "id": str(task_run.id), "parent": str(task_run.flow_run_id)}


def _orphan(report: CycleReport, scope: str, orphan: Orphan) -> dict[str, object]:
    return {
        "scope": scope,
        "resource": orphan.resource.id,
        "title": orphan.resource.title,
        "run": str(orphan.run.id),
        "state": str(orphan.run.state_type),
        "ended_at": rfc3339(orphan.since),
        "age_seconds": round((report.ended_at - orphan.since).total_seconds(), 3),
        "removal": orphan.resource.removal,
    }


def _scope(scope: ScopeView) -> dict[str, object]:
    error = scope.error or scope.incomplete
    return {
        "name": scope.name,
        "adapter": scope.adapter,
        "identity": scope.identity,
        "ok": error is None,
        "error": error,
        "mapped": scope.mapped,
        "sighted": scope.sighted,
    }


def _orphans(report: CycleReport) -> Iterator[str]:
    if report.orphans is None:
        return
    rows = oldest_first(report.orphans)
    yield from (orphan_sentence(scope, orphan, report.ended_at) for scope, orphan in rows)
    yield NEVER_REMOVED if rows else "none was found"


def _breakers(report: CycleReport) -> Iterator[str]:
    for breaker in report.plan.breakers:
        if breaker.holds:
            yield f"{breaker.absent} of {breaker.counted} runs are missing from scope '{breaker.scope}'; held"


def _verdicts(report: CycleReport) -> Mapping[Verdict, int]:
    return Counter(finding.verdict for finding in report.plan.findings)


def _cost(report: CycleReport) -> str:
    return f"{report.duration.total_seconds():.1f} s, {many(report.api_calls, 'API call')}"


def _rule(finding: Finding) -> str:
    return f"rule {finding.rule}" + (f", {finding.guard}" if finding.guard else "")
