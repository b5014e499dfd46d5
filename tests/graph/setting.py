"""How the run and its scopes stand to each other: one graph for each setting. And where the thresholds of it lie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from reconciler.model import Place
from reconciler.plan import Policy

POLICY = Policy()
_T = timedelta(seconds=30)
# Settle times and grace fall together, and so do the long ones: fewer nodes, where these times are not what is tried.
COARSE = Policy(grace=_T, settle_failed=_T, settle_zero=_T, settle_starting=_T, breaker_release=POLICY.quiet)
INTERVAL = 30.0
LAG = 300.0
NOT_DUE = -60.0


@dataclass(frozen=True, slots=True)
class Setting:
    """Does not change along a graph."""

    pid: str | None = "own"  # "own" resource, "first": always that of the first attempt, "other": of neither, None
    place: Place = Place.UNSAID
    mapped: bool = True
    exclusive: bool = False
    pinned: bool = False
    lag: bool = False
    chosen_names: bool = False  # a resource's name can be chosen by anyone (a Job's), so it proves nothing by itself
    restarts: bool = False  # the scope's return is known by when the place started, not by our having missed it
    other: str = (
        ""  # a second scope, well known and calm: "twin" (shows the same thing by another id), "stranger" (unmapped)
    )
    policy: Policy = POLICY

    def __str__(self) -> str:
        flags = [name for name in ("exclusive", "pinned", "lag", "chosen_names", "restarts") if getattr(self, name)]
        mapped = [] if self.mapped else ["unmapped"]
        other = [f"2nd scope {self.other}"] if self.other else []
        place = [] if self.place is Place.UNSAID else [f"pid names {self.place.lower()}"]
        return ", ".join([f"pid {self.pid}", *place, *mapped, *flags, *other, *(["coarse"] if self.is_coarse else [])])

    @property
    def is_coarse(self) -> bool:
        return self.policy.settle_failed == _T

    @property
    def is_calm(self) -> bool:
        """With a second scope, what only guards read is left out: they ask about one scope at a time."""
        return bool(self.other)

    def pid_of(self, attempt: int) -> str | None:
        names = {"own": f"res-{attempt}", "first": "res-1", "other": "elsewhere"}
        return None if self.pid is None else f"base:{names[self.pid]}"


_HERE, _ELSEWHERE = Place.HERE, Place.ELSEWHERE
SETTINGS = (  # the largest first
    Setting(),
    Setting(pid=None, policy=COARSE),
    Setting(pid="first", exclusive=True, policy=COARSE),
    Setting(place=_HERE, restarts=True, policy=COARSE),
    Setting(exclusive=True, policy=COARSE),
    Setting(place=_HERE, lag=True, pinned=True, policy=COARSE),
    Setting(other="twin", policy=COARSE),
    Setting(other="stranger", policy=COARSE),
    Setting(mapped=False, policy=COARSE),
    Setting(mapped=False, chosen_names=True, policy=COARSE),
    Setting(pid="other", exclusive=True, policy=COARSE),
    Setting(place=_ELSEWHERE, policy=COARSE),
)


@dataclass(frozen=True, slots=True)
class Marks:
    """The ages, in seconds, at which something changes; between two of them no age makes a difference."""

    pending: tuple[float, ...]
    running: tuple[float, ...]
    cancelling: tuple[float, ...]
    asleep: tuple[float, ...]
    due: tuple[float, ...]
    last: tuple[float, ...]  # since a resource was last seen
    ended: tuple[float, ...]
    known: tuple[float, ...]  # since a scope's identity is known
    breaker: tuple[float, ...]

    def of_state(self, state: str) -> tuple[float, ...]:
        marks: tuple[float, ...] = getattr(self, state.lower())
        return marks


@lru_cache
def marks(setting: Setting) -> Marks:
    policy = setting.policy
    lag = (timedelta(seconds=LAG),) if setting.lag else ()
    settle = policy.settle_failed, policy.settle_zero
    return Marks(
        pending=_from(0, policy.report_after, *lag),
        running=_from(0, policy.grace, *lag),
        cancelling=_from(0, policy.cancelling_limit),
        asleep=_from(0, *lag),
        due=(NOT_DUE, *_from(0, *settle, policy.grace)),
        last=_from(0, policy.quiet, policy.breaker_release),
        ended=_from(0, *settle, policy.settle_starting),
        known=_from(0, policy.quiet),
        breaker=_from(0, policy.breaker_release),
    )


def _from(start: float, *times: timedelta) -> tuple[float, ...]:
    return tuple(sorted({start, *(time.total_seconds() for time in times)}))


def floor(age: float, of: tuple[float, ...]) -> float:
    return max((mark for mark in of if mark <= age), default=of[0])


def after(age: float | None, of: tuple[float, ...]) -> float | None:
    return None if age is None else min((mark for mark in of if mark > age), default=None)
