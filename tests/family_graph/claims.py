"""What must hold of every such world. Said again here, from the table, not read off the code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reconciler.decide import decide, decide_alone
from reconciler.model import Action, FlowRun, RunId, Verdict
from reconciler.plan import Finding, Plan

from .world import BLIND, ENDS, GONE, IN_FLIGHT, LIVING, NEITHER, POLICIES, World, kid_of, root_of, snapshot_of

Claim = tuple[str, bool]
QUIET, CONFIRM, SUBFLOW_GRACE, CANCELLING = 200.0, 10.0, 200.0, 600.0


@dataclass(frozen=True)
class Result:
    world: World
    root: FlowRun
    kid: FlowRun
    plan: Plan

    @property
    def found(self) -> dict[RunId, Finding]:
        return {one.run.id: one for one in self.plan.findings}

    @property
    def finding(self) -> Finding:
        return self.found[self.kid.id]


def result_of(world: World, root: FlowRun | None = None, kid: FlowRun | None = None) -> Result:
    root, kid = root or root_of(world), kid or kid_of(world)
    return Result(world, root, kid, decide(snapshot_of(world, root, kid), POLICIES[world.policy]))


def violations(result: Result) -> Iterator[str]:
    for name, holds in _claims(result):
        if not holds:
            found = result.finding
            yield f"{name}\n  {result.world}\n  {found.verdict} {found.rule} {found.guard}: {found.reason}"


def _claims(result: Result) -> Iterator[Claim]:
    world, found = result.world, result.finding
    yield "one verdict each, with a reason", len(result.plan.findings) == len(result.found) and bool(found.reason)
    yield "by rule 1 or 2, whichever its root's state says", found.rule == ("2" if world.is_over else "1")
    yield "it is never resumed", found.resumption is None
    yield "it knows its root", not world.is_told or found.verdict is Verdict.HEALTHY or found.root == result.root.id
    yield from _of_the_root(result, found)
    if world.shown in LIVING and world.is_told:
        yield "its root lives", found.verdict is Verdict.HEALTHY
    if found.verdict is Verdict.ZOMBIE:
        yield from _settled(result, found)


def _of_the_root(result: Result, found: Finding) -> Iterator[Claim]:
    world = result.world
    if world.root not in IN_FLIGHT:
        return
    policy = POLICIES[world.policy]
    its = result.found[result.root.id]
    own = found.run.awaits_retry_in_process or found.run.state_type == "CANCELLING"
    cancelled = its.verdict is Verdict.ZOMBIE and its.action is Action.CANCEL
    yield "its root's verdict", own or cancelled or found.verdict is its.verdict or world.look == "history unread"
    yield "not worse than its root's", found.verdict is not Verdict.ZOMBIE or its.verdict is Verdict.ZOMBIE
    yield "what runs inside a cancelled run is the server's", not cancelled or found.verdict is not Verdict.ZOMBIE
    if world.look != "second" or world.sign != "none":
        return
    alone = snapshot_of(world, result.root, result.kid)
    bare = decide(replace(alone, cases=alone.cases[1:]), policy)
    yield "a subflow changes nothing of its root's", bare.findings == (its,)
    cases = {one.run.id: one for one in alone.cases}
    cut = replace(alone, cases=(cases[result.kid.id],), roots={result.root.id: cases[result.root.id]})
    yield "cut out of the pass it is judged the same", decide_alone(cut, policy) == found


def _settled(result: Result, found: Finding) -> Iterator[Claim]:
    world = result.world
    yield "nobody is condemned by what is paused, not listed, deleted or not told", world.root not in NEITHER
    yield "no root that lives", world.shown not in LIVING
    yield "no scope that could not tell", world.shown not in BLIND
    yield "two looks, and both histories", world.look in ("second", "too early", "first was blind")
    if found.run.state_type == "CANCELLING":
        limit = world.kid[1] >= CANCELLING and POLICIES[world.policy].finish_cancelling
        yield "what is being cancelled is cancelled, if asked for, and late", found.action is Action.CANCEL and limit
    turn = [one.run.id for one in result.plan.zombies]
    yield "its root first", world.is_over or turn == [result.root.id, result.kid.id]
    yield "no life signs that could not be read", world.sign != "error"
    yield from _silent(world)
    yield from (_vouched(world, found) if world.is_over else _died(world))


def _silent(world: World) -> Iterator[Claim]:
    what, _, text = world.sign.rpartition(" ")
    if what in ("beat", "log line"):
        age, margin = float(text), 0.0 if what == "beat" else 2.0
        later = age + margin < (world.age if world.is_over else _ended(world))
        yield "no younger sign of life later than the end", not (later and age < QUIET)


def _ended(world: World) -> float:
    """How long ago its resource ended, or was first found absent."""
    text = world.shown.removeprefix("ended").strip()
    return float(text) if world.shown.startswith("ended") and text else CONFIRM


def _died(world: World) -> Iterator[Claim]:
    absent = world.shown in GONE
    yield "an end or an absence that counts", absent or world.shown in ENDS
    yield "an absence is seen twice", not absent or world.look == "second"
    yield "its end counts where it counts for the root", world.shown not in ("not counting", "elsewhere", "earlier")


def _vouched(world: World, found: Finding) -> Iterator[Claim]:
    yield "subflow_grace has passed", world.age >= SUBFLOW_GRACE
    by_client = "by client" in world.root
    end = world.shown in ENDS and world.shown != "earlier"
    absence = world.shown in ("sighted", "located", "exclusive")
    yield "somebody vouches for its root's end", by_client or end or absence
    yield "an absence that counts is seen twice", not absence or world.look == "second"
    yield "and told as one", (found.absence is not None) == absence


def never_worse(before: Finding, after: Finding) -> bool:
    """More that is known of life, or less that can be seen, makes no zombie."""
    return before.verdict is Verdict.ZOMBIE or after.verdict is not Verdict.ZOMBIE
