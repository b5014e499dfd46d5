"""What there may be: a root in some state, its resource as two looks show it, a subflow, signs of life, a policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from uuid import UUID, uuid4

from reconciler.model import FlowRun, LifeSign, Observation, Place, StateRecord
from reconciler.plan import Policy
from reconciler.snapshot import Case, FirstLook, Look, Snapshot
from tests import spec

# state of the root -> its ages, each side of the limits that it has
IN_FLIGHT = {
    "PENDING": (899, 900),
    "RUNNING": (29, 30, 300),
    "CANCELLING": (599, 600),
    "due": (900,),
    "not due": (900,),
}
OVER = {
    "CRASHED by client": (199, 200, 900),
    "CRASHED": (199, 200, 900),
    "COMPLETED by client": (900,),
    "CANCELLED": (900,),
}
NEITHER = {"PAUSED": (900,), "SCHEDULED": (900,), "not listed": (900,), "deleted": (0,), "not told": (0,)}
ROOTS = tuple((state, age) for states in (IN_FLIGHT, OVER, NEITHER) for state, ages in states.items() for age in ages)
# what the looks show of the root's resource; numbers are how long ago it ended
LIVING = ("alive", "STARTING", "STOPPING", "alive in b")
BLIND = ("unknown", "error", "silent", "b is blind")
ENDS = ("ended 9", "ended 10", "ended 44", "ended 45", "ended", "earlier")
GONE = ("sighted", "located", "exclusive", "not counting", "elsewhere")
SHOWN = (*LIVING, *BLIND, *ENDS, *GONE, "no scope")
LOOKS = ("history unread", "first", "second", "too early", "first was blind")
KIDS: tuple[tuple[str, float], ...] = (
    ("RUNNING", 290),
    ("PENDING", 290),
    ("CANCELLING", 599),
    ("CANCELLING", 600),
    ("asleep", 290),
)
SIGNS = ("none", "beat 5", "beat 198", "beat 200", "log line 5", "log line 198", "error")
POLICIES = {
    "default": Policy(),
    "pending": Policy(crash_pending=True),
    "cancelling": Policy(finish_cancelling=True),
    "both": Policy(crash_pending=True, finish_cancelling=True),
}
SUBFLOW = {"name": "kid", "pid": None, "work_pool": None, "worker_type": None, "parent_task_run_id": uuid4()}
EARLIER = (("PENDING", 5000.0), ("RUNNING", 4990.0), ("CRASHED", 4000.0))


@dataclass(frozen=True, slots=True)
class World:
    root: str
    age: float
    shown: str
    look: str = "second"
    kid: tuple[str, float] = ("RUNNING", 290)
    sign: str = "none"
    policy: str = "default"

    @property
    def is_over(self) -> bool:
        return self.root in OVER

    @property
    def is_told(self) -> bool:
        return self.root not in ("deleted", "not told")


def worlds(only: str = "") -> Iterator[World]:
    """Every one that makes sense; signs of life and policies where they may matter. `only`: one state of the root."""
    for (root, age), shown in product(ROOTS, SHOWN):
        if only not in ("", root) or (root in ("deleted", "not told") and shown != "no scope"):
            continue
        for look, kid in product(LOOKS, KIDS):
            if look != "second" and kid not in (KIDS[0], KIDS[3]):
                continue  # what is not written by its root's verdict is not by its own
            one = World(root, age, shown, look, kid)
            yield one
            kinds = {root if root in ("PENDING", "CANCELLING") else "", kid[0] if kid[0] == "CANCELLING" else ""} - {""}
            if look == "second" and kinds:
                yield from (replace(one, policy=name) for name in ("pending", "cancelling", "both"))
            if look == "second" and kid[0] in ("RUNNING", "CANCELLING"):
                yield from (replace(one, sign=sign, policy=p) for sign in SIGNS[1:] for p in ("default", "both"))


def root_of(world: World) -> FlowRun:
    return _root(world.root, world.age)


@cache
def _root(root: str, age: float) -> FlowRun:
    if root in ("due", "not due"):
        return spec.asleep(due=900 if root == "due" else -60)
    state, _, client = root.partition(" by ")
    state = {"not listed": "RUNNING", "deleted": "CRASHED", "not told": "CRASHED"}.get(state, state)
    return spec.run(state, age=age, transition_id=uuid4() if client else None)


def snapshot_of(world: World, root: FlowRun, kid: FlowRun) -> Snapshot:
    """How it looks to `decide`, the subflow first."""
    ancestors = (root,) if world.is_told else ()
    case = spec.inside(kid, *ancestors, error="503" if world.root == "not told" else None)
    above = _looked(world, Case(run=root, looks=tuple(_looks(world, root)), history=_past(world, root)))
    roots = {} if world.root in IN_FLIGHT or not world.is_told else {root.id: above}
    cases = [_looked(world, case), *([above] if world.root in IN_FLIGHT else [])]
    view = spec.scope("a", exclusive=world.shown == "exclusive")
    return spec.snapshot(*cases, scopes=(view,), roots=roots, **_signs(world, (root.id, kid.id)))


def kid_of(world: World) -> FlowRun:
    state, age = world.kid
    # it began before its root ended, or got its present state
    return _kid(state, age if state == "CANCELLING" else max(age, world.age + 20))


@cache
def _kid(state: str, age: float) -> FlowRun:
    if state == "asleep":
        return spec.asleep(due=60, age=age, **SUBFLOW)
    return spec.run(state, age=age, **SUBFLOW)


def _looked(world: World, case: Case) -> Case:
    if world.look == "history unread":
        return replace(case, history=None, first_look=None)
    if world.look == "first":
        return replace(case, first_look=None)
    then = spec.ago(9 if world.look == "too early" else 10)
    if world.look == "first was blind":
        return replace(case, first_look=FirstLook(then))
    return replace(case, first_look=FirstLook(then, frozenset("a"), frozenset({"res-1"})))


def _past(world: World, root: FlowRun) -> tuple[StateRecord, ...]:
    began = (spec.NOW - root.state_since).total_seconds() + 60
    before = EARLIER if world.shown == "earlier" else ()
    return spec.history(
        root, *before, ("PENDING", began + 1), *([("RUNNING", began)] if root.state_name != "Pending" else [])
    )


def _looks(world: World, root: FlowRun) -> Iterator[Look]:
    shown, made = world.shown, world.age + 61
    if shown == "no scope":
        return
    seen = spec.sighting(root, made=made)
    if shown == "sighted":
        yield spec.look(spec.gone(root), sightings=(seen,))
    elif shown in GONE:
        place = {"located": Place.HERE, "elsewhere": Place.ELSEWHERE}.get(shown, Place.UNSAID)
        yield spec.look(spec.gone(root), place=place)
    elif shown == "error":
        yield spec.look(error="timed out")
    elif shown == "silent":
        yield spec.look()
    elif shown == "alive in b":
        yield spec.look(spec.gone(root), sightings=(seen,))
        yield spec.look(spec.alive(root, made=made), scope="b", mapped=False)
    elif shown == "b is blind":
        yield spec.look(spec.exited(root, made=made, ended=50))
        yield spec.look(scope="b", error="refused")
    else:
        yield spec.look(_observation(shown, root, made))


def _observation(shown: str, root: FlowRun, made: float) -> Observation:
    if shown == "unknown":
        return spec.unknown()
    if shown == "earlier":
        return spec.exited(root, made=4995, ended=4000)
    if shown in LIVING:
        return spec.alive(root, "ALIVE" if shown == "alive" else shown, made=made)
    ended = shown.removeprefix("ended").strip()
    return spec.exited(root, made=made, ended=float(ended) if ended else None)


def _signs(world: World, family: tuple[UUID, ...]) -> dict[str, object]:
    """They are the whole family's: see `newest_of_family`."""
    if world.sign == "error":
        return {"life_signs_error": "503"}
    what, _, age = world.sign.rpartition(" ")
    if what == "beat":
        return {"heartbeats": {one: spec.beat(float(age)) for one in family}}
    return {"life_signs": {one: LifeSign(what, spec.ago(float(age))) for one in family}} if what else {}
