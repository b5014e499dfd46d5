"""What followed a state in a run's history, and who reported it. Pure.

Who sets a state, as seen on Prefect 3.8.8 (a falsely crashed live flow, the HTTP API, automations, the UI, the CLI):

- Prefect's Python client gives each proposal a `transition_id` of its own (2.20.25 to 3.8.8): so do the engine inside
  the flow's process, workers, and the CLI. A live flow after our Crashed: COMPLETED or FAILED with a new
  `transition_id`; from PENDING or AwaitingRetry first RUNNING with one.
- The UI ("change state", "retry"), plain HTTP with or without `force`, the automation action change-flow-run-state
  ("State changed by Automation ...") and the server's own services give none. The AwaitingRetry that the server writes
  in place of a flow's Failed has none either.
- A retry (UI, CLI) is SCHEDULED, named AwaitingRetry or Scheduled, then PENDING. A flow that is retried on remote
  infrastructure by `InfrastructureBoundFlow.retry` has no SCHEDULED, but a PENDING named "Pending" first. Workers and
  observers add PENDING states of other names to an attempt that has begun.
- A run that we resume is SCHEDULED, named AwaitingRetry, with the `transition_id` of `plan.resumption_id`. No person
  decided that, and no attempt begins before a worker has fetched it (PENDING): what reports before is what we crashed.
- What cannot be told: a person's script that uses the Python client, and `prefect flow-run execute` of a crashed run,
  look like the run itself (no SCHEDULED, no PENDING, RUNNING with a `transition_id`); so does a Job that the platform
  starts anew. They are taken for the run itself: that costs an operator a look, the reverse costs live runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from reconciler.model import RunId, StateRecord, StateType
from reconciler.plan import resumption_id, transition_id

_CLIENTS = frozenset({StateType.PENDING, StateType.RUNNING})
_OURS = frozenset({StateType.CRASHED, StateType.CANCELLED})


class Author(StrEnum):
    RUN = "by itself"  # through Prefect's Python client
    HAND = "by hand or by an automation"
    UNTOLD = "by whom cannot be told"
    RECONCILER = "by a reconciler"


@dataclass(frozen=True, slots=True)
class Step:
    """One state after the judged one."""

    record: StateRecord
    author: Author

    @property
    def type(self) -> StateType:
        return self.record.type

    @property
    def begins_attempt(self) -> bool:
        """A worker will start the run anew, or does. SCHEDULED is the end of an attempt, whatever its name."""
        pending = self.type is StateType.PENDING and self.record.name == "Pending"
        return pending or (self.type is StateType.SCHEDULED and not self.is_resumption)

    @property
    def is_resumption(self) -> bool:
        """We scheduled it again after our own Crashed."""
        return self.type is StateType.SCHEDULED and self.author is Author.RECONCILER

    @property
    def is_ended_by_others(self) -> bool:
        """Crashed or Cancelled: a live flow may be in that state, and does not report it when all goes well."""
        return self.type in (StateType.CRASHED, StateType.CANCELLED)

    @property
    def is_life(self) -> bool:
        """A state that the flow's own process reports."""
        return self.type in (StateType.RUNNING, StateType.COMPLETED, StateType.FAILED, StateType.PAUSED)


@dataclass(frozen=True, slots=True)
class Sequel:
    """The states after `judged` (or after the final state that we set), oldest first."""

    judged: StateRecord | None  # None: the history does not show it any more
    steps: tuple[Step, ...]

    @property
    def never_ran(self) -> bool:
        """Nothing of this attempt got as far as running, so a worker may have reported its end."""
        ran = any(step.type is StateType.RUNNING for step in self.of_the_attempt())
        return not ran and (self.judged is None or self.judged.type is StateType.PENDING)

    def of_the_attempt(self) -> Iterator[Step]:
        """Up to the next attempt."""
        for step in self.steps:
            if step.begins_attempt:
                return
            yield step

    def retries_in_process(self, *, is_waiting: bool) -> bool:
        """It sleeps until its retry (`is_waiting`: its row says so), or has gone on with it without a PENDING.

        The server writes that AwaitingRetry in place of the Failed of a flow that was RUNNING.
        """
        first, *later = self.steps
        if first.type is not StateType.SCHEDULED:
            return False
        return later[0].type is StateType.RUNNING if later else is_waiting

    @property
    def was_cancelling(self) -> bool:
        """A cancellation was asked for, before the verdict or in this attempt."""
        before = self.judged is not None and self.judged.type is StateType.CANCELLING
        return before or any(step.type is StateType.CANCELLING for step in self.of_the_attempt())

    @property
    def next_attempt(self) -> Step | None:
        return next((step for step in self.steps if step.begins_attempt), None)

    @property
    def resumption(self) -> Step | None:
        """Our own, of this attempt."""
        return next((step for step in self.of_the_attempt() if step.is_resumption), None)


def after_state(history: Sequence[StateRecord], run_id: RunId, state_id: UUID) -> Sequel | None:
    """What followed the judged state; None if the history does not show it."""
    where = next((number for number, record in enumerate(history) if record.id == state_id), None)
    return None if where is None else _sequel(history, run_id, state_id, where)


def after_settlement(history: Sequence[StateRecord], run_id: RunId, state_id: UUID) -> Sequel | None:
    """What followed the Crashed or Cancelled that we set; None if the history does not show it."""
    ours = transition_id(run_id, state_id)
    found = (number for number, record in enumerate(history) if record.transition_id == ours)
    where = next((number for number in found if history[number].type in _OURS), None)
    return None if where is None else _sequel(history, run_id, state_id, where)


def _sequel(history: Sequence[StateRecord], run_id: RunId, state_id: UUID, where: int) -> Sequel:
    judged = next((record for record in history if record.id == state_id), None)
    ours = {make(run_id, record.id) for record in history for make in (transition_id, resumption_id)}
    tells = any(record.type in _CLIENTS and record.transition_id is not None for record in history[: where + 1])
    steps = tuple(Step(record, _author(record, ours, tells=tells)) for record in history[where + 1 :])
    return Sequel(judged, steps)


def _author(record: StateRecord, ours: set[UUID], *, tells: bool) -> Author:
    """`tells`: the client that reported the run's earlier states gives transition ids."""
    if record.transition_id is None:
        return Author.HAND if tells else Author.UNTOLD
    return Author.RECONCILER if record.transition_id in ours else Author.RUN
