"""The specification: Snapshot + Policy -> Plan. Pure: no I/O, no clock but `taken_at`, no logging.

`RULES` is the table, in its order: the first rule that answers decides, and the last one always does. What a rule finds
to be a ZOMBIE the guards may still turn into HELD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from reconciler.guards import Watchman, guarded_alone
from reconciler.matter import (
    LONG_AGO,
    Matter,
    Root,
    counting_absence,
    ended_at_first_look,
    ended_by,
    last_end,
    lost_of_late,
    settle_time,
    unheard,
    unknowns,
    unreadable_history,
    what_was_seen,
    youth_of,
)
from reconciler.model import Condition, RunId, StateType, Verdict
from reconciler.plan import NOTHING_PLANNED, Breaker, Finding, Judged, Plan, Policy
from reconciler.sentences import NOTHING, ended_sentence, gone_sentence, sentence, unmapped_sentence
from reconciler.snapshot import Case, ScopeView, Snapshot
from reconciler.subflows import ended_parent, shared_fate, title_of, with_reports
from reconciler.weigh import Absence, Sight, riding, runs_inside, weigh
from reconciler.words import moment, span


def decide(snapshot: Snapshot, policy: Policy, earlier: Plan | None = None) -> Plan:
    """Give a verdict with a reason for every run of the snapshot, in a stable order.

    Only the suspects of the `earlier` plan of this cycle are judged again; of the others nothing new is known.
    """
    snapshot, before = with_reports(snapshot), earlier or NOTHING_PLANNED
    known = {one.finding.run.id: one for one in before.judged if not one.finding.is_suspect}
    cases = sorted(snapshot.cases, key=lambda case: case.run.id)
    alone = [known.get(case.run.id) or judge(case, snapshot, policy) for case in cases if not runs_inside(case)]
    watchman = Watchman.over(alone, snapshot, policy, before.breakers)
    roots = _roots(alone, watchman, snapshot)
    inside = [known.get(case.run.id) or judge(case, snapshot, policy, roots) for case in cases if runs_inside(case)]
    return watchman.plan(sorted([*alone, *inside], key=lambda one: one.finding.run.id))


def decide_alone(snapshot: Snapshot, policy: Policy, tripped: Sequence[Breaker] = (), ahead: int = 0) -> Finding:
    """Decide about the one run of a snapshot that was cut out of a pass.

    `tripped` and `ahead`, zombies that come first, are of that pass. The root of a subflow is in `snapshot.roots`.
    """
    (case,) = snapshot.cases
    watchman = Watchman(snapshot, policy, {breaker.scope: breaker for breaker in tripped})
    alone = [judge(root, snapshot, policy) for root in snapshot.roots.values() if root.run.is_in_flight]
    judged = judge(case, snapshot, policy, _roots(alone, watchman, snapshot))
    return guarded_alone(judged, snapshot, policy, tripped, ahead)


def judge(case: Case, snapshot: Snapshot, policy: Policy, roots: Mapping[RunId, Root] | None = None) -> Judged:
    """Apply the table to one run. `roots`: what became of the runs that in-process subflows run in."""
    weighed, root, inside = weigh(case, snapshot), None, runs_inside(case)
    if inside and case.lineage:  # an ancestor in between may have turned out to have infrastructure of its own
        ancestors = ((roots or {}).get(run_id) for run_id in case.lineage.ancestors)
        root = next((one for one in ancestors if one is not None), None)
        weighed = riding(weighed, root.weighed) if root else weighed
    matter = Matter(weighed, snapshot, policy, inside, root)
    finding = next(finding for rule in RULES if (finding := rule(matter)) is not None)
    of_root = root.weighed.case if root else None
    return Judged(matter.weighed, finding, at=snapshot.taken_at, scopes=snapshot.scopes, root=of_root)


def rule_1_subflow(matter: Matter) -> Finding | None:
    """An in-process subflow lives and dies with its root's process; nothing of its own can be looked at."""
    if not matter.runs_inside:
        return None
    lineage, root = matter.case.lineage, matter.root
    if lineage is not None and lineage.error is not None:
        return matter.verdict(Verdict.UNKNOWN, "1", lineage.error)
    if root is None:
        why = "its parent flow run was deleted, so nothing tells in whose process it ran"
        return matter.verdict(Verdict.UNMANAGED, "1", why)
    if root.finding is not None:
        return _confirmed(matter, shared_fate(matter, root, root.finding))
    if root.run.state_type.is_terminal:
        return None  # rule 2
    return matter.verdict(Verdict.HEALTHY, "1", f"its parent {title_of(root.run)} is {root.run.state_name}")


def rule_2_parent_ended(matter: Matter) -> Finding | None:
    """Whoever ended the parent, a live one aside: what ran inside it will never report."""
    if not matter.runs_inside or matter.root is None:
        return None
    finding = ended_parent(matter, matter.root)
    return _confirmed(matter, finding) if finding.verdict is Verdict.ZOMBIE else finding


def rule_3_alive(matter: Matter) -> Finding | None:
    """A live resource in any scope settles it, whatever else has died."""
    if not matter.weighed.live:
        return None
    order = (Condition.ALIVE, Condition.STARTING, Condition.STOPPING)
    sight = min(matter.weighed.live, key=lambda s: (order.index(s.observation.condition), s.scope.name))
    seen, pid = sight.observation, matter.run.pid
    remarks = []
    if seen.condition is not Condition.ALIVE:
        remarks.append(f"the run is {matter.run.state_name} for {span(matter.state_age)}")
    if pid and not any(s.observation.resource and s.observation.resource.is_named_by(pid) for s in matter.weighed.live):
        remarks.append("it is not what the run's infrastructure_pid names")
    finding = matter.verdict(Verdict.HEALTHY, "3", "; ".join([sentence(seen), *remarks]), sight)
    return finding.noted() if remarks and matter.state_age > matter.policy.report_after else finding


def rule_4_blind(matter: Matter) -> Finding | None:
    """One scope that could not tell is enough: the live resource may be there."""
    reasons = [*matter.weighed.blind, *unreadable_history(matter.case)]
    if not reasons:
        return None
    return matter.verdict(Verdict.UNKNOWN, "4", "; ".join(reasons), next(unknowns(matter), None))


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
        why = unmapped_sentence(run)
    ends = (ended_sentence(sight, matter.snapshot.taken_at) for sight in weighed.parts)
    parts = (f"{end}, which may be a part of it only" for end in sorted(ends))
    return matter.verdict(Verdict.UNMANAGED, "5", "; ".join([why, *parts]))


def rule_6_exited(matter: Matter) -> Finding | None:
    """The resource is there and has ended for good, and the run was not told."""
    sight = last_end(matter)
    if sight is None or not (matter.should_run or matter.run.state_type is StateType.PENDING):
        return None
    return _after_end(matter, sight, "6")


def _after_end(matter: Matter, sight: Sight, rule: str) -> Finding:
    """It ended: once the settle time has passed, and nothing else can come to light, it is a zombie."""
    scope, now = sight.scope, matter.snapshot.taken_at
    settle, name = settle_time(matter, sight.observation)
    age = now - max(ended_by(matter, sight), matter.retry_due or LONG_AGO)
    if scope.lag and (youth := youth_of(matter, sight)) < scope.lag:
        return _waits(matter, sight, f"{_late(scope, 'what else was made')}, for another {span(scope.lag - youth)}")
    if sight.observation.ended_at is None and not ended_at_first_look(matter, sight):
        return _to_confirm(matter, sight, "its end has no time, so it is looked at twice")
    if age - scope.clock.uncertainty < settle:
        return _waits(matter, sight, f"{name} of {span(settle)} has not passed ({span(age)} so far)")
    if (lost := lost_of_late(matter)) and not ended_at_first_look(matter, sight):
        return _to_confirm(matter, sight, f"a second look, for {lost.resource.title} was alive before")
    return _zombie(matter, sight, rule, ended_sentence(sight, now) + unheard(matter))


def rule_7_gone(matter: Matter) -> Finding | None:
    """The infrastructure itself said that there is nothing, where that counts."""
    absence = counting_absence(matter)
    if absence is None or matter.weighed.ended or not matter.should_run:
        return None
    return _after_absence(matter, absence, "7", gone_sentence(absence, matter.snapshot.taken_at) + unheard(matter))


def _after_absence(matter: Matter, absence: Absence, rule: str, reason: str) -> Finding:
    """It is not there, where that counts: if that is so twice, and the state is no younger than grace, a zombie."""
    policy, sight = matter.policy, Sight(absence.scope, absence.observation or NOTHING)
    age = min(matter.state_age, matter.snapshot.taken_at - (matter.retry_due or LONG_AGO))
    first = matter.case.first_look
    was_absent = first is not None and absence.scope.name in first.absent_from
    if age < policy.grace:
        finding = _waits(matter, sight, f"the state is {span(age)} old, grace is {span(policy.grace)}", reason)
    elif matter.state_age - sight.scope.clock.uncertainty < sight.scope.lag:
        late = _late(sight.scope, "what was made")
        finding = _waits(matter, sight, f"the state is {span(matter.state_age)} old, and {late}", reason)
    elif first is None or not was_absent or matter.snapshot.taken_at - first.at < policy.confirm_after:
        finding = _to_confirm(matter, sight, f"a second look after {span(policy.confirm_after)}", reason)
    else:
        finding = _zombie(matter, sight, rule, reason)
    return finding.absent(absence.counts)


def rule_8_never_appeared(matter: Matter) -> Finding | None:
    """PENDING and nothing there: an image pull looks the same, so it is only settled where the operator says so."""
    if matter.run.state_type is not StateType.PENDING or matter.weighed.ended:
        return None
    reason = f"pending for {span(matter.state_age)}, and no infrastructure was found"
    if matter.state_age < matter.policy.report_after:
        return matter.verdict(
            Verdict.WAITING,
            "10",
            f"{reason}; an image pull looks the same, reported after {span(matter.policy.report_after)}",
        )
    if not matter.policy.crash_pending:
        left = "an image pull looks the same, so it is left to a person (or to `crash_pending = true`)"
        return matter.verdict(Verdict.HELD, "8", f"{reason}; {left}")
    absence = counting_absence(matter)
    if absence is None:
        why = "; ".join(absence.why_not for absence in matter.weighed.absent)
        return matter.verdict(Verdict.HELD, "8", f"{reason}; crash_pending cannot judge it: {why}")
    return _after_absence(matter, absence, "8", reason)


def rule_9_cancelling(matter: Matter) -> Finding | None:
    """Cancelling is a person's wish: never Crashed. Servers from 3.7.5 end it themselves after 300 s."""
    if matter.run.state_type is not StateType.CANCELLING or matter.state_age < matter.policy.cancelling_limit:
        return None
    what, sight = what_was_seen(matter)
    end, absence, age = last_end(matter), counting_absence(matter), f"cancelling for {span(matter.state_age)}"
    if matter.policy.finish_cancelling and end is not None:
        return _after_end(matter, end, "9")
    if matter.policy.finish_cancelling and absence is not None:
        return _after_absence(matter, absence, "9", f"{what}; {age}")
    remedy = "servers before 3.7.5 leave it so, set it Cancelled by hand (or let `finish_cancelling = true` do it)"
    return matter.verdict(Verdict.HELD, "9", f"{what}; {age}: {remedy}", sight)


def rule_10_waiting(matter: Matter) -> Finding:
    """Any other end or absence: say what is awaited."""
    what, sight = what_was_seen(matter)
    if matter.run.state_type is StateType.CANCELLING:
        limit = span(matter.policy.cancelling_limit)
        awaited = f"cancelling for {span(matter.state_age)}, reported after {limit}"
    elif matter.retry_due is not None:
        awaited = f"its retry is due at {moment(matter.retry_due, matter.snapshot.taken_at)}"
    else:
        return matter.verdict(Verdict.HELD, "10", f"{what}; its retry says no time, so it is left to a person", sight)
    finding = matter.verdict(Verdict.WAITING, "10", f"{what}; {awaited}", sight)
    absence = counting_absence(matter) if matter.run.may_run and not matter.weighed.ended else None
    return finding.absent(absence.counts) if absence else finding


Rule = Callable[[Matter], Finding | None]
RULES: tuple[Rule, ...] = (
    rule_1_subflow,
    rule_2_parent_ended,
    rule_3_alive,
    rule_4_blind,
    rule_5_unmanaged,
    rule_6_exited,
    rule_7_gone,
    rule_8_never_appeared,
    rule_9_cancelling,
    rule_10_waiting,
)


def _zombie(matter: Matter, sight: Sight, rule: str, reason: str) -> Finding:
    return _confirmed(matter, matter.zombie(rule, reason, sight.observation.why, sight))


def _confirmed(matter: Matter, finding: Finding) -> Finding:
    """A zombie by what was seen; suspects are judged again with their history before that stands."""
    if finding.verdict is not Verdict.ZOMBIE:
        return finding
    history = matter.case.history
    if history is None or matter.wants_history_of_root:
        return _awaits(finding, "its state history is still to be read").suspected()
    if history[-1].id != matter.run.state_id:
        return _awaits(finding, "its state has changed since it was listed")
    if matter.case.first_look is None:
        return _awaits(finding, "a second look, in every scope").suspected()
    return finding.suspected()


def _roots(alone: Sequence[Judged], watchman: Watchman, snapshot: Snapshot) -> dict[RunId, Root]:
    """The runs in which subflows run: those in flight with what the guards left of their findings, and the others."""
    wanted = {run_id for case in snapshot.cases if case.lineage for run_id in case.lineage.ancestors}
    mine = [one for one in alone if one.finding.run.id in wanted]
    in_flight = {one.finding.run.id: Root(one.weighed, watchman.hold(one.weighed, one.finding)) for one in mine}
    tops = {case.lineage.root_id for case in snapshot.cases if case.lineage}  # who has ended in between is no root
    others = {run_id: case for run_id, case in snapshot.roots.items() if run_id in tops or not runs_inside(case)}
    return {run_id: Root(weigh(case, snapshot), None) for run_id, case in others.items()} | in_flight


def _late(scope: ScopeView, what: str) -> str:
    return f"scope '{scope.name}' may not show yet {what} within {span(scope.lag)}"


def _awaits(finding: Finding, awaited: str) -> Finding:
    rule, reason = finding.rule if finding.inside else "10", f"{finding.reason}; awaited: {awaited}"
    waits = replace(finding, verdict=Verdict.WAITING, rule=rule, reason=reason, is_suspect=False)
    return replace(waits, cause=None, labels_run=False)


def _to_confirm(matter: Matter, sight: Sight, awaited: str, reason: str | None = None) -> Finding:
    return _waits(matter, sight, awaited, reason).suspected(wants_time=True)


def _waits(matter: Matter, sight: Sight, awaited: str, reason: str | None = None) -> Finding:
    what = reason or ended_sentence(sight, matter.snapshot.taken_at)
    return matter.verdict(Verdict.WAITING, "10", f"{what}; awaited: {awaited}", sight)
