"""Asks the real guards about the zombies of the rules: of nodes that guards take for one, only of the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from reconciler.model import Verdict
from reconciler.plan import Finding

from .node import OURS, Node
from .passes import Passes, Result
from .scene import Answer, Rest, guard_rests
from .wary import CALM, Effect, Wary

Check = Callable[[Passes, Node, Wary, Result, Rest | None, Finding], None]
Fail = Callable[[str, Answer, Rest | None], object]  # raises


@dataclass(frozen=True, kw_only=True)
class Zombie:
    """A symbol of which the rules make a zombie of one node."""

    answer: Answer
    rest: Rest
    is_absent: bool
    table: int  # which node it is for the rules
    step: int  # the node after it
    settled: tuple[tuple[str, int], ...]  # and if it is settled, and the run comes back
    ways: tuple[tuple[Rest, Effect], ...]  # alone, and with others


@dataclass
class Trials:
    passes: Passes
    check: Check
    fail: Fail
    verdicts: Counter[str] = field(default_factory=Counter)
    _told: dict[object, tuple[bool, int]] = field(default_factory=dict)
    _results: dict[object, Result] = field(default_factory=dict)

    def tried(self, zombie: Zombie, node: Node, facts: Wary, rest: Rest) -> tuple[bool, int]:
        """Whether it is settled, and how many symbols more were tried for that."""
        kind = _read_of(facts, zombie, node, rest)
        last = node.mine.last if node.mine and rest.herd else None
        mine = zombie.table, node.left == OURS, last, zombie.answer, zombie.rest
        key = mine, rest.herd, kind
        if key not in self._told:
            result = self._again(zombie, node, mine)
            is_zombie = self._hold(result, node, kind, rest)
            more = _more(zombie, rest, is_zombie=is_zombie)
            others = [self._hold(result, node, kind, one) for one in more]
            self._told[key] = is_zombie or (rest.herd and any(others)), len(more)
        return self._told[key]

    def judged(self, node: Node, facts: Wary, result: Result, rest: Rest | None, found: Finding) -> None:
        self.verdicts[f"{found.verdict} {found.rule} {found.guard or ''}".strip()] += 1
        try:
            self.check(self.passes, node, facts, result, rest, found)
        except AssertionError as error:
            self.fail(str(error), result.answer, rest)

    def _hold(self, result: Result, node: Node, facts: Wary, rest: Rest) -> bool:
        found = self.passes.hold(result, facts, rest)
        self.judged(node, facts, result, rest, found)
        return found.verdict is Verdict.ZOMBIE

    def _again(self, zombie: Zombie, node: Node, key: object) -> Result:
        """The pass with what this node has beyond what rules read."""
        if key not in self._results:
            passes = self.passes
            result = passes.second(passes.with_history(passes.first(node, zombie.answer)), zombie.rest)
            if not result.is_zombie:
                why = f"the verdict rests on what is for guards: {result.finding.reason}"
                self.fail(why, zombie.answer, zombie.rest)
            self._results[key] = result
        return self._results[key]


def _read_of(facts: Wary, zombie: Zombie, node: Node, rest: Rest) -> Wary:
    """What of it guards read for this zombie."""
    if node.left == OURS:
        return CALM
    if not zombie.is_absent:
        return replace(CALM, jumped=facts.jumped)
    return facts if rest.herd else replace(facts, breaker=None)


def _more(zombie: Zombie, rest: Rest, *, is_zombie: bool) -> tuple[Rest, ...]:
    if rest.herd:
        return () if is_zombie else (replace(rest, accepted=True),)
    return guard_rests(zombie.answer, rest, is_absent=zombie.is_absent) if is_zombie else ()
