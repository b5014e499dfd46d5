"""One try of a flow run, read from its state history. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from reconciler.model import StateRecord, StateType


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a run, since the first PENDING of the last unbroken series of them. Server's clock."""

    began: datetime
    is_only: bool
    former_ended: datetime  # last state before it: nothing is made for the former attempt after that
    resumed: datetime  # as `began`, or later: when the run last left a final state


def attempt_of(history: tuple[StateRecord, ...]) -> Attempt:
    """Find the present attempt. Observers propose PENDING again and again, so a series of them is one beginning."""
    begins = [
        number
        for number, record in enumerate(history)
        if record.type is StateType.PENDING and (number == 0 or history[number - 1].type is not StateType.PENDING)
    ]
    first = begins[-1] if begins else 0
    leaves = [after.timestamp for before, after in pairwise(history) if before.type.is_terminal]
    began = history[first].timestamp
    return Attempt(
        began=began,
        is_only=len(begins) <= 1 and all(record.type is StateType.SCHEDULED for record in history[:first]),
        former_ended=history[max(first - 1, 0)].timestamp,
        resumed=max([began, *leaves]),
    )
