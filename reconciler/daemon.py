"""The same cycle, for ever: APScheduler's rhythm, signals, the service manager.

Signals are waited for, not handled: they are blocked in every thread, and the main thread takes them one by one. A
cycle runs in a daemon thread, so that a hung SDK call keeps neither the other passes nor the end of the process.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, Lock, Thread

import structlog

from reconciler.clock import Clock
from reconciler.cycle import Cycle
from reconciler.notify import Notifier
from reconciler.plan import CycleReport
from reconciler.report import status
from reconciler.rounds import Rounds
from reconciler.settings import ConfigError

FINISH_WRITE_WITHIN = 6.5  # seconds; with all else the process must be gone after 8
_FINISH_LOOK_WITHIN = 0.5  # a look writes nothing, so it may be left
_TICK = 1.0
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """One configuration in force: what to run, how often, and who hears of it."""

    title: str  # in words: what it looks at, how often
    cycle: Cycle
    interval: timedelta
    jitter: timedelta
    begin: Callable[[], object]  # called before each pass
    tell: Callable[[CycleReport], object]
    close: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is to be told beside the cycles' reports."""

    reloaded: Callable[[Sequence[str]], object]  # the problems of a refused configuration; none: it is in force
    failed: Callable[[str], object]  # a cycle ended by a bug of ours


class Daemon:
    """`run` returns after SIGTERM or SIGINT. `build` is called first and at each SIGHUP; it may raise ConfigError."""

    def __init__(self, build: Callable[[], Duty], notifier: Notifier, over: Event, hooks: Hooks) -> None:
        self._build, self._notifier, self._over, self._hooks = build, notifier, over, hooks
        self._clock = Clock()
        self._seen = self._clock.reading()
        self._rounds = Rounds(self._pass)
        self._duty: Duty | None = None
        self._waiting: Duty | None = None  # taken over when the next pass begins
        self._exchange = Lock()
        self._is_asked = Event()  # to read the configuration again
        self._is_writing = False
        self._is_ready = False

    def run(self) -> None:
        """Pass after pass. Raises ConfigError if the first configuration cannot be used."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # before any thread is started: they inherit it
        duty = self._waiting = self._build()
        _log.info(f"started: {duty.title}")
        self._notifier.status("the first pass is under way")
        self._rounds.start(duty.interval, duty.jitter)
        for work in (self._watch_the_clock, self._reload_when_asked):
            Thread(target=work, name=work.__name__, daemon=True).start()
        # not sigtimedwait: stopped and continued (SIGSTOP, docker pause), it tells of signals that nobody sent (3.11)
        while (received := signal.sigwait(_SIGNALS)) == signal.SIGHUP:
            self._is_asked.set()
        self._end(signal.Signals(received).name)

    def _pass(self) -> None:
        duty = self._take_over()
        self._notifier.alive()
        try:
            said = self._cycle(duty)
        except Exception as error:  # noqa: BLE001 - one failing pass must not be the last
            _log.exception("this is a bug of prefect-reconciler, please report it; the next pass comes all the same")
            said = f"the last pass ended by a bug of ours: {type(error).__name__}: {error}"
            self._hooks.failed(said)
        self._notifier.alive()
        self._say(said)

    def _say(self, said: str) -> None:
        """Set the status; the first one, at the end of the first pass, makes the daemon ready."""
        if self._over.is_set():
            return
        if self._is_ready:
            self._notifier.status(said)
        else:
            self._is_ready = True
            self._notifier.ready(said)

    def _cycle(self, duty: Duty) -> str:
        duty.begin()
        planned = duty.cycle.plan()
        if self._over.is_set():
            return "stopping"
        self._is_writing = True  # until what was written is told, too
        try:
            report = duty.cycle.report(planned, duty.cycle.settle(planned))
            duty.tell(report)
        finally:
            self._is_writing = False
        return status(report)

    def _take_over(self) -> Duty:
        with self._exchange:
            former, self._duty, self._waiting = self._duty, self._waiting or self._duty, None
        assert self._duty is not None, "set before the first pass"
        if former is not None and former is not self._duty:
            _close(former)
        return self._duty

    def _reload_when_asked(self) -> None:
        """In a thread of its own: a file that cannot be read to its end must not keep SIGTERM waiting."""
        while self._is_asked.wait():
            self._is_asked.clear()
            self._reload()

    def _reload(self) -> None:
        if self._is_ready:
            self._notifier.reloading()
        try:
            duty = self._build()
        except ConfigError as refused:
            self._refuse(refused.problems)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a new configuration, the old one is good
            _log.exception("this is a bug of prefect-reconciler, please report it")
            self._refuse([f"a bug of ours: {type(error).__name__}: {error}"])
        else:
            with self._exchange:
                unused, self._waiting = self._waiting, duty
            if unused is not None:
                _close(unused)
            if self._over.is_set():
                return
            self._rounds.change(duty.interval, duty.jitter)
            _log.info(f"configuration read again: {duty.title}")
            self._reloaded((), "configuration read again")

    def _refuse(self, problems: Sequence[str]) -> None:
        for problem in problems:
            _log.error("the new configuration is refused, the old one stays in force", problem=problem)
        self._reloaded(problems, "the new configuration was refused, the old one stays in force; see the log")

    def _reloaded(self, problems: Sequence[str], said: str) -> None:
        self._hooks.reloaded(problems)
        if self._is_ready:  # else the end of the first pass says so
            self._notifier.ready(said)

    def _watch_the_clock(self) -> None:
        """APScheduler waits until a time of the wall clock: set back by an hour, it would not fire for an hour."""
        while not self._over.wait(_TICK):
            self._follow_the_clock()

    def _follow_the_clock(self) -> None:
        now = self._clock.reading()
        step, slept = now.step_since(self._seen).total_seconds(), now.slept_since(self._seen).total_seconds()
        if step or slept:
            _log.warning("this machine's clock was set, or it slept", set_by_seconds=step, slept_seconds=slept)
            self._seen = now
            self._rounds.now()

    def _end(self, why: str) -> None:
        _log.info("stopping", signal=why)
        self._notifier.stopping()
        self._over.set()
        self._rounds.stop()
        began = time.monotonic()
        while self._rounds.thread is not None and self._rounds.thread.is_alive():
            self._rounds.thread.join(0.05)
            patience = FINISH_WRITE_WITHIN if self._is_writing else _FINISH_LOOK_WITHIN
            if time.monotonic() - began > patience:
                _log.warning("left a pass that did not end", writing=self._is_writing)
                return
        for duty in (self._waiting, self._duty):
            if duty is not None:
                _close(duty)
        _log.info("stopped")


def _close(duty: Duty) -> None:
    try:
        duty.close()
    except Exception:  # noqa: BLE001 - what it holds ends with the process
        _log.exception("this is a bug of prefect-reconciler, please report it")
