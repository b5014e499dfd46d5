"""Proposes `Crashed` for one flow run, and only for the state that was judged.

No request can name the state that it expects, so the comparison is ours: read, compare, propose within a second. What
slips in between is looked for afterwards (`after_work.py`). A terminal state is safe without that: the server refuses
Crashed for it unless it is forced, and nothing here ever forces.
"""

from __future__ import annotations

from uuid import uuid4

import httpx

from reconciler.model import FlowRun, OutcomeKind, StateType, Verdict
from reconciler.plan import Finding, Outcome, transition_id
from reconciler.ports import OrchestratorError
from reconciler.prefect_api.after_work import after_work
from reconciler.prefect_api.payloads import RunRow, State, Transition, flow_run
from reconciler.prefect_api.refusals import Stale, TryAgain, no_api
from reconciler.prefect_api.transport import Answer, Transport

_FRESH = 1.0  # seconds from the request for the run's state until the proposal is sent
_READS = 3


def settle(transport: Transport, finding: Finding) -> Outcome:
    """Read, compare, propose, look back. Raises nothing: an error is an outcome too."""
    if (reason := _unfit(finding)) is not None:
        return Outcome(OutcomeKind.REFUSED, reason)
    proposal = Proposal(transport, finding)
    try:
        outcome = transport.retrying(proposal.attempt)
    except OrchestratorError as error:
        return Outcome(OutcomeKind.FAILED, str(error))
    return after_work(transport, finding, proposal.accepted) if proposal.accepted else outcome


class Proposal:
    """One proposal through all its attempts: each begins with a read of its own, so that a wait never ages one."""

    def __init__(self, transport: Transport, finding: Finding) -> None:
        self.accepted: State | None = None
        self._transport = transport
        self._finding = finding
        self._judged = finding.run
        self._transition = transition_id(finding.run.id, finding.run.state_id)
        self._may_have_landed = False

    def attempt(self) -> Outcome:
        """For `Transport.retrying`."""
        took = 0.0
        for _ in range(_READS):
            # asked under an address of its own, so that no cache between us and the server has an answer to it
            path = f"/flow_runs/{self._judged.id}?asked={uuid4()}"
            answer = self._transport.once("GET", path, accept={404})
            if self._is_deleted(answer):
                return Outcome(OutcomeKind.STATE_CHANGED, "it was deleted")
            row = self._transport.decode(answer, RunRow, "a flow run")
            if (settled := self._ended(row.state) or _changed(self._judged, flow_run(row, {}))) is not None:
                return settled
            try:
                return self._propose(send_by=answer.sent + _FRESH)
            except Stale:
                took = self._transport.monotonic() - answer.sent
        return Outcome(
            OutcomeKind.FAILED,
            f"the server takes {took:.1f} s to answer, so a state that was read is too old to act on by then; nothing "
            "was written",
        )

    def _propose(self, send_by: float) -> Outcome:
        body = {
            "state": {
                "type": "CRASHED",
                "name": "Crashed",  # any other name sets off no automation
                "message": self._finding.message,
                "state_details": {"transition_id": str(self._transition)},
            },
            "force": False,
        }
        path = f"/flow_runs/{self._judged.id}/set_state"
        try:
            answer = self._transport.once("POST", path, body, accept={404}, send_by=send_by)
        except (httpx.TransportError, TryAgain) as error:
            self._may_have_landed |= _may_have_landed(error)
            raise
        if self._is_deleted(answer):
            return Outcome(OutcomeKind.STATE_CHANGED, "it was deleted")
        return self._judge(self._transport.decode(answer, Transition, "the outcome of a proposed state"))

    def _judge(self, answer: Transition) -> Outcome:
        state = answer.state
        if answer.status == "ACCEPT":
            if state is not None and state.type is StateType.CRASHED:
                self.accepted = state
                return Outcome(OutcomeKind.ACCEPTED, "")
            wrote = f"{state.title} ({state.type})" if state else "no state"
            alarm = f"flow run {self._judged.id}: Crashed was proposed, and the server accepted {wrote} instead"
            return Outcome(OutcomeKind.REFUSED, f"the server accepted {wrote} instead of Crashed", alarm=alarm)
        if state is not None and (answer.status == "ABORT" or state.transition == self._transition):
            ended = self._ended(state)
            if ended is not None:
                return ended
        now = f"; it is {state.title}" if state else ""
        return Outcome(OutcomeKind.REFUSED, f"the server refused ({answer.status}): {answer.reason}{now}")

    def _ended(self, state: State) -> Outcome | None:
        """Whether somebody has written a final state: perhaps we ourselves, in an attempt whose answer was lost."""
        if not state.type.is_terminal:
            return None
        if state.transition != self._transition:
            return Outcome(OutcomeKind.SETTLED_ELSEWHERE, f"already {state.type}")
        if not self._may_have_landed:
            return Outcome(OutcomeKind.SETTLED_ELSEWHERE, "another reconciler settled it")
        self.accepted = state
        return Outcome(OutcomeKind.ACCEPTED, "")

    def _is_deleted(self, answer: Answer) -> bool:
        if answer.is_route_missing:
            raise no_api(self._transport.settings)
        return answer.status == httpx.codes.NOT_FOUND


def _unfit(finding: Finding) -> str | None:
    """Why this must not be proposed at all. The server would accept Crashed for every waiting or paused run."""
    run = finding.run
    if finding.verdict is not Verdict.ZOMBIE:
        return f"not proposed: the verdict is {finding.verdict}"
    if run.state_type in {StateType.RUNNING, StateType.PENDING}:
        return None
    if run.awaits_retry_in_process and run.state_name == "AwaitingRetry":
        return None
    return f"not proposed: a flow run that is {run.state_name} ({run.state_type}) is never set to Crashed"


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
        changes.insert(0, f"it entered {now.state_name} anew at {now.state_since:%Y-%m-%d %H:%M:%S} UTC")
    return Outcome(OutcomeKind.STATE_CHANGED, "; ".join(changes)) if changes else None


def _may_have_landed(error: httpx.TransportError | TryAgain) -> bool:
    if isinstance(error, TryAgain):
        return error.response.status_code != httpx.codes.TOO_MANY_REQUESTS
    return not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
