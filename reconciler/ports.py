"""The two ports: `Scope` (an adapter bound to one place) and `Orchestrator` (the Prefect API), and their errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, runtime_checkable
from uuid import UUID

from reconciler.model import (
    ClockOffset,
    FlowRun,
    Heartbeat,
    LifeSign,
    Place,
    Resource,
    RunId,
    RunMapping,
    Seen,
    StateRecord,
    TaskRun,
)
from reconciler.plan import Finding, Listing, Outcome

HOUR = timedelta(hours=1)
MOST_OPEN_TASK_RUNS = 5000  # told at once
_NAMED = 3


class AdapterError(Exception):
    """The scope could not be asked, or did not answer: UNKNOWN for its runs in this cycle, never GONE.

    The text is one sentence for the operator: what failed, where, and the remedy if there is one.
    """


class Misconfigured(AdapterError):
    """As `AdapterError`, and only the operator can mend it (a missing SDK, a bad option, a denied permission)."""


class OrchestratorError(Exception):
    """The Prefect API could not be asked, or did not answer. The text is one sentence for the operator."""


class Unreadable(OrchestratorError):
    """These flow runs are there, as far as is known, and cannot be read. `rows` are the others that were asked for."""

    def __init__(self, unread: Mapping[RunId, str], rows: Mapping[RunId, FlowRun]) -> None:
        self.run_ids, self.rows = frozenset(unread), rows
        named = [str(run_id) for run_id in sorted(unread)]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        runs = "flow run" if len(named) == 1 else "flow runs"
        super().__init__(f"{runs} {', '.join(named[:_NAMED])}{more} cannot be read: {unread[min(unread)]}")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something `check` found wrong, with its remedy."""

    text: str
    remedy: str
    optional: bool = False  # worth knowing, not wrong: the check passes


class Scope(Protocol):
    """One adapter bound to one place. Synchronous; called in a daemon thread, one call at a time.

    `deadline` is a `time.monotonic()` value; a call should give up by then and is abandoned if it does not.
    """

    name: str

    def identity(self, deadline: float) -> str:
        """The place's fingerprint, read from the place itself. Raises AdapterError."""

    def locate(self, run: FlowRun) -> Place:
        """Where the run's pid points. Pure: no I/O, no exception for any string."""

    def observe(self, runs: Sequence[FlowRun], deadline: float) -> Seen:
        """One bulk list of live resources; then, for the runs not among them, a look-up by pid and by run id.

        Where no list can be asked for by label, the look-up by pid comes first: see `lists_everything`.

        GONE is *stated*: only when both look-ups said not-found. Every resource of a run gets an observation. A run
        that is left out is UNKNOWN. If part of the place could not be read, `Seen.incomplete` says why. Raises
        AdapterError.
        """

    def check(self) -> Sequence[Problem]:
        """Reachability and permissions, read-only. Raises nothing for what it can describe."""

    def close(self) -> None: ...


def lists_everything(scope: Scope) -> bool:
    """Whether each look lists all live resources, so shows all strangers.

    A scope that can ask by pid only says otherwise by an attribute of this name: it lists when it must look for a run.
    """
    return bool(getattr(scope, "lists_everything", True))


@runtime_checkable
class Reminded(Protocol):
    """What a scope may offer besides: to be told what was seen in it before, since a new process remembers nothing."""

    def remind(self, resources: Mapping[RunId, Resource]) -> None:
        """What was last seen alive here of the runs that the next `observe` asks about. No I/O."""


class ScopeFactory(Protocol):
    """The value of an entry point of the group `reconciler.adapters`.

    `worker_types` are the Prefect worker types served by default. `discover` returns the options of a place found on
    this machine, or None; it must be quick and must not raise.
    """

    worker_types: Collection[str]

    def __call__(self, name: str, options: Mapping[str, object]) -> Scope: ...

    def discover(self) -> Mapping[str, object] | None: ...


class Orchestrator(Protocol):
    """The Prefect API as the core needs it. Every method raises OrchestratorError."""

    @property
    def url(self) -> str:
        """The API's address, without credentials."""

    @property
    def calls(self) -> int:
        """How many requests were sent so far."""

    @property
    def errors(self) -> int:
        """How many of them got no answer, or one that refuses (429 and 5xx among them)."""

    @property
    def clock(self) -> ClockOffset:
        """The server's clock, as far as its answers told."""

    @property
    def server_version(self) -> str | None:
        """None if it was not asked yet, or does not say."""

    def begin(self, deadline: float) -> None:
        """Begin a pass. Reads of it give up at this value of `clock.since_boot()`, with an OrchestratorError."""

    def in_flight(self) -> Listing:
        """Every in-flight flow run, or a listing whose problems say what is missing."""

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        """Give these runs as they are now, whatever their state, a page at a time; deleted ones are missing.

        Raises Unreadable, with the others, if some of them are there and cannot be read.
        """

    def history(self, run_id: RunId) -> Sequence[StateRecord]:
        """The run's states, oldest first."""

    def heartbeats(self, run_ids: Collection[RunId], window: timedelta = HOUR) -> Mapping[RunId, Heartbeat] | None:
        """Heartbeat events of these runs within `window`; None if the server has no such route."""

    def life_signs(self, run_ids: Collection[RunId], window: timedelta) -> Mapping[RunId, LifeSign]:
        """The newest log line or task run of each of these runs within `window`; those without one are missing."""

    def parents(self, task_run_ids: Collection[UUID]) -> Mapping[UUID, RunId]:
        """Whose task runs these are, a page at a time; deleted ones are missing."""

    def settle(self, finding: Finding) -> Outcome:
        """Re-read, compare, propose the final state unforced, do the after-work. Never raises OrchestratorError."""

    def crashed_by_us(self, within: timedelta) -> Sequence[tuple[FlowRun, str]]:
        """Flow runs that ended within that time as Crashed, by their state message by us, and that message."""

    def open_task_runs(self, run_ids: Collection[RunId]) -> Sequence[TaskRun]:
        """The task runs of these flow runs that are RUNNING or PENDING: at most MOST_OPEN_TASK_RUNS of them."""

    def settle_task_run(self, task_run: TaskRun, message: str) -> Outcome:
        """Propose Crashed for one task run, unforced: one that has ended stays as it is. Never raises."""

    def resume(self, finding: Finding, crash_id: UUID) -> Outcome:
        """Set a flow run that we crashed to AwaitingRetry, if that Crashed is still its state. Never raises."""


@dataclass(frozen=True, slots=True)
class BoundScope:
    """A scope with what the operator, or discovery, said about it."""

    scope: Scope
    adapter: str  # the name of its entry point
    mapping: RunMapping
    identity_pin: str | None = None  # another identity than this one makes the scope UNKNOWN
    options: Mapping[str, object] = field(default_factory=dict, repr=False)  # as given to the factory
    observes: bool = False  # nothing is written of what it judges
