"""Reports of passes, as short as a test of the grader needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from reconciler.model import Condition, FlowRun, Guard, Observation, OutcomeKind, Place, Resource, RunId, Verdict
from reconciler.plan import CycleReport, Finding, Outcome, Plan
from reconciler.snapshot import Case, Look, ScopeView, Snapshot

TOOK = timedelta(seconds=1)


def resource(run: FlowRun, id_: str = "") -> Resource:
    return Resource(id=id_ or f"res-{run.id}", title="container otter", run_id=run.id)


def held(run: FlowRun, guard: Guard = Guard.MODE, scope: str = "prod") -> Finding:
    seen = Observation(condition=Condition.EXITED, reason="exited with code 137", resource=resource(run))
    reason = "container otter exited with code 137; held: nothing is written"
    return Finding(run=run, verdict=Verdict.HELD, rule="6", reason=reason, scope=scope, observation=seen, guard=guard)


def zombie(run: FlowRun, scope: str = "prod") -> Finding:
    finding = held(run, scope=scope)
    return Finding(
        run=run, verdict=Verdict.ZOMBIE, rule="6", reason="it exited", scope=scope, observation=finding.observation
    )


def unknown(run: FlowRun) -> Finding:
    return Finding(run=run, verdict=Verdict.UNKNOWN, rule="4", reason="could not ask")


def healthy(run: FlowRun) -> Finding:
    return Finding(run=run, verdict=Verdict.HEALTHY, rule="3", reason="it is running")


def report_of(
    at: datetime,
    findings: Sequence[Finding] = (),
    *,
    live: Mapping[RunId, Resource] | None = None,
    strangers: Sequence[Resource] = (),
    accepted: bool = True,
    dry_run: bool = False,
    was_listed: bool = True,
    **snapshot: object,
) -> CycleReport:
    """`live`: what is seen alive of the runs in flight. Every ZOMBIE is settled, unless `dry_run` or not `accepted`."""
    cases = tuple(Case(run=one.run, looks=_looks(one.run, live or {})) for one in findings)
    kind = OutcomeKind.ACCEPTED if accepted else OutcomeKind.REFUSED
    zombies = [one.run.id for one in findings if one.verdict is Verdict.ZOMBIE and not dry_run]
    return CycleReport(
        taken_at=at,
        duration=TOOK,
        api_url="http://fake/api",
        api_calls=0,
        server_version="3.8.8",
        scopes=(ScopeView(name="prod", adapter="fake"),),
        plan=Plan(findings=tuple(findings)),
        outcomes={run_id: Outcome(kind, "") for run_id in zombies},
        problems=(),
        warnings=(),
        dry_run=dry_run,
        was_listed=was_listed,
        strangers={"prod": tuple(strangers)},
        snapshot=Snapshot(taken_at=at + TOOK, cases=cases, scopes={}, **snapshot) if was_listed else None,  # type: ignore[arg-type]
    )


def _looks(run: FlowRun, live: Mapping[RunId, Resource]) -> tuple[Look, ...]:
    if run.id not in live:
        return ()
    seen = Observation(condition=Condition.ALIVE, reason="is running", resource=live[run.id])
    return (Look(scope="prod", mapped=True, place=Place.UNSAID, observations=(seen,)),)
