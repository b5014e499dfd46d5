"""`PrefectApi`: the parts of this package put together as the core's `Orchestrator`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import structlog

from reconciler.clock import since_boot
from reconciler.model import ClockOffset, FlowRun, Heartbeat, LifeSign, RunId, StateRecord, TaskRun
from reconciler.plan import Finding, Listing, Outcome
from reconciler.ports import HOUR, OrchestratorError
from reconciler.prefect_api.announcing import Announcer
from reconciler.prefect_api.connection import Connection
from reconciler.prefect_api.crashed_of_late import read_crashed
from reconciler.prefect_api.history import read_history
from reconciler.prefect_api.life_signs import LifeSigns
from reconciler.prefect_api.listing import Harvest, Lister
from reconciler.prefect_api.payloads import flow_run, wants_pool
from reconciler.prefect_api.pools import WorkPool, read_pools
from reconciler.prefect_api.queries import AWAITING_RETRY, WITH_INFRASTRUCTURE
from reconciler.prefect_api.reading import TooManyPoisoned
from reconciler.prefect_api.refusals import TryAgain
from reconciler.prefect_api.rereading import reread
from reconciler.prefect_api.resuming import resume
from reconciler.prefect_api.server_clock import ServerClock
from reconciler.prefect_api.settling import settle
from reconciler.prefect_api.task_runs import read_open, read_parents, settle_task_run
from reconciler.prefect_api.transport import Transport
from reconciler.words import clipped, legible, one_line

_LONGEST = 5000  # characters of what is written as a reason
SETTLEMENT_TIME = 30.0  # seconds: what a settlement that was begun may take beyond the deadline of the pass

_log = structlog.get_logger(__name__)


class PrefectApi:
    """One Prefect server or workspace. Not for use by two threads at once."""

    def __init__(
        self,
        settings: Connection,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = since_boot,
        transport: httpx.BaseTransport | None = None,
        hide: Callable[[str], str] = str,
    ) -> None:
        """Raises OrchestratorError for settings that cannot work; asks nothing yet. `transport` is for tests."""
        self._hide = hide  # secrets, in what is written
        self._transport = Transport(settings, clock=clock, monotonic=monotonic, transport=transport)
        self._lister = Lister(self._transport)
        self._pools: Mapping[str, WorkPool] = {}  # those whose runs do not tell all
        self._life_signs = LifeSigns(self._transport)
        self._announcer = Announcer(self._transport, hide)
        self._has_version = True
        self.url = settings.address
        self.server_version: str | None = None

    @property
    def calls(self) -> int:
        """HTTP requests sent so far, each attempt of a retried one included."""
        return self._transport.calls

    @property
    def errors(self) -> int:
        """How many of them got no answer, or one that refuses."""
        return self._transport.errors

    @property
    def clock(self) -> ClockOffset:
        return self._transport.server_clock.offset

    def begin(self, deadline: float) -> None:
        """Begin a pass. The server's clock is learned anew: in days two clocks drift apart, or one of them is set."""
        self._transport.deadline = deadline
        self._transport.server_clock = ServerClock()
        self._life_signs.begin_pass()
        self._announcer.begin_pass()

    def in_flight(self) -> Listing:
        """Every in-flight flow run, or a listing whose problems say what is missing.

        A run without a state is skipped with a problem. When the server fails halfway, what was read is returned, with
        a problem; when nothing could be read, OrchestratorError is raised.
        """
        found = Harvest()
        problems: list[str] = []
        self._lister.begin_pass()
        for query in (WITH_INFRASTRUCTURE, AWAITING_RETRY):
            try:
                problems += self._lister.read(query, found)
            except TooManyPoisoned:
                raise
            except OrchestratorError as error:
                if not found.rows:
                    raise
                problems.append(f"the list of {query.title} broke off: {error}")
                break
        self._pools = self._read_pools(found, problems)
        is_whole = not problems  # runs whose pool is not known are mapped nowhere, so the breaker would not count them
        self._learn_version()
        runs = (flow_run(row, self._pools) for row in found.rows.values())
        return Listing(
            runs=tuple(run for run in runs if run.is_in_flight),
            problems=(*problems, *found.unread.values()),
            is_whole=is_whole,
        )

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        """These runs as they are now, whatever their state, a page at a time; deleted ones are missing.

        Raises OrchestratorError: `rereading.Unreadable`, with the others, if there are some that cannot be read.
        """
        return reread(self._transport, run_ids, self._pools, self._lister.limit)

    def history(self, run_id: RunId) -> Sequence[StateRecord]:
        """The run's states, oldest first. Raises OrchestratorError."""
        return read_history(self._transport, run_id)

    def heartbeats(self, run_ids: Collection[RunId], window: timedelta = HOUR) -> Mapping[RunId, Heartbeat] | None:
        """Heartbeat events of these runs within `window`; None if the server has no such route.

        Raises OrchestratorError.
        """
        now = self._server_now()
        return self._life_signs.heartbeats(run_ids, now - window, now)

    def life_signs(self, run_ids: Collection[RunId], window: timedelta) -> Mapping[RunId, LifeSign]:
        """The newest log line or task run of each of these runs within `window`. Raises OrchestratorError."""
        now = self._server_now()
        return self._life_signs.newest(run_ids, now - window, now, self._lister.limit) if run_ids else {}

    def parents(self, task_run_ids: Collection[UUID]) -> Mapping[UUID, RunId]:
        """Whose task runs these are, a page at a time; deleted ones are missing. Raises OrchestratorError."""
        return read_parents(self._transport, task_run_ids, self._lister.limit)

    def settle(self, finding: Finding) -> Outcome:
        """Re-read, compare, propose the final state unforced, look back, announce. Never raises OrchestratorError."""
        with self._until(self._transport.monotonic() + SETTLEMENT_TIME):
            return settle(self._transport, self._announcer, self._told(finding))

    def crashed_by_us(self, within: timedelta) -> Sequence[tuple[FlowRun, str]]:
        """Flow runs that ended within that time as Crashed, by their state message by us, and that message.

        Raises OrchestratorError.
        """
        return read_crashed(self._transport, self._server_now() - within, self._lister.limit)

    def open_task_runs(self, run_ids: Collection[RunId]) -> Sequence[TaskRun]:
        """The task runs of these flow runs that are RUNNING or PENDING: 5,000 at most, the rest by the next call.

        Raises OrchestratorError. Part of a settlement, so it and what follows may outlast the pass with that.
        """
        with self._until(self._transport.deadline + SETTLEMENT_TIME):
            return read_open(self._transport, run_ids, self._lister.limit)

    def settle_task_run(self, task_run: TaskRun, message: str) -> Outcome:
        """Propose Crashed for one task run, unforced: one that has ended stays as it is. Never raises."""
        with self._until(self._transport.deadline + SETTLEMENT_TIME):  # once for all of them: there may be thousands
            return settle_task_run(self._transport, task_run, self._clean(message))

    def resume(self, finding: Finding, crash_id: UUID) -> Outcome:
        """Set a flow run that we crashed to AwaitingRetry, if that Crashed is still its state. Never raises."""
        with self._until(self._transport.monotonic() + SETTLEMENT_TIME):
            return resume(self._transport, self._told(finding), crash_id)

    def ping(self) -> None:
        """Address, credentials and rights to read, as a listing needs them. Raises OrchestratorError."""
        self._lister.count(WITH_INFRASTRUCTURE)
        self._learn_version()

    def close(self) -> None:
        self._transport.close()

    @contextmanager
    def _until(self, deadline: float) -> Iterator[None]:
        """Let this much outlast the pass: half a settlement is worse than a late one."""
        transport, before = self._transport, self._transport.deadline
        transport.deadline = max(before, deadline)
        try:
            yield
        finally:
            transport.deadline = before

    def _told(self, finding: Finding) -> Finding:
        """As it is told to the server."""
        return replace(finding, reason=self._clean(finding.reason))

    def _clean(self, text: str) -> str:
        return clipped(self._hide(text), _LONGEST)

    def _read_pools(self, found: Harvest, problems: list[str]) -> Mapping[str, WorkPool]:
        """One call for all (200 names in each), and none if every row tells all by itself."""
        names = {row.work_pool_name for row in found.rows.values() if row.work_pool_name and wants_pool(row)}
        try:
            return read_pools(self._transport, sorted(names), self._lister.limit)
        except OrchestratorError as error:
            problems.append(f"the types and templates of {len(names)} work pools could not be read: {error}")
            return {}

    def _server_now(self) -> datetime:
        return self._transport.now() + self.clock.offset

    def _learn_version(self) -> None:
        if self.server_version is not None or not self._has_version:
            return
        try:
            answer = self._transport.once("GET", "/admin/version")
            self.server_version = legible(one_line(self._transport.decode(answer, str, "a version"), 60))
        except OrchestratorError:
            self._has_version = False
        except (TryAgain, httpx.HTTPError) as error:  # perhaps next time; not worth a wait
            _log.debug("the version of the Prefect server could not be read", error=type(error).__name__)
