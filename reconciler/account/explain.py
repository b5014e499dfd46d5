"""`reconcile explain`: all that is known of one run, and why it is judged as it is. Reads evidence; asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from reconciler.account.explained import (
    AttemptTold,
    DecisionTold,
    Explanation,
    ForecastTold,
    GuardTold,
    LifeTold,
    RunTold,
    StageTold,
)
from reconciler.account.family import children_told, count_of_children, inside_told, orphans_told, settlement_told
from reconciler.account.forecast import Forecast, forecast_of
from reconciler.account.forms import NAME, Form
from reconciler.account.recorded import recorded_of
from reconciler.account.views import scopes_told
from reconciler.attempts import attempt_of
from reconciler.evidence import Line, lines_of
from reconciler.guards import Watchman
from reconciler.model import EXACT, ClockOffset, FlowRun, Guard, RunId, RunMapping, StateRecord, StateType, Verdict
from reconciler.plan import CycleReport, Judged, resumption_id, transition_id
from reconciler.snapshot import Snapshot

RULES = {
    "1": "it runs inside its parent's process, and lives and dies with it",
    "2": "it ran inside its parent's process, and the parent is over",
    "3": "a resource of it lives",
    "4": "a scope that may know of it, or its history, could not tell",
    "5": "nothing of it was seen, where that says nothing",
    "6": "its resource has ended for good, and the run was not told",
    "7": "its infrastructure says that there is nothing, where that counts",
    "8": "it is pending, and nothing ever appeared",
    "9": "it is being cancelled for too long",
    "10": "its resource has ended or is missing, and something is still awaited",
}
_PROBLEMS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What else is known. `row` and `history` are read anew for a run that is not in the pass, or was no suspect."""

    row: FlowRun | None = None
    history: Sequence[StateRecord] | None = None  # None: not read
    mappings: Mapping[str, RunMapping] | None = None  # by scope
    folder: Path | None = None  # of the evidence
    problem: str = ""  # why row or history could not be read
    hide: Callable[[str], str] = str


def explanation(run_id: RunId, report: CycleReport, sources: Sources) -> Explanation:
    """Explain one run from a pass (a dry one) that still has its snapshot."""
    form, snapshot = Form(sources.hide), report.snapshot
    judged = next((one for one in report.plan.judged if one.finding.run.id == run_id), None)
    run = judged.finding.run if judged else sources.row
    clock = snapshot.server_clock if snapshot else EXACT
    line = _line(report, run_id) if judged else None
    history = _history(judged, sources)
    recorded = recorded_of(run_id, sources.folder, form)
    made = forecast_of(line, history or None) if line else None
    children = count_of_children(run_id, snapshot) if snapshot else 0
    return Explanation(
        id=str(run_id),
        at=form.time(line.snapshot.taken_at if line else report.ended_at),
        run=_run(run, clock, form) if run else None,
        not_judged="" if judged else form.text(_not_judged(report, run, sources.problem)),
        attempt=_attempt(run_id, history, report.policy.resume_max, clock, form) if history else None,
        attempt_note=form.text(_why_no_attempt(judged, history)),
        decision=_decision(report, judged, line, form) if judged and line else None,
        forecast=_forecast(made, form) if made else None,
        settlement=settlement_told(made, line, children) if made and line else None,
        inside=inside_told(line, snapshot, form) if line and snapshot else None,
        children=children_told(run_id, snapshot, form) if snapshot else (),
        child_count=children,
        orphans=orphans_told(run, report, children, clock, form) if run else (),
        scopes=scopes_told(line, history, sources.mappings or {}, report.scopes, form) if line else (),
        life=_life(line, form) if line else None,
        evidence=recorded.last,
        settlements=recorded.settlements,
        evidence_note=recorded.note,
        problems=tuple(form.text(problem) for problem in [sources.problem, *report.problems[:_PROBLEMS]] if problem),
    )


def _line(report: CycleReport, run_id: RunId) -> Line:
    """The decision with all that it rests on, as evidence has it."""
    return next(lines_of(report, {run_id}, written_at=report.ended_at, reconciler="", configuration=""))


def _history(judged: Judged | None, sources: Sources) -> tuple[StateRecord, ...]:
    read = judged.weighed.case.history if judged else None
    return tuple(sources.history or ()) if read is None else read


def _why_no_attempt(judged: Judged | None, history: tuple[StateRecord, ...]) -> str:
    if history:
        return ""
    error = judged.weighed.case.history_error if judged else None
    return f"its state history could not be read: {error}" if error else "its state history was not read, or is empty"


def _run(run: FlowRun, clock: ClockOffset, form: Form) -> RunTold:
    is_scheduled = run.state_type is StateType.SCHEDULED  # else that time is past, and another state's
    return RunTold(
        name=form.text(run.name, NAME),
        state_type=str(run.state_type),
        state_name=form.text(run.state_name, NAME),
        since=form.time(clock.to_ours(run.state_since)),
        run_count=run.run_count,
        pid=form.maybe(run.pid),
        work_pool=form.maybe(run.work_pool),
        work_queue=form.maybe(run.work_queue),
        worker=form.maybe(run.worker),
        worker_type=form.maybe(run.worker_type),
        deployment_id=str(run.deployment_id) if run.deployment_id else None,
        tags=tuple(form.text(tag, NAME) for tag in sorted(run.tags)[:20]),
        due=form.time(clock.to_ours(run.scheduled_time)) if run.scheduled_time and is_scheduled else None,
    )


def _not_judged(report: CycleReport, run: FlowRun | None, problem: str) -> str:
    if not report.was_listed:
        return report.problems[0] if report.problems else "the flow runs in flight could not be listed"
    if run is None and problem:
        return "it is not among the flow runs in flight, and could not be read"
    if run is None:
        return "the Prefect server has no flow run of this id: it was deleted, or never was there"
    if run.is_in_flight:
        return "it is in flight, but was not in this pass: it began or ended meanwhile, or its row could not be read"
    if run.state_type is StateType.PAUSED:
        return "it is paused, and may have no process at all: only runs in flight are judged"
    if run.state_type.is_terminal:
        return "it is over: only runs in flight are judged"
    return "it waits for its time, or for a worker, so nothing runs it: only runs in flight are judged"


def _attempt(run_id: RunId, history: tuple[StateRecord, ...], most: int, clock: ClockOffset, form: Form) -> AttemptTold:
    pending = [record.type is StateType.PENDING for record in history]
    begins = pending[0] + sum(after and not before for before, after in pairwise(pending))
    ours = {transition_id(run_id, record.id) for record in history}
    crashes = (one for one in history if one.type is StateType.CRASHED and one.transition_id in ours)
    again = {resumption_id(run_id, record.id) for record in history}
    return AttemptTold(
        number=max(begins, 1),
        began=form.time(clock.to_ours(attempt_of(history).began)),
        states=len(history),
        crashed_by_us=tuple(form.time(clock.to_ours(one.timestamp)) for one in crashes),
        resumed_by_us=tuple(form.time(clock.to_ours(one.timestamp)) for one in history if one.transition_id in again),
        awaits_resumption=history[-1].type is StateType.SCHEDULED and history[-1].transition_id in again,
        resumptions_most=most,
    )


def _decision(report: CycleReport, judged: Judged, line: Line, form: Form) -> DecisionTold:
    found = next(one for one in report.plan.findings if one.run.id == line.run_id)
    breakers = (
        f"{one.absent} of {one.counted} runs are missing from scope '{one.scope}'" + ("" if one.holds else ", released")
        for one in line.breakers
    )
    return DecisionTold(
        verdict=found.verdict,
        rule=found.rule,
        rule_text=RULES.get(found.rule, ""),
        reason=form.text(found.reason),
        guard=found.guard,
        guards=tuple(_guards(judged, line, form)) if judged.finding.verdict is Verdict.ZOMBIE else (),
        breakers=tuple(form.text(text) for text in breakers),
    )


def _guards(judged: Judged, line: Line, form: Form) -> list[GuardTold]:
    """Ask every guard, also those behind the one that holds. `rate` looks at all runs, so it is told by its finding."""
    watchman = Watchman(line.snapshot, line.policy, {one.scope: one for one in line.breakers})
    told = [
        GuardTold(guard=guard, why=form.maybe(speaks(judged.weighed, judged.finding), 300))
        for guard, speaks in watchman.guards
    ]
    rated = f"{line.ahead} stand longer, and at most {line.policy.max_settlements} are settled in one pass"
    late = line.ahead >= line.policy.max_settlements
    return [*told, GuardTold(guard=Guard.RATE, why=rated if late else None)]


def _forecast(made: Forecast, form: Form) -> ForecastTold:
    return ForecastTold(
        stages=tuple(
            StageTold(
                at=form.time(stage.at),
                verdict=stage.finding.verdict,
                rule=stage.finding.rule,
                guard=stage.finding.guard,
                why=form.text(stage.why, 300),
            )
            for stage in made.stages
        ),
        acts_at=form.when(made.acts_at),
        ahead=made.ahead,
        passes_before=made.passes_before,
        needed=form.text(made.needed),
        then_at=form.when(made.then_at),
    )


def _life(line: Line, form: Form) -> LifeTold:
    snapshot, to_ours = line.snapshot, line.snapshot.server_clock.to_ours
    beat, sign = snapshot.heartbeats.get(line.run_id), snapshot.life_signs.get(line.run_id)
    cadence = beat.cadence.total_seconds() if beat and beat.count > 1 else None
    return LifeTold(
        heartbeats=beat.count if beat else 0,
        last=form.time(to_ours(beat.last)) if beat else None,
        cadence_seconds=cadence,
        sign=form.maybe(sign.what) if sign else None,
        sign_at=form.time(to_ours(sign.at)) if sign else None,
        note=form.text(_why_no_life(snapshot)),
    )


def _why_no_life(snapshot: Snapshot) -> str:
    errors = [error for error in (snapshot.heartbeats_error, snapshot.life_signs_error) if error]
    if errors:
        return "could not be read: " + "; ".join(errors)
    if snapshot.cases[0].first_look is None:
        return "not read: only those of suspects are"
    return "" if snapshot.has_heartbeats else "this Prefect server counts no heartbeats"
