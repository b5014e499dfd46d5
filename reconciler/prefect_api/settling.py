"""Proposes `Crashed` for one flow run, and only for the state that was judged; `Cancelled` for one being cancelled.

A terminal state is safe from Crashed without the comparison: the server refuses it unless it is forced. Nothing at all
guards Cancelled there (3.8.8), so it is proposed for nothing but the very Cancelling that was judged.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from reconciler.model import Action, FlowRun, OutcomeKind, StateType, Verdict
from reconciler.plan import Finding, Outcome, transition_id
from reconciler.prefect_api.announcing import Announcer
from reconciler.prefect_api.history import look_back, written
from reconciler.prefect_api.payloads import RunRow, flow_run
from reconciler.prefect_api.proposing import FreshProposal, Proposed, already
from reconciler.prefect_api.transport import Transport
from reconciler.words import dated

_RULES_OF_CANCELLING = frozenset({"1", "2", "9"})  # a subflow's, under the conditions of 9, and 9 itself


def settle(transport: Transport, announcer: Announcer, finding: Finding) -> Outcome:
    """Read, compare, propose, look back, announce. Raises nothing: an error is an outcome too."""
    if (reason := _unfit(finding)) is not None:
        return Outcome(OutcomeKind.REFUSED, f"not proposed: {reason}")
    run = finding.run
    proposal = FreshProposal(transport, run.id, _proposed(finding), partial(_hindrance, run))
    outcome = proposal.run()
    if (ours := written(transport, run.id, proposal, outcome)) is None:
        return outcome
    accepted = look_back(transport, run.id, ours, run.state_id, partial(_alarm, finding))
    notes = announcer.announce(finding, ours)
    return replace(accepted, detail="; ".join(filter(None, [accepted.detail, *notes])))


def _proposed(finding: Finding) -> Proposed:
    cancels = finding.action is Action.CANCEL
    return Proposed(
        type=StateType.CANCELLED if cancels else StateType.CRASHED,
        name="Cancelled" if cancels else "Crashed",  # any other name sets off no automation
        message=finding.message,
        transition=transition_id(finding.run.id, finding.run.state_id),
    )


def _unfit(finding: Finding) -> str | None:
    """Why this must not be proposed at all. The server would accept Crashed for every waiting or paused run."""
    run = finding.run
    if finding.verdict is not Verdict.ZOMBIE:
        return f"the verdict is {finding.verdict}"
    if finding.action is Action.CANCEL and finding.rule not in _RULES_OF_CANCELLING:
        return f"a flow run that is Cancelling is never settled by rule {finding.rule}"
    if run.state_type in {StateType.RUNNING, StateType.PENDING, StateType.CANCELLING}:
        return None
    if run.awaits_retry_in_process and run.state_name == "AwaitingRetry":
        return None
    return f"a flow run that is {run.state_name} ({run.state_type}) is never set to Crashed"


def _hindrance(judged: FlowRun, row: RunRow) -> Outcome | None:
    return already(row.state) if row.state.type.is_terminal else _changed(judged, flow_run(row, {}))


def _changed(judged: FlowRun, now: FlowRun) -> Outcome | None:
    changes = [
        f"its {title} is now {new}, was {old}"
        for title, old, new in (
            ("state", judged.state_type, now.state_type),
            ("run count", judged.run_count, now.run_count),
            ("infrastructure_pid", judged.pid, now.pid),
            ("kind of retry", judged.retry_type, now.retry_type),
        )
        if old != new
    ]
    if judged.state_id != now.state_id and judged.state_type is now.state_type:
        changes.insert(0, f"it entered {now.state_name} anew at {dated(now.state_since)}")
    return Outcome(OutcomeKind.STATE_CHANGED, "; ".join(changes)) if changes else None


def _alarm(finding: Finding, replaced: str) -> str:
    judged = finding.run
    if finding.action is Action.CANCEL:
        return (
            f"flow run {judged.id} moved on while Cancelled was being written: it replaced {replaced}, not the judged "
            f"{judged.state_name}. If that was its true end, propose it again: POST /flow_runs/{judged.id}/set_state"
        )
    return (
        f"flow run {judged.id} moved on while Crashed was being written: it replaced {replaced}, not the judged "
        f"{judged.state_name}. If its process is alive, set the run back: POST /flow_runs/{judged.id}/set_state with "
        "type RUNNING, which raises its run count by one"
    )
