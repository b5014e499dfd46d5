"""APScheduler's part: passes in a rhythm, one at a time, each in a daemon thread."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Thread

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

_log = structlog.get_logger(__name__)


class Rounds:
    """The passes, one at a time, in APScheduler."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._threads = _DaemonThreads()
        self._scheduler = BackgroundScheduler(timezone=UTC, executors={"default": self._threads}, daemon=True)
        self._scheduler.add_listener(self._is_late, EVENT_JOB_MAX_INSTANCES)
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # it would warn of the same, each time
        self._work, self._said_late = work, False
        self._job: Job | None = None

    @property
    def thread(self) -> Thread | None:
        """Where the last pass runs, or ran."""
        return self._threads.last

    def start(self, interval: timedelta, jitter: timedelta) -> None:
        self._job = self._scheduler.add_job(
            self._round,
            _Rhythm(interval, jitter),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
            next_run_time=datetime.now(UTC),
        )
        self._scheduler.start()

    def _round(self) -> None:
        self._said_late = False
        self._work()

    def _is_late(self, event: object) -> None:
        del event
        if not self._said_late:
            self._said_late = True
            _log.info("a pass is due and the last one has not ended yet; it is left out")

    def change(self, interval: timedelta, jitter: timedelta) -> None:
        assert self._job is not None, "started"
        self._job.reschedule(_Rhythm(interval, jitter))
        self.now()

    def now(self) -> None:
        """Let the next pass come at once; if one runs, an interval from now."""
        assert self._job is not None, "started"
        with suppress(JobLookupError):  # stopped meanwhile
            self._job.modify(next_run_time=datetime.now(UTC))

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)


class _Rhythm(BaseTrigger):  # type: ignore[misc] # APScheduler is not typed
    """An interval from now, whatever was missed: APScheduler's own lists each missed time, after a jump years."""

    def __init__(self, interval: timedelta, jitter: timedelta) -> None:
        self._interval, self._jitter = interval, jitter

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        del previous
        return now + self._interval + random.random() * self._jitter


class _DaemonThreads(BaseExecutor):  # type: ignore[misc] # APScheduler is not typed
    """A daemon thread per pass. APScheduler's pools are joined when the interpreter ends, hung calls and all."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Thread | None = None

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        def work() -> None:
            events = run_job(job, job._jobstore_alias, run_times, self._logger.name)  # noqa: SLF001
            self._run_job_success(job.id, events)

        self.last = Thread(target=work, name="cycle", daemon=True)
        self.last.start()
