"""Weighs what was seen of one run: what belongs to this attempt, who could not tell, where absence counts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reconciler.attempts import Attempt, attempt_of
from reconciler.model import AbsenceCounts, Condition, Observation, Place, Resource, Sighting, StateType
from reconciler.snapshot import Case, Look, ScopeView, Snapshot

_SHOWN = frozenset({Condition.ALIVE, Condition.STARTING, Condition.STOPPING, Condition.EXITED})


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
    parts: tuple[Sight, ...]  # ended too, but maybe only a part of what runs the flow
    absent: tuple[Absence, ...]
    lost: tuple[Sighting, ...]  # seen alive of this attempt, and now neither alive nor ended
    counted_in: frozenset[str]  # scopes where the absence of this run would count


def runs_inside(case: Case) -> bool:
    """Whether it is an in-process subflow. What was seen by itself is none: a deleted work pool leaves no trace."""
    return case.run.is_in_process_subflow and not any(
        look.ever_seen or any(seen.condition in _SHOWN or seen.resource for seen in look.observations)
        for look in case.looks
    )


def riding(own: Weighed, root: Weighed) -> Weighed:
    """A subflow with what was seen of its root, in whose process it runs."""
    return replace(
        own, live=root.live, blind=root.blind, ended=root.ended, parts=root.parts, absent=root.absent, lost=root.lost
    )


def weigh(case: Case, snapshot: Snapshot) -> Weighed:
    attempt = attempt_of(case.history) if case.history else None
    scales = [_Scale(case, look, snapshot, attempt) for look in case.looks]
    return Weighed(
        case=case,
        attempt=attempt,
        live=tuple(sight for scale in scales for sight in scale.live()),
        blind=tuple(text for scale in scales for text in scale.blind()),
        ended=tuple(sight for scale in scales for sight in scale.ended()),
        parts=tuple(sight for scale in scales for sight in scale.parts()),
        absent=tuple(absence for scale in scales for absence in scale.absent()),
        lost=tuple(sighting for scale in scales for sighting in scale.lost()),
        counted_in=frozenset(scale.look.scope for scale in scales if scale.could_vanish()),
    )


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
        return self.look.mapped or self.look.ever_seen

    def live(self) -> Iterator[Sight]:
        return (Sight(self.scope, seen) for seen in self.look.observations if seen.condition.is_live)

    def ended(self) -> Iterator[Sight]:
        for seen in self._of(Condition.EXITED):
            if seen.resource and self._is_of_this_attempt(seen.resource) and not self._may_be_a_part(seen):
                yield Sight(self.scope, seen)

    def parts(self) -> Iterator[Sight]:
        for seen in self._of(Condition.EXITED):
            if seen.resource and self._is_of_this_attempt(seen.resource) is not False and self._may_be_a_part(seen):
                yield Sight(self.scope, seen)

    def _may_be_a_part(self, seen: Observation) -> bool:
        """Whether something else may run the flow, and have started what ended: labels are copied.

        Nothing that ended speaks for what the pid names while that is said to be gone.
        """
        run, ended = self.case.run, seen.resource
        if seen.condition is not Condition.EXITED or ended is None:
            return False
        if not self._is_credible(ended):
            return True
        if run.pid is None:
            return False
        gone = [one.resource for one in self._of(Condition.GONE) if one.resource]
        if ended.is_named_by(run.pid) or not any(resource.is_named_by(run.pid) for resource in gone):
            return False
        if self.attempt is None:  # the pid may be an earlier attempt's: it must become a suspect, by one or the other
            return run.may_run and self.counts()[0] is not None
        return not self._pid_is_older(run.pid)

    def _is_credible(self, resource: Resource) -> bool:
        """Whether it may be what runs the flow, and not a thing that somebody gave the run's id and a fitting name.

        In a scope that the run is not mapped to only if the pid names that place, or the resource by the platform's own
        id, which nobody can choose (Docker's): a process number or a Job's name is there in other places too.
        """
        pid = self.case.run.pid
        was_mapped = any(one.was_mapped and one.resource.id == resource.id for one in self.look.sightings)
        if self.look.mapped or was_mapped or self.look.place is Place.HERE:
            return True
        return pid is not None and resource.key in ("", resource.id) and resource.is_named_by(pid)

    def could_vanish(self) -> bool:
        """Whether its absence would say something, and nothing of it has ended before our eyes."""
        return self.counts()[0] is not None and not any(self.ended())

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
            yield from self._doubts_about_end(seen)
        if self.concerned and not self.look.observations:
            yield "it gave no answer about this run"
        if self.concerned and self.scope.incomplete:
            yield self.scope.incomplete

    def _doubts_about_end(self, seen: Observation) -> Iterator[str]:
        """Whether an end may be another attempt's, or not that of the resource that runs the flow now."""
        run, resource = self.case.run, seen.resource
        if resource is None:
            yield "it names no resource that ended"
            return
        if self._may_be_a_part(seen):
            return  # nothing rests on it
        if self.attempt is None:
            return  # a suspect: its history is read, and then it is asked again
        mine = self._is_of_this_attempt(resource)
        if mine is None:
            yield f"{resource.title} was made too near the attempt's beginning to say whose it is"
        if mine and run.pid is not None and not resource.is_named_by(run.pid) and not self._pid_is_settled(run.pid):
            yield f"its infrastructure_pid '{_short(run.pid)}' names another resource, which may run elsewhere"
        if mine and (ended := self._ended(seen)) is not None and self._reported_later(ended):
            what = run.state_name if run.may_run else "the state of a subflow in its process"
            yield f"{resource.title} had ended when {what} was reported, so something else reported it"

    def _ended(self, seen: Observation) -> datetime | None:
        """When it ended, in our clock; without a time of its own, when an earlier pass saw that it had."""
        if seen.ended_at is not None:
            return self.scope.clock.to_ours(seen.ended_at)
        mine = (one for one in self.look.sightings if seen.resource and one.resource.id == seen.resource.id)
        return min((one.ended_seen for one in mine if one.ended_seen is not None), default=None)

    def _pid_is_settled(self, pid: str) -> bool:
        """The resource that the pid names was seen ended, or was here once, or can be nowhere else."""
        seen = [seen.resource for seen in self._of(Condition.EXITED) if seen.resource]
        seen += [sighting.resource for sighting in self.look.sightings]
        seen = [resource for resource in seen if self._is_credible(resource)]
        here = self.look.place is Place.HERE or (self.look.mapped and self.scope.exclusive)
        here = here and not any(gone.needs_sighting for gone in self._of(Condition.GONE))
        return any(resource.is_named_by(pid) for resource in seen) or (here and self.look.place is not Place.ELSEWHERE)

    def _was_contradicted(self) -> bool:
        """Whether something reported from its process since it is absent: it runs where this scope does not see."""
        since, attempt = self.look.absent_since, self.attempt
        if since is None or (attempt and since < self.snapshot.server_clock.to_ours(attempt.resumed)):
            return False
        return self._reported_later(since)

    def _reported_later(self, ended: datetime) -> bool:
        """Whether a state that only a live resource reports, its own or a subflow's, came after that end (ours)."""
        own = [self.case.run.state_since] if self.case.run.may_run else []
        reports = [*own, self.case.family_reported] if self.case.family_reported else own
        to_ours = self.snapshot.server_clock.to_ours
        return any(to_ours(reported) - ended > self._uncertainty for reported in reports)

    def absent(self) -> Iterator[Absence]:
        """Only GONE, resources of earlier attempts, or ended parts: nothing that runs this attempt is there."""
        if not self.concerned or not self.look.observations or self.look.error is not None:
            return
        there = (seen for seen in self.look.observations if seen.condition is not Condition.GONE)
        left = [seen for seen in there if not self._may_be_a_part(seen)]
        if all(seen.resource and self._is_of_this_attempt(seen.resource) is False for seen in left):
            counts, why_not = self.counts()
            stated = max(self._of(Condition.GONE), key=lambda seen: seen.unseen_end, default=None)
            if counts is not None and self._was_contradicted():
                gone_before = f"after scope '{self.look.scope}' had first said that it is not there"
                counts, why_not = None, f"it, or what runs in its process, reported a state {gone_before}"
            if counts is not None and stated is None and not left:
                counts, why_not = None, f"scope '{self.look.scope}' does not say what became of what its pid names"
            yield Absence(self.scope, counts, why_not, stated, self._sighting())

    def lost(self) -> Iterator[Sighting]:
        """What was seen alive of this attempt, and is now neither shown nor known to have ended."""
        shown = {seen.resource.id for seen in self.look.observations if seen.resource and seen.condition in _SHOWN}
        for one in self.look.sightings:
            unended = one.live_seen is not None and one.ended_seen is None and one.resource.id not in shown
            if unended and self._is_of_this_attempt(one.resource) is not False:
                yield one

    def counts(self) -> tuple[AbsenceCounts | None, str]:
        """Whether the absence of the run from this scope says something about the run, or why it does not."""
        run, look = self.case.run, self.look
        if run.pid is None and run.work_pool is None:
            return None, "it has neither work pool nor infrastructure_pid"
        if run.pid is None and not look.mapped:
            return None, (
                f"it has no infrastructure_pid, and scope '{look.scope}' is not mapped to it: "
                f'if it runs there, add `work_pools = ["{run.work_pool}"]` to that scope'
            )
        if look.place is Place.ELSEWHERE:
            return None, f"its infrastructure_pid '{_short(run.pid)}' points outside scope '{look.scope}'"
        if self._sighting() is not None:
            return AbsenceCounts.SIGHTED, ""
        why_not = self._only_if_sighted()
        if why_not is not None and not self._never_started_here():
            return None, why_not
        if look.place is Place.HERE:
            return AbsenceCounts.LOCATED, ""
        if look.mapped and self.scope.exclusive:
            return AbsenceCounts.EXCLUSIVE, ""
        return None, (
            f"it was never seen in scope '{look.scope}', and others may run it: "
            f"set `exclusive = true` on that scope if its runs can be nowhere else"
        )

    def _never_started_here(self) -> bool:
        """A pending run that can be nowhere else, whatever an earlier attempt left in its pid."""
        if any(seen.needs_sighting for seen in self._of(Condition.GONE)):
            return False
        return self.case.run.state_type is StateType.PENDING and self.look.mapped and self.scope.exclusive

    def _only_if_sighted(self) -> str | None:
        """Why nothing but a sighting would make the absence count; None if something else may."""
        scope, sighted = self.look.scope, [sighting.resource for sighting in self.look.sightings]
        if any(not self._is_credible(resource) for resource in sighted):
            return (
                f"what scope '{scope}' showed of it may be another's, for that scope is not mapped to it: "
                f"if it runs there, add {self.case.run.mapping_line} to that scope"
            )
        mine = {self._is_of_this_attempt(resource) for resource in sighted}
        never = f"nothing of this attempt was ever seen in scope '{scope}'"
        if None in mine:
            never = f"what scope '{scope}' showed was made too near the attempt's beginning to say whose it is"
        elif True in mine:
            never = f"what scope '{scope}' showed of it is not known to be what runs it now"
        for seen in self._of(Condition.GONE):
            if seen.needs_sighting:
                title = seen.resource.title if seen.resource else "its infrastructure"
                return f"{title} {seen.reason}, and {never}"
        if self.case.run.pid is None:
            return f"{never}, and it has no infrastructure_pid"
        if self.attempt and not self.attempt.is_only:
            return f"{never}, and its infrastructure_pid may be an earlier attempt's"
        return None

    def _sighting(self) -> Sighting | None:
        """The last sighting of what runs this attempt."""
        mine = [sighting for sighting in self.look.sightings if self._is_of_this_run_now(sighting)]
        return max(mine, key=lambda sighting: (sighting.last_seen, sighting.resource.id), default=None)

    def _is_of_this_run_now(self, sighting: Sighting) -> bool:
        """Of this attempt, seen since it was last resumed, and what the pid names (unless that is an older one)."""
        run, resource = self.case.run, sighting.resource
        if not self._is_of_this_attempt(resource) or not self._is_credible(resource):
            return False
        ended, last_alive = sighting.ended_seen, sighting.ended_seen or sighting.last_seen
        if self.attempt is not None and last_alive <= self.snapshot.server_clock.to_ours(self.attempt.resumed):
            return False
        if ended is not None and self._reported_later(ended):
            return False
        if run.pid is not None and resource.is_named_by(run.pid):
            return True
        return resource.is_whole and (run.pid is None or self._pid_is_older(run.pid))

    def _pid_is_older(self, pid: str) -> bool:
        """The pid names a resource that is known as an earlier attempt's: the server never clears it."""
        known = [seen.resource for seen in self.look.observations if seen.resource]
        known += [sighting.resource for sighting in self.look.sightings]
        return any(one.is_named_by(pid) and self._is_of_this_attempt(one) is False for one in known)

    def _of(self, condition: Condition) -> list[Observation]:
        return [seen for seen in self.look.observations if seen.condition is condition]

    @property
    def _uncertainty(self) -> timedelta:
        return self.scope.clock.uncertainty + self.snapshot.server_clock.uncertainty

    def _is_of_this_attempt(self, resource: Resource) -> bool | None:
        """None: too near the beginning to tell. A run with one attempt has no resources of another."""
        if self.attempt is None or self.attempt.is_only:
            return True
        if resource.created_at is None:
            return None
        made, to_ours = self.scope.clock.to_ours(resource.created_at), self.snapshot.server_clock.to_ours
        unsure = self._uncertainty + resource.created_within
        after = made - to_ours(self.attempt.began)
        if abs(after) > unsure:
            return after > timedelta(0)
        # the clocks do not say; but after its last state nothing was made for the former attempt
        return True if made - to_ours(self.attempt.former_ended) > unsure else None


def _short(pid: str | None, limit: int = 120) -> str:
    return "" if pid is None else pid if len(pid) <= limit else pid[:limit] + "..."
