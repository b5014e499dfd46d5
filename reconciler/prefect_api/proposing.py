"""Proposes one state of one run, through all the attempts that this takes, and says what came of it.

No request can name the state that it expects, so for flow runs the comparison is ours: read, compare, propose within a
second. What slips in between is looked for afterwards (`history.py`). Nothing here ever forces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

import httpx

from reconciler.model import OutcomeKind, RunId, StateRecord, StateType
from reconciler.plan import Outcome
from reconciler.ports import OrchestratorError
from reconciler.prefect_api.payloads import RunRow, State, Transition
from reconciler.prefect_api.refusals import Stale, TryAgain, no_api
from reconciler.prefect_api.transport import Answer, Transport

_FRESH = 1.0  # seconds from the request for the run's state until the proposal is sent
_READS = 3
Kind = Literal["flow", "task"]

_DELETED = Outcome(OutcomeKind.STATE_CHANGED, "it was deleted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A state as it is proposed. The server takes one `transition` once, and keeps it with the state (3.8.8)."""

    type: StateType
    name: str
    message: str
    transition: UUID
    scheduled_time: datetime | None = None
    deed: str = "settled it"  # what another reconciler did that wrote the very same

    @property
    def body(self) -> dict[str, object]:
        details: dict[str, object] = {"transition_id": self.transition}
        if self.scheduled_time is not None:
            details["scheduled_time"] = self.scheduled_time
        state = {"type": self.type, "name": self.name, "message": self.message, "state_details": details}
        return {"state": state, "force": False}


class Proposal:
    """One state proposed to a flow run or task run, perhaps several times: an answer that was lost tells nothing."""

    def __init__(self, transport: Transport, kind: Kind, run_id: UUID, proposed: Proposed) -> None:
        self.proposed = proposed
        self.accepted: StateRecord | None = None
        self.may_have_landed = False  # an answer was lost
        self._transport = transport
        self._path = f"/{kind}_runs/{run_id}"
        self._title = f"{kind} run {run_id}"

    def run(self) -> Outcome:
        """Attempt it until it is answered. Raises nothing: an error is an outcome too."""
        try:
            return self._transport.retrying(self.attempt)
        except OrchestratorError as error:
            return Outcome(OutcomeKind.FAILED, str(error))

    def attempt(self) -> Outcome:
        """For `Transport.retrying`."""
        return self._send(None)

    def _send(self, send_by: float | None) -> Outcome:
        try:
            answer = self._transport.once(
                "POST", f"{self._path}/set_state", self.proposed.body, accept={404}, send_by=send_by
            )
        except (httpx.TransportError, TryAgain) as error:
            self.may_have_landed |= _may_have_landed(error)
            raise
        if self._is_deleted(answer):
            return _DELETED
        return self._judge(self._transport.decode(answer, Transition, "the outcome of a proposed state"))

    def _judge(self, answer: Transition) -> Outcome:
        state = answer.state
        if answer.status == "ACCEPT":
            return self._judge_accepted(state)
        if state is not None and (landed := self._landed(state)) is not None:
            return landed
        if answer.status == "ABORT" and state is not None and self.proposed.type.is_terminal and state.type.is_terminal:
            return already(state)
        now = f"; it is {state.title}" if state else ""
        return Outcome(OutcomeKind.REFUSED, f"the server refused ({answer.status}): {answer.reason}{now}")

    def _judge_accepted(self, state: State | None) -> Outcome:
        if state is not None and state.type is self.proposed.type:
            return self._accept(state)
        wrote = f"{state.title} ({state.type})" if state else "no state"
        name = self.proposed.name
        alarm = f"{self._title}: {name} was proposed, and the server accepted {wrote} instead"
        return Outcome(OutcomeKind.REFUSED, f"the server accepted {wrote} instead of {name}", alarm=alarm)

    def _landed(self, state: State) -> Outcome | None:
        """What came of it if the run is in the proposed state: perhaps by an attempt whose answer was lost."""
        if state.transition != self.proposed.transition or state.type is not self.proposed.type:
            return None
        if not self.may_have_landed:
            return Outcome(OutcomeKind.SETTLED_ELSEWHERE, f"another reconciler {self.proposed.deed}")
        return self._accept(state)

    def _accept(self, state: State) -> Outcome:
        self.accepted = state.record()
        return Outcome(OutcomeKind.ACCEPTED, "", state_id=state.id)

    def _is_deleted(self, answer: Answer) -> bool:
        if answer.is_route_missing:
            raise no_api(self._transport.settings)
        return answer.status == httpx.codes.NOT_FOUND


class FreshProposal(Proposal):
    """To a flow run: each attempt begins with a read of its own, so that a wait never ages one.

    `hindrance` is given the run as it is now, and says what came of the proposal if it must not be made.
    """

    def __init__(
        self, transport: Transport, run_id: RunId, proposed: Proposed, hindrance: Callable[[RunRow], Outcome | None]
    ) -> None:
        super().__init__(transport, "flow", run_id, proposed)
        self._hindrance = hindrance

    def attempt(self) -> Outcome:
        took = 0.0
        for _ in range(_READS):
            # asked under an address of its own, so that no cache between us and the server has an answer to it
            answer = self._transport.once("GET", f"{self._path}?asked={uuid4()}", accept={404})
            if self._is_deleted(answer):
                return _DELETED
            row = self._transport.decode(answer, RunRow, "a flow run")
            if (outcome := self._landed(row.state) or self._hindrance(row)) is not None:
                return outcome
            try:
                return self._send(answer.sent + _FRESH)
            except Stale:
                took = self._transport.monotonic() - answer.sent
        return Outcome(
            OutcomeKind.FAILED,
            f"the server takes {took:.1f} s to answer, so a state that was read is too old to act on by then; nothing "
            "was written",
        )


def already(state: State) -> Outcome:
    """Somebody has written a final state."""
    return Outcome(OutcomeKind.SETTLED_ELSEWHERE, f"already {state.type}")


def _may_have_landed(error: httpx.TransportError | TryAgain) -> bool:
    if isinstance(error, TryAgain):
        return error.response.status_code != httpx.codes.TOO_MANY_REQUESTS
    return not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
