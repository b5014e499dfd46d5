"""One run before the table of `decide.py`: what the rules ask of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reconciler.model import AbsenceCounts, Cause, Condition, FlowRun, Observation, Sighting, StateType, Verdict
from reconciler.plan import Finding, Policy
from reconciler.sentences import NOTHING, ended_sentence, gone_sentence
from reconciler.snapshot import Case, FirstLook, Snapshot
from reconciler.weigh import Absence, Sight, Weighed
from reconciler.words import span

LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Root:
    """The flow run in whose process a subflow runs."""

    weighed: Weighed
    finding: Finding | None  # what the guards left of it; None: it is not in flight

    @property
    def run(self) -> FlowRun:
        return self.weighed.case.run


@dataclass(frozen=True, slots=True)
class Matter:
    """One run before the table."""

    weighed: Weighed  # of a subflow: with what was seen of its root
    snapshot: Snapshot
    policy: Policy
    runs_inside: bool = False  # an in-process subflow
    root: Root | None = None  # of an in-process subflow; None: it was deleted, or could not be told

    @property
    def case(self) -> Case:
        return self.weighed.case

    @property
    def run(self) -> FlowRun:
        return self.case.run

    @property
    def first_look(self) -> FirstLook | None:
        """Of what it is judged by: that is a root which has ended, or itself."""
        of_root = self.root is not None and self.root.finding is None
        return self.root.weighed.case.first_look if self.root and of_root else self.case.first_look

    @property
    def state_age(self) -> timedelta:
        return self.snapshot.taken_at - self.snapshot.server_clock.to_ours(self.run.state_since)

    @property
    def retry_due(self) -> datetime | None:
        """When an in-process retry wakes, in our clock; None if the run is not asleep."""
        if not self.run.awaits_retry_in_process or self.run.scheduled_time is None:
            return None
        return self.snapshot.server_clock.to_ours(self.run.scheduled_time)

    @property
    def sleeps(self) -> bool:
        """An in-process retry that is not due yet, or does not say when it is."""
        due = self.retry_due
        return self.run.awaits_retry_in_process and (due is None or due > self.snapshot.taken_at)

    @property
    def should_run(self) -> bool:
        return self.run.may_run and not self.sleeps

    @property
    def stuck_cancelling(self) -> str | None:
        """What is to be told of a run that is being cancelled for too long, whatever became of it."""
        is_cancelling = self.run.state_type is StateType.CANCELLING
        is_stuck = is_cancelling and self.state_age >= self.policy.cancelling_limit
        return f"cancelling for {span(self.state_age)}" if is_stuck else None

    @property
    def wants_history_of_root(self) -> bool:
        """A root that has ended is no suspect itself, and which of its resources are of its last attempt matters."""
        return self.root is not None and self.root.finding is None and self.root.weighed.case.history is None

    def verdict(self, verdict: Verdict, rule: str, reason: str, sight: Sight | None = None) -> Finding:
        finding = Finding(run=self.run, verdict=verdict, rule=rule, reason=reason)
        if sight is None:
            return finding
        return replace(finding, scope=sight.scope.name, adapter=sight.scope.adapter, observation=sight.observation)

    def zombie(self, rule: str, reason: str, cause: Cause | None, sight: Sight | None) -> Finding:
        """Say that it is one by what was seen; what is still to be confirmed is not its business."""
        finding = self.verdict(Verdict.ZOMBIE, rule, reason, sight)
        return replace(finding, cause=cause, labels_run=self.policy.label_settled)


def ended_at_first_look(matter: Matter, sight: Sight) -> bool:
    first, resource = matter.first_look, sight.observation.resource
    return first is not None and resource is not None and resource.id in first.ended


def unreadable_history(case: Case) -> Iterator[str]:
    """Why its state history says nothing."""
    history = case.history
    if case.history_error:
        yield f"its state history could not be read: {case.history_error}"
    elif history == ():
        yield "the server has no state history of it"
    elif history and any(record.id == case.run.state_id for record in history[:-1]):
        yield "its state history is out of order: the server's replicas may have different clocks"


def settle_time(matter: Matter, seen: Observation) -> tuple[timedelta, str]:
    policy = matter.policy
    if matter.run.state_type is StateType.PENDING:
        return policy.settle_starting, "settle_starting"
    if seen.exit_code == 0:
        return policy.settle_zero, "settle_zero"
    return policy.settle_failed, "settle_failed"


def last_end(matter: Matter) -> Sight | None:
    """The latest end is the one to wait for."""
    ends = matter.weighed.ended
    return max(ends, key=lambda s: (ended_by(matter, s), s.scope.name, str(s.observation.exit_code)), default=None)


def youth_of(matter: Matter, sight: Sight) -> timedelta:
    """How long, at least, both what ended and the run's state have been there: what is older than both is shown."""
    made = sight.observation.resource.created_at if sight.observation.resource else None
    age = matter.snapshot.taken_at - sight.scope.clock.to_ours(made) if made else matter.state_age
    known = age if age > timedelta(0) else matter.state_age  # made in the future: its clock was set back
    return min(known, matter.state_age) - sight.scope.clock.uncertainty


def lost_of_late(matter: Matter) -> Sighting | None:
    """Something else of this attempt that was alive a while ago, and is now neither shown nor known to have ended."""
    since = matter.snapshot.taken_at - matter.policy.quiet
    return next((one for one in matter.weighed.lost if one.live_seen and one.live_seen > since), None)


def ended_by(matter: Matter, sight: Sight) -> datetime:
    """When it ended, in our clock; without a time of its own, when that was first seen."""
    seen = sight.observation
    if seen.ended_at is not None:
        return sight.scope.clock.to_ours(seen.ended_at)
    remembered = (
        sighting.ended_seen
        for look in matter.case.looks
        for sighting in look.sightings
        if look.scope == sight.scope.name and seen.resource and sighting.resource.id == seen.resource.id
    )
    first = matter.first_look.at if matter.first_look else matter.snapshot.taken_at
    return min([first, *(time for time in remembered if time is not None)])


def counting_absence(matter: Matter) -> Absence | None:
    order = tuple(AbsenceCounts)
    counting = [(order.index(a.counts), a.scope.name, a) for a in matter.weighed.absent if a.counts]
    return min(counting, key=lambda item: item[:2])[2] if counting else None


def unheard(matter: Matter) -> str:
    """What is to be added of a run that died while it awaited a retry: no worker fetches it, no service looks at it."""
    if not matter.run.awaits_retry_in_process:
        return ""
    return "; it awaited a retry in its own process, which nothing else would ever have started or ended"


def what_was_seen(matter: Matter) -> tuple[str, Sight | None]:
    sight, now = last_end(matter), matter.snapshot.taken_at
    if sight is not None:
        return ended_sentence(sight, now), sight
    absence = counting_absence(matter) or next(iter(matter.weighed.absent), None)
    if absence is None:
        return "nothing was seen of it", None
    return gone_sentence(absence, now), Sight(absence.scope, absence.observation or NOTHING)


def unknowns(matter: Matter) -> Iterator[Sight]:
    for look in matter.case.looks:
        for seen in look.observations:
            if seen.condition is Condition.UNKNOWN:
                yield Sight(matter.snapshot.scopes[look.scope], seen)
