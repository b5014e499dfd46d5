"""What the passes of a daemon say while nothing changes but the time: they come to an end in time, and stay with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from reconciler.model import Guard, Place, Verdict
from reconciler.plan import Finding
from reconciler.settings import worst_case_detection

from .node import Node, Seen, concrete
from .passes import Passes
from .scene import EXITED, GONE, GONE_UNSEEN, OLD_EXITED, UNTIMED, Answer, ready
from .setting import INTERVAL, LAG, Setting, marks
from .wary import AWAY, CALM, Effect, Wary

FAILED, ZERO = EXITED[137, 0], replace(EXITED[0, 10], exited=0)
UNSEEN = Answer("exited unseen", exited=0, unseen=True)
DEATHS = (FAILED, ZERO, UNTIMED, UNSEEN, GONE, GONE_UNSEEN, OLD_EXITED)
MAY_FOLLOW = {
    Verdict.WAITING: {Verdict.WAITING, Verdict.HELD, Verdict.ZOMBIE},
    Verdict.HELD: {Verdict.HELD, Verdict.ZOMBIE},
}


@dataclass(frozen=True, slots=True)
class Said:
    at: float  # seconds after the death
    found: Finding
    read: bool  # with its history: that is evidence too

    def __str__(self) -> str:
        found = self.found
        return f"  after {self.at:.0f} s: {found.verdict} {found.rule} {found.guard or ''} {found.reason}"


def bound(setting: Setting, node: Node, answer: Answer) -> float:
    """The advertised one, for a death right after a pass. A pass itself takes no time here but its `confirm_after`."""
    wait = setting.policy.confirm_after.total_seconds()
    settings: Any = SimpleNamespace(policy=setting.policy)
    times = {
        name: time.total_seconds() for name, time in worst_case_detection(settings, timedelta(seconds=INTERVAL)).items()
    }
    limit = times[_death(node, answer)] + max(0.0, -(node.due or 0.0))  # asleep: nothing is missed until it is due
    if answer.exited == "untimed":
        limit += INTERVAL + wait
    elif setting.other:
        limit += wait  # a second look, for what the second scope showed of late
    return max(limit, LAG + INTERVAL + wait) if setting.lag else limit


def _death(node: Node, answer: Answer) -> str:
    if answer.exited is None:
        sighted = node.mine is not None and not node.mine.stale and answer.gone != "unseen"
        return "gone" if sighted else "gone_unsighted"
    if answer.unseen:
        return "exited_unseen"
    if node.state == "PENDING":
        return "exited_starting"
    return "exited_zero" if answer.code == 0 else "exited_failed"


def said(
    passes: Passes, node: Node, answer: Answer, until: float, *, wary: Wary = CALM, herd: bool = False, late: float = 29
) -> Iterator[Said]:
    """It dies now, and beats a last time if that is what is waited out; the first pass is so `late`."""
    beats = _death(node, answer) in ("exited_unseen", "gone_unsighted")
    at, facts, answer = late, concrete(node).aged(late), answer.later(late)
    wary = wary.aged(late)
    while at <= until:
        result = passes.whole(facts, answer)
        found, wait = result.finding, result.wait
        if result.rest is not None and result.is_zombie:
            beat = at + wait if beats else None
            found = passes.hold(result, wary.aged(wait), replace(result.rest, herd=herd), beat=beat)
        yield Said(at + wait, found, result.judged.weighed.attempt is not None)
        step = INTERVAL * max(1.0, (until - at) // INTERVAL - 3)  # the long middle of a wait is told by its ends
        wary = wary.after_pass(Effect(tripped=herd)).aged(step)
        at, facts, answer = at + step, result.facts.aged(step - wait), answer.later(step)


def check_left_alone(passes: Passes, nodes: Iterable[Node]) -> tuple[int, float]:
    """From each node, as if guards had nothing to remember. Gives how many series that were, and the longest time."""
    series, longest = 0, 0.0
    for node in nodes:
        for answer in _deaths(passes.setting):
            if answer.old and (node.attempt == 1 or not node.old):
                continue
            series += 1
            limit = bound(passes.setting, node, answer)
            wait = passes.policy.confirm_after.total_seconds() if answer.exited is None else 0.0
            late = (limit - wait - 1) % INTERVAL  # just too early for it, so that it takes a pass more
            longest = max(longest, _check(passes, node, answer, limit, late))
    return series, longest


def _deaths(setting: Setting) -> Iterator[Answer]:
    """The second scope, if there is one, never knew it."""
    for one in DEATHS:
        if one is not ZERO or not setting.is_coarse:
            yield replace(one, other="GONE") if setting.other else one


def _check(passes: Passes, node: Node, answer: Answer, limit: float, late: float) -> float:
    told = list(_until_sure(said(passes, node, answer, limit + INTERVAL, late=late)))
    words = "\n".join([f"{passes.setting}", f"{node}", answer.name, *map(str, told)])
    _check_mind(told, words)
    first = next((one.at for one in told if one.found.verdict is Verdict.ZOMBIE), None)
    assert first is None or first <= limit, f"settled after {first} s, advertised: {limit} s\n{words}"
    last = told[-1].found
    waits = last.verdict is Verdict.WAITING or (last.verdict is Verdict.HELD and last.rule in ("6", "7"))
    assert not (node.should_run and waits), f"it waits for ever\n{words}"
    expected = _expected(passes.setting, node, answer)
    assert expected is None or (last.verdict, last.rule) == (Verdict.ZOMBIE, expected), f"not settled\n{words}"
    return first or 0.0


def _until_sure(told: Iterator[Said]) -> Iterator[Said]:
    """What nothing but news can change need not be heard more than three times."""
    heard, before = 0, None
    for one in told:
        yield one
        verdict = one.found.verdict
        heard = heard + 1 if verdict is before else 1
        before = verdict
        if heard == 3 and verdict not in MAY_FOLLOW:
            return


def _check_mind(told: list[Said], words: str) -> None:
    for before, after in itertools.pairwise(told):
        if after.read and not before.read:
            continue
        may = MAY_FOLLOW.get(before.found.verdict, {before.found.verdict})
        assert after.found.verdict in may, f"it changed its mind without anything new\n{words}"


def _expected(setting: Setting, node: Node, answer: Answer) -> str | None:
    """The rule that settles it for sure; None: it may also be that nothing can be said of it."""
    if setting.pid != "own" or not setting.mapped or setting.place is Place.ELSEWHERE or answer.old:
        return None
    early = node.mine is not None and node.mine.ended is not None  # it was seen to end before
    if answer.exited is not None and not early:
        return "6" if node.should_run or node.state == "PENDING" else None
    sighted = node.mine is not None and not node.mine.stale and not early
    only = (setting.place is Place.HERE or setting.exclusive) and node.attempt == 1 and not early
    return "7" if answer.gone and node.should_run and (sighted or only) else None


def check_guards_let_go(passes: Passes, waries: Iterable[Wary]) -> int:
    """Whatever guards remember, what is sighted is settled soon after the last of them may hold; else by a person."""
    policy, series = passes.policy, 0
    hold = max(policy.quiet, policy.breaker_release, policy.amnesty).total_seconds()
    age = marks(passes.setting).running[-1]
    ways = itertools.product(waries, (Seen(0), None), ((FAILED, False), (GONE, False), (GONE, True)))
    for wary, seen, (answer, herd) in ways:
        node = Node(state="RUNNING", age=age, mine=seen)
        if _expected(passes.setting, node, answer) is None:
            continue
        series += 1
        limit = bound(passes.setting, node, answer) + hold
        start = wary.at_answer() if wary.back == AWAY else wary
        told = list(said(passes, node, answer, limit, wary=start, herd=herd))
        words = "\n".join([f"{passes.setting}", f"{wary}", answer.name, *map(str, told)])
        last = told[-1].found
        if herd and seen is None:
            assert last.guard is Guard.BREAKER, f"only a person may settle that\n{words}"
        else:
            assert last.verdict is Verdict.ZOMBIE, f"a guard holds for ever\n{words}"
    return series


def check_tables(passes: Passes, nodes: Iterable[Node]) -> None:
    """What rules are said not to read makes no difference: a sample."""
    for node, answer in itertools.product(itertools.islice(nodes, 0, None, 7), (GONE, UNTIMED)):
        for alike in {node.table} - {node}:
            one, other = passes.whole(ready(node, answer), answer), passes.whole(ready(alike, answer), answer)
            told = [(each.finding.verdict, each.finding.rule, each.wait) for each in (one, other)]
            assert told[0] == told[1], f"{node}\n{alike}\n{answer.name}: {told}"
