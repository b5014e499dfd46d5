"""What the rules read of the memory, and what the server knows of the run: one node, but for what guards read.

Every time is an age in seconds. In a node each is the lower end of its bucket, so that there are finitely many nodes.
`concrete` chooses ages that fit together, `canonical` goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from .setting import Setting, after, floor, marks

NOBODY, THEIRS, OURS = "", "theirs", "ours"


@dataclass(frozen=True, slots=True)
class Seen:
    """The sighting of this attempt's resource in one scope."""

    last: float
    ended: float | None = None
    early: bool = False  # it had ended when the present state was reported
    stale: bool = False  # last known to live before the run last left a final state

    @property
    def alive(self) -> float:
        """Since it was last known to live."""
        return self.last if self.ended is None else self.ended

    def aged(self, by: float) -> Seen:
        return replace(self, last=self.last + by, ended=None if self.ended is None else self.ended + by)


@dataclass(frozen=True, slots=True)
class Node:
    """The default: just submitted, and nothing is known yet."""

    state: str = "PENDING"  # "ASLEEP": AwaitingRetry in process
    age: float = 0
    due: float | None = None  # since the in-process retry is due
    attempt: int = 1  # 2: the second or any later
    left: str = NOBODY  # whose final state this attempt has left; OURS: we crashed it before
    resumed: float | None = None  # since then; only when concrete
    began: float | None = None  # since this attempt began; only when concrete
    mine: Seen | None = None
    other: Seen | None = None  # in the second scope
    old: bool = False  # an earlier attempt's resource was seen, under the present identity
    ever: bool = False  # something of it was seen under a former identity
    other_ever: bool = False  # ... in the second scope, of an earlier attempt

    @property
    def may_run(self) -> bool:
        return self.state in ("RUNNING", "ASLEEP")

    @property
    def should_run(self) -> bool:
        return self.state == "RUNNING" or (self.state == "ASLEEP" and self.due is not None and self.due >= 0)

    @property
    def table(self) -> Node:
        """All of it that the rules may read; the rest is for guards."""
        stale = any(seen is not None and seen.stale for seen in (self.mine, self.other))
        return replace(
            self, left=THEIRS if self.left and stale else NOBODY, mine=_table(self.mine), other=_table(self.other)
        )

    def aged(self, by: float) -> Node:
        """All of it, that much later. Only for concrete ones."""

        def later(age: float | None) -> float | None:
            return None if age is None else age + by

        return replace(
            self,
            age=self.age + by,
            due=later(self.due),
            resumed=later(self.resumed),
            began=later(self.began),
            mine=self.mine and self.mine.aged(by),
            other=self.other and self.other.aged(by),
        )


def _table(seen: Seen | None) -> Seen | None:
    return seen and replace(seen, last=200.0 if seen.last and seen.ended is None else 0.0)


@cache
def concrete(node: Node, at_least: float = 0) -> Node:
    """Ages that fit together; the youngest ones of their buckets, but the state's `at_least` so old."""
    age, shown = max(node.age, at_least, node.due or 0), [seen for seen in (node.mine, node.other) if seen]
    for seen in shown:
        if seen.ended is not None and not (seen.early or seen.stale):  # no two things happen in the same instant
            age = max(age, seen.ended + 1, seen.last + 1)
    later = [_fitting(seen, age).alive for seen in shown if not seen.stale]
    resumed = max([age, *(alive + 1 for alive in later)]) if node.left else age
    mine, other = (seen and _fitting(seen, resumed if seen.stale else age) for seen in (node.mine, node.other))
    ages = [time for seen in (mine, other) if seen for time in (seen.last, seen.alive)]
    began = max([age, resumed, *ages]) + 100
    return replace(node, age=age, resumed=resumed if node.left else None, began=began, mine=mine, other=other)


def _fitting(seen: Seen, age: float) -> Seen:
    last = max(seen.last, age) if seen.stale else seen.last
    ended = None if seen.ended is None else max(seen.ended, last, age + 1 if seen.early else 0)
    return replace(seen, last=last, ended=ended)


@cache
def canonical(facts: Node, setting: Setting) -> Node:
    """The node of these ages. What can make no difference any more is left out."""
    at = marks(setting)
    mine, other = _canonical(facts, facts.mine, setting), _canonical(facts, facts.other, setting)
    old = facts.old and setting.pid == "first"
    stale = any(seen is not None and seen.stale for seen in (mine, other))
    return replace(
        facts,
        age=floor(facts.age, at.of_state(facts.state)),
        due=None if facts.due is None else floor(facts.due, at.due),
        left=facts.left if facts.left == OURS or stale else NOBODY,
        resumed=None,
        began=None,
        mine=mine,
        other=other,
        old=old,
        ever=(facts.ever or (facts.old and not old)) and not (setting.mapped or mine or old),
        other_ever=facts.other_ever and setting.other == "stranger" and other is None,
    )


def _canonical(facts: Node, seen: Seen | None, setting: Setting) -> Seen | None:
    if seen is None:
        return None
    at = marks(setting)
    early = facts.may_run and seen.ended is not None and seen.ended > facts.age
    stale = facts.resumed is not None and seen.alive >= facts.resumed
    if seen.ended is None:
        last = floor(seen.last, at.last[:2] if stale or setting.is_calm else at.last)
    else:
        last = 0.0 if stale or setting.is_calm else floor(seen.last, (0.0, at.last[-1]))
    ended = None
    if seen.ended is not None:
        ended = 0.0 if early or facts.state == "CANCELLING" else floor(seen.ended, at.ended)
    return Seen(last, ended, early, stale)


def upper(node: Node, setting: Setting) -> float:
    """The age at which the present state's bucket ends."""
    return after(node.age, marks(setting).of_state(node.state)) or 99_999
