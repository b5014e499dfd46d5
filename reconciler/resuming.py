"""Which settled runs are started again, the how manieth time, and after how long. Pure.

How often a run was resumed is read from its own state history: a resumption carries the id that follows from the crash
before it, so nothing has to be remembered, and no other's retry is counted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from reconciler.model import Action, FlowRun, RunId, StateRecord, StateType, Verdict
from reconciler.plan import LONGEST_BACKOFF, Finding, Judged, Policy, Resumption, resumption_id

_MOST_DOUBLINGS = 20
_BY_INFRASTRUCTURE = frozenset({"6", "7"})  # rules; a pending run may start after all, and would then run twice


def times_resumed(run_id: RunId, history: Collection[StateRecord]) -> int:
    """How often we have resumed this run."""
    ours = {resumption_id(run_id, record.id) for record in history if record.type is StateType.CRASHED}
    return sum(record.transition_id in ours for record in history)


def resumed(finding: Finding, judged: Judged, policy: Policy) -> Finding:
    """Plan what follows the settlement, or say that it was resumed as often as it may be."""
    if finding.verdict is not Verdict.ZOMBIE or not _is_to_be_resumed(finding, policy):
        return finding
    return resumption_of(finding, judged.weighed.case.history or (), policy)


def resumption_of(finding: Finding, history: Collection[StateRecord], policy: Policy) -> Finding:
    """Plan it for a run that may be resumed."""
    before = times_resumed(finding.run.id, history)
    if before >= policy.resume_max:
        return replace(
            finding, reason=f"{finding.reason}; not started again: {before} of {policy.resume_max} times are used"
        )
    delay = min(policy.resume_backoff * 2 ** min(before, _MOST_DOUBLINGS), LONGEST_BACKOFF)
    return replace(finding, resumption=Resumption(before + 1, policy.resume_max, delay))


def _is_to_be_resumed(finding: Finding, policy: Policy) -> bool:
    if finding.rule not in _BY_INFRASTRUCTURE or finding.action is not Action.CRASH:
        return False
    return finding.cause in policy.resume_causes and may_be_resumed(finding.run, policy)


def may_be_resumed(run: FlowRun, policy: Policy) -> bool:
    """Whether the run is one that the operator has chosen, and that a worker would take up."""
    if policy.resume_max < 1 or run.deployment_id is None:
        return False
    if run.parent_task_run_id is not None:  # its parent waits for no second try
        return False
    return run.work_pool in policy.resume_work_pools or not run.tags.isdisjoint(policy.resume_tags)
