"""The words of the project as frozen values. No I/O, no clock, no logging.

Every time is an aware `datetime` in the clock of the place that it was read from (the Prefect server, a scope, or
ours); the fields say which. `ClockOffset` translates: *their* time minus ours.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

RunId = UUID


class StateType(StrEnum):
    """State types of the Prefect server; names are users' own, so nothing is judged by name."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED})


_IN_FLIGHT = frozenset({StateType.PENDING, StateType.RUNNING, StateType.CANCELLING})


class Condition(StrEnum):
    """What a scope saw of one resource."""

    ALIVE = "ALIVE"
    STARTING = "STARTING"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    GONE = "GONE"
    UNKNOWN = "UNKNOWN"

    @property
    def is_live(self) -> bool:
        return self in _LIVE


_LIVE = frozenset({Condition.ALIVE, Condition.STARTING, Condition.STOPPING})


class Verdict(StrEnum):
    """The answer about one flow run; always given with a reason."""

    HEALTHY = "HEALTHY"
    UNMANAGED = "UNMANAGED"
    UNKNOWN = "UNKNOWN"
    WAITING = "WAITING"
    HELD = "HELD"
    ZOMBIE = "ZOMBIE"


class Place(StrEnum):
    """Where an `infrastructure_pid` points, seen from one scope."""

    HERE = "HERE"  # it is globally unique and names this scope
    ELSEWHERE = "ELSEWHERE"  # it names a place outside, or is not of this adapter's form
    UNSAID = "UNSAID"  # it names no place, or there is no pid


class AbsenceCounts(StrEnum):
    """Why not finding a resource in a scope says something about the run."""

    SIGHTED = "sighted"
    LOCATED = "located"
    EXCLUSIVE = "exclusive"


_BY_SIGNAL = 128  # an exit code above it is 128 + the signal


class Cause(StrEnum):
    """Why a resource ended, in one word that automations can choose by; closed. `Resumed` runs are chosen by it."""

    EVICTED = "Evicted"  # pushed off its node: eviction, preemption, drain
    SPOT_INTERRUPTION = "SpotInterruption"
    NODE_LOST = "NodeLost"
    HOST_RESTART = "HostRestart"  # the host, or the engine on it, started anew
    REMOVED = "Removed"  # it is not there any more, and nothing says why
    OOM_KILLED = "OOMKilled"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    FAILED_TO_START = "FailedToStart"
    STOPPED = "Stopped"  # somebody asked the platform to stop it
    KILLED = "Killed"  # by a signal, nobody says whose
    EXITED = "Exited"  # with a code that is not 0, or with none that is known
    NOT_REPORTED = "NotReported"  # with code 0, and without a final state
    PARENT_ENDED = "ParentEnded"  # an in-process subflow whose parent had ended before


class Action(StrEnum):
    """What a settlement writes."""

    CRASH = "crash"
    CANCEL = "cancel"


class OutcomeKind(StrEnum):
    ACCEPTED = "ACCEPTED"
    SETTLED_ELSEWHERE = "SETTLED_ELSEWHERE"
    STATE_CHANGED = "STATE_CHANGED"
    REFUSED = "REFUSED"
    FAILED = "FAILED"


class Guard(StrEnum):
    """What holds a zombie back. The order is that of `guards.py`."""

    AGAIN = "again"
    LISTING = "listing"
    BREAKER = "breaker"
    IDENTITY = "identity"
    AMNESTY = "amnesty"
    QUIET = "quiet"
    LIFE_SIGN = "life sign"
    SELECTION = "selection"
    OPT_OUT = "opt-out"
    TRUST = "trust"
    MODE = "mode"
    RATE = "rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRun:
    """One in-flight flow run, as the Prefect server listed it. Times are the server's."""

    id: RunId
    name: str
    state_id: UUID
    state_type: StateType
    state_name: str
    state_since: datetime
    created: datetime
    run_count: int = 0
    pid: str | None = None  # `infrastructure_pid`; may be an earlier attempt's: the server never clears it
    work_pool: str | None = None
    work_queue: str | None = None
    worker: str | None = None  # label prefect.worker.name
    worker_type: str | None = None  # label prefect.worker.type, else the type of the work pool
    deployment_id: UUID | None = None
    parent_task_run_id: UUID | None = None
    tags: frozenset[str] = frozenset()
    retry_type: str | None = None  # empirical_policy.retry_type
    scheduled_time: datetime | None = None  # when a scheduled state is due
    pool_names_place: bool = False  # its pool (or itself) says where it runs, so its type alone maps it to no scope
    state_message: str | None = None  # of a final state
    transition_id: UUID | None = None  # of its state; Prefect's own client gives one, UI and automations do not (3.8.8)

    @property
    def mapping_line(self) -> str:
        """The line of a scope's configuration that maps it there; a deleted pool leaves its runs without one."""
        if self.work_pool is None and self.worker is not None:
            return f'`workers = ["{self.worker}"]`'
        if self.work_pool is None and self.tags:
            return f'`tags = ["{min(self.tags)}"]`'
        return f'`work_pools = ["{self.work_pool or "..."}"]`'

    @property
    def awaits_retry_in_process(self) -> bool:
        """SCHEDULED, yet a live process sleeps behind it; no worker will ever fetch it."""
        return self.state_type is StateType.SCHEDULED and self.retry_type == "in_process"

    @property
    def is_in_flight(self) -> bool:
        return self.state_type in _IN_FLIGHT or self.awaits_retry_in_process

    @property
    def may_run(self) -> bool:
        """RUNNING, or asleep in its process: what its absence would make a zombie."""
        return self.state_type is StateType.RUNNING or self.awaits_retry_in_process

    @property
    def is_in_process_subflow(self) -> bool:
        """It runs inside its parent's process. One that a worker started is none, also when its pool was deleted."""
        own = self.deployment_id or self.work_pool or self.pid or self.worker
        return self.parent_task_run_id is not None and not own


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """The one container, Job, task or process behind a run."""

    id: str  # the platform's own, never reused: container id, Job UID, task ARN, boot id + pid + start time
    title: str  # for sentences: "Docker container 016aa6b2b5b6 (stereotyped-otter) on engine prod-7"
    run_id: RunId
    key: str = ""  # what an infrastructure_pid says of it, behind its last ":" or whole; default: the id
    created_at: datetime | None = None  # the place's clock
    created_within: timedelta = timedelta(0)  # how coarse that time is: plus or minus
    node: str | None = None
    is_whole: bool = True  # False: it may be a part of what runs the flow, such as a child process
    removal: str = ""  # the command that would remove it, for a person: "docker rm -f 016aa6b2b5b6"

    def is_named_by(self, pid: str) -> bool:
        key = self.key or self.id
        return pid == key or pid.endswith(f":{key}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen of one resource of one run. Times are the place's."""

    condition: Condition
    reason: str  # continues the resource's title: "is running", "exited with code 137 (SIGKILL)", "was removed"
    resource: Resource | None = None  # None: GONE without a pid. UNKNOWN has one only if something alive carries the id
    exit_code: int | None = None  # None is "not known", never 0
    ended_at: datetime | None = None
    unseen_end: bool = False  # EXITED or GONE, yet nobody saw it end: its node was lost, so it may run on out of sight
    needs_sighting: bool = False  # GONE that counts only where seen before: its pid names a namespace unknown there
    cause: Cause | None = None  # EXITED or GONE: what the platform says; None: it says nothing, see `why`

    @property
    def why(self) -> Cause | None:
        """The cause, as far as it is known; None of what has not ended."""
        if self.condition is Condition.GONE:
            return self.cause or Cause.REMOVED
        if self.condition is not Condition.EXITED:
            return None
        if self.cause is not None:
            return self.cause
        if self.exit_code == 0:
            return Cause.NOT_REPORTED
        return Cause.KILLED if (self.exit_code or 0) > _BY_SIGNAL else Cause.EXITED


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A scope's whole answer to one `observe`. A run without an entry is UNKNOWN."""

    observations: MappingOf[RunId, Sequence[Observation]]
    strangers: Sequence[Resource] = ()  # live resources of runs that were not asked for
    incomplete: str | None = None  # why a part could not be read; then no GONE of this answer stands
    place_time: datetime | None = None  # the place's clock, read while it answered; without it nothing is believed
    place_time_within: timedelta = timedelta(0)  # how coarse that time is: plus or minus
    place_started: datetime | None = None
    lag: timedelta = timedelta(0)  # the place may not show yet what was made less than that ago


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Their clock minus ours, and how wrong that may be."""

    offset: timedelta = timedelta(0)
    uncertainty: timedelta = timedelta(0)

    def to_ours(self, theirs: datetime) -> datetime:
        return theirs - self.offset


EXACT = ClockOffset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMapping:
    """Which runs a scope is asked about. Kinds are joined by *and*, the values of one kind by *or*."""

    work_pools: frozenset[str] = frozenset()
    work_queues: frozenset[str] = frozenset()
    workers: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    worker_types: frozenset[str] = frozenset()  # used only when none of the above is given
    exclusive: bool = False

    @property
    def is_explicit(self) -> bool:
        return bool(self.work_pools or self.work_queues or self.workers or self.tags)

    def covers(self, run: FlowRun) -> bool:
        if not self.is_explicit:
            return run.worker_type in self.worker_types and not run.pool_names_place
        return (
            (not self.work_pools or run.work_pool in self.work_pools)
            and (not self.work_queues or run.work_queue in self.work_queues)
            and (not self.workers or run.worker in self.workers)
            and (not self.tags or not self.tags.isdisjoint(run.tags))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A resource that a scope once showed: the only memory that matters. Seen-times are ours."""

    scope: str
    identity: str
    resource: Resource
    first_seen: datetime
    last_seen: datetime
    live_seen: datetime | None = None  # last time seen live
    ended_seen: datetime | None = None  # when it ended; when it was first seen ended, if it does not say
    reason: str = ""  # of the last look: "is running"
    was_mapped: bool = False  # the run was mapped to the scope then: its pool may have been deleted since


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord:
    """One row of a run's state history. Server's clock."""

    id: UUID
    type: StateType
    name: str
    timestamp: datetime
    transition_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The heartbeat events of one run inside the window asked for. Clock of the flow's host."""

    count: int
    first: datetime
    last: datetime

    @property
    def cadence(self) -> timedelta:
        """The time between two of them, as far as that can be told; zero if it cannot."""
        return (self.last - self.first) / (self.count - 1) if self.count > 1 else timedelta(0)


@dataclass(frozen=True, slots=True)
class LifeSign:
    """The newest thing that a run did, other than beat. Clock of the flow's host."""

    what: str  # "log line", "task run"
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """A task run that has no final state. A `placeholder` stands for a subflow, and follows that."""

    id: UUID
    name: str
    flow_run_id: RunId
    state_id: UUID
    state_type: StateType
    placeholder: bool = False
