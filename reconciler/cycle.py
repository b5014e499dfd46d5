"""START READING HERE: one cycle, in seven numbered steps.

1 list      the in-flight flow runs, first; infrastructure second (the other order makes every new-born run "gone")
2 map       which scopes are asked about which run
3 observe   every scope at once, each by its deadline
4 decide    a verdict for every run; suspects get their state history, and are judged again
5 confirm   a second look at the suspects, in every scope, and their life signs; what is a zombie both times stays one
            ---- --dry-run ends here, having written nothing to Prefect ----
6 settle    re-read, compare, propose Crashed
7 report    one value that says it all
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.clock import Clock, since_boot
from reconciler.decide import decide
from reconciler.model import OutcomeKind, RunId
from reconciler.outlook import Outlook
from reconciler.plan import NOTHING_PLANNED, CycleReport, Finding, Judged, Listing, Outcome, Plan, Policy
from reconciler.ports import Orchestrator, OrchestratorError
from reconciler.problems import problems_of, warnings_of
from reconciler.silence import Silence
from reconciler.snapshot import Case, FirstLook, ScopeView, Snapshot


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Steps 1 to 5 of one cycle, done."""

    began: datetime
    deadline: float  # of `since_boot()`; no settlement is begun after it
    calls_before: int
    errors_before: int
    clock_jumped: datetime | None = None
    plan: Plan = NOTHING_PLANNED
    snapshot: Snapshot | None = None
    problems: tuple[str, ...] = ()


@dataclass
class Cycle:
    """Passes over the runs of one Prefect API. `plan` does steps 1 to 5, `settle` 6, `report` 7."""

    orchestrator: Orchestrator
    outlook: Outlook
    policy: Policy
    wait: Callable[[float], object]  # seconds; may return early when the process is to end
    clock: Clock = field(default_factory=Clock)
    time_limit: float = math.inf  # seconds for one pass
    silence: Silence = field(default_factory=Silence)
    is_over: Callable[[], bool] = lambda: False  # the process is to end: begin no further settlement

    def plan(self) -> Planned:
        """Judge every in-flight run. Writes nothing to Prefect; keeps sightings."""
        planned = self._begin()
        try:
            listing = self.orchestrator.in_flight()  # 1 list
        except OrchestratorError as error:
            return replace(planned, problems=(f"the in-flight flow runs could not be listed: {error}",))
        snapshot = self._look(listing, planned.clock_jumped)  # 2 map, 3 observe
        plan = decide(snapshot, self.policy)  # 4 decide
        if plan.suspects:
            snapshot = self._with_histories(snapshot, plan, planned.deadline)
            plan = decide(snapshot, self.policy, plan)
        if plan.suspects:
            snapshot = self._second_look(snapshot, plan)  # 5 confirm
            plan = decide(snapshot, self.policy, plan)
        if not self.clock.has_jumped:  # else these times would be taken for those of the clock as it is by now
            self.outlook.remember(listing, plan, snapshot.taken_at)
        return replace(planned, plan=plan, snapshot=snapshot, problems=listing.problems)

    def settle(self, planned: Planned) -> dict[RunId, Outcome]:
        """Propose the final state of each zombie, one after the other."""
        return {finding.run.id: self._settle_one(finding, planned.deadline) for finding in planned.plan.zombies}

    def _settle_one(self, finding: Finding, deadline: float) -> Outcome:
        if self.is_over():
            return Outcome(OutcomeKind.FAILED, "it was not proposed: this process was told to end")
        if since_boot() > deadline:
            return Outcome(
                OutcomeKind.FAILED, "it was not proposed: the pass had reached its deadline (cycle_deadline)"
            )
        try:
            return self.orchestrator.settle(finding)
        except Exception as error:  # noqa: BLE001 - what was written before must still be reported
            return Outcome(OutcomeKind.FAILED, f"a bug of ours: {type(error).__name__}: {error}")

    def report(self, planned: Planned, outcomes: dict[RunId, Outcome] | None) -> CycleReport:
        """Put the cycle into one value. `outcomes` is None for a dry run."""
        snapshot, api = planned.snapshot, self.orchestrator
        return CycleReport(
            taken_at=planned.began,
            duration=self.clock() - planned.began,
            api_url=api.url,
            api_calls=api.calls - planned.calls_before,
            api_errors=api.errors - planned.errors_before,
            server_version=api.server_version,
            scopes=tuple((snapshot.scopes if snapshot else self.outlook.unasked()).values()),
            plan=self._with_silence(planned.plan, snapshot) if snapshot else planned.plan,
            outcomes=outcomes or {},
            problems=(*planned.problems, *problems_of(snapshot, outcomes or {}, self.policy)),
            warnings=(*self.outlook.warnings(), *warnings_of(snapshot)),
            dry_run=outcomes is None,
            was_listed=snapshot is not None,
            policy=self.policy,
            strangers=self.outlook.strangers,
            snapshot=snapshot,
        )

    def _begin(self) -> Planned:
        jumped = self.outlook.keep_time(self.clock.begin())
        now = since_boot()
        self.orchestrator.begin(now + self.time_limit)
        return Planned(
            began=self.clock(),
            deadline=now + self.time_limit,
            calls_before=self.orchestrator.calls,
            errors_before=self.orchestrator.errors,
            clock_jumped=jumped,
        )

    def _look(self, listing: Listing, clock_jumped: datetime | None) -> Snapshot:
        scopes, looks = self.outlook.look(listing.runs, everywhere=False)
        cases = tuple(Case(run=run, looks=looks[run.id]) for run in listing.runs)
        return Snapshot(
            taken_at=self.clock(),
            cases=cases,
            scopes=scopes,
            server_clock=self.orchestrator.clock,
            clock_jumped=clock_jumped,
            is_whole=listing.is_whole,
        )

    def _with_histories(self, snapshot: Snapshot, plan: Plan, deadline: float) -> Snapshot:
        """Read the suspects' state histories: one call each, the server has no other.

        For half of the time that is left, or many suspects would never be settled; in an order by chance, or those that
        a guard holds would be read first in every pass.
        """
        suspected = {finding.run.id for finding in plan.suspects}
        until, read = (since_boot() + deadline) / 2, dict[RunId, Case]()
        for case in random.sample(snapshot.cases, len(snapshot.cases)):
            if case.run.id in suspected and since_boot() < until:
                read[case.run.id] = self._with_history(case)
        return replace(snapshot, cases=tuple(read.get(case.run.id, case) for case in snapshot.cases))

    def _with_history(self, case: Case) -> Case:
        try:
            return replace(case, history=tuple(self.orchestrator.history(case.run.id)))
        except OrchestratorError as error:
            return replace(case, history_error=str(error))

    def _second_look(self, snapshot: Snapshot, plan: Plan) -> Snapshot:
        """Look again, now in every scope: a resource that an unmapped scope shows alive counts too."""
        suspects = {finding.run.id: finding for finding in plan.suspects}
        if any(finding.wants_time for finding in suspects.values()):
            self.wait(self.policy.confirm_after.total_seconds())
        snapshot = self._reread(snapshot, suspects)
        runs = [case.run for case in snapshot.cases if case.run.id in suspects]
        scopes, looks = self.outlook.look(runs, everywhere=True)
        firsts = {one.finding.run.id: _first_look(one, snapshot) for one in plan.judged}
        cases = tuple(
            replace(case, looks=looks[case.run.id], first_look=firsts[case.run.id]) if case.run.id in suspects else case
            for case in snapshot.cases
        )
        now = self.clock()
        snapshot = replace(
            snapshot,
            taken_at=now,
            cases=cases,
            scopes=_both(snapshot.scopes, scopes),
            clock_jumped=now if self.clock.has_jumped else snapshot.clock_jumped,
        )
        return self._with_life_signs(snapshot, suspects)

    def _reread(self, snapshot: Snapshot, run_ids: Collection[RunId]) -> Snapshot:
        """Take the suspects' present rows: one that has ended meanwhile is no longer in flight."""
        try:
            rows = self.orchestrator.reread(run_ids)
        except OrchestratorError as error:
            return replace(snapshot, reread_error=str(error))
        fresh = (
            replace(case, run=rows.get(case.run.id, case.run)) if case.run.id in run_ids else case
            for case in snapshot.cases
        )
        return replace(snapshot, cases=tuple(case for case in fresh if case.run.is_in_flight))

    def _with_life_signs(self, snapshot: Snapshot, run_ids: Collection[RunId]) -> Snapshot:
        """Read what the suspects did of late last, so that one that beat between the looks is known. A call for all."""
        try:
            beats = self.orchestrator.heartbeats(run_ids)
            snapshot = replace(snapshot, heartbeats=beats or {}, has_heartbeats=beats is not None)
        except OrchestratorError as error:
            snapshot = replace(snapshot, heartbeats_error=str(error))
        try:
            return replace(snapshot, life_signs=self.orchestrator.life_signs(run_ids, self.policy.quiet))
        except OrchestratorError as error:
            return replace(snapshot, life_signs_error=str(error))

    def _with_silence(self, plan: Plan, snapshot: Snapshot) -> Plan:
        """Say which of the unmanaged runs have beaten, and do no longer. Last, for nothing comes of it."""
        try:
            return self.silence.told(plan, snapshot, self.policy, self.orchestrator.heartbeats)
        except OrchestratorError:
            return plan


def _first_look(judged: Judged, snapshot: Snapshot) -> FirstLook:
    ended = (sight.observation.resource for sight in judged.weighed.ended)
    return FirstLook(
        at=snapshot.taken_at,
        absent_from=frozenset(absence.scope.name for absence in judged.weighed.absent),
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
