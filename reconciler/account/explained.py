"""One run in full, as frozen values: what `reconcile explain` shows, and its JSON. Pure.

Every time is ours, in UTC; every text is fit to be shown: bounded, without secrets and control characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from reconciler.model import AbsenceCounts, Action, Cause, Condition, Guard, OutcomeKind, Place, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTold:
    """The flow run, as the Prefect server has it."""

    name: str
    state_type: str
    state_name: str
    since: datetime
    run_count: int
    pid: str | None
    work_pool: str | None
    work_queue: str | None
    worker: str | None
    worker_type: str | None
    deployment_id: str | None
    tags: tuple[str, ...]
    due: datetime | None = None  # of a scheduled one: when a worker, or its own process, goes on with it


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTold:
    """The present try, from the state history."""

    number: int  # of those that the history shows; it begins with 1
    began: datetime
    states: int  # in the history
    crashed_by_us: tuple[datetime, ...] = ()
    resumed_by_us: tuple[datetime, ...] = ()
    awaits_resumption: bool = False  # the last of these is its present state
    resumptions_most: int = 0  # that the policy has now


@dataclass(frozen=True, slots=True, kw_only=True)
class InsideTold:
    """In whose process a subflow runs. What is None could not be told; `note` says why."""

    parent_id: str | None
    parent_name: str | None  # None also: nothing had to be read of it
    depth: int  # 1: its parent is its root
    root_id: str | None
    root_name: str | None
    root_state_type: str | None
    root_state_name: str | None
    root_since: datetime | None
    vouched: str  # what says that the root's process has ended; empty while the root has no final state
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildTold:
    """A subflow in flight inside the run's process."""

    id: str
    name: str
    depth: int  # 1: the run is its parent
    state_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanTold:
    """What lives on of a run that has ended."""

    scope: str
    resource: str
    removal: str  # the command that would remove it; empty if there is none
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementTold:
    """What a settlement would write, and do besides."""

    action: Action
    written: str  # "set to Crashed"
    cause: Cause | None
    task_runs: bool  # those that are Running or Pending are set to Crashed
    subflows: int  # so many in flight share its fate
    resumption_number: int | None  # None: it is not resumed
    resumption_most: int | None
    resumption_delay_seconds: float | None
    labels: bool  # the labels of the event are put on the flow run


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTold:
    """What a scope said of one resource."""

    condition: Condition
    text: str  # "Docker container 016aa6b2b5b6 (otter) on engine prod-7 exited with code 137 (SIGKILL)"
    resource: str | None
    node: str | None
    exit_code: int | None
    created_at: datetime | None
    ended_at: datetime | None
    unseen_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SightingTold:
    """What a scope once showed."""

    text: str
    resource: str
    node: str | None
    first_seen: datetime
    last_seen: datetime
    live_seen: datetime | None
    ended_seen: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeTold:
    """One scope: what it claims of the run (of a subflow: of its root), and what it saw."""

    name: str
    adapter: str
    identity: str | None
    pinned: bool
    known_since: datetime | None
    error: str | None
    observes: bool
    distrusted_since: datetime | None
    back_since: datetime | None
    started: datetime | None
    clock_offset_seconds: float
    asked: bool
    mapped: bool
    mapping: str  # why it is mapped, or not
    place: Place | None  # where the pid points, seen from here
    absence: AbsenceCounts | None  # why not finding it here would say something
    absence_text: str  # the same as a sentence, or why it would not
    seen: tuple[SeenTold, ...]
    sightings: tuple[SightingTold, ...]  # newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeTold:
    """Heartbeats within the hour, and what else it did of late. `note`: why there are none."""

    heartbeats: int = 0
    last: datetime | None = None
    cadence_seconds: float | None = None
    sign: str | None = None
    sign_at: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardTold:
    guard: Guard
    why: str | None  # None: it has nothing to say


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTold:
    """The verdict, the rule that fired and the guard that held it."""

    verdict: Verdict
    rule: str
    rule_text: str
    reason: str
    guard: Guard | None
    guards: tuple[GuardTold, ...]  # of what would be a zombie; else none is asked
    breakers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTold:
    at: datetime
    verdict: Verdict
    rule: str
    guard: Guard | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastTold:
    """What would have it settled, and when at the earliest. See `forecast.Forecast`."""

    stages: tuple[StageTold, ...]
    acts_at: datetime | None
    ahead: int
    passes_before: int
    needed: str
    then_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTold:
    """One line of our evidence."""

    written_at: datetime
    verdict: Verdict
    rule: str
    guard: Guard | None
    reason: str
    dry_run: bool
    written: str  # what an accepted settlement of it did: "set to Crashed"
    outcome: OutcomeKind | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All that is known of one run."""

    version: int = 1
    id: str
    at: datetime  # when it was judged, or asked for
    run: RunTold | None  # None: the server has no such run
    not_judged: str  # why there is no decision; empty if there is one
    attempt: AttemptTold | None
    attempt_note: str  # why nothing is said of its attempt
    decision: DecisionTold | None
    forecast: ForecastTold | None
    settlement: SettlementTold | None  # None: none is to be expected
    inside: InsideTold | None  # None: it runs in no other run's process
    children: tuple[ChildTold, ...]  # the first ones
    child_count: int
    orphans: tuple[OrphanTold, ...]
    scopes: tuple[ScopeTold, ...]
    life: LifeTold | None
    evidence: tuple[LineTold, ...]  # the last lines, oldest first
    settlements: tuple[LineTold, ...]  # those in which something was proposed
    evidence_note: str  # why the evidence could not be read
    problems: tuple[str, ...]


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Build the document of --json; times are RFC 3339 in UTC."""
    document: dict[str, Any] = msgspec.to_builtins(explanation)
    return document
