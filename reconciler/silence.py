"""Runs that nobody may judge, and that have beaten and do no longer: counted and listed, never written. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from reconciler.model import Heartbeat, RunId, StateType, Verdict
from reconciler.plan import Finding, Plan, Policy
from reconciler.snapshot import Snapshot
from reconciler.words import span

WINDOW = timedelta(days=1)  # heartbeats are looked for in; servers keep them for 7 days (3.8.8)
_MOST = 200  # asked about in one pass: one call


def candidates(plan: Plan, snapshot: Snapshot, policy: Policy) -> list[RunId]:
    """Choose the unmanaged runs that are running for longer than `quiet`."""
    if not snapshot.has_heartbeats:
        return []
    to_ours, quiet = snapshot.server_clock.to_ours, policy.quiet
    running = [
        one.run for one in plan.findings if one.verdict is Verdict.UNMANAGED and one.run.state_type is StateType.RUNNING
    ]
    running.sort(key=lambda run: (run.state_since, run.id))  # the same in each pass, or what is told would flicker
    return [run.id for run in running[:_MOST] if snapshot.taken_at - to_ours(run.state_since) > quiet]


def told(plan: Plan, beats: Mapping[RunId, Heartbeat], snapshot: Snapshot, policy: Policy) -> Plan:
    """Note on each of them since when it is silent, if that is longer than `quiet` and than 1.2 of its own cadence."""
    findings = (_told(one, beats.get(one.run.id), snapshot, policy) for one in plan.findings)
    return replace(plan, findings=tuple(findings))


def _told(finding: Finding, beat: Heartbeat | None, snapshot: Snapshot, policy: Policy) -> Finding:
    if beat is None or finding.verdict is not Verdict.UNMANAGED:
        return finding
    last = snapshot.server_clock.to_ours(beat.last)
    silent = snapshot.taken_at - last
    if silent <= max(policy.quiet, 1.2 * beat.cadence):
        return finding
    reason = f"{finding.reason}; its last heartbeat is {span(silent)} old, so it may have died unseen"
    return replace(finding, reason=reason, silent_since=last, is_notable=True)
