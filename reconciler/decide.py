"""The specification: Snapshot + Policy -> Plan. Pure: no I/O, no clock but `taken_at`, no logging.

`RULES` is the table, in its order: the first rule that answers decides, and the last one always does. What a rule finds
to be a ZOMBIE the guards may still turn into HELD.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.guards import guarded
from reconciler.model import (
    AbsenceCounts,
    Case,
    Condition,
    FlowRun,
    Observation,
    Snapshot,
    StateType,
    Verdict,
)
from reconciler.plan import Finding, Plan, Policy
from reconciler.sentences import NOTHING, ended_sentence, gone_sentence, sentence
from reconciler.weigh import Absence, Sight, Weighed, weigh
from reconciler.words import moment, span


def decide(snapshot: Snapshot, policy: Policy) -> Plan:
    """Give a verdict with a reason for every run of the snapshot, in a stable order."""
    cases = sorted(snapshot.cases, key=lambda case: case.run.id)
    matters = [Matter(weigh(case, snapshot), snapshot, policy) for case in cases]
    return guarded([(matter.weighed, judge(matter)) for matter in matters], snapshot, policy)


def judge(matter: Matter) -> Finding:
    """Apply the table to one run."""
    return next(finding for rule in RULES if (finding := rule(matter)) is not None)


@dataclass(frozen=True, slots=True)
class Matter:
    """One run before the table."""

    weighed: Weighed
    snapshot: Snapshot
    policy: Policy

    @property
    def case(self) -> Case:
        return self.weighed.case

    @property
    def run(self) -> FlowRun:
        return self.case.run

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
        return self.run.state_type is StateType.RUNNING or (self.run.awaits_retry_in_process and not self.sleeps)

    def verdict(self, verdict: Verdict, rule: str, reason: str, sight: Sight | None = None) -> Finding:
        scope, seen = (sight.scope.name, sight.observation) if sight else (None, None)
        return Finding(run=self.run, verdict=verdict, rule=rule, reason=reason, scope=scope, observation=seen)


def rule_1_and_2_subflow(matter: Matter) -> Finding | None:
    """An in-process subflow lives and dies with its parent's process; nothing of its own can be looked at."""
    if not matter.run.is_in_process_subflow:
        return None
    return matter.verdict(
        Verdict.UNMANAGED, "1", "it runs inside its parent's process, and parents are not followed by this version"
    )


def rule_3_alive(matter: Matter) -> Finding | None:
    """A live resource in any scope settles it, whatever else has died."""
    if not matter.weighed.live:
        return None
    order = (Condition.ALIVE, Condition.STARTING, Condition.STOPPING)
    sight = min(matter.weighed.live, key=lambda s: (order.index(s.observation.condition), s.scope.name))
    seen = sight.observation
    slow = seen.condition is not Condition.ALIVE and matter.state_age > matter.policy.report_after
    reason = sentence(seen) + (f"; the run is {matter.run.state_name} for {span(matter.state_age)}" if slow else "")
    finding = matter.verdict(Verdict.HEALTHY, "3", reason, sight)
    return finding.noted() if slow else finding


def rule_4_blind(matter: Matter) -> Finding | None:
    """One scope that could not tell is enough: the live resource may be there."""
    reasons = list(matter.weighed.blind)
    if matter.case.history_error:
        reasons.append(f"its state history could not be read: {matter.case.history_error}")
    return matter.verdict(Verdict.UNKNOWN, "4", "; ".join(reasons)) if reasons else None


def rule_5_unmanaged(matter: Matter) -> Finding | None:
    """Nothing seen, where not seeing means nothing."""
    run, weighed = matter.run, matter.weighed
    if weighed.ended or any(absence.counts for absence in weighed.absent):
        return None
    if run.state_type is StateType.PENDING and weighed.absent:
        return None  # rule 8
    if run.pid is None and run.work_pool is None:
        why = "it has neither work pool nor infrastructure_pid (a script or .serve()), so nothing outside it names it"
    elif weighed.absent:
        why = "; ".join(absence.why_not for absence in weighed.absent)
    else:
        of_type = f" (worker type '{run.worker_type}')" if run.worker_type else ""
        why = (
            f"no scope is mapped to work pool '{run.work_pool}'{of_type}: "
            f'add one to the configuration with `work_pools = ["{run.work_pool}"]`'
        )
    return matter.verdict(Verdict.UNMANAGED, "5", why)


def rule_6_exited(matter: Matter) -> Finding | None:
    """The resource is there and has ended for good, and the run was not told."""
    sight = _last_end(matter)
    if sight is None or not (matter.should_run or matter.run.state_type is StateType.PENDING):
        return None
    if sight.observation.ended_at is None and matter.case.first_look is None:
        return _to_confirm(matter, sight, "its end has no time, so it is looked at twice")
    settle, name = _settle_time(matter, sight.observation)
    age = matter.snapshot.taken_at - max(_ended(matter, sight), matter.retry_due or _LONG_AGO)
    if age < settle:
        return _waits(matter, sight, f"{name} of {span(settle)} has not passed ({span(age)} so far)")
    return _zombie(matter, sight, "6", ended_sentence(sight, matter.snapshot.taken_at))


def rule_7_gone(matter: Matter) -> Finding | None:
    """The infrastructure itself said that there is nothing, where that counts."""
    absence = _counting_absence(matter)
    if absence is None or matter.weighed.ended or not matter.should_run:
        return None
    reason, policy = gone_sentence(absence, matter.snapshot.taken_at), matter.policy
    sight = Sight(absence.scope, absence.observation or NOTHING)
    age = min(matter.state_age, matter.snapshot.taken_at - (matter.retry_due or _LONG_AGO))
    first = matter.case.first_look
    if age < policy.grace:
        finding = _waits(matter, sight, f"the state is {span(age)} old, grace is {span(policy.grace)}", reason)
    elif first is None or matter.snapshot.taken_at - first < policy.confirm_after:
        finding = _to_confirm(matter, sight, f"a second look after {span(policy.confirm_after)}", reason)
    else:
        finding = _zombie(matter, sight, "7", reason)
    return finding.absent(sighted=absence.counts is AbsenceCounts.SIGHTED)


def rule_8_never_appeared(matter: Matter) -> Finding | None:
    """PENDING and nothing there: an image pull looks the same, so it is never settled, only held up to light."""
    if matter.run.state_type is not StateType.PENDING or matter.weighed.ended:
        return None
    reason = f"pending for {span(matter.state_age)}, and no infrastructure was found"
    if matter.state_age < matter.policy.report_after:
        return matter.verdict(
            Verdict.WAITING,
            "10",
            f"{reason}; an image pull looks the same, reported after {span(matter.policy.report_after)}",
        )
    return matter.verdict(Verdict.HELD, "8", f"{reason}; an image pull looks the same, so it is left to a person")


def rule_9_cancelling(matter: Matter) -> Finding | None:
    """Cancelling is a person's wish: never Crashed. Servers from 3.7.5 end it themselves after 300 s."""
    if matter.run.state_type is not StateType.CANCELLING or matter.state_age < matter.policy.cancelling_limit:
        return None
    what = _what_was_seen(matter)
    return matter.verdict(
        Verdict.HELD,
        "9",
        f"{what}; cancelling for {span(matter.state_age)}: servers before 3.7.5 leave it so, set it Cancelled by hand",
    )


def rule_10_waiting(matter: Matter) -> Finding:
    """Any other end or absence: say what is awaited."""
    what = _what_was_seen(matter)
    if matter.run.state_type is StateType.CANCELLING:
        awaited = f"cancelling for {span(matter.state_age)}, reported after {span(matter.policy.cancelling_limit)}"
    elif matter.retry_due is not None:
        awaited = f"its retry is due at {moment(matter.retry_due, matter.snapshot.taken_at)}"
    else:
        awaited = "its retry does not say when it is due"
    return matter.verdict(Verdict.WAITING, "10", f"{what}; {awaited}")


Rule = Callable[[Matter], Finding | None]
RULES: tuple[Rule, ...] = (
    rule_1_and_2_subflow,
    rule_3_alive,
    rule_4_blind,
    rule_5_unmanaged,
    rule_6_exited,
    rule_7_gone,
    rule_8_never_appeared,
    rule_9_cancelling,
    rule_10_waiting,
)

_LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _zombie(matter: Matter, sight: Sight, rule: str, reason: str) -> Finding:
    """A zombie by what was seen; suspects are judged again with their history before that stands."""
    history = matter.case.history
    if history is None:
        return _waits(matter, sight, "its state history is still to be read", reason).suspected()
    if not history or history[-1].id != matter.run.state_id:
        return _waits(matter, sight, "its state has changed since it was listed", reason)
    return matter.verdict(Verdict.ZOMBIE, rule, reason, sight).suspected()


def _to_confirm(matter: Matter, sight: Sight, awaited: str, reason: str | None = None) -> Finding:
    return _waits(matter, sight, awaited, reason).suspected(wants_time=True)


def _waits(matter: Matter, sight: Sight, awaited: str, reason: str | None = None) -> Finding:
    what = reason or ended_sentence(sight, matter.snapshot.taken_at)
    return matter.verdict(Verdict.WAITING, "10", f"{what}; awaited: {awaited}", sight)


def _settle_time(matter: Matter, seen: Observation) -> tuple[timedelta, str]:
    policy = matter.policy
    if matter.run.state_type is StateType.PENDING:
        return policy.settle_starting, "settle_starting"
    if seen.exit_code == 0:
        return policy.settle_zero, "settle_zero"
    return policy.settle_failed, "settle_failed"


def _last_end(matter: Matter) -> Sight | None:
    """The latest end is the one to wait for."""
    ends = matter.weighed.ended
    return max(ends, key=lambda s: (_ended(matter, s), s.scope.name, str(s.observation.exit_code)), default=None)


def _ended(matter: Matter, sight: Sight) -> datetime:
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
    first = matter.case.first_look or matter.snapshot.taken_at
    return min([first, *(time for time in remembered if time is not None)])


def _counting_absence(matter: Matter) -> Absence | None:
    order = tuple(AbsenceCounts)
    counting = [(order.index(a.counts), a.scope.name, a) for a in matter.weighed.absent if a.counts]
    return min(counting, key=lambda item: item[:2])[2] if counting else None


def _what_was_seen(matter: Matter) -> str:
    sight = _last_end(matter)
    if sight is not None:
        return ended_sentence(sight, matter.snapshot.taken_at)
    absence = _counting_absence(matter) or next(iter(matter.weighed.absent), None)
    return gone_sentence(absence, matter.snapshot.taken_at) if absence else "nothing was seen of it"
