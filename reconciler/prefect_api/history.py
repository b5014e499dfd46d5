"""A flow run's states, and what they tell of the one that was proposed: what it replaced, what came after it."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from reconciler.model import OutcomeKind, RunId, StateRecord
from reconciler.plan import Outcome
from reconciler.ports import OrchestratorError
from reconciler.prefect_api.payloads import State
from reconciler.prefect_api.proposing import Proposal
from reconciler.prefect_api.transport import Transport
from reconciler.words import dated

_MOVED_ON = frozenset({OutcomeKind.STATE_CHANGED, OutcomeKind.SETTLED_ELSEWHERE})


def read_history(transport: Transport, run_id: RunId) -> list[StateRecord]:
    """The run's states, oldest first. Raises OrchestratorError."""
    answer = transport.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
    states = transport.decode(answer, list[State], "a list of states")
    return sorted((state.record() for state in states), key=lambda record: record.timestamp)


def written(transport: Transport, run_id: RunId, proposal: Proposal, outcome: Outcome) -> StateRecord | None:
    """The state that the proposal wrote, if it did: also where the answer was lost, and the run has moved on since."""
    if proposal.accepted is not None or not proposal.may_have_landed or outcome.kind not in _MOVED_ON:
        return proposal.accepted
    try:
        history = read_history(transport, run_id)
    except OrchestratorError:  # it stays what it was told to be: the run has moved on
        return None
    ours = (record for record in history if record.transition_id == proposal.proposed.transition)
    return next((record for record in ours if record.type is proposal.proposed.type), None)


def look_back(
    transport: Transport, run_id: RunId, accepted: StateRecord, judged: UUID, alarm: Callable[[str], str]
) -> Outcome:
    """The outcome ACCEPTED: whether the judged state was replaced, and whether anything came after.

    `alarm` makes the sentence for a person out of what was replaced instead ("Retrying of ...").
    """
    try:
        before, later = _around(read_history(transport, run_id), accepted)
    except OrchestratorError as error:
        doubt = f"what {accepted.name} replaced could not be checked ({error}): look at the run's history"
        return Outcome(OutcomeKind.ACCEPTED, "", alarm=doubt, state_id=accepted.id)
    is_ours = before is not None and before.id == judged
    replaced = f"{before.name} of {dated(before.timestamp)}" if before else "no state at all"
    return Outcome(
        OutcomeKind.ACCEPTED,
        f"the flow run has reported {later.name} since" if later else "",
        alarm=None if is_ours else alarm(replaced),
        state_before=before,
        state_id=accepted.id,
        is_undisturbed=is_ours and later is None,
    )


def _around(history: list[StateRecord], accepted: StateRecord) -> tuple[StateRecord | None, StateRecord | None]:
    """The state just before ours, and the last one after ours."""
    ours = next((index for index, record in enumerate(history) if record.id == accepted.id), None)
    if ours is None:
        raise OrchestratorError("the history does not show the accepted state")
    return history[ours - 1] if ours else None, history[-1] if ours < len(history) - 1 else None
