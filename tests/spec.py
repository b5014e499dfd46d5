"""Builds the values that `decide` is given, in the words of the table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from reconciler.decide import decide
from reconciler.model import (
    Condition,
    FlowRun,
    Heartbeat,
    Observation,
    Place,
    Resource,
    Sighting,
    StateRecord,
    StateType,
)
from reconciler.plan import Finding, Policy
from reconciler.snapshot import Case, FirstLook, Lineage, Look, ScopeView, Snapshot

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
POLICY = Policy()


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def run(state: str = "RUNNING", *, age: float = 300, **changes: object) -> FlowRun:
    values: dict[str, object] = {
        "id": uuid4(),
        "name": "otter",
        "state_id": uuid4(),
        "state_type": StateType(state),
        "state_name": state.title(),
        "state_since": ago(age),
        "created": ago(age + 60),
        "run_count": 1,
        "pid": "base:res-1",
        "work_pool": "pool",
        "worker_type": "docker",
    }
    return FlowRun(**(values | changes))  # type: ignore[arg-type]


def asleep(*, due: float, **changes: object) -> FlowRun:
    """AwaitingRetry in process; `due` seconds ago (negative: in the future, None: it does not say)."""
    when = None if due is None else ago(due)
    changes = {"state_name": "AwaitingRetry", "retry_type": "in_process", "scheduled_time": when, "age": 900} | changes
    return run("SCHEDULED", **changes)  # type: ignore[arg-type]


def resource(of: FlowRun, *, made: float = 350, name: str = "res-1") -> Resource:
    return Resource(id=name, title=f"Docker container {name} on engine a", run_id=of.id, created_at=ago(made))


def alive(of: FlowRun, condition: str = "ALIVE", **kw: object) -> Observation:
    return Observation(condition=Condition(condition), reason="is running", resource=resource(of, **kw))  # type: ignore[arg-type]


def exited(of: FlowRun, code: int | None = 137, *, ended: float | None = 60, **kw: object) -> Observation:
    when = None if ended is None else ago(ended)
    reason = f"exited with code {code}"
    return Observation(
        condition=Condition.EXITED,
        reason=reason,
        resource=resource(of, **kw),
        exit_code=code,
        ended_at=when,  # type: ignore[arg-type]
    )


def gone(of: FlowRun, **changes: object) -> Observation:
    thing = resource(of) if of.pid else None
    return Observation(condition=Condition.GONE, **({"reason": "was removed", "resource": thing} | changes))  # type: ignore[arg-type]


def unknown_namespace(of: FlowRun) -> Observation:
    return gone(of, reason="was not found, and namespace 'preview-7' does not exist", needs_sighting=True)


def unknown(reason: str = "cannot be read") -> Observation:
    return Observation(condition=Condition.UNKNOWN, reason=reason)


def sighting(
    of: FlowRun, scope: str = "a", *, made: float = 350, ended: float | None = None, name: str = "res-1"
) -> Sighting:
    return Sighting(
        scope=scope,
        identity="id-a",
        resource=resource(of, made=made, name=name),
        first_seen=ago(340),
        last_seen=ago(90),
        live_seen=ago(90),
        ended_seen=None if ended is None else ago(ended),
        reason="is running",
    )


def look(*observations: Observation, scope: str = "a", mapped: bool = True, **kw: object) -> Look:
    values = {"place": Place.UNSAID, "ever_seen": bool(kw.get("sightings"))} | kw
    return Look(scope=scope, mapped=mapped, observations=observations, **values)  # type: ignore[arg-type]


def first_look(seconds: float, *looks: Look) -> FirstLook:
    """What such looks had found that many seconds ago."""
    seen = [(look.scope, one) for look in looks for one in look.observations]
    absent = {look.scope for look in looks} - {scope for scope, one in seen if one.condition.is_live}
    ended = {one.resource.id for _, one in seen if one.condition is Condition.EXITED and one.resource}
    return FirstLook(ago(seconds), frozenset(absent), frozenset(ended))


def history(of: FlowRun, *earlier: tuple[str, float]) -> tuple[StateRecord, ...]:
    """(state, seconds ago)..., and last the run's present state. Default: one attempt that began 360 s ago."""
    rows = [
        StateRecord(id=uuid4(), type=StateType(s), name=s, timestamp=ago(t)) for s, t in earlier or [("PENDING", 360)]
    ]
    return (*rows, StateRecord(id=of.state_id, type=of.state_type, name=of.state_name, timestamp=of.state_since))


def case(of: FlowRun, *looks: Look, confirmed: bool = True, past: tuple[StateRecord, ...] | None = None) -> Case:
    """Make a case with its history read; `confirmed`: this is the second look, 10 s after the first."""
    past = history(of) if past is None else past
    return Case(run=of, looks=looks, history=past, first_look=first_look(10, *looks) if confirmed else None)


def scope(name: str = "a", **changes: object) -> ScopeView:
    return ScopeView(name=name, adapter="docker", identity=f"id-{name}", **changes)  # type: ignore[arg-type]


def snapshot(*cases: Case, scopes: tuple[ScopeView, ...] = (), **changes: object) -> Snapshot:
    views = {"a": scope("a"), "b": scope("b")} | {view.name: view for view in scopes}
    return Snapshot(taken_at=NOW, cases=cases, scopes=views, **changes)  # type: ignore[arg-type]


def verdict(one: Case, *scopes: ScopeView, policy: Policy = POLICY, **changes: object) -> Finding:
    """Judge one case among enough healthy runs in its scopes that the breaker has nothing to say."""
    herd = [case(r, look(alive(r), sightings=(sighting(r),))) for r in (run() for _ in range(9))]
    plan = decide(snapshot(one, *herd, scopes=scopes, **changes), policy)
    return next(finding for finding in plan.findings if finding.run.id == one.run.id)


def vanished(**changes: object) -> Case:
    """The plain zombie by removal: sighted, gone, looked at twice."""
    of = run(**changes)  # type: ignore[arg-type]
    return case(of, look(gone(of), sightings=(sighting(of),)))


def beat(seconds: float, count: int = 3, cadence: float = 30) -> Heartbeat:
    return Heartbeat(count=count, first=ago(seconds + cadence * (count - 1)), last=ago(seconds))


def herd(count: int = 9) -> list[Case]:
    """Healthy runs, so many that the breaker has nothing to say of one that vanished."""
    return [case(one, look(alive(one), sightings=(sighting(one),))) for one in (run() for _ in range(count))]


def subflow(state: str = "RUNNING", *, age: float = 290, **changes: object) -> FlowRun:
    """One that runs in its parent's process: nothing outside names it."""
    mine = {"name": "kid", "pid": None, "work_pool": None, "worker_type": None, "parent_task_run_id": uuid4()}
    return run(state, age=age, **(mine | changes))


def inside(
    of: FlowRun, *ancestors: FlowRun, error: str | None = None, looks: tuple[Look, ...] = (), **kw: object
) -> Case:
    """Make the case of a subflow; `ancestors`: its parent first, its root last."""
    lineage = Lineage(ancestors=tuple(one.id for one in ancestors), error=error)
    return replace(case(of, *looks, **kw), lineage=lineage)  # type: ignore[arg-type]


def over(state: str = "CRASHED", *, age: float = 900, by_client: bool = False, **changes: object) -> FlowRun:
    """A run with a final state. `by_client`: Prefect's own client wrote it (its engine, a worker), no automation."""
    return run(state, age=age, transition_id=uuid4() if by_client else None, **changes)


def past_of(of: FlowRun) -> tuple[StateRecord, ...]:
    """One attempt that began a minute before the state that it has now."""
    began = (NOW - of.state_since).total_seconds() + 60
    return history(of, ("PENDING", began), ("RUNNING", began - 10))


def judged(
    *cases: Case,
    roots: tuple[Case, ...] = (),
    scopes: tuple[ScopeView, ...] = (),
    policy: Policy = POLICY,
    **kw: object,
) -> dict[UUID, Finding]:
    """Judge these among enough healthy runs; `roots`: those that are not in flight."""
    above = {one.run.id: one for one in roots}
    plan = decide(snapshot(*cases, *herd(), scopes=scopes, roots=above, **kw), policy)
    return {finding.run.id: finding for finding in plan.findings}
