"""Weighs what was seen of one run: what belongs to this attempt, who could not tell, where absence counts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.model import (
    AbsenceCounts,
    Case,
    Condition,
    Look,
    Observation,
    Place,
    Resource,
    ScopeView,
    Sighting,
    Snapshot,
    StateRecord,
    StateType,
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a run, since the first PENDING of the last unbroken series of them (server's clock)."""

    began: datetime
    is_only: bool


@dataclass(frozen=True, slots=True)
class Sight:
    scope: ScopeView
    observation: Observation


@dataclass(frozen=True, slots=True)
class Absence:
    """One scope in which nothing of this attempt was found."""

    scope: ScopeView
    counts: AbsenceCounts | None
    why_not: str
    observation: Observation | None
    sighting: Sighting | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    case: Case
    attempt: Attempt | None  # None: the history has not been read
    live: tuple[Sight, ...]
    blind: tuple[str, ...]
    ended: tuple[Sight, ...]
    absent: tuple[Absence, ...]
    counted_in: frozenset[str]  # scopes where the absence of this run would count


def weigh(case: Case, snapshot: Snapshot) -> Weighed:
    attempt = attempt_of(case.history) if case.history else None
    scales = [_Scale(case, look, snapshot, attempt) for look in case.looks]
    return Weighed(
        case=case,
        attempt=attempt,
        live=tuple(sight for scale in scales for sight in scale.live()),
        blind=tuple(text for scale in scales for text in scale.blind()),
        ended=tuple(sight for scale in scales for sight in scale.ended()),
        absent=tuple(absence for scale in scales for absence in scale.absent()),
        counted_in=frozenset(scale.look.scope for scale in scales if scale.counts()[0]),
    )


def attempt_of(history: tuple[StateRecord, ...]) -> Attempt:
    """Find the present attempt. Observers propose PENDING again and again, so a series of them is one beginning."""
    befores = (None, *history[:-1])
    begins = [
        record
        for before, record in zip(befores, history, strict=True)
        if record.type is StateType.PENDING and (before is None or before.type is not StateType.PENDING)
    ]
    return Attempt((begins or history)[-1 if begins else 0].timestamp, is_only=len(begins) <= 1)


@dataclass(frozen=True, slots=True)
class _Scale:
    """One look, weighed."""

    case: Case
    look: Look
    snapshot: Snapshot
    attempt: Attempt | None

    @property
    def scope(self) -> ScopeView:
        return self.snapshot.scopes[self.look.scope]

    @property
    def concerned(self) -> bool:
        return self.look.mapped or bool(self.look.sightings)

    def live(self) -> Iterator[Sight]:
        return (Sight(self.scope, seen) for seen in self.look.observations if seen.condition.is_live)

    def ended(self) -> Iterator[Sight]:
        for seen in self._of(Condition.EXITED):
            if seen.resource and self._is_of_this_attempt(seen.resource):
                yield Sight(self.scope, seen)

    def blind(self) -> Iterator[str]:
        return (f"scope '{self.look.scope}' could not tell: {doubt}" for doubt in self._doubts())

    def _doubts(self) -> Iterator[str]:
        if self.look.error is not None:
            if self.concerned:
                yield self.look.error
            return
        for seen in self._of(Condition.UNKNOWN):
            # a live resource that is not this scope's to judge carries the run's id: that counts wherever it is
            if self.concerned or seen.resource:
                yield seen.reason
        for seen in self._of(Condition.EXITED):
            if seen.resource is None:
                yield "it names no resource that ended"
            elif self._is_of_this_attempt(seen.resource) is None:
                yield f"{seen.resource.title} was made too near the attempt's beginning to say whose it is"
        if self.concerned and not self.look.observations:
            yield "it gave no answer about this run"
        if self.concerned and self.scope.incomplete and self._of(Condition.GONE):
            yield self.scope.incomplete

    def absent(self) -> Iterator[Absence]:
        """Only GONE, or resources of earlier attempts: nothing of this attempt is there."""
        left = [seen for seen in self.look.observations if seen.condition is not Condition.GONE]
        if not self.concerned or not self.look.observations or self.look.error is not None:
            return
        if all(seen.resource and self._is_of_this_attempt(seen.resource) is False for seen in left):
            counts, why_not = self.counts()
            stated = next(iter(self._of(Condition.GONE)), None)
            yield Absence(self.scope, counts, why_not, stated, self._sighting())

    def counts(self) -> tuple[AbsenceCounts | None, str]:
        """Whether the absence of the run from this scope says something about the run, or why it does not."""
        run, look = self.case.run, self.look
        if run.pid is None and run.work_pool is None:
            return None, "it has neither work pool nor infrastructure_pid"
        if look.place is Place.ELSEWHERE:
            return None, f"its infrastructure_pid '{_short(run.pid)}' points outside scope '{look.scope}'"
        if self._sighting() is not None:
            return AbsenceCounts.SIGHTED, ""
        if run.pid is None or (self.attempt and not self.attempt.is_only):
            return (
                None,
                f"nothing of this attempt was ever seen in scope '{look.scope}', and its pid may be an older one's",
            )
        if look.place is Place.HERE:
            return AbsenceCounts.LOCATED, ""
        if look.mapped and self.scope.exclusive:
            return AbsenceCounts.EXCLUSIVE, ""
        return None, (
            f"it was never seen in scope '{look.scope}', and others may run it: "
            f"set `exclusive = true` on that scope if its runs can be nowhere else"
        )

    def _sighting(self) -> Sighting | None:
        mine = [seen for seen in self.look.sightings if self._is_of_this_attempt(seen.resource)]
        return max(mine, key=lambda seen: (seen.last_seen, seen.resource.id), default=None)

    def _of(self, condition: Condition) -> list[Observation]:
        return [seen for seen in self.look.observations if seen.condition is condition]

    def _is_of_this_attempt(self, resource: Resource) -> bool | None:
        """None: too near the beginning to tell. A run with one attempt has no resources of another."""
        if self.attempt is None or self.attempt.is_only:
            return True
        if resource.created_at is None:
            return None
        clocks = self.scope.clock, self.snapshot.server_clock
        after = clocks[0].to_ours(resource.created_at) - clocks[1].to_ours(self.attempt.began)
        uncertainty: timedelta = clocks[0].uncertainty + clocks[1].uncertainty
        return None if abs(after) <= uncertainty else after > timedelta(0)


def _short(pid: str | None, limit: int = 80) -> str:
    return "" if pid is None else pid if len(pid) <= limit else pid[:limit] + "..."
