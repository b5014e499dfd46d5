"""The specification: Snapshot + Policy -> Plan. Pure: no I/O, no clock but `taken_at`, no logging.

`RULES` is the table, in its order: the first rule that answers decides, and the last one always does. What a rule finds
to be a ZOMBIE the guards may still turn into HELD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reconciler.condemning import after_absence, after_end
from reconciler.guards import Watchman, guarded_alone
from reconciler.matter import (
    Matter,
    Root,
    counting_absence,
    last_end,
    unknowns,
    unreadable_history,
    what_was_seen,
)
from reconciler.model import Condition, RunId, StateType, Verdict
from reconciler.plan import NOTHING_PLANNED, Breaker, Finding, Judged, Plan, Policy
from reconciler.sentences import ended_sentence, gone_sentence, sentence, unmapped_sentence
from reconciler.snapshot import Case, Snapshot
from reconciler.subflows import ended_parent, shared_fate, title_of, with_reports
from reconciler.weigh import riding, runs_inside, weigh
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
        return shared_fate(matter, root, root.finding)
    if root.run.state_type.is_terminal:
        return None  # rule 2
    return matter.verdict(Verdict.HEALTHY, "1", f"its parent {title_of(root.run)} is {root.run.state_name}")


def rule_2_parent_ended(matter: Matter) -> Finding | None:
    """Whoever ended the parent, a live one aside: what ran inside it will never report."""
    if not matter.runs_inside or matter.root is None:
        return None
    return ended_parent(matter, matter.root)


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
    if stuck := matter.stuck_cancelling:
        remarks.append(stuck)
    finding = matter.verdict(Verdict.HEALTHY, "3", "; ".join([sentence(seen), *remarks]), sight)
    return finding.noted() if stuck or (remarks and matter.state_age > matter.policy.report_after) else finding


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
    stuck = [matter.stuck_cancelling] if matter.stuck_cancelling else []
    return matter.verdict(Verdict.UNMANAGED, "5", "; ".join([why, *parts, *stuck]))


def rule_6_exited(matter: Matter) -> Finding | None:
    """The resource is there and has ended for good, and the run was not told."""
    sight = last_end(matter)
    if sight is None or not (matter.should_run or matter.run.state_type is StateType.PENDING):
        return None
    return after_end(matter, sight, "6", ended_sentence(sight, matter.snapshot.taken_at))


def rule_7_gone(matter: Matter) -> Finding | None:
    """The infrastructure itself said that there is nothing, where that counts."""
    absence = counting_absence(matter)
    if absence is None or matter.weighed.ended or not matter.should_run:
        return None
    return after_absence(matter, absence, "7", gone_sentence(absence, matter.snapshot.taken_at))


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
        where = "" if counting_absence(matter) else " in an `exclusive` scope"
        left = f"an image pull looks the same, so it is left to a person (or to `crash_pending = true`{where})"
        return matter.verdict(Verdict.HELD, "8", f"{reason}; {left}")
    absence = counting_absence(matter)
    if absence is None:
        why = "; ".join(absence.why_not for absence in matter.weighed.absent)
        return matter.verdict(Verdict.HELD, "8", f"{reason}; crash_pending cannot judge it: {why}")
    return after_absence(matter, absence, "8", reason)


def rule_9_cancelling(matter: Matter) -> Finding | None:
    """Cancelling is a person's wish: never Crashed. Servers from 3.7.5 end it themselves after 300 s."""
    if matter.run.state_type is not StateType.CANCELLING or matter.state_age < matter.policy.cancelling_limit:
        return None
    what, sight = what_was_seen(matter)
    end, absence, age = last_end(matter), counting_absence(matter), f"cancelling for {span(matter.state_age)}"
    if matter.policy.finish_cancelling and end is not None:
        return after_end(matter, end, "9", f"{what}; {age}")
    if matter.policy.finish_cancelling and absence is not None:
        return after_absence(matter, absence, "9", f"{what}; {age}")
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


def _roots(alone: Sequence[Judged], watchman: Watchman, snapshot: Snapshot) -> dict[RunId, Root]:
    """The runs in which subflows run: those in flight with what the guards left of their findings, and the others."""
    wanted = {run_id for case in snapshot.cases if case.lineage for run_id in case.lineage.ancestors}
    mine = [one for one in alone if one.finding.run.id in wanted]
    in_flight = {one.finding.run.id: Root(one.weighed, watchman.hold(one.weighed, one.finding)) for one in mine}
    tops = {case.lineage.root_id for case in snapshot.cases if case.lineage}  # who has ended in between is no root
    others = {run_id: case for run_id, case in snapshot.roots.items() if run_id in tops or not runs_inside(case)}
    return {run_id: Root(weigh(case, snapshot), None) for run_id, case in others.items()} | in_flight
