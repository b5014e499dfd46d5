"""Starts a flow run again that we crashed, and only while that very Crashed is its state.

Crashed first, then Scheduled named AwaitingRetry: the only order after which a worker picks a run up (3.8.8). Nothing
on the server guards this: it accepts Scheduled for a run that has completed without a persisted result.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from reconciler.model import Action, OutcomeKind, StateType, Verdict
from reconciler.plan import Finding, Outcome, Resumption, resumption_id
from reconciler.prefect_api.history import look_back, written
from reconciler.prefect_api.payloads import RunRow
from reconciler.prefect_api.proposing import FreshProposal, Proposed
from reconciler.prefect_api.transport import Transport


def resume(transport: Transport, finding: Finding, crash_id: UUID) -> Outcome:
    """Read, compare, propose, look back. Raises nothing: an error is an outcome too."""
    run, resumption = finding.run, finding.resumption
    if resumption is None or (reason := _unfit(finding)) is not None:
        return Outcome(OutcomeKind.REFUSED, f"not resumed: {'nobody asked for it' if resumption is None else reason}")
    proposed = _proposed(transport, finding, resumption, crash_id)
    proposal = FreshProposal(transport, run.id, proposed, partial(_hindrance, crash_id))
    outcome = proposal.run()
    if (ours := written(transport, run.id, proposal, outcome)) is None:
        return outcome
    return look_back(transport, run.id, ours, crash_id, partial(_alarm, finding))


def _unfit(finding: Finding) -> str | None:
    run = finding.run
    if finding.verdict is not Verdict.ZOMBIE or finding.action is not Action.CRASH:
        return "only a flow run that we set to Crashed is"
    if run.parent_task_run_id is not None:
        return "a subflow never is, since its parent would not know of it"
    if run.deployment_id is None:
        return "it has no deployment, so no worker would fetch it"
    return None


def _proposed(transport: Transport, finding: Finding, resumption: Resumption, crash_id: UUID) -> Proposed:
    server_now = transport.now() + transport.server_clock.offset.offset
    after = f" after {finding.cause}" if finding.cause else ""
    return Proposed(
        type=StateType.SCHEDULED,
        name="AwaitingRetry",
        message=f"resumed ({resumption.number} of {resumption.most}) by prefect-reconciler{after}: {finding.reason}",
        transition=resumption_id(finding.run.id, crash_id),
        scheduled_time=server_now + resumption.delay,
        deed="resumed it",
    )


def _hindrance(crash_id: UUID, row: RunRow) -> Outcome | None:
    if row.state.id == crash_id:
        return None
    return Outcome(OutcomeKind.STATE_CHANGED, f"it is {row.state.title} by now: left alone")


def _alarm(finding: Finding, replaced: str) -> str:
    run_id = finding.run.id
    return (
        f"flow run {run_id} moved on while it was being resumed: AwaitingRetry replaced {replaced}, not our Crashed. "
        f"If it must not run again, cancel it: POST /flow_runs/{run_id}/set_state with type CANCELLED"
    )
