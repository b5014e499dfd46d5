"""START READING HERE: one cycle, in seven numbered steps.

1 list      the in-flight flow runs, first; infrastructure second (the other order makes every new-born run "gone")
2 map       which scopes are asked about which run
3 observe   every scope at once, each by its deadline
4 decide    a verdict for every run; suspects get their history and heartbeats, and are judged again
5 confirm   a second look at the suspects, in every scope; only what is a zombie both times stays one
            ---- --dry-run ends here, having written nothing to Prefect ----
6 settle    re-read, compare, propose Crashed
7 report    one value that says it all
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from reconciler.decide import decide
from reconciler.model import Case, FlowRun, OutcomeKind, RunId, ScopeView, Snapshot
from reconciler.outlook import Outlook
from reconciler.plan import NOTHING_PLANNED, CycleReport, Finding, Outcome, Plan, Policy
from reconciler.ports import Orchestrator, OrchestratorError


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Steps 1 to 5 of one cycle, done."""

    began: datetime
    calls_before: int
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
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def plan(self) -> Planned:
        """Judge every in-flight run. Writes nothing to Prefect; keeps sightings."""
        planned = Planned(began=self.now(), calls_before=self.orchestrator.calls)
        try:
            listing = self.orchestrator.in_flight()  # 1 list
        except OrchestratorError as error:
            return replace(planned, problems=(f"the in-flight flow runs could not be listed: {error}",))
        snapshot = self._look(listing.runs)  # 2 map, 3 observe
        plan = decide(snapshot, self.policy)  # 4 decide
        if plan.suspects:
            snapshot = self._with_evidence(snapshot, plan.suspects)
            plan = decide(snapshot, self.policy)
        if plan.suspects:
            snapshot = self._second_look(snapshot, plan.suspects)  # 5 confirm
            plan = decide(snapshot, self.policy)
        self.outlook.remember(listing, plan, snapshot.taken_at)
        return replace(planned, plan=plan, snapshot=snapshot, problems=listing.problems)

    def settle(self, planned: Planned) -> dict[RunId, Outcome]:
        """Propose the final state of each zombie, one after the other."""
        return {finding.run.id: self.orchestrator.settle(finding) for finding in planned.plan.zombies}

    def report(self, planned: Planned, outcomes: dict[RunId, Outcome] | None) -> CycleReport:
        """Put the cycle into one value. `outcomes` is None for a dry run."""
        snapshot, api = planned.snapshot, self.orchestrator
        return CycleReport(
            taken_at=planned.began,
            duration=self.now() - planned.began,
            api_url=api.url,
            api_calls=api.calls - planned.calls_before,
            server_version=api.server_version,
            scopes=tuple(snapshot.scopes.values()) if snapshot else (),
            plan=planned.plan,
            outcomes=outcomes or {},
            problems=(*planned.problems, *self._problems(snapshot, outcomes or {})),
            warnings=self.outlook.warnings(),
            dry_run=outcomes is None,
            was_listed=snapshot is not None,
        )

    def _look(self, runs: Sequence[FlowRun]) -> Snapshot:
        scopes, looks = self.outlook.look(runs, everywhere=False)
        cases = tuple(Case(run=run, looks=looks[run.id]) for run in runs)
        return Snapshot(taken_at=self.now(), cases=cases, scopes=scopes, server_clock=self.orchestrator.clock)

    def _with_evidence(self, snapshot: Snapshot, suspects: Sequence[Finding]) -> Snapshot:
        """Read the suspects' histories (one call each: the server has no other) and heartbeats (one call for all)."""
        suspected = {finding.run.id for finding in suspects}
        cases = tuple(self._with_history(case) if case.run.id in suspected else case for case in snapshot.cases)
        snapshot = replace(snapshot, cases=cases, server_clock=self.orchestrator.clock)
        try:
            return replace(snapshot, heartbeats=self.orchestrator.heartbeats(suspected) or {})
        except OrchestratorError as error:
            return replace(snapshot, heartbeats_error=str(error))

    def _with_history(self, case: Case) -> Case:
        try:
            history = tuple(self.orchestrator.history(case.run.id))
        except OrchestratorError as error:
            return replace(case, history_error=str(error))
        return replace(case, history=history)

    def _second_look(self, snapshot: Snapshot, suspects: Sequence[Finding]) -> Snapshot:
        """Look again, now in every scope: a resource that an unmapped scope shows alive counts too."""
        if any(finding.wants_time for finding in suspects):
            self.wait(self.policy.confirm_after.total_seconds())
        suspected = {finding.run.id for finding in suspects}
        scopes, looks = self.outlook.look([finding.run for finding in suspects], everywhere=True)
        cases = tuple(
            replace(case, looks=looks[case.run.id], first_look=snapshot.taken_at) if case.run.id in suspected else case
            for case in snapshot.cases
        )
        return replace(snapshot, taken_at=self.now(), cases=cases, scopes=_both(snapshot.scopes, scopes))

    def _problems(self, snapshot: Snapshot | None, outcomes: Mapping[RunId, Outcome]) -> Iterator[str]:
        """Whatever could not be read or written, and what a person must look at."""
        if snapshot is not None:
            for scope in snapshot.scopes.values():
                yield from self._scope_problems(scope, snapshot.taken_at)
            for case in snapshot.cases:
                if case.history_error:
                    yield f"the state history of flow run {case.run.id} could not be read: {case.history_error}"
            if snapshot.heartbeats_error:
                yield f"the heartbeats of the suspects could not be read: {snapshot.heartbeats_error}"
        for run_id, outcome in outcomes.items():
            if outcome.kind in (OutcomeKind.FAILED, OutcomeKind.REFUSED):
                yield f"flow run {run_id} was not settled: {outcome.detail}"
            if outcome.alarm:
                yield f"flow run {run_id}: {outcome.alarm}"

    def _scope_problems(self, scope: ScopeView, now: datetime) -> Iterator[str]:
        trouble = scope.error or scope.incomplete
        if trouble:
            yield f"scope '{scope.name}' could not be read: {trouble}"
        changed = scope.identity_changed_at
        if changed is not None and now - changed < self.policy.quiet:
            yield (
                f"scope '{scope.name}' is another place than before: its identity was '{scope.former_identity}' and is "
                f"now '{scope.identity}'; what was seen there before no longer counts"
            )


def _both(first: Mapping[str, ScopeView], second: Mapping[str, ScopeView]) -> dict[str, ScopeView]:
    """The second look's view of each scope, with what went wrong in either and the first's counts."""
    return {
        name: replace(
            view,
            error=first[name].error or view.error,
            identity=view.identity or first[name].identity,
            mapped=first[name].mapped,
            sighted=first[name].sighted,
        )
        for name, view in second.items()
    }
