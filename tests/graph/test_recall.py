"""The walk's memory beside the real one: the same answers, one after the other, leave the same in both."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from reconciler.memory import Memory
from reconciler.model import FlowRun, Observation, Place, RunMapping, Seen, Sighting
from reconciler.outlook import Outlook
from reconciler.plan import Breaker, Listing, Plan
from reconciler.ports import AdapterError, BoundScope, Problem
from reconciler.snapshot import Look, ScopeView
from tests import spec

from . import node, wary
from .node import Node, concrete
from .passes import noted, swapped
from .past import RUN, run
from .picture import observations
from .scene import ANSWERS, Answer
from .setting import Setting
from .wary import AWAY, Effect, Wary

SETTING = Setting()
MET = tuple(one for one in ANSWERS if not one.old and not one.part)


@dataclass
class ScriptedScope:
    """Answers what the walk would have it answer."""

    name: str = "a"
    place: str = "id-1"
    now: datetime = spec.NOW
    facts: Node = field(default_factory=lambda: concrete(Node("RUNNING", age=300)))
    answer: Answer = MET[0]

    def identity(self, deadline: float) -> str:
        return self.place

    def locate(self, run: FlowRun) -> Place:
        return Place.UNSAID

    def observe(self, runs: Sequence[FlowRun], deadline: float) -> Seen:
        if self.answer.doubt == "error":
            raise AdapterError("refused")
        shift = self.now - spec.NOW
        shown = () if self.answer.is_blind else observations(self.facts, self.answer, SETTING)
        moved = tuple(replace(one, ended_at=one.ended_at and one.ended_at + shift) for one in shown)
        given: dict[object, tuple[Observation, ...]] = {RUN: moved} if moved else {}
        return Seen(observations=given, place_time=self.now)  # type: ignore[arg-type]

    def check(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None:
        pass


@dataclass
class Both:
    """The real outlook and memory, and the model's nodes; times concrete."""

    scope: ScriptedScope
    outlook: Outlook
    recalled: Wary = field(default_factory=Wary)
    is_known: bool = False

    def look(self, answer: Answer, *, moved: bool) -> None:
        scope = self.scope
        scope.answer, facts = answer, scope.facts
        if moved and answer.doubt != "error":  # else it is learned with the next answer
            scope.place += "+"  # back to a former place is no new thing: what it showed is as if it had been seen again
            self.recalled, facts = wary.identity_changed(self.recalled), swapped(facts)
        views, looks = self.outlook.look([run(facts, SETTING)], everywhere=False)
        failed = answer.doubt == "error"
        if not failed and not self.is_known:
            self.recalled, self.is_known = replace(self.recalled, known=0.0, former=False), True
        scope.facts = noted(facts, answer)
        back = AWAY if failed else self.recalled.at_answer().back
        self.recalled = replace(self.recalled, back=back)
        self.compare(views["a"], looks[RUN][0], failed=failed)

    def compare(self, view: ScopeView, look: Look, *, failed: bool) -> None:
        model, facts = self.recalled, self.scope.facts
        assert (view.error is not None) == failed
        assert self._age(view.breaker_since) == model.breaker
        if failed:
            assert (view.known_since, view.back_since, look.sightings) == (None, None, ())
            return
        assert self._age(view.known_since) == model.known
        assert (view.former_identity is not None) == model.former
        assert self._age(view.back_since) == model.back
        mine = [one for one in look.sightings if one.resource.id == "res-1"]
        assert [self._seen(one) for one in mine] == ([] if facts.mine is None else [self._of(facts.mine)])
        assert look.ever_seen == bool(facts.mine or facts.ever or mine)

    def _seen(self, one: Sighting) -> tuple[float | None, object]:
        ended = self._age(one.ended_seen)
        return self._age(one.last_seen), None if ended is None else pytest.approx(ended, abs=1)

    def _of(self, seen: node.Seen) -> tuple[float, float | None]:
        return seen.last, seen.ended

    def _age(self, time: datetime | None) -> float | None:
        return None if time is None else (self.scope.now - time).total_seconds()

    def end_pass(self, *, tripped: bool, by: float) -> None:
        breakers = (Breaker("a", 3, 4),) if tripped else ()
        plan, listing = Plan(findings=(), breakers=breakers), Listing(runs=(run(self.scope.facts, SETTING),))
        self.outlook.remember(listing, plan, self.scope.now)
        away = self.recalled.back == AWAY
        self.recalled = self.recalled.after_pass(Effect(tripped=tripped, away=away)).aged(by)
        self.scope.facts = self.scope.facts.aged(by)
        self.scope.now += timedelta(seconds=by)


@pytest.mark.parametrize("seed", range(25))
def test_the_memory_keeps_what_the_walk_says(seed: int) -> None:
    chance, scope = random.Random(seed), ScriptedScope()
    mapping = RunMapping(work_pools=frozenset({"pool"}))
    outlook = Outlook([BoundScope(scope, "docker", mapping)], Memory(), 5.0, lambda: scope.now)
    both = Both(scope, outlook)
    for _ in range(12):
        both.look(chance.choice(MET), moved=both.is_known and chance.random() < 0.1)
        if chance.random() < 0.3:
            both.look(chance.choice(MET), moved=False)  # the second look of the same pass
        both.end_pass(tripped=chance.random() < 0.4, by=chance.choice([1.0, 10.0, 30.0, 200.0]))
    outlook.close()
