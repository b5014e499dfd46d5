"""Calls made at the same time, by few threads, and never more of them however long a call hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

_GLANCE = 0.1  # seconds between two looks at who is free


class Crew:
    """At most `size` threads at work. A thread whose call hangs stays one of them until that call returns."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads: list[threading.Thread] = []

    def together(self, calls: Sequence[Callable[[], T]], deadline: float) -> list[T]:
        """Make all calls. Gives their results in order, or raises the first error.

        Raises TimeoutError at the deadline, a `time.monotonic()` value, and if calls of before still hang everywhere.
        """
        free = self._free(deadline)
        work = _Work(calls)
        new = [threading.Thread(target=work.run, name="ecs call", daemon=True) for _ in calls[:free]]
        self._threads += new
        for thread in new:
            thread.start()
        return work.results(deadline)

    def _free(self, deadline: float) -> int:
        """Wait until at least one more thread may work."""
        while True:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) < self._size:
                return self._size - len(self._threads)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("calls that were made before have not returned yet")
            self._threads[0].join(min(left, _GLANCE))


class _Work(Generic[T]):
    def __init__(self, calls: Sequence[Callable[[], T]]) -> None:
        self._todo = list(enumerate(calls))[::-1]
        self._count = len(calls)
        self._results: dict[int, T] = {}
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def run(self) -> None:
        while True:
            with self._changed:
                if not self._todo or self._error is not None:
                    return
                number, call = self._todo.pop()
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - raised again where the results are waited for
                self._note(error)
                return
            with self._changed:
                self._results[number] = result
                self._changed.notify()

    def results(self, deadline: float) -> list[T]:
        with self._changed:
            left = max(0.0, deadline - time.monotonic())
            self._changed.wait_for(lambda: self._error is not None or len(self._results) == self._count, left)
            if self._error is not None:
                raise self._error
            if len(self._results) < self._count:
                self._todo.clear()
                raise TimeoutError
            return [self._results[number] for number in range(self._count)]

    def _note(self, error: Exception) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify()


class Bucket:
    """A token bucket: so many calls at once, then so many a second. Safe for several threads."""

    def __init__(self, burst: float, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._tokens, self._at = burst, time.monotonic()
        self._lock = threading.Lock()

    def wait(self, deadline: float) -> None:
        """Take a token, as soon as there is one. Raises TimeoutError, at once, if that is after the deadline."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
            delay = max(0.0, (1 - self._tokens) / self._rate)
            if now + delay > deadline:
                raise TimeoutError("its own limit of calls leaves no time for more of them")
            self._tokens -= 1
        time.sleep(delay)
