"""What is graded: one settlement, or one that would have been made, and what became of it. Frozen values; no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from reconciler.model import Action, RunId

WATCHED_FOR = timedelta(hours=24)
UNREAD_FOR = timedelta(hours=48)  # so long a case is watched that cannot be read when its time is over
STAYED = timedelta(hours=1)  # a run that does not move for so long after its would-be settlement stayed a zombie
DISTRUST_COUNT = 2  # false crashes of one scope, found within `WATCHED_FOR`


class Kind(StrEnum):
    SHADOW = "shadow"  # it would have been settled
    SETTLED = "settled"


class Grade(StrEnum):
    """What came of a case. Of a settlement, FALSE is a false crash, and RIGHT that nothing spoke against it.

    A run that was set to Cancelled while it lived is a false crash too: it was ended in the books, and not in fact.
    """

    OPEN = "open"
    RIGHT = "right"
    FALSE = "false"
    UNCLEAR = "unclear"  # a settlement that may have been a false crash: told, and not counted
    UNGRADED = "ungraded"  # what happened says nothing of the verdict


Key = tuple[RunId, UUID, Kind]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the evidence says of a case. `why` continues "graded so because the flow run ..."."""

    grade: Grade
    why: str
    at: datetime | None = None  # the server's clock: when that happened
    is_final: bool = False  # nothing later can change it
    others_settled_at: datetime | None = None  # the server's clock: somebody else set a final state


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One verdict about one run in one state. Times are ours. Texts are clean and bounded."""

    run_id: RunId
    state_id: UUID  # the judged state
    kind: Kind
    name: str
    scope: str  # whose word it rests on; "" if no scope's: a subflow whose parent had ended
    rule: str
    guard: str  # what held it: "mode", "trust"; "" of a settlement or a dry run
    died: str  # what died, as the verdict said it
    resource: str  # its id; "" if it was never known
    run_count: int  # as judged
    judged_at: datetime
    died_by: datetime | None = None  # when it ended, or was last known to be there
    grade: Grade = Grade.OPEN
    why: str = ""
    graded_at: datetime | None = None
    others_at: datetime | None = None  # when somebody else settled it
    read_state: UUID | None = None  # the run's state when its history was read last
    asked_at: datetime | None = None  # when its row was asked for last
    closed_at: datetime | None = None  # None: it is watched
    action: Action = Action.CRASH
    root: RunId | None = None  # of an in-process subflow: inside whose process it ran

    @property
    def incident(self) -> str:
        """What befell one run in one state; or whatever subflows were judged on what befell their root."""
        return str(self.root or f"{self.run_id}/{self.state_id}")

    @property
    def key(self) -> Key:
        return self.run_id, self.state_id, self.kind

    @property
    def is_graded_shadow(self) -> bool:
        return self.kind is Kind.SHADOW and self.grade in (Grade.RIGHT, Grade.FALSE)

    @property
    def is_false_crash(self) -> bool:
        return self.kind is Kind.SETTLED and self.grade is Grade.FALSE

    @property
    def is_counted(self) -> bool:
        """A false crash that speaks against a scope."""
        return self.is_false_crash and bool(self.scope)

    def age(self, now: datetime) -> timedelta:
        return now - self.judged_at

    def graded(self, opinion: Opinion, now: datetime) -> Case:
        """With that opinion; it is closed if nothing can change it.

        What was right stays so unless something speaks against it: what says nothing only ends the watch.
        """
        if self.grade is Grade.RIGHT and opinion.grade is Grade.UNGRADED:
            return replace(self, closed_at=now if opinion.is_final else None)
        case = replace(self, why=opinion.why, closed_at=now if opinion.is_final else None)
        return case if opinion.grade is self.grade else replace(case, grade=opinion.grade, graded_at=now)


def count_of_incidents(incidents: Iterable[str]) -> int:
    """Count them; what befell a root and what its subflows were judged on is the same one."""
    named = set(incidents)
    of_runs = {one.partition("/")[0] for one in named if "/" in one}
    return sum("/" in one or one not in of_runs for one in named)
