"""Bugs that the walk must find: pieces of rules and guards, each taken out or made wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from unittest.mock import patch

from reconciler import condemning, decide, weigh
from reconciler.guards import Watchman
from reconciler.matter import Matter
from reconciler.model import AbsenceCounts
from reconciler.plan import Finding
from reconciler.snapshot import FirstLook
from reconciler.weigh import Weighed
from tests import spec

from .setting import COARSE, Setting

SIGHTED = Setting(policy=COARSE)
EXCLUSIVE = Setting(exclusive=True, policy=COARSE)
_NONE = timedelta(0)


@dataclass(frozen=True)
class Seed:
    name: str
    apply: Callable[[], AbstractContextManager[object]]
    violates: str  # what the walk says
    setting: Setting = SIGHTED
    is_of_time: bool = False  # shows in a series of passes, not in one


def _guard_removed(name: str) -> Callable[[], AbstractContextManager[object]]:
    return lambda: patch.object(Watchman, name, lambda *_: None)


def _scale(name: str, answer: object) -> Callable[[], AbstractContextManager[object]]:
    return lambda: patch.object(weigh._Scale, name, lambda *_: answer)


def _rules(change: Callable[[decide.Rule], decide.Rule | None]) -> Callable[[], AbstractContextManager[object]]:
    changed = tuple(rule for one in decide.RULES if (rule := change(one)) is not None)
    return lambda: patch.object(decide, "RULES", changed)


def _without(name: str) -> Callable[[], AbstractContextManager[object]]:
    return _rules(lambda rule: None if rule.__name__ == name else rule)


def _seeing(name: str, see: Callable[[Matter], Matter]) -> Callable[[], AbstractContextManager[object]]:
    def changed(rule: decide.Rule) -> decide.Rule:
        def wrong(matter: Matter) -> Finding | None:
            return rule(see(matter))

        return wrong if rule.__name__ == name else rule

    return _rules(changed)


def _confirmed(matter: Matter) -> Matter:
    """As if it had been looked at before."""
    long_ago = FirstLook(spec.ago(3600), frozenset({"a", "b"}))
    case = replace(matter.case, first_look=matter.case.first_look and long_ago)
    return replace(matter, weighed=replace(matter.weighed, case=case))


def _graceless(matter: Matter) -> Matter:
    return replace(matter, policy=replace(matter.policy, grace=_NONE))


def _settles_at_once() -> AbstractContextManager[object]:
    return patch.object(condemning, "settle_time", lambda *_: (_NONE, "at once"))


def _settles_late() -> AbstractContextManager[object]:
    return patch.object(condemning, "settle_time", lambda *_: (timedelta(seconds=62), "late"))


def _forgetful(matter: Matter) -> Matter:
    """As if nothing had been seen, once the state is a minute old."""
    if matter.state_age < timedelta(minutes=1):
        return matter
    return replace(matter, weighed=replace(matter.weighed, ended=(), absent=()))


def _breaker_stays() -> AbstractContextManager[object]:
    def stays(watchman: Watchman, _: Weighed, finding: Finding) -> str | None:
        return "for ever" if finding.is_absent and watchman.breakers else None

    return patch.object(Watchman, "breaker", stays)


def _quiet_stays() -> AbstractContextManager[object]:
    return patch.object(Watchman, "_beats", lambda *_: "for ever")


SEEDS = (
    Seed("a live resource is overlooked", _without("rule_3_alive"), "alive is healthy"),
    Seed("what could not be asked is taken for nothing", _without("rule_4_blind"), "doubt at either look is UNKNOWN"),
    Seed("rule 7 without a second look", _seeing("rule_7_gone", _confirmed), "gone at both looks"),
    Seed("grace 0", _seeing("rule_7_gone", _graceless), "its state outlived grace"),
    Seed("settle times 0", _settles_at_once, "longer ago than it takes to settle"),
    Seed(
        "another attempt's is taken for this one's",
        _scale("_is_of_this_attempt", True),
        "an end was seen",
        Setting(pid="first", policy=COARSE),
    ),
    Seed("when it ended is not asked", _scale("_reported_later", False), "since its state was reported"),
    Seed("absence counts everywhere", _scale("counts", (AbsenceCounts.SIGHTED, "")), "sighted: of this attempt"),
    Seed(
        "a name proves whose it is",
        _scale("_is_credible", True),
        "not by a name",
        Setting(mapped=False, chosen_names=True, policy=COARSE),
    ),
    Seed("again removed", _guard_removed("again"), "never twice in one attempt"),
    Seed("listing removed", _guard_removed("listing"), "half a list condemns nobody"),
    Seed("breaker removed", _guard_removed("breaker"), "the breaker dominates"),
    Seed("identity removed", _guard_removed("identity"), "identity is not believed"),
    Seed("amnesty removed", _guard_removed("amnesty"), "amnesty dominates"),
    Seed("amnesty after a return removed", _guard_removed("_is_new"), "the scope's amnesty dominates"),
    Seed("quiet removed", _guard_removed("quiet"), "quiet", EXCLUSIVE),
    Seed("life signs removed", _guard_removed("life_sign"), "sign"),
    Seed("trust removed", _guard_removed("trust"), "who is taken out stays out"),
    Seed("the pid is not compared", _scale("_pid_is_settled", True), "what the pid names", Setting(pid="other")),
    Seed("an end is never settled", _without("rule_6_exited"), "not settled", is_of_time=True),
    Seed("settled late", _settles_late, "advertised", is_of_time=True),
    Seed("it forgets that it is dead", _seeing("rule_5_unmanaged", _forgetful), "changed its mind", is_of_time=True),
    Seed("the breaker never lets go", _breaker_stays, "a guard holds for ever", is_of_time=True),
    Seed("quiet never lets go", _quiet_stays, "not settled", EXCLUSIVE, is_of_time=True),
)
