"""What would have a run settled, and when, if nothing else changes: passes to come, judged by the real rules. Pure.

Evidence stays as it was seen, and time goes on. Verdicts over time are not monotone (guards end and begin), so no
threshold is computed from another: whole passes are judged at every time at which one could end, at a grid besides,
and where two of them differ the change is narrowed down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from reconciler.account.remedies import ENDLESS, needed_evidence, switch_of
from reconciler.evidence import Line, every, lines_of, rejudge
from reconciler.model import Heartbeat, RunId, StateRecord, StateType, Verdict
from reconciler.plan import CycleReport, Finding
from reconciler.snapshot import Case, FirstLook, ScopeView, Snapshot
from reconciler.weigh import weigh

HORIZON = timedelta(hours=24)
_SOON, _FINE, _COARSE = timedelta(hours=1), timedelta(seconds=1), timedelta(minutes=1)
_GRID = ((_SOON, timedelta(minutes=1)), (HORIZON, timedelta(minutes=15)))  # until then, every so often
_BEATS_KEPT = timedelta(hours=1)  # what `Orchestrator.heartbeats` is asked for
_MOST_STAGES = 12
_COUNTED = re.compile(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC|\d+ (s|min|h|d)\b")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a pass that ends at that time (ours), or later, finds of the run."""

    at: datetime
    finding: Finding

    @property
    def why(self) -> str:
        """The end of the reason: what is awaited, or why it is held."""
        reason = self.finding.reason
        return next((reason.rpartition(mark)[2] for mark in ("; held: ", "; awaited: ") if mark in reason), reason)

    @property
    def is_last(self) -> bool:
        """Settled, or held by what no time ends."""
        return self.finding.verdict is Verdict.ZOMBIE or self.finding.guard in ENDLESS

    def is_as(self, other: Stage) -> bool:
        """Whether both say the same, ages aside."""
        mine, theirs = self.finding, other.finding
        same = (mine.verdict, mine.rule, mine.guard) == (theirs.verdict, theirs.rule, theirs.guard)
        return same and _COUNTED.sub("", self.why) == _COUNTED.sub("", other.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The stages of a run, the present one first. Times are ours, and the earliest ones: passes must be made then."""

    stages: tuple[Stage, ...]
    acts_at: datetime | None  # it is settled by a pass that ends then; None: not within `HORIZON`, by time alone
    ahead: int = 0  # zombies that stand longer, and are settled first
    passes_before: int = 0  # so many passes settle only those ahead: at most `max_settlements` in each
    needed: str = ""  # what must change, if time alone does not do it
    then_at: datetime | None = None  # when it is settled if that, being the operator's to change, is changed
    settlement: Finding | None = None  # what is settled then


def forecast(report: CycleReport, run_id: RunId, history: tuple[StateRecord, ...] | None = None) -> Forecast:
    """Look ahead for one run of a pass. The report must have its snapshot and the run; else LookupError.

    `history` is the run's, if the pass did not read it: only suspects' are read.
    """
    lines = lines_of(report, {run_id}, written_at=report.ended_at, reconciler="", configuration="")
    line = next(lines, None)
    if line is None:
        raise LookupError(f"flow run {run_id} was not judged in this pass")
    return forecast_of(line, history)


def forecast_of(line: Line, history: tuple[StateRecord, ...] | None = None) -> Forecast:
    """Look ahead from a decision. Breakers that had tripped stay so; those ahead of the run are settled meanwhile."""
    future = _Future(line, history)
    stages = tuple(islice(future.stages(), _MOST_STAGES))
    last, passes = stages[-1], line.ahead // max(line.policy.max_settlements, 1)
    if last.finding.verdict is Verdict.ZOMBIE:
        return Forecast(stages=stages, acts_at=last.at, ahead=line.ahead, passes_before=passes, settlement=last.finding)
    switch = switch_of(line, last.finding)
    if switch is None:
        return Forecast(stages=stages, acts_at=None, needed=needed_evidence(line, last.finding))
    needed, changed = switch(line, last.finding)
    then = forecast_of(changed, history)
    needed = f"{needed}; and then {then.needed}" if then.needed else needed
    return Forecast(
        stages=stages,
        acts_at=None,
        ahead=line.ahead,
        passes_before=passes,
        needed=needed,
        then_at=then.acts_at or then.then_at,
        settlement=then.settlement,
    )


@dataclass(frozen=True, slots=True)
class _Future:
    """The passes to come for one run."""

    line: Line
    history: tuple[StateRecord, ...] | None

    @property
    def snapshot(self) -> Snapshot:
        return self.line.snapshot

    @property
    def now(self) -> datetime:
        return self.snapshot.taken_at

    def stages(self) -> Iterator[Stage]:
        known, low = Stage(self.now, rejudge(self.line)), self.now
        yield known
        if known.is_last:
            return
        for high in self._moments():
            while not self._pass(high).is_as(known):
                low, known = self._change(low, high, known)
                yield known
                if known.is_last:
                    return
            low = high

    def _change(self, low: datetime, high: datetime, known: Stage) -> tuple[datetime, Stage]:
        """Narrow down when it is no longer what is known; at `high` it is not."""
        while high - low > (_FINE if high - self.now <= _SOON else _COARSE):
            middle = low + (high - low) / 2
            if self._pass(middle).is_as(known):
                low = middle
            else:
                high = middle
        changed = self._pass(high)
        return high, replace(changed, at=max(changed.at, known.at))

    def _pass(self, began: datetime) -> Stage:
        """One whole pass that begins then and sees the same, as `cycle.py` makes it."""
        found = self._judged(began, lambda case: replace(case, history=None, history_error=None, first_look=None))
        if not found.is_suspect:
            return Stage(began, found)
        found = self._judged(began, self._read)
        if not found.is_suspect:
            return Stage(began, found)
        ended = began + self.line.policy.confirm_after if found.wants_time else began
        return Stage(ended, self._judged(ended, lambda case: self._seen_twice(case, began)))

    def _judged(self, at: datetime, as_: Callable[[Case], Case]) -> Finding:
        """Judge it, and its root if it runs inside another, as far as both are known by then."""
        beats = {run_id: beat for run_id, beat in self.snapshot.heartbeats.items() if self._is_kept(beat, at)}
        scopes = {name: self._scope(view) for name, view in self.snapshot.scopes.items()}
        cases = tuple(as_(case) for case in self.snapshot.cases)
        roots = {run_id: as_(root) for run_id, root in self.snapshot.roots.items()}
        snapshot = replace(self.snapshot, taken_at=at, cases=cases, roots=roots, heartbeats=beats, scopes=scopes)
        return rejudge(replace(self.line, snapshot=snapshot, ahead=0))

    def _is_kept(self, beat: Heartbeat, at: datetime) -> bool:
        return at - self.snapshot.server_clock.to_ours(beat.last) < _BEATS_KEPT

    def _scope(self, view: ScopeView) -> ScopeView:
        """A breaker that tripped in this pass is remembered by the next."""
        tripped = any(breaker.scope == view.name for breaker in self.line.breakers)
        return replace(view, breaker_since=self.now) if tripped and view.breaker_since is None else view

    def _read(self, case: Case) -> Case:
        return replace(case, history=self._history(case), first_look=None)

    def _seen_twice(self, case: Case, at: datetime) -> Case:
        case = self._read(case)
        return replace(case, first_look=self._first_look(case, at))

    def _first_look(self, case: Case, at: datetime) -> FirstLook:
        weighed = weigh(case, self.snapshot)
        ended = (sight.observation.resource for sight in weighed.ended)
        absent = frozenset(absence.scope.name for absence in weighed.absent)
        return FirstLook(at, absent, frozenset(resource.id for resource in ended if resource))

    def _history(self, case: Case) -> tuple[StateRecord, ...] | None:
        """What a pass would read. If nobody has read it yet: one attempt, since the run was made."""
        if case.history is not None or case.history_error is not None:
            return case.history
        run = case.run
        if self.history and run.id == self.line.run_id:
            return self.history
        return (
            StateRecord(id=run.id, type=StateType.PENDING, name="Pending", timestamp=run.created),
            StateRecord(id=run.state_id, type=run.state_type, name=run.state_name, timestamp=run.state_since),
        )

    def _moments(self) -> list[datetime]:
        """When a pass may find something else: each known time and each wait after it; and a grid besides."""
        known = [replace(case, history=None) for case in (*self.snapshot.cases, *self.snapshot.roots.values())]
        snapshot = replace(self.snapshot, cases=tuple(known), roots={})
        times = {self.now, *every((snapshot, *self.line.breakers), datetime)}
        clocks = [self.snapshot.server_clock, *(view.clock for view in self.snapshot.scopes.values())]
        times |= {clock.to_ours(time) for clock in clocks if clock.offset for time in times}
        waits = {_NOW, *every(self.line.policy, timedelta), *(view.lag for view in self.snapshot.scopes.values())}
        waits |= {_limit(beat) for beat in self.snapshot.heartbeats.values()}
        ends = {time + wait for time in times for wait in waits}
        begins = ends | {end - self.line.policy.confirm_after for end in ends}
        later = (begin - self.now for begin in begins)
        exact = {timedelta(seconds=-(-wait // _FINE)) for wait in later}  # to the next whole second
        return [self.now + wait for wait in sorted({wait for wait in exact if _NOW <= wait <= HORIZON} | _grid())]


_NOW = timedelta(0)


def _grid() -> set[timedelta]:
    waits, wait = set[timedelta](), _NOW
    for until, step in _GRID:
        while wait <= until:
            waits.add(wait)
            wait += step
    return waits | {HORIZON}


def _limit(beat: Heartbeat) -> timedelta:
    return 1.2 * beat.cadence
