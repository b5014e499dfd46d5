"""All scopes together: who is asked about which run, what they answered, and what was seen there before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from reconciler.looking import Answer, Asker, look
from reconciler.memory import Known, Memory
from reconciler.model import Condition, FlowRun, Look, Observation, Place, Resource, RunId, ScopeView, Sighting
from reconciler.plan import Listing, Plan
from reconciler.ports import BoundScope

Looks = dict[RunId, tuple[Look, ...]]


@dataclass(frozen=True, slots=True)
class _Answered:
    """One scope with its answer."""

    bound: BoundScope
    answer: Answer
    known: Known | None
    asked: frozenset[RunId]
    strangers: Mapping[RunId, Resource]

    @property
    def name(self) -> str:
        return self.bound.scope.name


class Outlook:
    def __init__(self, bounds: Sequence[BoundScope], memory: Memory, deadline: float) -> None:
        self._askers = [Asker(bound) for bound in bounds]
        self._memory = memory
        self._deadline = deadline  # seconds that a scope has for one look

    def look(self, runs: Sequence[FlowRun], *, everywhere: bool) -> tuple[dict[str, ScopeView], Looks]:
        """Ask each scope about the runs that are mapped to it or were seen there (`everywhere`: about all of them)."""
        asked = {asker.bound.scope.name: self._asked(asker.bound, runs, everywhere) for asker in self._askers}
        answers = look(self._askers, asked, self._deadline)
        now = datetime.now(UTC)
        answered = [
            self._answered(asker.bound, answers[asker.bound.scope.name], asked[asker.bound.scope.name], now)
            for asker in self._askers
        ]
        ids = {run.id for run in runs}
        self._memory.note(sighting for one in answered for sighting in _sightings(one, ids, now))
        seen = self._memory.sightings({one.name: one.known.identity for one in answered if one.known})
        looks = {run.id: tuple(_looks(run, answered, seen.get(run.id, ()))) for run in runs}
        breakers = self._memory.breakers()
        return {one.name: _view(one, looks, breakers.get(one.name)) for one in answered}, looks

    def remember(self, listing: Listing, plan: Plan, now: datetime) -> None:
        """Keep what the next pass may need, and drop what no pass will."""
        self._memory.note_breakers([breaker.scope for breaker in plan.breakers], now)
        if not listing.problems:  # a short list must not make us forget
            self._memory.forget({run.id for run in listing.runs}, now)

    def warnings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._memory.problems))

    def close(self) -> None:
        """Close the memory; the scopes are their maker's to close."""
        self._memory.close()

    def _asked(self, bound: BoundScope, runs: Sequence[FlowRun], everywhere: bool) -> list[FlowRun]:  # noqa: FBT001
        if everywhere:
            return list(runs)
        sighted = self._memory.sighted_runs(bound.scope.name)
        return [run for run in runs if bound.mapping.covers(run) or run.id in sighted]

    def _answered(self, bound: BoundScope, answer: Answer, asked: Sequence[FlowRun], now: datetime) -> _Answered:
        known = self._memory.learn(bound.scope.name, answer.identity, now) if answer.identity else None
        strangers = {resource.run_id: resource for resource in answer.seen.strangers} if answer.seen else {}
        return _Answered(bound, answer, known, frozenset(run.id for run in asked), strangers)


def _sightings(one: _Answered, in_flight: set[RunId], now: datetime) -> Iterator[Sighting]:
    """What a scope shows now: of the runs asked for, and of other in-flight runs."""
    if one.known is None or one.answer.seen is None:
        return
    shown = [seen for many in one.answer.seen.observations.values() for seen in many]
    shown += [_stranger(resource) for resource in one.strangers.values()]
    for seen in shown:
        live, ended = seen.condition.is_live, seen.condition is Condition.EXITED
        if seen.resource and (live or ended) and seen.resource.run_id in in_flight:
            yield Sighting(
                scope=one.name,
                identity=one.known.identity,
                resource=seen.resource,
                first_seen=now,
                last_seen=now,
                live_seen=now if live else None,
                ended_seen=now if ended else None,
                reason=seen.reason,
            )


def _looks(run: FlowRun, answered: Sequence[_Answered], sightings: Sequence[Sighting]) -> Iterator[Look]:
    for one in answered:
        here = tuple(sighting for sighting in sightings if sighting.scope == one.name)
        mapped, asked = one.bound.mapping.covers(run), run.id in one.asked
        if not (mapped or here or asked or run.id in one.strangers):
            continue
        yield Look(
            scope=one.name,
            mapped=mapped,
            place=_place(one.bound, run),
            sightings=here,
            observations=tuple(_observations(run, one)),
            error=one.answer.error,
        )


def _observations(run: FlowRun, one: _Answered) -> Iterator[Observation]:
    if one.answer.seen is not None:
        yield from one.answer.seen.observations.get(run.id, ())
    if run.id not in one.asked and run.id in one.strangers:
        yield _stranger(one.strangers[run.id])


def _stranger(resource: Resource) -> Observation:
    return Observation(condition=Condition.ALIVE, reason="is running", resource=resource)


def _place(bound: BoundScope, run: FlowRun) -> Place:
    try:
        return bound.scope.locate(run)
    except Exception:  # noqa: BLE001 - a pid that an adapter chokes on is not one of its own
        return Place.ELSEWHERE


def _view(one: _Answered, looks: Looks, breaker_since: datetime | None) -> ScopeView:
    seen, answer = one.answer.seen, one.answer
    mine = [look for many in looks.values() for look in many if look.scope == one.name]
    return ScopeView(
        name=one.name,
        adapter=one.bound.adapter,
        exclusive=one.bound.mapping.exclusive,
        identity=one.known.identity if one.known else None,
        error=answer.error,
        misconfigured=answer.misconfigured,
        incomplete=seen.incomplete if seen else None,
        clock=answer.clock,
        place_started=seen.place_started if seen else None,
        identity_changed_at=one.known.changed_at if one.known else None,
        former_identity=one.known.former if one.known else None,
        breaker_since=breaker_since,
        mapped=sum(look.mapped for look in mine),
        sighted=sum(bool(look.sightings) for look in mine),
    )
