"""Explores every node that can be reached in one setting, until there is nothing new."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NoReturn

from . import moves, wary
from .node import Node, canonical
from .numbered import Numbered
from .passes import Passes, Result, noted, swapped
from .scene import Answer, Rest, answers, plain_rests, ready
from .setting import marks
from .trials import Check, Trials, Zombie
from .wary import CALM, Effect, Wary

Move = tuple[str, int, object]  # what happens, the node after it, what that does to what guards remember


class Violation(AssertionError):
    """Something does not hold. Says how to get there."""


@dataclass
class Moves:
    """All that may happen at one node, whatever the guards remember."""

    moves: list[Move]
    zombies: list[Zombie]
    passes: int  # symbols that end without a zombie
    others: int  # events and times


@dataclass
class Graph:
    """A node is a pair: what rules read, what guards read. An edge is one symbol.

    A zombie that a guard holds is not tried with what else may hold it, since guards do nothing but hold.
    """

    passes: Passes
    check: Check
    edges: Counter[str] = field(default_factory=Counter)
    cores: Numbered[Node] = field(default_factory=Numbered)
    waries: Numbered[Wary] = field(default_factory=Numbered)
    parents: dict[tuple[int, int], tuple[tuple[int, int], str] | None] = field(default_factory=dict)
    _moves: dict[int, Moves] = field(default_factory=dict)
    _tables: dict[Node, tuple[int, list[tuple[Result, int]]]] = field(default_factory=dict)
    _wary_moves: dict[tuple[int, object], int] = field(default_factory=dict)
    _ways: dict[tuple[int, Wary], tuple[int, tuple[Move, ...]]] = field(default_factory=dict)
    _crashed: dict[int, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    _at: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.trials = Trials(self.passes, self.check, self._fail)

    def explore(self) -> Graph:
        start = self.cores.number(Node()), self.waries.number(CALM if self.passes.setting.is_calm else Wary())
        self.parents[start] = None
        ahead = deque([start])
        while ahead:
            self._at = at = ahead.popleft()
            for what, core, does in self._from(*at):
                node = core, self._after(at[1], does)
                if node not in self.parents:
                    self.parents[node] = at, what
                    ahead.append(node)
        return self

    def _from(self, core: int, recalled: int) -> Iterator[Move]:
        known = self._moves.get(core)
        if known is None:
            known = self._moves[core] = self._all(core)
        facts, calm = self.waries[recalled], self.passes.setting.is_calm
        yield from known.moves
        self.edges["passes"] += known.passes
        self.edges["events and times"] += known.others
        if known.zombies:
            kind = CALM if calm else facts.dominant
            tried, ways = self._ways.get((core, kind)) or self._guarded(core, kind)
            self.edges["passes"] += tried
            yield from ways
        if not calm:
            yield from self._recalled(core, facts)

    def _recalled(self, core: int, facts: Wary) -> Iterator[Move]:
        """What changes for guards alone."""
        for what, after in (*wary.times(facts, marks(self.passes.setting)), *wary.events(facts, self.passes.setting)):
            self.edges["events and times"] += 1
            yield what, core, after

    def _all(self, core: int) -> Moves:
        node, setting = self.cores[core], self.passes.setting
        found: list[Move] = [
            (what, self.cores.number(after), None)
            for what, after in (*moves.times(node, setting), *moves.events(node, setting))
        ]
        found += [
            (what, self.cores.number(after), None if setting.is_calm else does)
            for what, after, does in moves.forgettings(node, setting)
        ]
        others, passes, ways, zombies = len(found), 0, dict[tuple[int, object], str](), list[Zombie]()
        table, results = self._table(node.table)
        for result, times in results:
            if result.is_zombie and result.rest is not None:
                zombies.append(self._zombie(node, result, result.rest, table))
                continue
            step = self.cores.number(canonical(self._facts(node, result), setting))
            passes += times
            for effect in self._effects(result.answer, result.rest):
                passes += effect.tripped * times
                ways.setdefault((step, effect), str(result) + (", and three others are gone" if effect.tripped else ""))
        return Moves([*found, *((what, *way) for way, what in ways.items())], zombies, passes, others)

    def _effects(self, answer: Answer, rest: Rest | None) -> list[Effect]:
        """Alone, and with others that vanish from the scope; but it must have answered in full for that."""
        if self.passes.setting.is_calm:
            return [Effect()]
        last = rest.second if rest else answer
        plain = Effect(away=last.doubt == "error", swapped=bool(rest and rest.swapped))
        whole = not {"error", "incomplete"} & {last.doubt, answer.doubt}
        return [plain, plain._replace(tripped=True)] if whole else [plain]

    def _table(self, node: Node) -> tuple[int, list[tuple[Result, int]]]:
        """What the rules make of each symbol, and of how many symbols that is told at once."""
        if node not in self._tables:
            found: dict[object, tuple[Result, int]] = {}
            for result in self._symbols(node):
                if not result.is_zombie:
                    self.trials.judged(node, CALM, result, result.rest, result.finding)
                key = id(result) if result.is_zombie else self._leaves(result)
                first, times = found.get(key, (result, 0))
                found[key] = first, times + 1
            self._tables[node] = len(self._tables), list(found.values())
        return self._tables[node]

    def _leaves(self, result: Result) -> object:
        second = result.rest.second.leaves if result.rest else None
        swap = bool(result.rest and result.rest.swapped)
        return result.answer.leaves, second, swap, result.wait, tuple(self._effects(result.answer, result.rest))

    def _symbols(self, node: Node) -> Iterator[Result]:
        passes, setting = self.passes, self.passes.setting
        for answer in answers(node, setting):
            first = passes.first(node, answer)
            if not first.finding.is_suspect:
                yield first
                continue
            rests = plain_rests(answer, setting)
            read = {kind: passes.with_history(first, kind) for kind in dict.fromkeys(rest.history for rest in rests)}
            yield from (one for one in read.values() if not one.finding.is_suspect)
            for rest in rests:
                if read[rest.history].finding.is_suspect:
                    yield passes.second(read[rest.history], rest)

    def _zombie(self, node: Node, result: Result, rest: Rest, table: int) -> Zombie:
        """What is left of it at this node, which has more than rules read."""
        facts, setting = self._facts(node, result), self.passes.setting
        effects, step = self._effects(result.answer, rest), self.cores.number(canonical(facts, setting))
        return Zombie(
            answer=result.answer,
            rest=rest,
            is_absent=result.finding.is_absent,
            table=table,
            step=step,
            settled=self._settled(step),
            ways=tuple((replace(rest, herd=effect.tripped), effect) for effect in effects),
        )

    def _settled(self, core: int) -> tuple[tuple[str, int], ...]:
        if core not in self._crashed:
            ways = moves.crashed_by_us(self.cores[core], self.passes.setting)
            self._crashed[core] = tuple((what, self.cores.number(after)) for what, after in ways)
        return self._crashed[core]

    def _guarded(self, core: int, kind: Wary) -> tuple[int, tuple[Move, ...]]:
        """All that comes of a node's zombies under what guards remember."""
        tried, ways, node = 0, dict[Move, None](), self.cores[core]
        for zombie in self._moves[core].zombies:
            for rest, effect in zombie.ways:
                name = f"{zombie.answer.name}, {rest}"
                ways[name, zombie.step, effect] = None
                is_settled, more = self.trials.tried(zombie, node, kind, rest)
                tried += 1 + more
                if is_settled:
                    ways |= {(f"{name}; {what}", after, effect): None for what, after in zombie.settled}
        self._ways[core, kind] = tried, tuple(ways)
        return self._ways[core, kind]

    def _facts(self, node: Node, result: Result) -> Node:
        """The node after a pass that the rules made the same of as of another node; concrete."""
        facts, rest = noted(ready(node, result.answer), result.answer), result.rest
        if rest is None:
            return facts
        facts = facts.aged(result.wait)
        return noted(swapped(facts) if rest.swapped else facts, rest.second.later(result.wait))

    def _after(self, recalled: int, does: object) -> int:
        """Apply what a move does to what guards remember."""
        if does is None:
            return recalled
        key = recalled, does
        if key not in self._wary_moves:
            before = self.waries[recalled]
            if isinstance(does, Effect):
                facts = before.after_pass(does)
            elif isinstance(does, Wary):
                facts = does
            else:
                assert callable(does)
                facts = does(before)
            self._wary_moves[key] = self.waries.number(facts)
        return self._wary_moves[key]

    def _fail(self, why: str, answer: Answer, rest: Rest | None) -> NoReturn:
        raise Violation("\n".join([why, *self.path(), f"  {answer.name}" + (f", {rest}" if rest else "")]))

    def path(self) -> list[str]:
        """How the present node is reached."""
        at: tuple[int, int] | None = self._at
        steps = list[str]()
        while at is not None and (parent := self.parents[at]) is not None:
            at = parent[0]
            steps.append(parent[1])
        return [f"{self.passes.setting}:", *(f"  {step}" for step in reversed(steps))]
