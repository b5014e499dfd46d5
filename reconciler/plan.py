"""What one cycle decides and what came of it, as frozen values: policy in, plan and report out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from reconciler.model import (
    AbsenceCounts,
    Action,
    Cause,
    FlowRun,
    Guard,
    Observation,
    OutcomeKind,
    Resource,
    RunId,
    StateRecord,
    StateType,
    TaskRun,
    Verdict,
)
from reconciler.snapshot import Case, ScopeView, Snapshot
from reconciler.weigh import Weighed

RESUMED_CAUSES = frozenset(
    {Cause.EVICTED, Cause.SPOT_INTERRUPTION, Cause.NODE_LOST, Cause.HOST_RESTART, Cause.REMOVED}
)  # reasons of the infrastructure, that may not come again


LONGEST_BACKOFF = timedelta(hours=1)
SIGNATURE = "Set by prefect-reconciler."
_TO_BE_RESUMED = "to be started again"


def announced_resumption(message: str) -> bool:
    """Whether a state message of ours says that the run is to be started again."""
    return re.search(rf"; {_TO_BE_RESUMED} \(\d+ of \d+\)\. {re.escape(SIGNATURE)}$", message) is not None


class Mode(StrEnum):
    SETTLE = "settle"
    OBSERVE = "observe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's thresholds. Defaults are those of DESIGN section 7."""

    mode: Mode = Mode.SETTLE
    grace: timedelta = timedelta(seconds=30)
    confirm_after: timedelta = timedelta(seconds=10)
    settle_failed: timedelta = timedelta(seconds=10)
    settle_zero: timedelta = timedelta(seconds=30)
    settle_starting: timedelta = timedelta(seconds=45)
    quiet: timedelta = timedelta(seconds=200)
    report_after: timedelta = timedelta(minutes=15)
    cancelling_limit: timedelta = timedelta(minutes=10)
    subflow_grace: timedelta = timedelta(seconds=200)
    crash_pending: bool = False
    finish_cancelling: bool = False
    settle_task_runs: bool = True
    label_settled: bool = False  # put the event's labels on the flow run too
    resume_max: int = 0  # 0: nothing is resumed
    resume_work_pools: frozenset[str] = frozenset()
    resume_tags: frozenset[str] = frozenset()
    resume_causes: frozenset[Cause] = RESUMED_CAUSES
    resume_backoff: timedelta = timedelta(seconds=30)  # doubles with each time
    breaker_count: int = 3
    breaker_share: float = 0.5
    breaker_release: timedelta = timedelta(minutes=5)
    amnesty: timedelta = timedelta(seconds=60)
    max_settlements: int = 100
    exclude_work_pools: frozenset[str] = frozenset()
    exclude_work_queues: frozenset[str] = frozenset()
    exclude_deployments: frozenset[str] = frozenset()
    exclude_tags: frozenset[str] = frozenset()
    include_work_pools: frozenset[str] = frozenset()  # empty: all; the kinds are joined by *and*
    include_work_queues: frozenset[str] = frozenset()
    include_deployments: frozenset[str] = frozenset()
    include_tags: frozenset[str] = frozenset()
    accepted_losses: frozenset[str] = frozenset()  # scopes: a person says that what is missing there is lost
    only_pools: frozenset[str] = frozenset()  # --pool and --run narrow what is written, never what is judged
    only_runs: frozenset[RunId] = frozenset()


@dataclass(frozen=True, slots=True)
class Resumption:
    """That a run is to be started again after its settlement: the how manieth time of how many, and after how long."""

    number: int
    most: int
    delay: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The verdict about one flow run."""

    run: FlowRun
    verdict: Verdict
    rule: str  # number of the rule in `decide.py`'s table
    reason: str
    scope: str | None = None
    observation: Observation | None = None
    guard: Guard | None = None
    is_suspect: bool = False  # a zombie at this look: wants history, life signs and a second look
    wants_time: bool = False  # the second look must be `confirm_after` later
    absence: AbsenceCounts | None = None  # judged on an absence that counts: what the breaker counts
    is_notable: bool = False  # healthy, and still worth a line
    silent_since: datetime | None = None  # ours: unmanaged, and has not beaten since
    inside: FlowRun | None = None  # of an in-process subflow: its root, whose fate it shares
    depth: int = 0  # of an in-process subflow: how far below its root
    adapter: str | None = None  # of the scope
    labels_run: bool = False  # a settlement puts its labels on the flow run
    cause: Cause | None = None  # of a settlement: why, in one word
    resumption: Resumption | None = None  # what follows the settlement

    @property
    def root(self) -> RunId | None:
        return self.inside.id if self.inside else None

    @property
    def head(self) -> tuple[datetime, RunId]:
        """Sorts families: a run, or the root that a subflow runs inside."""
        head = self.inside or self.run
        return head.state_since, head.id

    @property
    def turn(self) -> tuple[datetime, RunId, bool, int, RunId]:
        """Sorts what is settled: the longest standing first, each root before its subflows, the deepest of these first.

        A subflow after its root, for only the root's outcome proves that nobody reported; children before parents, as
        Prefect itself ends them.
        """
        return *self.head, self.inside is not None, -self.depth, self.run.id

    @property
    def action(self) -> Action:
        """What a settlement writes: a run that is being cancelled is never crashed."""
        return Action.CANCEL if self.run.state_type is StateType.CANCELLING else Action.CRASH

    @property
    def message(self) -> str:
        """The state message that a settlement writes."""
        again = f"; {_TO_BE_RESUMED} ({self.resumption.number} of {self.resumption.most})" if self.resumption else ""
        return f"{self.reason}; no final state was reported{again}. {SIGNATURE}"

    def suspected(self, *, wants_time: bool = False) -> Finding:
        return replace(self, is_suspect=True, wants_time=wants_time)

    @property
    def is_absent(self) -> bool:
        return self.absence is not None

    @property
    def is_sighted(self) -> bool:
        return self.absence is AbsenceCounts.SIGHTED

    def absent(self, counts: AbsenceCounts | None) -> Finding:
        return replace(self, absence=counts)

    def noted(self) -> Finding:
        return replace(self, is_notable=True)


@dataclass(frozen=True, slots=True)
class Judged:
    """A run as it was weighed, and its verdict before the guards."""

    weighed: Weighed
    finding: Finding
    at: datetime  # ours: the `taken_at` of the snapshot under which it was judged
    scopes: Mapping[str, ScopeView] = field(repr=False, compare=False)  # as they were then
    root: Case | None = field(default=None, repr=False, compare=False)  # of an in-process subflow, as it was then

    @property
    def died_by(self) -> datetime | None:
        """When its resource ended, or when it was last known to be there, in our clock; None if neither is known."""
        found = self.finding
        if found.observation is not None and found.observation.ended_at is not None:
            clocks = [sight.scope.clock for sight in self.weighed.ended if sight.observation == found.observation]
            return clocks[0].to_ours(found.observation.ended_at) if clocks else None
        seen = [one.sighting.last_seen for one in self.weighed.absent if one.scope.name == found.scope and one.sighting]
        return max(seen, default=None)


@dataclass(frozen=True, slots=True)
class Breaker:
    """A scope in which too much vanished at once."""

    scope: str
    absent: int
    counted: int
    holds: bool = True  # False: all of it was released

    def trips(self, policy: Policy) -> bool:
        """Whether so much vanished that the scope is the better explanation."""
        return self.absent >= policy.breaker_count and self.absent >= policy.breaker_share * self.counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    findings: tuple[Finding, ...]
    breakers: tuple[Breaker, ...] = ()
    judged: tuple[Judged, ...] = field(default=(), repr=False, compare=False)

    @property
    def suspects(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.is_suspect)

    @property
    def zombies(self) -> tuple[Finding, ...]:
        """What is to be settled, in the order in which it is."""
        return tuple(sorted((one for one in self.findings if one.verdict is Verdict.ZOMBIE), key=lambda one: one.turn))


NOTHING_PLANNED = Plan(findings=())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one proposal, or of one run that was not proposed after all."""

    kind: OutcomeKind
    detail: str
    alarm: str | None = None  # something that a person must look at
    state_before: StateRecord | None = None
    state_id: UUID | None = None  # ACCEPTED: of the state that was written
    is_undisturbed: bool = False  # ACCEPTED: it replaced what was judged, and nothing came after it

    @property
    def is_last_word(self) -> bool:
        """Whether what follows a settlement may follow: subflows, task runs, a resumption."""
        return self.kind is OutcomeKind.ACCEPTED and self.is_undisturbed


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of the settlements of one pass, and of what follows them."""

    outcomes: Mapping[RunId, Outcome] = field(default_factory=dict)
    task_runs: tuple[tuple[TaskRun, Outcome], ...] = ()  # of settled flow runs
    resumed: Mapping[RunId, Outcome] = field(default_factory=dict)
    problems: tuple[str, ...] = ()  # what could not be read or written for them


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A live resource whose flow run has ended. Reported, never touched."""

    resource: Resource
    run: FlowRun
    since: datetime  # ours: when the run ended
    subflows: int = 0  # of the run, in flight: perhaps inside this very resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The in-flight flow runs of one pass."""

    runs: tuple[FlowRun, ...]
    problems: tuple[str, ...] = ()  # what could not be read; any problem makes the pass incomplete
    is_whole: bool = True  # False: it broke off, so more than single rows are missing


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleReport:
    """All that a cycle has to say; feeds the table, JSON, metrics and the status page."""

    taken_at: datetime
    duration: timedelta
    api_url: str
    api_calls: int
    server_version: str | None
    scopes: tuple[ScopeView, ...]
    plan: Plan
    outcomes: Mapping[RunId, Outcome]
    settled: Settled = Settled()  # the same outcomes, and what followed them
    orphans: Mapping[str, tuple[Orphan, ...]] | None = field(default=None, repr=False)  # by scope; None: not asked
    problems: tuple[str, ...]  # what could not be read or written: the pass is incomplete
    warnings: tuple[str, ...]
    dry_run: bool
    was_listed: bool  # False: not even the flow runs could be read
    api_errors: int = 0  # of the calls, those without an answer or with one that refuses
    policy: Policy = Policy()
    false_crashes: Mapping[str, int] = field(default_factory=dict)  # by scope: found so far
    shadows: Mapping[str, int] = field(default_factory=dict)  # by grade: would-be settlements that are kept
    strangers: Mapping[str, tuple[Resource, ...]] = field(default_factory=dict, repr=False)  # by scope: not in flight
    snapshot: Snapshot | None = field(default=None, repr=False, compare=False)  # what the last `decide` was given

    @property
    def ended_at(self) -> datetime:
        return self.taken_at + self.duration

    @property
    def is_whole(self) -> bool:
        """Every in-flight flow run was listed, single rows aside."""
        return self.was_listed and (self.snapshot is None or self.snapshot.is_whole)

    @property
    def is_complete(self) -> bool:
        """Everything could be read and written."""
        return self.was_listed and not self.problems


def transition_id(run_id: RunId, state_id: UUID) -> UUID:
    """One per run and judged state, so that a retry, or a second reconciler, settles once."""
    return uuid5(_TRANSITIONS, f"{run_id}/{state_id}")


def resumption_id(run_id: RunId, crash_id: UUID) -> UUID:
    """One per crash of ours: it is followed by one resumption, and the history tells how many there were."""
    return uuid5(_TRANSITIONS, f"{run_id}/{crash_id}/resumed")


_TRANSITIONS = UUID("6f0d9d0e-5a7c-4c3e-9d55-7d1d9a3b8f10")  # ours; changing it makes two versions settle twice
