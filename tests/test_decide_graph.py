"""The decision over every sequence of passes: all that can be remembered, and all that each may meet.

The claims are about sequences of any length: a node is all that is remembered, and the walk ends only when no symbol
leads to a new one.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from reconciler.decide import decide, judge
from reconciler.model import AbsenceCounts, Guard, Verdict
from reconciler.snapshot import FirstLook, Snapshot
from tests import spec
from tests.graph import moves, picture, wary
from tests.graph.node import Node, Seen
from tests.graph.passes import SECOND_SCOPE, Passes
from tests.graph.report import Explored, explore, seeded
from tests.graph.scene import ANSWERS, DEAD, GONE, PAIRED, Rest, guard_rests, ready
from tests.graph.seeds import SEEDS, Seed
from tests.graph.setting import SETTINGS, Setting, marks
from tests.graph.wary import AWAY, CALM, Wary

LIMIT = 180.0  # seconds
IN_SIGHT = Node("RUNNING", age=30, mine=Seen(0))


@dataclass
class Work:
    """Two processes, and what they were given, the largest first."""

    graphs: dict[Setting, Future[Explored]] = field(default_factory=dict)
    seeds: dict[Seed, Future[tuple[str, float]]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)


@pytest.fixture(scope="module")
def work() -> Iterator[Work]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        work = Work()
        work.graphs |= {setting: pool.submit(explore, setting) for setting in SETTINGS}
        work.seeds |= {seed: pool.submit(seeded, seed.name) for seed in SEEDS}
        yield work
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_whole_graph(setting: Setting, work: Work) -> None:
    assert work.graphs[setting].result().nodes > 100


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_seeded_bug_is_found(seed: Seed, work: Work) -> None:
    told, _ = work.seeds[seed].result()
    print(f"{seed.name}:\n{told}")
    assert seed.violates in told
    assert told, "the walk found nothing"


def test_what_was_explored(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    done = [future.result() for future in work.graphs.values()]
    found = [future.result() for future in work.seeds.values()]
    took = time.monotonic() - work.began
    needed = (sum(one.seconds for one in done) + sum(seconds for _, seconds in found)) / 2
    verdicts = sum((one.verdicts for one in done), Counter[str]())
    with capsys.disabled():
        print("\n" + "\n".join(_table(done)))
        print(f"{sum(bool(told) for told, _ in found)} of {len(found)} seeded bugs found")
        print(f"{took:.0f} s; on two free processors {needed:.0f} s")
    told = {key.split(" ", 2)[2] for key in verdicts if key.startswith("HELD") and key.count(" ") >= 2}
    assert told == {guard.value for guard in Guard} - {Guard.RATE.value}, "one run is never too many for the rate"
    assert {key.split()[0] for key in verdicts} == {verdict.value for verdict in Verdict}
    assert {key.split()[1] for key in verdicts} == {"3", "4", "5", "6", "7", "8", "9", "10"}
    assert needed < LIMIT  # how busy the machine is proves nothing


def _table(done: list[Explored]) -> Iterator[str]:
    yield f"{'nodes':>8} {'edges':>11} {'decisions':>10} {'series':>7} {'settled by':>11} {'CPU':>6}"
    for one in done:
        yield (
            f"{one.nodes:>8,} {one.edges:>11,} {one.decisions:>10,} {one.series:>7,} {one.slowest:>9.0f} s "
            f"{one.seconds:>4.0f} s  {one.setting}"
        )
    nodes, edges = sum(one.nodes for one in done), sum(one.edges for one in done)
    decisions, series = sum(one.decisions for one in done), sum(one.series for one in done)
    yield f"{nodes:>8,} {edges:>11,} {decisions:>10,} {series:>7,}  in all"


class _Unread:
    """Whoever looks at it is caught."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the rules read '{name}' of what is for guards")

    def _never(self, *_: object) -> object:
        raise AssertionError("the rules read what is for guards")

    __sub__ = __rsub__ = __lt__ = __gt__ = __le__ = __ge__ = _never

    def __bool__(self) -> bool:
        raise AssertionError("the rules read what is for guards")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELLING", "ASLEEP"])
def test_the_rules_do_not_read_what_is_for_guards(state: str) -> None:
    """On which it rests that a node may be taken as a pair."""
    unread: Any = _Unread()
    setting = Setting(exclusive=True)
    node = Node(state=state, due=0 if state == "ASLEEP" else None, mine=Seen(0))
    for answer, read in itertools.product(ANSWERS, ("unread", "read")):
        facts = ready(node, answer)
        one = picture.case(facts, setting, answer, read=read)
        seen = FirstLook(spec.ago(10), frozenset("a"), frozenset({"res-1"})) if read == "read" else None
        scope = replace(
            picture.view(CALM, setting, answer),
            known_since=unread, former_identity=unread, breaker_since=unread, back_since=unread, started=unread,
            pinned=unread, observes=unread, distrusted_since=unread,
        )  # fmt: skip
        snapshot = Snapshot(
            taken_at=spec.NOW, cases=(), scopes={"a": scope}, clock_jumped=unread, is_whole=unread,
            heartbeats=unread, heartbeats_error=unread, life_signs=unread, life_signs_error=unread,
        )  # fmt: skip
        judge(replace(one, first_look=seen), snapshot, setting.policy)


def _recalled() -> Iterator[Wary]:
    """Everything that guards may remember."""
    ahead, known = [Wary(), replace(Wary(), breaker=0.0), replace(Wary(), back=AWAY)], set[Wary]()
    while ahead:
        one = ahead.pop()
        if one not in known:
            known.add(one)
            yield one
            ways = (*wary.times(one, marks(Setting())), *wary.events(one, Setting(restarts=True)))
            ahead += [after for _, after in ways] + [wary.identity_changed(one)]


@pytest.mark.parametrize("answer", [DEAD, GONE], ids=lambda answer: answer.name)
@pytest.mark.parametrize("exclusive", [False, True])
def test_guards_do_nothing_but_hold(answer: Any, exclusive: bool) -> None:
    """On which it rests that what one guard holds is not tried with what others may hold."""
    passes = Passes(Setting(exclusive=exclusive))
    node = replace(IN_SIGHT, age=300, mine=None if exclusive else Seen(0))
    first = passes.with_history(passes.first(node, answer))
    result = passes.second(first, Rest(answer))
    assert result.is_zombie
    plain = Rest(answer)
    rests = [plain, *guard_rests(answer, plain, is_absent=True), replace(plain, herd=True)]
    alone = {rest: passes.hold(result, CALM, rest).verdict for rest in rests}
    for recalled in _recalled():
        by_itself = passes.hold(result, recalled, plain).verdict
        for rest in rests:
            both = passes.hold(result, recalled, rest).verdict
            if not rest.herd:  # there the breaker's age is what is remembered
                may = by_itself is alone[rest] is Verdict.ZOMBIE
                assert (both is Verdict.ZOMBIE) == may, (recalled, rest)
            elif both is Verdict.ZOMBIE:
                assert by_itself is Verdict.ZOMBIE


@pytest.mark.parametrize("setting", [Setting(), Setting(exclusive=True), Setting(other="twin")], ids=str)
def test_the_parts_make_the_whole(setting: Setting) -> None:
    """What the walk puts together of rules and guards is what `decide` says at once, in whatever order things come."""
    passes, chance = Passes(setting), random.Random(6)
    answers = PAIRED if setting.other else ANSWERS
    nodes = [
        IN_SIGHT,
        Node(),
        Node("RUNNING", age=300),
        replace(IN_SIGHT, age=300, mine=Seen(0, 45.0), attempt=2, old=True),
    ]
    for node, answer in itertools.product(nodes, answers):
        if not answer.fits(node, setting):
            continue
        result = passes.whole(ready(node, answer), answer)
        wise = Wary(known=chance.choice([0.0, 200.0]), back=chance.choice([None, 0.0]))
        rest = result.rest or Rest(answer)
        case, scope = result.judged.weighed.case, passes.scope(rest.second, answer, wise, rest)
        looks = tuple(
            replace(look, observations=look.observations[::-1], sightings=look.sightings[::-1])
            for look in case.looks[::-1]
        )
        for one in (case, replace(case, looks=looks)):
            scopes = {"b": SECOND_SCOPE, "a": scope} if one is case else {"a": scope, "b": SECOND_SCOPE}
            snapshot = Snapshot(taken_at=spec.NOW, cases=(one,), scopes=scopes)
            (found,) = decide(snapshot, setting.policy).findings
            expected = passes.hold(result, wise, rest) if result.rest else result.finding
            told = found.verdict, found.rule, found.guard, found.scope, found.absence
            assert told == (expected.verdict, expected.rule, expected.guard, expected.scope, expected.absence), answer


def test_a_sighting_is_what_makes_absence_count() -> None:
    """The model's own sanity: the plain zombie by removal is one, and for the reason that is meant."""
    passes = Passes(Setting())
    result = passes.whole(ready(IN_SIGHT, GONE), GONE)
    assert (result.is_zombie, result.finding.absence) == (True, AbsenceCounts.SIGHTED)
    lost = [after for what, after, _ in moves.forgettings(IN_SIGHT, Setting()) if what == "the memory is lost"]
    assert passes.whole(ready(lost[0], GONE), GONE).finding.verdict is Verdict.UNMANAGED
