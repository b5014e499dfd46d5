"""What rules 1 and 2 say of an in-process subflow: its root's fate is its own. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from reconciler.condemning import after_absence, after_end, confirmed
from reconciler.matter import Matter, Root, counting_absence, last_end, unreadable_history
from reconciler.model import Action, Cause, FlowRun, RunId, StateType, Verdict
from reconciler.plan import SIGNATURE, Finding
from reconciler.sentences import ended_sentence, gone_sentence, sentence
from reconciler.snapshot import ScopeView, Snapshot
from reconciler.words import moment, span


def title_of(run: FlowRun) -> str:
    return f"flow run {run.id} ({run.name})"


def with_reports(snapshot: Snapshot) -> Snapshot:
    """Note on each run when one of the subflows in flight in its process last reported a state: it lived then.

    That it is being cancelled is no report of its own.
    """
    newest: dict[RunId, datetime] = {}
    for case in snapshot.cases:
        if case.lineage is not None and case.run.state_type is not StateType.CANCELLING:
            for run_id in case.lineage.ancestors:
                newest[run_id] = max(newest.get(run_id, case.run.state_since), case.run.state_since)
    if not newest:
        return snapshot
    return replace(
        snapshot,
        cases=tuple(replace(case, family_reported=newest.get(case.run.id)) for case in snapshot.cases),
        roots={run_id: replace(case, family_reported=newest.get(run_id)) for run_id, case in snapshot.roots.items()},
    )


def shared_fate(matter: Matter, root: Root, found: Finding) -> Finding:
    """Rule 1: what the guards left of its root's verdict is the subflow's too, however it is put."""
    shared = replace(
        found,
        run=matter.run,
        rule="1",
        reason=f"it runs inside {title_of(root.run)}: {found.reason}",
        inside=root.run,
        depth=_depth(matter),
        absence=None,
        is_notable=False,
    )
    doubts = "; ".join(unreadable_history(matter.case))
    if found.verdict is Verdict.ZOMBIE and doubts:
        return _instead(shared, Verdict.UNKNOWN, doubts)
    if found.verdict is Verdict.ZOMBIE and found.action is Action.CANCEL:
        return _instead(shared, Verdict.WAITING, "awaited: the server cancels what runs inside a cancelled flow run")
    return confirmed(matter, _as_it_may_be(matter, root, shared))


def ended_parent(matter: Matter, root: Root) -> Finding:
    """Rule 2: its root has a final state, whoever wrote it. Total."""
    ended = matter.snapshot.server_clock.to_ours(root.run.state_since)
    age, grace = matter.snapshot.taken_at - ended, matter.policy.subflow_grace
    what = _what(matter, root.run)
    if matter.weighed.live:
        sight = min(matter.weighed.live, key=lambda one: (one.scope.name, one.observation.condition))
        found = matter.verdict(Verdict.HEALTHY, "2", f"{what}, yet {sentence(sight.observation)}", sight).noted()
    elif age < grace:
        awaited = f"subflow_grace of {span(grace)} has not passed ({span(age)} so far)"
        found = matter.verdict(Verdict.WAITING, "2", f"{what}; awaited: {awaited}")
    elif doubts := [*matter.weighed.blind, *unreadable_history(root.weighed.case), *unreadable_history(matter.case)]:
        found = matter.verdict(Verdict.UNKNOWN, "2", f"{what}; {'; '.join(doubts)}")
    else:
        found = _by_its_end(matter, root, what)
    cause = Cause.PARENT_ENDED if found.verdict is Verdict.ZOMBIE else None
    return _as_it_may_be(matter, root, replace(found, rule="2", inside=root.run, depth=_depth(matter), cause=cause))


def _by_its_end(matter: Matter, root: Root, what: str) -> Finding:
    """What was seen of the root must be believed as it must of any run; if nothing counts, its own word may."""
    now, end, absence = matter.snapshot.taken_at, last_end(matter), counting_absence(matter)
    if end is not None:
        return after_end(matter, end, "2", f"{what}; {ended_sentence(end, now)}")
    if absence is not None:
        return after_absence(matter, absence, "2", f"{what}; {gone_sentence(absence, now)}")
    scope, unheard_of = _scope(matter, root), f"{what}, and nothing tells that its process ended"
    if _went_on(root):
        return matter.verdict(Verdict.UNMANAGED, "2", f"{unheard_of}: what runs in it reported a state after that")
    if root.run.transition_id is None or (scope is None and _has_infrastructure(root.run)):
        return matter.verdict(Verdict.UNMANAGED, "2", f"{unheard_of}{_why(matter)}")
    found = matter.zombie("2", what, Cause.PARENT_ENDED, None)  # its engine reported that, or a worker that saw it
    if scope is not None:
        found = replace(found, scope=scope.name, adapter=scope.adapter)
    return confirmed(matter, found)


def _has_infrastructure(run: FlowRun) -> bool:
    """Whether there is something that a scope could be asked about; a script and .serve() have nothing."""
    return run.pid is not None or run.work_pool is not None


def _as_it_may_be(matter: Matter, root: Root, found: Finding) -> Finding:
    """Heed what is the subflow's own: the attempt of its root that it belongs to, and whether it is being cancelled.

    One that is being cancelled is never crashed: rule 9's conditions are its own.
    """
    run, policy = matter.run, matter.policy
    if found.verdict is not Verdict.ZOMBIE:
        return found
    if _is_of_an_earlier_attempt(matter, root):
        why = "it runs since before that attempt began, and nothing tells what became of the attempt that it belongs to"
        return _instead(found, Verdict.UNMANAGED, why)
    if run.state_type is not StateType.CANCELLING:
        return found
    if matter.state_age < policy.cancelling_limit:
        why = f"cancelling for {span(matter.state_age)}, reported after {span(policy.cancelling_limit)}"
        return _instead(found, Verdict.WAITING, f"awaited: {why}")
    if policy.finish_cancelling:
        return found
    remedy = "set it Cancelled by hand, or let `finish_cancelling = true` do it"
    why = f"cancelling for {span(matter.state_age)}: servers before 3.7.5 leave it so, {remedy}"
    return _instead(found, Verdict.HELD, why)


def _instead(found: Finding, verdict: Verdict, why: str) -> Finding:
    """Give it as what it is for a reason of its own; nothing of a settlement is left on it."""
    reason = f"{found.reason}; {why}"
    return replace(found, verdict=verdict, reason=reason, is_suspect=False, cause=None, labels_run=False)


def _went_on(root: Root) -> bool:
    """Whether something reported from its process after its final state: then that was not the end."""
    reported = root.weighed.case.family_reported
    return reported is not None and reported > root.run.state_since


def _is_of_an_earlier_attempt(matter: Matter, root: Root) -> bool:
    """Whether it began in a former attempt of its root, of whose end nobody told who was there.

    That end is vouched for as a root's own is: by the transition's id (an engine that reschedules, a worker, we).
    """
    attempt, since = root.weighed.attempt, matter.run.state_since
    if attempt is None or attempt.is_only or since >= attempt.began:
        return False
    later = (record for record in root.weighed.case.history or () if record.timestamp > since)
    left = next((record for record in later if record.type is not StateType.RUNNING), None)
    return left is None or left.transition_id is None


def _depth(matter: Matter) -> int:
    return matter.case.lineage.depth if matter.case.lineage else 0


def _what(matter: Matter, root: FlowRun) -> str:
    since = moment(matter.snapshot.server_clock.to_ours(root.state_since), matter.snapshot.taken_at)
    message = (root.state_message or "").removesuffix(SIGNATURE).rstrip(" .")
    why = f" ({message})" if message else ""
    parent = "its parent" if _depth(matter) == 1 else "what it runs inside,"
    return f"{parent} {title_of(root)} is {root.state_name} since {since}{why}"


def _why(matter: Matter) -> str:
    """Why the absence of the root says nothing."""
    why_not = "; ".join(dict.fromkeys(absence.why_not for absence in matter.weighed.absent))
    return f": {why_not}" if why_not else ", for no scope is asked about it"


def _scope(matter: Matter, root: Root) -> ScopeView | None:
    """The scope that the root is mapped to, the most wary first: its mode and trust bind the subflows too."""
    mapped = [matter.snapshot.scopes[look.scope] for look in root.weighed.case.looks if look.mapped]
    return min(mapped, key=lambda one: (not one.observes, one.distrusted_since is None, one.name), default=None)
