"""Runs that nobody may judge, and that have beaten and do no longer: counted and listed, never written."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reconciler.clock import since_boot
from reconciler.model import FlowRun, Heartbeat, RunId, StateType, Verdict
from reconciler.plan import Finding, Plan, Policy
from reconciler.snapshot import Snapshot
from reconciler.words import span

Beats = Mapping[RunId, Heartbeat]
Ask = Callable[[Collection[RunId], timedelta], Beats | None]

_WINDOW = timedelta(days=1)  # servers keep heartbeats for 7 days (3.8.8)
_RARELY = 300.0  # seconds between two questions: counting a day of events is work
_MOST = 200  # asked about at once: one call


@dataclass
class Silence:
    """What is known of the heartbeats of unmanaged runs. Bounded by their number."""

    _silent: dict[RunId, datetime | None] = field(default_factory=dict)  # since when, as last heard
    _asked: dict[RunId, float] = field(default_factory=dict)  # when, of `since_boot()`

    def told(self, plan: Plan, snapshot: Snapshot, policy: Policy, ask: Ask) -> Plan:
        """Note on each of them since when it is silent: longer than `quiet`, and than 1.2 of its own cadence.

        Raises what `ask` raises; nothing rests on it.
        """
        runs = {one.run.id: one.run for one in plan.findings if _is_candidate(one, snapshot, policy)}
        self._silent = {run_id: since for run_id, since in self._silent.items() if run_id in runs}
        self._asked = {run_id: at for run_id, at in self._asked.items() if run_id in runs}
        due = self._due(runs) if snapshot.has_heartbeats else []
        if due:
            self._asked |= dict.fromkeys(due, since_boot())
            beats = ask(due, _WINDOW) or {}
            self._silent |= {run_id: _silent_since(beats.get(run_id), snapshot, policy) for run_id in due}
        return replace(plan, findings=tuple(self._noted(one, snapshot) for one in plan.findings))

    def _noted(self, finding: Finding, snapshot: Snapshot) -> Finding:
        since = self._silent.get(finding.run.id)
        if since is None or finding.verdict is not Verdict.UNMANAGED:
            return finding
        age = span(snapshot.taken_at - since)
        reason = f"{finding.reason}; its last heartbeat is {age} old, so it may have died unseen"
        return replace(finding, reason=reason, silent_since=since, is_notable=True)

    def _due(self, runs: Mapping[RunId, FlowRun]) -> list[RunId]:
        """Those not asked about for longest, by turns; of these the longest running."""
        last = max(self._asked.values(), default=-math.inf)
        if since_boot() - last < _RARELY and not any(run_id not in self._asked for run_id in runs):
            return []
        order = sorted(runs, key=lambda run_id: (self._asked.get(run_id, -math.inf), runs[run_id].state_since, run_id))
        return order[:_MOST]


def _is_candidate(finding: Finding, snapshot: Snapshot, policy: Policy) -> bool:
    run = finding.run
    if finding.verdict is not Verdict.UNMANAGED or run.state_type is not StateType.RUNNING:
        return False
    return snapshot.taken_at - snapshot.server_clock.to_ours(run.state_since) > policy.quiet


def _silent_since(beat: Heartbeat | None, snapshot: Snapshot, policy: Policy) -> datetime | None:
    """When it last beat, in our clock, if that is too long ago; None also if it never did."""
    if beat is None:
        return None
    last = snapshot.server_clock.to_ours(beat.last)
    return last if snapshot.taken_at - last > max(policy.quiet, 1.2 * beat.cadence) else None
