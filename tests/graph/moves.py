"""What time and the world do to a node between two passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .node import NOBODY, OURS, THEIRS, Node, Seen, canonical, concrete
from .setting import NOT_DUE, Setting, after, marks
from .wary import Wary, forgotten, identity_changed


def times(node: Node, setting: Setting) -> Iterator[tuple[str, Node]]:
    """Time passes one threshold of one age; what must be as old is made so. In more orders than there can be."""
    at = marks(setting)
    if (mark := after(node.age, at.of_state(node.state))) is not None:
        mine, other = _dragged(node.mine, mark), _dragged(node.other, mark)
        yield f"{mark:.0f} s in this state", _again(replace(node, age=mark, mine=mine, other=other), setting)
    if (mark := after(node.due, at.due)) is not None:
        yield f"due for {mark:.0f} s", _again(replace(node, due=mark, age=max(node.age, mark)), setting)
    for name, seen in (("mine", node.mine), ("other", node.other)):
        if seen is not None and (mark := after(seen.last, at.last)) is not None:
            yield f"not seen for {mark:.0f} s", _again(_with(node, name, replace(seen, last=mark)), setting)
        if seen is not None and (mark := after(seen.ended, at.ended)) is not None:
            yield f"ended {mark:.0f} s ago", _again(_with(node, name, replace(seen, ended=mark)), setting)


def _with(node: Node, name: str, seen: Seen) -> Node:
    return replace(node, mine=seen) if name == "mine" else replace(node, other=seen)


def _dragged(seen: Seen | None, mark: float) -> Seen | None:
    """What lies before the present state is older than that."""
    if seen is None or not (seen.stale or seen.early):
        return seen
    last = max(seen.last, mark) if seen.stale else seen.last
    return replace(seen, last=last, ended=None if seen.ended is None else max(seen.ended, mark))


def _again(node: Node, setting: Setting) -> Node:
    return canonical(concrete(node), setting)


def events(node: Node, setting: Setting) -> Iterator[tuple[str, Node]]:
    """What may happen between two passes, a second after all else."""
    late = concrete(node).aged(1)
    fresh = replace(late, age=0, due=None)
    if node.state == "PENDING":
        yield "PENDING again", canonical(fresh, setting)
    if node.state in ("PENDING", "ASLEEP"):
        yield "RUNNING", canonical(replace(fresh, state="RUNNING"), setting)
    if node.state in ("PENDING", "RUNNING") and not setting.is_calm:
        yield "CANCELLING", canonical(replace(fresh, state="CANCELLING"), setting)
    if node.state == "RUNNING" and not setting.is_calm:
        yield "AwaitingRetry", canonical(replace(fresh, state="ASLEEP", due=NOT_DUE), setting)
    yield "resumed from a final state", came_back(late, node.left or THEIRS, setting)
    yield "rescheduled", rescheduled(node, setting)


def forgettings(node: Node, setting: Setting) -> Iterator[tuple[str, Node, Callable[[Wary], Wary]]]:
    """What the memory loses, and how that shows to the guards."""
    late = concrete(node).aged(1)
    ever = bool(node.ever or node.mine or node.old)
    yield "another identity", canonical(replace(late, mine=None, old=False, ever=ever), setting), identity_changed
    lost = replace(late, mine=None, old=False, ever=False, other=None, other_ever=False)
    yield "the memory is lost", canonical(lost, setting), forgotten


def came_back(facts: Node, left: str, setting: Setting) -> Node:
    return canonical(replace(facts, state="RUNNING", age=0, due=None, left=left, resumed=0), setting)


def crashed_by_us(node: Node, setting: Setting) -> Iterator[tuple[str, Node]]:
    """What is settled may come back, or be tried again. (If the write failed, that is a step like any other.)"""
    yield "crashed by us, came back", came_back(concrete(node).aged(1), OURS, setting)
    yield "crashed by us, rescheduled", rescheduled(node, setting)


def rescheduled(node: Node, setting: Setting) -> Node:
    late = concrete(node).aged(1)
    fresh = replace(late, state="PENDING", age=0, due=None, attempt=2, left=NOBODY, resumed=None)
    old, ever = node.old or node.mine is not None, node.other_ever or node.other is not None
    return canonical(replace(fresh, mine=None, other=None, old=old, other_ever=ever), setting)
