"""All scopes together: who is asked about which run, what they answered, and what was seen there before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reconciler.clock import Reading
from reconciler.looking import Answer, Asker, look
from reconciler.memory import Known, Memory
from reconciler.model import ClockOffset, Condition, FlowRun, Observation, Place, Resource, RunId, Sighting
from reconciler.plan import Listing, Plan
from reconciler.ports import BoundScope
from reconciler.snapshot import Look, ScopeView

Looks = dict[RunId, tuple[Look, ...]]


@dataclass(frozen=True, slots=True)
class _Answered:
    """One scope with its answer."""

    bound: BoundScope
    answer: Answer
    known: Known | None
    back_since: datetime | None
    asked: frozenset[RunId]
    strangers: Mapping[RunId, Sequence[Resource]]

    @property
    def name(self) -> str:
        return self.bound.scope.name


class Outlook:
    """The scopes of a configuration with their memory. `now` is our clock; `deadline` the seconds for one look."""

    def __init__(
        self,
        bounds: Sequence[BoundScope],
        memory: Memory,
        deadline: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        distrusted: Callable[[], Mapping[str, datetime]] = dict,
    ) -> None:
        """`distrusted`: since when scopes are not trusted."""
        self._askers = [Asker(bound, now) for bound in bounds]
        self._memory = memory
        self._deadline = deadline
        self._now = now
        self._distrusted = distrusted
        self._absent: dict[tuple[str, RunId], datetime] = {}  # since when nothing but GONE was stated, by this process
        self._jumped: datetime | None = None
        self._in_flight: frozenset[RunId] = frozenset()  # of the last look that was not a second one
        self.strangers: dict[str, tuple[Resource, ...]] = {}  # by scope: alive, of runs that are not in flight

    def keep_time(self, reading: Reading) -> datetime | None:
        """Begin a pass. Gives the time, ours, at which our clock was last seen to have jumped."""
        jumped = self._memory.keep_time(reading, self._now())
        if jumped != self._jumped:  # by what the clock shows now, absences began at another time
            self._jumped, self._absent = jumped, {}
        return jumped

    def look(self, runs: Sequence[FlowRun], *, everywhere: bool) -> tuple[dict[str, ScopeView], Looks]:
        """Ask each scope about the runs that are mapped to it or were seen there (`everywhere`: about all of them)."""
        ids = [run.id for run in runs]
        before = _last_alive(self._memory.recall(ids))
        asked = {
            bound.scope.name: [
                run
                for run in runs
                if everywhere or bound.mapping.covers(run) or run.id in before.get(bound.scope.name, {})
            ]
            for bound in self._bounds
        }
        answers = look(self._askers, asked, self._deadline, before)
        now = self._now()
        answered = [self._answered(bound, answers, asked, now) for bound in self._bounds]
        if not everywhere:
            self._in_flight, self.strangers = frozenset(run.id for run in runs if run.is_in_flight), {}
            self._absent = {key: since for key, since in self._absent.items() if key[1] in self._in_flight}
        self._note_strangers(answered)
        in_flight = {run.id: run for run in runs}
        self._memory.note(sighting for one in answered for sighting in _sightings(one, in_flight, now))
        recalled = self._memory.recall(ids)
        self._note_absences(answered, {run.id for run in runs if run.may_run or not run.is_in_flight}, now)
        looks = {run.id: tuple(_looks(run, answered, recalled.get(run.id, ()), self._absent)) for run in runs}
        breakers, distrusted = self._memory.breakers(), self._distrusted()
        views = (_view(one, looks, breakers.get(one.name), distrusted.get(one.name)) for one in answered)
        return {view.name: view for view in views}, looks

    def _note_absences(self, answered: Sequence[_Answered], expected: Collection[RunId], now: datetime) -> None:
        """Keep since when each run that should be there is absent: a later sign of life contradicts that, passes on."""
        for one in answered:
            for run_id, seen in one.answer.seen.observations.items() if one.answer.seen else ():
                if run_id in expected and seen and all(each.condition is Condition.GONE for each in seen):
                    self._absent.setdefault((one.name, run_id), now)
                else:
                    self._absent.pop((one.name, run_id), None)

    def _note_strangers(self, answered: Sequence[_Answered]) -> None:
        """Keep who lives there without being in flight; a scope may list all that lives in the second look only."""
        for one in answered:
            away = [found for run_id, found in one.strangers.items() if run_id not in self._in_flight]
            strangers = tuple(resource for found in (*away, self._alive_though_over(one)) for resource in found)
            self.strangers[one.name] = strangers or self.strangers.get(one.name, ())

    def _alive_though_over(self, one: _Answered) -> list[Resource]:
        """What lives of runs that were asked about although they have ended, for subflows of theirs have not."""
        seen = one.answer.seen.observations if one.answer.seen else {}
        over = [many for run_id, many in seen.items() if run_id not in self._in_flight]
        return [each.resource for many in over for each in many if each.resource and each.condition.is_live]

    def unasked(self) -> dict[str, ScopeView]:
        """The scopes of a pass that did not get as far as looking."""
        why = "it was not asked, since the flow runs could not be listed"
        return {
            bound.scope.name: ScopeView(name=bound.scope.name, adapter=bound.adapter, error=why)
            for bound in self._bounds
        }

    def remember(self, listing: Listing, plan: Plan, now: datetime, roots: Collection[RunId] = ()) -> None:
        """Keep what the next pass may need, and drop what no pass will. `roots` have ended, and subflows have not."""
        self._memory.note_breakers([breaker.scope for breaker in plan.breakers], now)
        if listing.is_whole:  # a short list must not make us forget
            self._memory.forget({run.id for run in listing.runs} | set(roots), now)
        self._memory.bound()

    def warnings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._memory.problems))

    def close(self) -> None:
        """Close the memory; the scopes are their maker's to close."""
        self._memory.close()

    @property
    def _bounds(self) -> list[BoundScope]:
        return [asker.bound for asker in self._askers]

    def _answered(
        self, bound: BoundScope, answers: Mapping[str, Answer], asked: Mapping[str, Sequence[FlowRun]], now: datetime
    ) -> _Answered:
        name = bound.scope.name
        answer = answers[name]
        known = self._memory.learn(name, answer.identity, now) if answer.identity else None
        strangers: dict[RunId, list[Resource]] = {}
        for resource in answer.seen.strangers if answer.seen else ():
            strangers.setdefault(resource.run_id, []).append(resource)
        if answer.seen is None and not answer.misconfigured:  # a right that this process lacks is no outage
            self._memory.note_away(name)
        back_since = self._memory.note_back(name, now) if answer.seen else None
        return _Answered(bound, answer, known, back_since, frozenset(run.id for run in asked[name]), strangers)


def _last_alive(recalled: Mapping[RunId, Sequence[Sighting]]) -> dict[str, dict[RunId, Resource]]:
    """The resource of each run that each scope last showed alive: what ended is shown again in every pass."""
    last: dict[str, dict[RunId, Resource]] = {}
    for run_id, sightings in recalled.items():
        for sighting in sorted(sightings, key=lambda one: (one.live_seen is not None, one.live_seen or one.first_seen)):
            last.setdefault(sighting.scope, {})[run_id] = sighting.resource
    return last


def _sightings(one: _Answered, in_flight: Mapping[RunId, FlowRun], now: datetime) -> Iterator[Sighting]:
    """What a scope shows now: of the runs asked for, and of other in-flight runs."""
    if one.known is None or one.answer.seen is None:
        return
    shown = [seen for many in one.answer.seen.observations.values() for seen in many]
    shown += [_stranger(resource) for found in one.strangers.values() for resource in found]
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
                ended_seen=_end(seen, one.answer.clock, now) if ended else None,
                reason=seen.reason,
                was_mapped=one.bound.mapping.covers(in_flight[seen.resource.run_id]),
            )


def _end(seen: Observation, clock: ClockOffset, now: datetime) -> datetime:
    return now if seen.ended_at is None else min(now, clock.to_ours(seen.ended_at))


def _looks(
    run: FlowRun,
    answered: Sequence[_Answered],
    sightings: Sequence[Sighting],
    absent: Mapping[tuple[str, RunId], datetime],
) -> Iterator[Look]:
    for one in answered:
        there = [sighting for sighting in sightings if sighting.scope == one.name]
        mapped, asked = one.bound.mapping.covers(run), run.id in one.asked
        if not (mapped or there or asked or run.id in one.strangers):
            continue
        place, error = _place(one.bound, run)
        yield Look(
            scope=one.name,
            mapped=mapped,
            ever_seen=bool(there),
            place=place,
            sightings=tuple(s for s in there if one.known and s.identity == one.known.identity),
            observations=tuple(_observations(run, one)),
            absent_since=absent.get((one.name, run.id)),
            error=one.answer.error or error,
        )


def _observations(run: FlowRun, one: _Answered) -> Iterator[Observation]:
    if one.answer.seen is not None:
        yield from one.answer.seen.observations.get(run.id, ())
    if run.id not in one.asked:
        yield from map(_stranger, one.strangers.get(run.id, ()))


def _stranger(resource: Resource) -> Observation:
    return Observation(condition=Condition.ALIVE, reason="is running", resource=resource)


def _place(bound: BoundScope, run: FlowRun) -> tuple[Place, str | None]:
    try:
        return bound.scope.locate(run), None
    except Exception as error:  # noqa: BLE001 - a bug of an adapter makes its scope UNKNOWN for the run
        return Place.ELSEWHERE, f"the adapter failed on the infrastructure_pid with {type(error).__name__}: {error}"


def _view(one: _Answered, looks: Looks, breaker_since: datetime | None, distrusted_since: datetime | None) -> ScopeView:
    seen, answer, known = one.answer.seen, one.answer, one.known
    mine = [look for many in looks.values() for look in many if look.scope == one.name]
    return ScopeView(
        name=one.name,
        adapter=one.bound.adapter,
        exclusive=one.bound.mapping.exclusive,
        pinned=one.bound.identity_pin is not None,
        identity=known.identity if known else None,
        error=answer.error,
        misconfigured=answer.misconfigured,
        incomplete=seen.incomplete if seen else None,
        clock=answer.clock,
        lag=seen.lag if seen else timedelta(0),
        known_since=known.since if known else None,
        former_identity=known.former if known else None,
        breaker_since=breaker_since,
        back_since=one.back_since,
        started=answer.clock.to_ours(seen.place_started) if seen and seen.place_started else None,
        observes=one.bound.observes,
        distrusted_since=distrusted_since,
        mapped=sum(look.mapped for look in mine),
        sighted=sum(look.ever_seen for look in mine),
    )
