"""One pass of the cycle over one node: the real rules and guards, called as `Cycle.plan` calls them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache

from reconciler import decide, guards
from reconciler.model import LifeSign, Verdict
from reconciler.plan import Finding, Judged, Mode, Policy
from reconciler.snapshot import Case, FirstLook, ScopeView, Snapshot
from reconciler.weigh import Weighed
from tests import spec

from .node import Node, Seen
from .past import CHANGED, RUN, STATE, ago
from .picture import case, end_of, view
from .scene import BEATS, OTHER_ENDED, Answer, Rest, ready
from .setting import Setting
from .wary import CALM, Wary

OTHERS = tuple(spec.vanished(age=5) for _ in range(3))  # too young to be suspects, and counted by the breaker
HERD = decide.decide(spec.snapshot(*OTHERS), Policy()).judged
SECOND_SCOPE = spec.scope("b")


def noted(facts: Node, answer: Answer) -> Node:
    """The memory after such an answer, as `Outlook` and `Memory.note` keep it."""
    if answer.other == "ALIVE":
        facts = replace(facts, other=Seen(0))
    elif answer.other == "EXITED":
        facts = replace(facts, other=Seen(0, _first(facts.other, OTHER_ENDED)))
    if answer.is_blind:
        return facts
    if answer.old:
        facts = replace(facts, old=True)
    if answer.live:
        return replace(facts, mine=Seen(0))
    if answer.exited is None:
        return facts
    return replace(facts, mine=Seen(0, _first(facts.mine, end_of(facts, answer) or 0.0)))


def _first(before: Seen | None, ended: float) -> float:
    """The end that was kept first stays, unless it was seen alive since."""
    return before.ended if before is not None and before.ended is not None else max(ended, 0.0)


def swapped(facts: Node) -> Node:
    """What is known of a place that was never seen before."""
    return replace(facts, mine=None, old=False, ever=bool(facts.ever or facts.mine or facts.old))


@dataclass(frozen=True, slots=True)
class Result:
    """A pass that came to its end: the verdict before the guards, and the memory after it."""

    answer: Answer
    rest: Rest | None  # None: it ended after the first look
    judged: Judged
    facts: Node  # concrete
    wait: float = 0

    @property
    def finding(self) -> Finding:
        return self.judged.finding

    @property
    def is_zombie(self) -> bool:
        return self.finding.verdict is Verdict.ZOMBIE

    def __str__(self) -> str:
        return self.answer.name + (f", {self.rest}" if self.rest else "")


@dataclass
class Passes:
    """Passes in one setting. What only guards read matters to zombies alone, and is given to them alone."""

    setting: Setting
    judged: int = 0
    guarded: int = 0

    @property
    def policy(self) -> Policy:
        return self.setting.policy

    def first(self, node: Node, answer: Answer) -> Result:
        """Steps 1 to 4, without a history."""
        return self.first_of(ready(node, answer), answer)

    def first_of(self, facts: Node, answer: Answer) -> Result:
        facts = noted(facts, answer)
        judged = self.judge(case(facts, self.setting, answer), self.scope(answer))
        return Result(answer, None, judged, facts)

    def with_history(self, first: Result, read: str = "read") -> Result:
        """The suspect's history is read, and it is judged again."""
        if read == "unread":
            return first
        judged = self.judge(case(first.facts, self.setting, first.answer, read=read), self.scope(first.answer))
        return replace(first, judged=judged)

    def second(self, first: Result, rest: Rest) -> Result:
        """Step 5."""
        wait = self.policy.confirm_after.total_seconds() if first.finding.wants_time else 0.0
        answer = rest.second.later(wait)
        before = first.facts.aged(wait)
        facts = noted(swapped(before) if rest.swapped else before, answer)
        state_id = CHANGED if rest.changed else STATE
        one = case(facts, self.setting, answer, read=rest.history, everywhere=True, state_id=state_id)
        one = replace(one, first_look=first_look(first.judged.weighed, wait))
        judged = self.judge(one, self.scope(answer, first.answer, CALM, rest))
        return Result(first.answer, rest, judged, facts, wait)

    def whole(self, facts: Node, answer: Answer, rest: Rest | None = None) -> Result:
        """A whole pass over concrete facts, in which nothing happens if no `rest` is given."""
        first = self.first_of(facts, answer)
        if first.finding.is_suspect:
            first = self.with_history(first)
        return self.second(first, rest or Rest(answer)) if first.finding.is_suspect else first

    def judge(self, one: Case, scope: ScopeView) -> Judged:
        self.judged += 1
        return decide.judge(one, _snapshot(one, scope), self.policy)

    def scope(
        self, answer: Answer, before: Answer | None = None, wary: Wary = CALM, rest: Rest | None = None
    ) -> ScopeView:
        return view(wary, self.setting, answer, before, rest)

    def hold(self, result: Result, wary: Wary, rest: Rest, beat: float | None = None) -> Finding:
        """The guards' answer, when they remember `wary`; `beat`: so long ago, else as `rest` says."""
        self.guarded += 1
        facts = wary.at_answer(swapped=rest.swapped)
        scope = self.scope(rest.second, result.answer, facts, rest)
        beat = BEATS.get(rest.beat) if beat is None else beat
        weighed = _seen_in(result.judged.weighed, scope)
        judged = [replace(result.judged, weighed=weighed), *(HERD if rest.herd else ())]
        snapshot = replace(
            _snapshot(weighed.case, scope),
            clock_jumped=None if facts.jumped is None else ago(facts.jumped),
            is_whole=rest.whole,
            heartbeats={} if beat is None else {RUN: spec.beat(beat)},
            heartbeats_error="503" if rest.beat == "error" else None,
            life_signs={RUN: LifeSign("log line", ago(BEATS[rest.sign]))} if rest.sign in BEATS else {},
            life_signs_error="503" if rest.sign == "error" else None,
        )
        policy = _policy(self.policy, rest)
        findings = guards.Watchman.over(judged, snapshot, policy).plan(judged).findings
        return next(one for one in findings if one.run.id == RUN)


def first_look(weighed: Weighed, wait: float) -> FirstLook:
    """As `cycle` makes it."""
    return FirstLook(
        at=spec.NOW - timedelta(seconds=wait),
        absent_from=frozenset(one.scope.name for one in weighed.absent),
        ended=frozenset(one.observation.resource.id for one in weighed.ended if one.observation.resource),
    )


def _snapshot(one: Case, scope: ScopeView) -> Snapshot:
    return Snapshot(taken_at=spec.NOW, cases=(one,), scopes={"a": scope, "b": SECOND_SCOPE})


def _seen_in(weighed: Weighed, scope: ScopeView) -> Weighed:
    """As it had been weighed if the scope had been so: the rules do not read what is for the guards."""
    name = scope.name
    return replace(
        weighed,
        ended=tuple(replace(one, scope=scope) if one.scope.name == name else one for one in weighed.ended),
        absent=tuple(replace(one, scope=scope) if one.scope.name == name else one for one in weighed.absent),
    )


def _policy(policy: Policy, rest: Rest) -> Policy:
    return _changed(policy, rest.closed, accepted=rest.accepted)


@cache
def _changed(policy: Policy, closed: str, *, accepted: bool) -> Policy:
    elsewhere, here = frozenset({"elsewhere"}), frozenset({"pool"})
    changes: dict[str, dict[str, object]] = {
        "all": {"mode": Mode.OBSERVE},
        "excluded": {"exclude_work_pools": here, "include_work_pools": here},
        "not included": {"include_work_pools": elsewhere},
        "not chosen": {"only_pools": elsewhere},
    }
    policy = replace(policy, **changes.get(closed, {}))  # type: ignore[arg-type]
    return replace(policy, accepted_losses=frozenset("a")) if accepted else policy
