"""Families for tests: subflows inside the processes of runs that `tests.spec` builds."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from hypothesis import strategies as st

from reconciler.model import FlowRun
from reconciler.snapshot import Case, FirstLook, Lineage, Look, Snapshot
from tests.spec import ago, exited, first_look, gone, history, look, run, sighting
from tests.test_decide_properties import SECONDS, STATES, looks, snapshots


def subflow(state: str = "RUNNING", *, age: float = 200, **changes: object) -> FlowRun:
    nowhere: dict[str, object] = {"pid": None, "work_pool": None, "worker_type": None, "parent_task_run_id": uuid4()}
    return run(state, age=age, **({"name": "child"} | nowhere | changes))  # type: ignore[arg-type]


def inside(of: FlowRun, *ancestors: FlowRun, confirmed: bool = True) -> Case:
    """A subflow with its ancestors, the parent first. `confirmed`: its history is read, and it is looked at twice."""
    return Case(
        run=of,
        history=history(of) if confirmed else None,
        first_look=FirstLook(ago(10)) if confirmed else None,
        lineage=Lineage(ancestors=tuple(one.id for one in ancestors)),
    )


def ended(state: str = "CRASHED", *, age: float = 900, ours: bool = True, **changes: object) -> FlowRun:
    """A root that has a final state; `ours`: Prefect's own client reported it."""
    return run(state, age=age, name="parent", transition_id=uuid4() if ours else None, **changes)  # type: ignore[arg-type]


def script(**changes: object) -> FlowRun:
    """A root that has ended and never had infrastructure: its own word is all there is."""
    return ended(**({"pid": None, "work_pool": None, "worker_type": None} | changes))  # type: ignore[arg-type]


def root_case(of: FlowRun, *seen: Look, confirmed: bool = True) -> Case:
    past = history(of, ("PENDING", 2000), ("RUNNING", 1990))
    return Case(run=of, looks=seen, history=past, first_look=first_look(10, *seen) if confirmed else None)


def over(of: FlowRun) -> Look:
    """It was here once, and ended 905 s ago: what runs inside it has reported nothing since."""
    return look(exited(of, ended=905), sightings=(sighting(of),))


def vanished_root(of: FlowRun) -> Look:
    return look(gone(of), sightings=(sighting(of),))


@st.composite
def families(draw: st.DrawFn) -> Snapshot:
    """A snapshot with subflows of runs that are in flight, have ended, or are not known."""
    made: Snapshot = draw(snapshots())
    roots = {one.run.id: one for one in draw(st.lists(ended_roots(), max_size=2))}
    tops = [*made.cases, *roots.values(), None]
    children = [child(draw, draw(st.sampled_from(tops))) for _ in range(draw(st.integers(1, 4)))]
    beats = {one.run.id: next(iter(made.heartbeats.values())) for one in children[:2] if made.heartbeats}
    return replace(made, cases=(*made.cases, *children), roots=roots, heartbeats={**made.heartbeats, **beats})


@st.composite
def ended_roots(draw: st.DrawFn) -> Case:
    state = draw(st.sampled_from(["CRASHED", "CANCELLED", "COMPLETED", "PAUSED", "SCHEDULED"]))
    of = ended(state, age=draw(SECONDS), ours=draw(st.booleans()), pid=draw(st.sampled_from(["base:res-1", None])))
    seen = tuple(draw(looks(of, name)) for name in draw(st.sets(st.sampled_from(["a", "b"]))))
    confirmed = draw(st.booleans())
    return root_case(of, *seen, confirmed=confirmed) if draw(st.booleans()) else Case(run=of, looks=seen)


def child(draw: st.DrawFn, root: Case | None) -> Case:
    of = subflow(draw(STATES), age=draw(SECONDS))
    middle = [subflow()] if draw(st.booleans()) else []
    past = draw(st.sampled_from([None, history(of), (*history(of), *history(subflow()))]))
    lineage = Lineage(ancestors=tuple(one.id for one in (*middle, root.run))) if root else Lineage()
    lineage = replace(lineage, ancestors=(), error="503") if draw(st.integers(0, 9)) == 0 else lineage
    return Case(
        run=of,
        looks=(look(),) if draw(st.booleans()) else (),
        history=past,
        history_error=draw(st.sampled_from([None, None, "503"])),
        first_look=draw(st.sampled_from([None, FirstLook(ago(10)), FirstLook(ago(600), frozenset({"a"}))])),
        lineage=lineage,
    )
