"""Bugs that the walk must find: pieces of rules 1 and 2, each taken out or made wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from unittest.mock import patch

from reconciler import decide, subflows
from reconciler.guards import Watchman
from reconciler.matter import Matter, Root
from reconciler.model import RunId, StateType, Verdict
from reconciler.plan import Finding, Judged
from reconciler.snapshot import Snapshot
from reconciler.weigh import Absence, Weighed, riding, weigh


@dataclass(frozen=True)
class Seed:
    name: str
    apply: Callable[[], AbstractContextManager[object]]
    violates: str  # what the walk says
    root: str = "CRASHED by client"  # in this state


def _overlooking(*parts: str) -> Callable[[], AbstractContextManager[object]]:
    def blinded(own: Weighed, root: Weighed) -> Weighed:
        return replace(riding(own, root), **dict.fromkeys(parts, ()))  # type: ignore[arg-type]

    return lambda: patch.object(decide, "riding", blinded)


def _rule_2(change: Callable[[Matter, Root], Finding]) -> Callable[[], AbstractContextManager[object]]:
    return lambda: patch.object(decide, "ended_parent", change)


def _at_once(matter: Matter, root: Root) -> Finding:
    return subflows.ended_parent(replace(matter, policy=replace(matter.policy, subflow_grace=timedelta(0))), root)


def _believed(matter: Matter, root: Root) -> Finding:
    """Any final state vouches for the end of the process, an automation's too."""
    found = subflows.ended_parent(matter, root)
    return replace(found, verdict=Verdict.ZOMBIE) if found.verdict is Verdict.UNMANAGED else found


def _glanced(matter: Matter, absence: Absence, rule: str, reason: str) -> Finding:
    del absence
    return matter.verdict(Verdict.ZOMBIE, rule, reason)


def _unguarded(alone: Sequence[Judged], watchman: Watchman, snapshot: Snapshot) -> dict[RunId, Root]:
    del watchman
    mine = {one.finding.run.id: Root(one.weighed, one.finding) for one in alone}
    return {run_id: Root(weigh(case, snapshot), None) for run_id, case in snapshot.roots.items()} | mine


def _any_end() -> AbstractContextManager[object]:
    """What is not in flight has ended."""

    def rule_1(matter: Matter) -> Finding | None:
        if matter.root is not None and matter.root.finding is None:
            return None
        return decide.rule_1_subflow(matter)

    return patch.object(decide, "RULES", (rule_1, *decide.RULES[1:]))


def _unconfirmed() -> AbstractContextManager[object]:
    return patch.object(subflows, "confirmed", lambda _, finding: finding)


def _crashes_what_is_cancelled() -> AbstractContextManager[object]:
    return patch.object(subflows, "_as_it_may_be", lambda _, __, finding: finding)


def _follows_a_cancellation() -> AbstractContextManager[object]:
    def shared(matter: Matter, root: Root, found: Finding) -> Finding:
        crashed = replace(found.run, state_type=StateType.RUNNING)
        return subflows.shared_fate(matter, root, replace(found, run=crashed))

    return patch.object(decide, "shared_fate", shared)


def _guard_removed(name: str) -> Callable[[], AbstractContextManager[object]]:
    return lambda: patch.object(Watchman, name, lambda *_: None)


def _younger_first() -> AbstractContextManager[object]:
    return patch.object(Finding, "turn", property(lambda one: (one.inside is None, one.run.id)))


SEEDS = (
    Seed("a live root is overlooked", _overlooking("live"), "its root lives"),
    Seed("what the root's scopes could not tell is forgotten", _overlooking("blind"), "no scope that could not tell"),
    Seed("subflow_grace 0", _rule_2(_at_once), "subflow_grace has passed"),
    Seed("every final state is believed", _rule_2(_believed), "somebody vouches", "CRASHED"),
    Seed(
        "the root's absence is seen once",
        lambda: patch.object(subflows, "after_absence", _glanced),
        "an absence that counts is seen twice",
    ),
    Seed(
        "what guards say of the root is not heard",
        lambda: patch.object(decide, "_roots", _unguarded),
        "not worse",
        "RUNNING",
    ),
    Seed("a paused root has ended", _any_end, "by rule 1 or 2", "PAUSED"),
    Seed("nothing is confirmed", _unconfirmed, "two looks"),
    Seed("what is being cancelled is crashed", _crashes_what_is_cancelled, "what is being cancelled"),
    Seed("it follows a root into Cancelled", _follows_a_cancellation, "the server's", "CANCELLING"),
    Seed("life signs removed", _guard_removed("life_sign"), "sign"),
    Seed("children first", _younger_first, "its root first", "RUNNING"),
)
