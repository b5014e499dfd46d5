"""START READING HERE: one cycle, in seven numbered steps.

1 list      the in-flight flow runs, first; infrastructure second (the other order makes every new-born run "gone")
2 map       which scopes are asked about which run
3 observe   every scope at once, each by its deadline
4 decide    a verdict for every run; suspects get their state history, and are judged again
5 confirm   a second look at the suspects, in every scope, and their life signs; what is a zombie both times stays one
            ---- --dry-run ends here, having written nothing to Prefect ----
6 settle    re-read, compare, propose Crashed; then what runs inside: subflows, task runs; then what is to run again
7 report    one value that says it all
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.clock import Clock, since_boot
from reconciler.decide import decide
from reconciler.examining import Examiner
from reconciler.families import Families
from reconciler.orphans import Orphans
from reconciler.outlook import Outlook
from reconciler.plan import NOTHING_PLANNED, CycleReport, Orphan, Plan, Policy, Settled
from reconciler.ports import Orchestrator, OrchestratorError
from reconciler.problems import problems_of, warnings_of
from reconciler.settling import Settling
from reconciler.silence import Silence
from reconciler.snapshot import Snapshot


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
    orphans: Orphans | None = None  # None: nobody asks for them
    is_over: Callable[[], bool] = lambda: False  # the process is to end: begin no further settlement

    def __post_init__(self) -> None:
        self._families = Families(self.orchestrator)
        self._settling = Settling(self.orchestrator)

    def plan(self) -> Planned:
        """Judge every in-flight run. Writes nothing to Prefect; keeps sightings."""
        planned = self._begin()
        try:
            listing = self.orchestrator.in_flight()  # 1 list
        except OrchestratorError as error:
            return replace(planned, problems=(f"the in-flight flow runs could not be listed: {error}",))
        snapshot = self._examiner.first_look(listing, planned.clock_jumped)  # 2 map, 3 observe
        plan = decide(snapshot, self.policy)  # 4 decide
        if plan.suspects:
            snapshot = self._examiner.with_histories(snapshot, plan, planned.deadline)
            plan = decide(snapshot, self.policy, plan)
        if plan.suspects:
            snapshot = self._examiner.second_look(snapshot, plan)  # 5 confirm
            plan = decide(snapshot, self.policy, plan)
        if not self.clock.has_jumped:  # else these times would be taken for those of the clock as it is by now
            self.outlook.remember(listing, plan, snapshot.taken_at, snapshot.roots)
        return replace(planned, plan=plan, snapshot=snapshot, problems=listing.problems)

    def settle(self, planned: Planned) -> Settled:
        """Propose the final state of each zombie, one after the other, and do what follows from it."""
        hindrance = self._hindrance(planned.deadline)
        return self._settling.settle(planned.plan, self.policy, hindrance, self._examiner.what_lives)

    def _hindrance(self, deadline: float) -> Callable[[], str | None]:
        """Tell why nothing more may be begun, if so."""

        def hindrance() -> str | None:
            if self.is_over():
                return "this process was told to end"
            return "the pass had reached its deadline (cycle_deadline)" if since_boot() > deadline else None

        return hindrance

    def report(self, planned: Planned, settled: Settled | None) -> CycleReport:
        """Put the cycle into one value. `settled` is None for a dry run."""
        snapshot, api, written = planned.snapshot, self.orchestrator, settled or Settled()
        orphans, unread = self._orphans(snapshot)
        return CycleReport(
            taken_at=planned.began,
            duration=self.clock() - planned.began,
            api_url=api.url,
            api_calls=api.calls - planned.calls_before,
            api_errors=api.errors - planned.errors_before,
            server_version=api.server_version,
            scopes=tuple((snapshot.scopes if snapshot else self.outlook.unasked()).values()),
            plan=self._with_silence(planned.plan, snapshot) if snapshot else planned.plan,
            outcomes=written.outcomes,
            settled=written,
            orphans=orphans,
            problems=(*planned.problems, *problems_of(snapshot, written, self.policy), *unread),
            warnings=(*self.outlook.warnings(), *warnings_of(snapshot)),
            dry_run=settled is None,
            was_listed=snapshot is not None,
            policy=self.policy,
            strangers=self.outlook.strangers,
            snapshot=snapshot,
        )

    @property
    def _examiner(self) -> Examiner:
        return Examiner(self.orchestrator, self.outlook, self._families, self.policy, self.wait, self.clock)

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

    def _with_silence(self, plan: Plan, snapshot: Snapshot) -> Plan:
        """Say which of the unmanaged runs have beaten, and do no longer. Last, for nothing comes of it."""
        try:
            return self.silence.told(plan, snapshot, self.policy, self.orchestrator.heartbeats)
        except OrchestratorError:
            return plan

    def _orphans(self, snapshot: Snapshot | None) -> tuple[Mapping[str, tuple[Orphan, ...]] | None, tuple[str, ...]]:
        """Say what lives on of runs that have ended, and why that could not be told."""
        if self.orphans is None or snapshot is None:
            return None, ()
        try:
            strangers, clock = self.outlook.strangers, snapshot.server_clock
            inside = Counter(case.lineage.root_id for case in snapshot.cases if case.lineage and case.lineage.root_id)
            now, reread = self.clock(), self.orchestrator.reread
            return self.orphans.told(strangers, reread, clock, now, self.policy, inside), ()
        except OrchestratorError as error:
            return None, (f"orphans are not told, for their flow runs could not be read: {error}",)
