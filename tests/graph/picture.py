"""How a node and an answer look to `decide`: the values that the cycle would have made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from reconciler.model import Condition, Observation, Place, Resource, Sighting
from reconciler.snapshot import Case, Look, ScopeView

from .node import Node, Seen
from .past import RUN, STATE, ago, history, run
from .scene import OTHER_ENDED, Answer, Rest
from .setting import LAG, Setting
from .wary import Wary

_CONDITIONS = {condition.value: condition for condition in Condition}


def observations(facts: Node, answer: Answer, setting: Setting) -> Iterator[Observation]:
    """What the first scope shows."""
    if answer.live:
        yield _observed(answer.live, mine(facts, setting))
    if answer.exited is not None:
        ended = end_of(facts, answer)
        yield _observed("EXITED", mine(facts, setting), ended=ended, exit_code=answer.code, unseen_end=answer.unseen)
    if answer.gone:
        yield _observed(
            "GONE", _missing(facts, setting), unseen_end=answer.gone == "unseen", needs_sighting=answer.gone == "weak"
        )
    if answer.part:  # a child process, say
        part = replace(_resource("res-x", _began(facts) - 6, setting), is_whole=False)
        yield _observed("EXITED", part, ended=min(45.0, facts.age), exit_code=0)
    if answer.old:
        yield _observed(answer.old, _old(facts, setting), ended=_began(facts) + 200 if answer.old == "EXITED" else None)
    if answer.doubt in ("unknown", "alive?"):
        known = _resource("res-y", _began(facts) - 7, setting) if answer.doubt == "alive?" else None
        yield _observed("UNKNOWN", known)


def _observed(condition: str, thing: Resource | None, *, ended: float | None = None, **more: Any) -> Observation:
    when = None if ended is None else ago(ended)
    return Observation(condition=_CONDITIONS[condition], reason="is so", resource=thing, ended_at=when, **more)


def end_of(facts: Node, answer: Answer) -> float | None:
    """How long ago it ended, if it says so."""
    if answer.exited == "early":
        return facts.age + 5
    return None if answer.exited == "untimed" else float(answer.exited or 0)


def case(
    facts: Node, setting: Setting, answer: Answer, *, read: str = "unread", everywhere: bool = False,
    state_id: UUID = STATE,
) -> Case:  # fmt: skip
    """The run as it is looked at. A scope that fails has no identity, so no sightings under it."""
    failed = answer.doubt == "error"
    known = () if failed else tuple(sightings(facts, setting))
    there = bool(known or facts.ever or facts.mine or facts.old)
    place = Place.UNSAID if setting.pid is None else setting.place
    looks = []
    if setting.mapped or there or everywhere or answer.doubt != "not asked":
        looks.append(
            Look(
                scope="a",
                mapped=setting.mapped,
                ever_seen=there,
                place=place,
                sightings=known,
                observations=() if answer.is_blind else tuple(observations(facts, answer, setting)),
                error="refused" if failed else None,
            )
        )
    looks += _other_look(facts, setting, answer, everywhere=everywhere)
    past = history(facts) if read == "read" else None
    return Case(
        run=run(facts, setting, state_id),
        looks=tuple(looks),
        history=past,
        history_error="503" if read == "error" else None,
    )


def _other_look(facts: Node, setting: Setting, answer: Answer, *, everywhere: bool) -> Iterator[Look]:
    there = bool(facts.other or facts.other_ever)
    mapped = setting.other == "twin"
    if not setting.other or not (mapped or there or everywhere or answer.other):
        return
    known = (
        ()
        if facts.other is None or answer.other == "error"
        else (_sighting("b", _theirs(facts, setting), facts.other),)
    )
    seen = {
        "ALIVE": _observed("ALIVE", _theirs(facts, setting)),
        "EXITED": _observed("EXITED", _theirs(facts, setting), ended=OTHER_ENDED, exit_code=1),
        "GONE": _observed("GONE", _missing(facts, setting)),
    }.get(answer.other)
    error = "refused" if answer.other == "error" else None
    shown = (seen,) if seen else ()
    place = Place.UNSAID
    yield Look(scope="b", mapped=mapped, ever_seen=there, place=place, sightings=known, observations=shown, error=error)


def view(
    facts: Wary, setting: Setting, answer: Answer, other: Answer | None = None, rest: Rest | None = None
) -> ScopeView:  # fmt: skip
    """The first scope, with what went wrong at either look."""
    said = frozenset({answer.doubt, other.doubt if other else ""})
    return _view(facts, setting, said, failed=answer.doubt == "error", closed=rest.closed if rest else "")


@cache
def _view(facts: Wary, setting: Setting, said: frozenset[str], *, failed: bool, closed: str) -> ScopeView:
    back = None if facts.back is None else ago(facts.back)
    return ScopeView(
        name="a",
        adapter="docker",
        identity=None if failed else "id-a",
        exclusive=setting.exclusive,
        pinned=setting.pinned,
        lag=timedelta(seconds=LAG if setting.lag else 0),
        error="refused" if "error" in said else None,
        incomplete="cut short" if "incomplete" in said else None,
        known_since=None if failed else ago(facts.known),
        former_identity="x" if facts.former else None,
        breaker_since=None if facts.breaker is None else ago(facts.breaker),
        back_since=None if setting.restarts else back,
        started=back if setting.restarts else None,
        observes=closed == "scope",
        distrusted_since=ago(10) if closed == "distrusted" else None,
    )


def sightings(facts: Node, setting: Setting) -> Iterator[Sighting]:
    if facts.mine is not None:
        yield _sighting("a", mine(facts, setting), facts.mine)
    if facts.old:
        began = _began(facts)
        seen = Sighting(
            scope="a",
            identity="id-a",
            resource=_old(facts, setting),
            first_seen=ago(began + 300),
            last_seen=ago(began + 200),
            live_seen=ago(began + 210),
            ended_seen=ago(began + 200),
        )
        yield seen


def _sighting(scope: str, thing: Resource, seen: Seen) -> Sighting:
    ended = None if seen.ended is None else ago(seen.ended)
    last = ago(seen.last)
    live = last if ended is None else None
    return Sighting(
        scope=scope,
        identity=f"id-{scope}",
        resource=thing,
        first_seen=last,
        last_seen=last,
        live_seen=live,
        ended_seen=ended,
    )


def mine(facts: Node, setting: Setting) -> Resource:
    return _resource(f"res-{facts.attempt}", _began(facts) - 5, setting)


def _missing(facts: Node, setting: Setting) -> Resource | None:
    """What the pid names: that was looked for."""
    pid = setting.pid_of(facts.attempt)
    return None if pid is None else _resource(pid.removeprefix("base:"), None, setting)


def _old(facts: Node, setting: Setting) -> Resource:
    return _resource("res-1", _began(facts) + 500, setting)


def _theirs(facts: Node, setting: Setting) -> Resource:
    """The same under another id, or the very same."""
    shown = mine(facts, setting)
    return shown if setting.other == "stranger" else replace(shown, id=f"b-{shown.id}", key=shown.key or shown.id)


def _began(facts: Node) -> float:
    return facts.began or 0


@cache
def _resource(name: str, made: float | None, setting: Setting) -> Resource:
    when = None if made is None else ago(made)
    key, uid = (name, f"uid-{name}") if setting.chosen_names else ("", name)
    return Resource(id=uid, title=f"container {name}", run_id=RUN, key=key, created_at=when)
