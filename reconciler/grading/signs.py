"""Signs of life after a verdict, in a cycle's report: resources, and what the run itself does. Pure.

What a person starts again by hand as the same resource (`docker start` of the container that had exited) has the same
id and the same creation time, so it cannot be told from one that lived all the time, and counts as alive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta

from reconciler.grading.cases import Case, Kind, Opinion
from reconciler.grading.grades import alive, life_sign
from reconciler.model import ClockOffset, Resource, RunId
from reconciler.plan import CycleReport
from reconciler.words import clipped, legible

_SLACK = timedelta(seconds=30)  # hosts' clocks differ, and events are dated by them


class Signs:
    """What one report shows, by run."""

    def __init__(self, report: CycleReport) -> None:
        self._began, self._snapshot = report.taken_at, report.snapshot
        self._seen = {seen.run.id: seen for seen in report.snapshot.cases} if report.snapshot else {}
        self._clocks: Mapping[str, ClockOffset] = {
            scope.name: scope.clock for scope in report.scopes if scope.error is None
        }
        self._strangers: dict[RunId, list[tuple[str, Resource]]] = defaultdict(list)
        for scope, resource in ((scope, one) for scope, many in report.strangers.items() for one in many):
            self._strangers[resource.run_id].append((scope, resource))

    @property
    def are_readable(self) -> bool:
        """The runs' own signs could be read, so that none is none."""
        snapshot = self._snapshot
        return snapshot is not None and snapshot.heartbeats_error is None and snapshot.life_signs_error is None

    def of(self, case: Case) -> Opinion | None:
        """What a look that began after the verdict found; another process may judge while this one looks."""
        if self._snapshot is None or self._began <= case.judged_at:
            return None
        for title, what in (*self._alive_outside(case), *self._alive_in_flight(case)):
            return alive(clipped(legible(title), 200), clipped(legible(what), 100), self._snapshot.taken_at)
        return self._life_sign(case) if case.kind is Kind.SHADOW and self._is_in_judged_state(case) else None

    def _alive_outside(self, case: Case) -> Iterator[tuple[str, str]]:
        """What it ran on, although the run is not in flight."""
        for scope, resource in self._strangers.get(case.run_id, ()):
            if self._was_there(case, scope, resource):
                yield resource.title, "is alive"

    def _alive_in_flight(self, case: Case) -> Iterator[tuple[str, str]]:
        """What it ran on; while the run is in the judged state, anything that lives."""
        seen, is_same = self._seen.get(case.run_id), self._is_in_judged_state(case)
        for scope, one in ((look.scope, one) for look in seen.looks for one in look.observations) if seen else ():
            if one.condition.is_live and one.resource and (is_same or self._was_there(case, scope, one.resource)):
                yield one.resource.title, one.reason

    def _was_there(self, case: Case, scope: str, resource: Resource) -> bool:
        """Its very resource, or any of its run that is older than the verdict: another attempt's would be younger."""
        if resource.id == case.resource:
            return True
        clock = self._clocks.get(scope)
        if resource.created_at is None or clock is None:
            return False
        return clock.to_ours(resource.created_at) + resource.created_within + clock.uncertainty < case.judged_at

    def _is_in_judged_state(self, case: Case) -> bool:
        seen = self._seen.get(case.run_id)
        return seen is not None and seen.run.state_id == case.state_id

    def _life_sign(self, case: Case) -> Opinion | None:
        assert self._snapshot is not None, "asked before"
        clock = self._snapshot.server_clock
        beat, sign = self._snapshot.heartbeats.get(case.run_id), self._snapshot.life_signs.get(case.run_id)
        signs = [("heartbeat", clock.to_ours(beat.last))] if beat else []
        signs += [(sign.what, clock.to_ours(sign.at))] if sign else []
        latest = case.judged_at + _SLACK + clock.uncertainty
        return next((life_sign(what, at) for what, at in signs if at > latest), None)
