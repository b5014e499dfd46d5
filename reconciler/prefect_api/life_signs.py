"""What the runs themselves have done of late: heartbeats, log lines, task runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import httpx
import msgspec
import structlog

from reconciler.model import Heartbeat, LifeSign, RunId
from reconciler.plan import SIGNATURE
from reconciler.prefect_api.payloads import Count, Time, check_known, in_range
from reconciler.prefect_api.refusals import TooLarge
from reconciler.prefect_api.transport import Transport

_AHEAD = timedelta(minutes=1)  # the clocks of flows' hosts are not the server's
_MOST_RESOURCES = 200
_HEARTBEAT_OF = "prefect.flow-run."
# Who else writes into a run's log (loggers of 3.8.8): it says nothing of the run's own process. The last one is ours.
_OTHERS = frozenset(
    {"prefect.flow_runs.worker", "prefect.flow_runs.runner", "prefect.flow_runs.observer", "prefect.reconciler"}
)

_log = structlog.get_logger(__name__)


class _EventCount(msgspec.Struct):
    value: str
    count: Count
    start_time: Time
    end_time: Time

    def __post_init__(self) -> None:
        check_known(self.start_time, "the first heartbeat")
        check_known(self.end_time, "the last heartbeat")

    def heartbeat(self) -> tuple[RunId, Heartbeat] | None:
        """The run and its heartbeats; None if the events are of something else."""
        try:
            run_id = UUID(self.value.removeprefix(_HEARTBEAT_OF))
        except ValueError:
            return None
        return run_id, Heartbeat(self.count, self.start_time, self.end_time)


class _LogLine(msgspec.Struct):
    name: str
    timestamp: Time
    flow_run_id: UUID | None = None

    def sign(self) -> LifeSign | None:
        if self.name in _OTHERS or in_range(self.timestamp) is None:  # whoever writes a line chooses its time
            return None
        return LifeSign("log line", self.timestamp)


class _StateOfTask(msgspec.Struct):
    message: str | None = None


class _TaskRun(msgspec.Struct):
    flow_run_id: UUID | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    state: _StateOfTask | None = None

    def sign(self) -> LifeSign | None:
        ours = self.state is not None and (self.state.message or "").endswith(SIGNATURE)
        known = (self.start_time, None if ours else self.end_time)  # an end that we wrote shows nothing but us
        times = [time for time in known if time is not None and in_range(time)]
        return LifeSign("task run", max(times)) if times else None


_Page = dict[str, object]  # limit and offset
_Rows = Sequence[_LogLine | _TaskRun]
_Ask = Callable[[list[RunId], _Page], _Rows]  # the newest first


class LifeSigns:
    """Asks one server. Every method raises OrchestratorError. Times are the server's."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._has_events = True
        self._said_no_events = False
        self._knows_end_time = True

    def begin_pass(self) -> None:
        """Servers are upgraded, and a proxy may answer 404 once."""
        self._has_events = self._knows_end_time = True

    def heartbeats(self, run_ids: Collection[RunId], since: datetime, now: datetime) -> dict[RunId, Heartbeat] | None:
        """Count the heartbeat events of these runs; None if the server has no such route (2.20: 404).

        One call for all runs. Filtering by resource works together with counting (3.8.8).
        """
        if not self._has_events:
            return None
        if not run_ids:
            return {}
        events: dict[str, object] = {
            "event": {"prefix": ["prefect.flow-run.heartbeat"]},
            "occurred": {"since": since, "until": now + _AHEAD},
        }
        if len(run_ids) <= _MOST_RESOURCES:
            events["resource"] = {"id": [f"{_HEARTBEAT_OF}{run_id}" for run_id in run_ids]}
        answer = self._transport.ask("POST", "/events/count-by/resource", {"filter": events}, accept={404, 405})
        if answer.status != httpx.codes.OK:
            self._has_events = False
            say = _log.debug if self._said_no_events else _log.info
            self._said_no_events = True
            say("the Prefect server has no route for counting events, so heartbeats are not looked at")
            return None
        rows = self._transport.decode(answer, list[_EventCount], "counts of heartbeat events")
        beats = dict(beat for row in rows if (beat := row.heartbeat()) is not None)
        return {run_id: beats[run_id] for run_id in run_ids if run_id in beats}

    def newest(self, run_ids: Collection[RunId], since: datetime, now: datetime, limit: int) -> dict[RunId, LifeSign]:
        """The newest log line or task run of each of these runs since then; those without one are missing.

        Three calls, and more only where a talkative run fills a whole answer. What lies in the future is no sign:
        whoever writes a log line chooses its time.
        """
        until, signs = now + _AHEAD, dict[RunId, LifeSign]()
        for ask in self._questions({"after_": since, "before_": until}):
            for run_id, sign in _signs(ask, run_ids, limit):
                if since <= sign.at <= until and (run_id not in signs or sign.at > signs[run_id].at):
                    signs[run_id] = sign
        return signs

    def _questions(self, window: Mapping[str, datetime]) -> Iterator[_Ask]:
        yield partial(self._log_lines, window)
        yield partial(self._task_runs, window, "start_time", "EXPECTED_START_TIME_DESC")
        if self._knows_end_time:
            yield partial(self._task_runs, window, "end_time", "END_TIME_DESC")

    def _log_lines(self, window: Mapping[str, datetime], run_ids: list[RunId], page: _Page) -> _Rows:
        body = {"logs": {"flow_run_id": {"any_": run_ids}, "timestamp": window}, "sort": "TIMESTAMP_DESC"} | page
        answer = self._transport.ask("POST", "/logs/filter", body)
        return self._transport.decode(answer, list[_LogLine], "a list of log lines")

    def _task_runs(
        self, window: Mapping[str, datetime], time: str, sort: str, run_ids: list[RunId], page: _Page
    ) -> _Rows:
        """Those that started, or ended. Servers before 3.0 cannot be asked for ends: they refuse with 422."""
        body = {"flow_runs": {"id": {"any_": run_ids}}, "task_runs": {time: window}, "sort": sort} | page
        accept = {422} if time == "end_time" else set[int]()
        answer = self._transport.ask("POST", "/task_runs/filter", body, accept=accept)
        if answer.status == httpx.codes.UNPROCESSABLE_ENTITY:
            self._knows_end_time = False
            return []
        return self._transport.decode(answer, list[_TaskRun], "a list of task runs")


def _signs(ask: _Ask, run_ids: Collection[RunId], limit: int) -> Iterator[tuple[RunId, LifeSign]]:
    """Ask until the newest sign of every run was shown, or there is no more."""
    left, offset = set(run_ids), 0
    while left:
        rows, limit = _page(ask, sorted(left), offset, limit)
        found = set[RunId]()
        for row in rows:
            sign = row.sign()
            if sign is not None and row.flow_run_id in left:
                found.add(row.flow_run_id)
                yield row.flow_run_id, sign
        if len(rows) < limit:
            return
        left -= found
        offset = 0 if found else offset + limit  # a whole page of what is no sign


def _page(ask: _Ask, run_ids: list[RunId], offset: int, limit: int) -> tuple[_Rows, int]:
    """One page, and how many rows were asked for: fewer, where lines are so long that the answer is not read on."""
    while True:
        try:
            return ask(run_ids, {"limit": limit, "offset": offset}), limit
        except TooLarge:
            if limit == 1:
                raise
            limit = max(1, limit // 8)
