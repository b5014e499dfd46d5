"""Asks every scope at once, each in a daemon thread of its own, and waits no longer than the deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from types import MappingProxyType

from reconciler.model import EXACT, ClockOffset, Condition, FlowRun, Observation, Resource, RunId, Seen
from reconciler.ports import AdapterError, BoundScope, Misconfigured, Reminded
from reconciler.words import clipped, legible

_CENTURY = timedelta(days=36525)  # a clock that is off by more would take other times out of all bounds
_WORDS = 1500  # characters of a sentence
_ID = 2500  # of what is compared: an infrastructure_pid has at most 2000
_LARGEST_CODE = 2**53
_FAR = range(1000, 9500)  # years; the sums of others leave what Python can count
_PATIENCE = 0.5  # seconds after the deadline, in which a scope that gave up by then says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a scope answered, or why it did not."""

    identity: str | None = None
    seen: Seen | None = None
    clock: ClockOffset = EXACT
    error: str | None = None
    misconfigured: bool = False
    hangs: bool = False  # a call is still under way: do not ask again


class Asker:
    """Asks one scope. A call that hangs is abandoned, and no second thread is started on the scope until it returns."""

    def __init__(self, bound: BoundScope, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.bound = bound
        self._now = now
        self._call: _Call | None = None

    def ask(self, runs: Sequence[FlowRun], before: Mapping[RunId, Resource], deadline: float) -> None:
        """Start asking. `before` is what was last seen there; `deadline` a `time.monotonic()` value."""
        if self._call is None or self._call.done.is_set():
            self._call = _Call(self.bound, runs, before, deadline, self._now)
            self._call.start()
        else:
            self._call.is_late = True

    def answer(self) -> Answer:
        """Wait for the answer until the deadline."""
        call = self._call
        if call is None:
            return Answer(error="it was not asked")
        if call.is_late:
            since = f"{call.began:%H:%M:%S} UTC"
            return Answer(error=f"it still has not answered a call made at {since}", hangs=True)
        if not call.done.wait(max(0.0, call.deadline + _PATIENCE - time.monotonic())) or call.result is None:
            seconds = call.deadline - call.began_monotonic
            return Answer(error=f"it did not answer within {seconds:.0f} s", hangs=True)
        return call.result


def look(
    askers: Sequence[Asker],
    runs: Mapping[str, Sequence[FlowRun]],
    seconds: float,
    before: Mapping[str, Mapping[RunId, Resource]] = MappingProxyType({}),
) -> dict[str, Answer]:
    """Ask every scope about its runs, all at the same time. One entry per scope, whatever happens.

    `before`: what was last seen of them, by scope.
    """
    deadline = time.monotonic() + seconds
    for asker in askers:
        name = asker.bound.scope.name
        asker.ask(runs.get(name, ()), before.get(name, {}), deadline)
    return {asker.bound.scope.name: asker.answer() for asker in askers}


class _Call(Thread):
    """One call; a daemon thread, so that a hung SDK never keeps the process alive."""

    def __init__(
        self,
        bound: BoundScope,
        runs: Sequence[FlowRun],
        before: Mapping[RunId, Resource],
        deadline: float,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(name=f"scope {bound.scope.name}", daemon=True)
        self.bound, self.runs, self.before, self.deadline, self.now = bound, runs, before, deadline, now
        self.began, self.began_monotonic = now(), time.monotonic()
        self.done, self.is_late = Event(), False
        self.result: Answer | None = None

    def run(self) -> None:
        try:
            self.result = self._answer()
        except Misconfigured as error:
            self.result = Answer(error=_sentence(str(error)), misconfigured=True)
        except AdapterError as error:
            self.result = Answer(error=_sentence(str(error)))
        except Exception as error:  # noqa: BLE001 - an adapter's bug is UNKNOWN for its scope, and must not end the cycle
            self.result = Answer(error=_sentence(f"the adapter failed with {type(error).__name__}: {error}"))
        finally:
            self.done.set()

    def _answer(self) -> Answer:
        identity = self._identity()
        if isinstance(self.bound.scope, Reminded):
            self.bound.scope.remind(self.before)
        asked_at, began = self.now(), time.monotonic()
        seen = self.bound.scope.observe(self.runs, self.deadline)
        took = timedelta(seconds=time.monotonic() - began)
        seen = _without_future_ends(_bounded(_sound(seen)), took)
        if self._identity() != identity:  # else what one place shows would be noted as another's
            raise AdapterError("its identity changed while it was being looked at")
        return Answer(identity=identity, seen=seen, clock=_clock(seen, asked_at, took))

    def _identity(self) -> str:
        identity, pin = self.bound.scope.identity(self.deadline), self.bound.identity_pin
        if not identity:
            raise AdapterError("it does not say which place it is")
        if len(identity) > _ID or not identity.isprintable():
            raise AdapterError("its identity is no name that could be pinned")
        if pin is not None and identity != pin:
            raise Misconfigured(
                f"its identity is '{identity}', but the configuration pins '{pin}': "
                "if the place was replaced on purpose, change `identity`"
            )
        return identity


def _without_future_ends(seen: Seen, took: timedelta) -> Seen:
    """An end later than its place's own present is from before that clock was set back: nobody knows when it was."""
    assert seen.place_time is not None, "checked before"
    latest = seen.place_time + seen.place_time_within + took
    return replace(
        seen,
        observations={
            run_id: [replace(one, ended_at=None) if one.ended_at and one.ended_at > latest else one for one in many]
            for run_id, many in seen.observations.items()
        },
    )


def _sound(seen: Seen) -> Seen:
    """Whatever an adapter gets wrong makes its scope UNKNOWN, never a verdict."""
    resources = list(seen.strangers)
    times = [seen.place_time, seen.place_started]
    for run_id, observations in seen.observations.items():
        for one in observations:
            if one.resource is None and one.condition not in (Condition.GONE, Condition.UNKNOWN):
                raise AdapterError(f"the adapter says {one.condition} and names no resource")
            if one.resource is not None and one.resource.run_id != run_id:
                raise AdapterError("the adapter answers for one flow run with the resource of another")
            resources += [one.resource] if one.resource else []
            times.append(one.ended_at)
    times += [resource.created_at for resource in resources]
    if any(time is not None and time.tzinfo is None for time in times):
        raise AdapterError("the adapter gives a time without a time zone")
    if seen.place_time is not None and seen.place_time.year not in _FAR:
        raise AdapterError(_odd_clock(seen.place_time))
    if any(time is not None and time.year not in _FAR for time in times):
        raise AdapterError("it tells a time that no clock shows")
    if seen.place_time_within < timedelta(0):
        raise AdapterError("the adapter says that its time is better than exact")
    if seen.place_time is None:
        raise AdapterError("it does not tell its time, so nothing can be said of when things happened")
    return seen


def _bounded(seen: Seen) -> Seen:
    """What a place says may be of anybody's making, and goes to logs, pages, files and the Prefect UI.

    Only words are cut: what is compared may not become equal to something else.
    """
    return replace(
        seen,
        observations={run_id: [_bounded_one(one) for one in many] for run_id, many in seen.observations.items()},
        strangers=[_bounded_resource(resource) for resource in seen.strangers],
        incomplete=_sentence(seen.incomplete) if seen.incomplete else None,
    )


def _bounded_one(one: Observation) -> Observation:
    reason, resource = _sentence(one.reason), _bounded_resource(one.resource) if one.resource else None
    if one.exit_code is not None and (type(one.exit_code) is not int or abs(one.exit_code) > _LARGEST_CODE):
        raise AdapterError("the adapter gives an exit code that is none")
    same = reason == one.reason and resource is one.resource
    return one if same else replace(one, reason=reason, resource=resource)


def _bounded_resource(resource: Resource) -> Resource:
    for text in (resource.id, resource.key):
        if len(text) > _ID or not text.isprintable():
            raise AdapterError("the adapter names a resource by what is no id")
    title, node = _sentence(resource.title), _sentence(resource.node) if resource.node else resource.node
    # a command is told whole or not at all: cut short it would do something else
    removal = resource.removal if len(resource.removal) <= _WORDS and resource.removal.isprintable() else ""
    same = (title, node, removal) == (resource.title, resource.node, resource.removal)
    return resource if same else replace(resource, title=title, node=node, removal=removal)


def _sentence(text: str) -> str:
    return legible(clipped(text, _WORDS))


def _clock(seen: Seen, asked_at: datetime, took: timedelta) -> ClockOffset:
    """Its clock was read at some moment of the call, so it is known to within half of that."""
    assert seen.place_time is not None, "checked before"
    offset = seen.place_time - (asked_at + took / 2)
    if abs(offset) > _CENTURY:
        raise AdapterError(_odd_clock(seen.place_time))
    return ClockOffset(offset, took / 2 + seen.place_time_within)


def _odd_clock(time: datetime) -> str:
    return f"its clock shows {time:%Y-%m-%d}, so nothing can be said of when things happened"
