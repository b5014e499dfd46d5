"""What `decide` is given: a first look at everything, then all that can be known of the suspects, by a second look."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.clock import Clock, since_boot
from reconciler.families import Families, newest_of_family
from reconciler.model import FlowRun, RunId
from reconciler.outlook import Outlook
from reconciler.plan import Listing, Plan, Policy
from reconciler.ports import Orchestrator, OrchestratorError
from reconciler.snapshot import Case, FirstLook, ScopeView, Snapshot
from reconciler.weigh import Weighed, weigh


@dataclass(frozen=True, slots=True)
class Examiner:
    """Asks the Prefect API and the scopes about flow runs. Writes nothing to either."""

    orchestrator: Orchestrator
    outlook: Outlook
    families: Families
    policy: Policy
    wait: Callable[[float], object]
    clock: Clock

    def first_look(self, listing: Listing, clock_jumped: datetime | None) -> Snapshot:
        """Every run of the list, and the roots of its subflows, as the scopes show them."""
        kinship = self.families.resolve(listing.runs)
        roots, lineages = kinship.roots, kinship.lineages
        scopes, looks = self.outlook.look([*listing.runs, *roots.values()], everywhere=False)
        return Snapshot(
            taken_at=self.clock(),
            cases=tuple(Case(run=run, looks=looks[run.id], lineage=lineages.get(run.id)) for run in listing.runs),
            roots={run_id: Case(run=run, looks=looks[run_id]) for run_id, run in roots.items()},
            scopes=scopes,
            server_clock=self.orchestrator.clock,
            clock_jumped=clock_jumped,
            is_whole=listing.is_whole,
        )

    def with_histories(self, snapshot: Snapshot, plan: Plan, deadline: float) -> Snapshot:
        """Read the suspects' state histories, and their roots': one call each, the server has no other.

        For half of the time that is left, or many suspects would never be settled; in an order by chance, or those that
        a guard holds would be read first in every pass.
        """
        wanted = _suspected(plan) | _roots_of(plan, snapshot)
        until, read = (since_boot() + deadline) / 2, dict[RunId, Case]()
        cases = [*snapshot.cases, *snapshot.roots.values()]
        for case in random.sample(cases, len(cases)):
            if case.run.id in wanted and since_boot() < until:
                read[case.run.id] = self._with_history(case)
        return _with_cases(snapshot, read)

    def _with_history(self, case: Case) -> Case:
        try:
            return replace(case, history=tuple(self.orchestrator.history(case.run.id)))
        except OrchestratorError as error:
            return replace(case, history_error=str(error))

    def second_look(self, snapshot: Snapshot, plan: Plan) -> Snapshot:
        """Look again, now in every scope: a resource that an unmapped scope shows alive counts too."""
        if any(finding.wants_time for finding in plan.suspects):
            self.wait(self.policy.confirm_after.total_seconds())
        wanted = _suspected(plan) | _roots_of(plan, snapshot)
        firsts = _first_looks(snapshot, plan, wanted)
        snapshot = self._reread(snapshot, wanted)
        there = {case.run.id: case for case in (*snapshot.cases, *snapshot.roots.values()) if case.run.id in wanted}
        scopes, looks = self.outlook.look([case.run for case in there.values()], everywhere=True)
        seen = {run_id: replace(case, looks=looks[run_id], first_look=firsts[run_id]) for run_id, case in there.items()}
        now = self.clock()
        snapshot = replace(
            _with_cases(snapshot, seen),
            taken_at=now,
            scopes=_both(snapshot.scopes, scopes),
            clock_jumped=now if self.clock.has_jumped else snapshot.clock_jumped,
        )
        return self._with_life_signs(snapshot, wanted)

    def _reread(self, snapshot: Snapshot, run_ids: Collection[RunId]) -> Snapshot:
        """Take their present rows: one that has ended meanwhile is no longer in flight, though it may be a root."""
        try:
            rows = self.orchestrator.reread(run_ids)
        except OrchestratorError as error:
            return replace(snapshot, reread_error=str(error))
        fresh = {case.run.id: replace(case, run=rows.get(case.run.id, case.run)) for case in snapshot.cases}
        ended = {run_id: case for run_id, case in fresh.items() if not case.run.is_in_flight}
        roots = {
            run_id: replace(case, run=rows.get(run_id, case.run))
            for run_id, case in snapshot.roots.items()
            if run_id in rows or run_id not in run_ids  # else it was deleted
        }
        cases = tuple(case for case in fresh.values() if case.run.is_in_flight)
        return replace(snapshot, cases=cases, roots=roots | ended)

    def _with_life_signs(self, snapshot: Snapshot, run_ids: Collection[RunId]) -> Snapshot:
        """Read what the suspects did of late last, so that one that beat between the looks is known. A call for all.

        What one of a family does shows that the process of all of them lives.
        """
        kin = {case.run.id for case in snapshot.cases if case.lineage and case.lineage.root_id in run_ids}
        asked = {*run_ids, *kin}
        try:
            beats = self.orchestrator.heartbeats(asked)
            newest = newest_of_family(beats or {}, snapshot.cases, lambda beat: beat.last)
            snapshot = replace(snapshot, heartbeats=newest, has_heartbeats=beats is not None)
        except OrchestratorError as error:
            snapshot = replace(snapshot, heartbeats_error=str(error))
        try:
            signs = self.orchestrator.life_signs(asked, self.policy.quiet)
            return replace(snapshot, life_signs=newest_of_family(signs, snapshot.cases, lambda sign: sign.at))
        except OrchestratorError as error:
            return replace(snapshot, life_signs_error=str(error))

    def what_lives(self, runs: Sequence[FlowRun]) -> dict[RunId, Weighed]:
        """Look a last time at runs that we have ended, before they are started again: what lives, or may."""
        scopes, looks = self.outlook.look(runs, everywhere=True)
        snapshot = Snapshot(taken_at=self.clock(), cases=(), scopes=scopes, server_clock=self.orchestrator.clock)
        return {run.id: weigh(Case(run=run, looks=looks[run.id]), snapshot) for run in runs}


def _suspected(plan: Plan) -> set[RunId]:
    return {finding.run.id for finding in plan.suspects}


def _roots_of(plan: Plan, snapshot: Snapshot) -> set[RunId]:
    """The roots of suspected subflows that are not in flight, so no suspects themselves."""
    return {finding.root for finding in plan.suspects if finding.root} & snapshot.roots.keys()


def _with_cases(snapshot: Snapshot, changed: Mapping[RunId, Case]) -> Snapshot:
    return replace(
        snapshot,
        cases=tuple(changed.get(case.run.id, case) for case in snapshot.cases),
        roots={run_id: changed.get(run_id, case) for run_id, case in snapshot.roots.items()},
    )


def _first_looks(snapshot: Snapshot, plan: Plan, wanted: Collection[RunId]) -> dict[RunId, FirstLook]:
    """What the look before this one found of them."""
    weighed: Iterable[Weighed] = (
        *(one.weighed for one in plan.judged if one.finding.run.id in wanted),
        *(weigh(case, snapshot) for run_id, case in snapshot.roots.items() if run_id in wanted),
    )
    return {one.case.run.id: _first_look(one, snapshot) for one in weighed}


def _first_look(weighed: Weighed, snapshot: Snapshot) -> FirstLook:
    ended = (sight.observation.resource for sight in weighed.ended)
    return FirstLook(
        at=snapshot.taken_at,
        absent_from=frozenset(absence.scope.name for absence in weighed.absent),
        ended=frozenset(resource.id for resource in ended if resource),
    )


def _both(first: Mapping[str, ScopeView], second: Mapping[str, ScopeView]) -> dict[str, ScopeView]:
    """The second look's view of each scope, with what went wrong in either and the first's counts."""
    return {
        name: replace(
            view,
            error=first[name].error or view.error,
            incomplete=first[name].incomplete or view.incomplete,
            misconfigured=first[name].misconfigured or view.misconfigured,
            identity=view.identity or first[name].identity,
            mapped=first[name].mapped,
            sighted=first[name].sighted,
        )
        for name, view in second.items()
    }
