"""Inside whose process a run runs, what runs inside its own, what lives on after it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from reconciler.account.explained import ChildTold, InsideTold, OrphanTold, SettlementTold
from reconciler.account.forecast import Forecast
from reconciler.account.forms import NAME, Form
from reconciler.aftermath import written
from reconciler.evidence import Line
from reconciler.model import Action, ClockOffset, FlowRun, RunId
from reconciler.orphans import orphan_sentence
from reconciler.plan import CycleReport, Orphan
from reconciler.sentences import ended_sentence, gone_sentence, sentence
from reconciler.snapshot import Case, Snapshot
from reconciler.weigh import weigh

_MOST = 20


def inside_told(line: Line, snapshot: Snapshot, form: Form) -> InsideTold | None:
    """Tell of parent and root, if it is an in-process subflow. `snapshot` is the whole pass's: it has more names."""
    case, root = line.case, line.root
    if case.lineage is None:
        return None
    names = {one.run.id: one.run.name for one in (*snapshot.cases, *snapshot.roots.values())}
    parent_id = next(iter(case.lineage.ancestors), None)
    run, to_ours = root.run if root else None, snapshot.server_clock.to_ours
    return InsideTold(
        parent_id=str(parent_id) if parent_id else None,
        parent_name=form.maybe(names.get(parent_id)) if parent_id else None,
        depth=case.lineage.depth,
        root_id=str(run.id) if run else None,
        root_name=form.text(run.name, NAME) if run else None,
        root_state_type=str(run.state_type) if run else None,
        root_state_name=form.text(run.state_name, NAME) if run else None,
        root_since=form.time(to_ours(run.state_since)) if run else None,
        vouched=form.text(_vouched(root, line.snapshot), 500) if root and root.run.state_type.is_terminal else "",
        note=form.text(case.lineage.error or ("" if root else "the flow run that it runs in was deleted"), 500),
    )


def _vouched(root: Case, snapshot: Snapshot) -> str:
    """What says that the root's process has ended, in the order of rule 2."""
    weighed, now = weigh(root, snapshot), snapshot.taken_at
    if weighed.live:
        return f"nothing, for {sentence(weighed.live[0].observation)}"
    if weighed.blind:
        return f"not known: {'; '.join(weighed.blind)}"
    if weighed.ended:
        return ended_sentence(weighed.ended[0], now)
    for absence in weighed.absent:
        if absence.counts is not None:
            return f"{gone_sentence(absence, now)} (its absence counts: {absence.counts})"
    state = root.run.state_name
    if root.family_reported is not None and root.family_reported > root.run.state_since:
        return f"nothing: what runs in it reported a state after its {state}"
    if root.run.transition_id is None:
        return f"nothing: its {state} was set by hand, by an automation or by the server"
    if (root.run.pid or root.run.work_pool) and not any(look.mapped for look in root.looks):
        return f"nothing: its {state} was reported by Prefect's own client, and no scope is asked about it"
    return f"its {state} was reported by Prefect's own client"


def children_told(run_id: RunId, snapshot: Snapshot, form: Form) -> tuple[ChildTold, ...]:
    """The subflows in flight that run inside its process, the nearest first; all of them share its fate."""
    return tuple(
        ChildTold(
            id=str(run.id),
            name=form.text(run.name, NAME),
            depth=depth,
            state_name=form.text(run.state_name, NAME),
        )
        for depth, run in sorted(_inside(run_id, snapshot), key=lambda one: (one[0], one[1].id))[:_MOST]
    )


def count_of_children(run_id: RunId, snapshot: Snapshot) -> int:
    return sum(1 for _ in _inside(run_id, snapshot))


def _inside(run_id: RunId, snapshot: Snapshot) -> Iterator[tuple[int, FlowRun]]:
    """How far below, and what."""
    for case in snapshot.cases:
        if case.lineage is not None and run_id in case.lineage.ancestors:
            yield case.lineage.ancestors.index(run_id) + 1, case.run


def settlement_told(made: Forecast, line: Line, children: int) -> SettlementTold | None:
    """Tell what a settlement would write, and what it would do besides; None: none is to be expected."""
    finding, policy = made.settlement, line.policy
    if finding is None:
        return None
    planned = finding.resumption
    return SettlementTold(
        action=finding.action,
        cause=finding.cause,
        written=written(finding.action),
        task_runs=policy.settle_task_runs and finding.action is Action.CRASH,
        subflows=children if finding.action is Action.CRASH else 0,
        resumption_number=planned.number if planned else None,
        resumption_most=planned.most if planned else None,
        resumption_delay_seconds=planned.delay.total_seconds() if planned else None,
        labels=policy.label_settled,
    )


def orphans_told(
    run: FlowRun, report: CycleReport, children: int, clock: ClockOffset, form: Form
) -> tuple[OrphanTold, ...]:
    """What lives on of a run that has ended, as far as scopes show it. `children`: its subflows in flight."""
    if not run.state_type.is_terminal:
        return ()
    since, now = clock.to_ours(run.state_since), report.ended_at
    found = [(scope, one) for scope, many in report.strangers.items() for one in many if one.run_id == run.id]
    return tuple(
        OrphanTold(
            scope=form.text(scope, NAME),
            resource=form.text(one.id, NAME),
            removal=form.text(one.removal, 300),
            text=form.text(_lives_on(scope, Orphan(resource=one, run=run, since=since, subflows=children), now)),
        )
        for scope, one in found[:_MOST]
    )


def _lives_on(scope: str, orphan: Orphan, now: datetime) -> str:
    """The sentence without whose it is: the screen is about that run."""
    run = orphan.run
    return orphan_sentence(scope, orphan, now).replace(f"flow run {run.id} ({run.name})", "the run", 1)
