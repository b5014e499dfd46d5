"""A real `Daemon` whose passes misbehave: `python -m tests.rigs.odd_daemon KIND`. Prints a line as each pass begins."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

from reconciler import logs
from reconciler.daemon import Daemon, Duty, Hooks
from reconciler.notify import Notifier
from reconciler.plan import NOTHING_PLANNED, CycleReport

INTERVAL = timedelta(seconds=0.3)


class OddCycle:
    """Stands in for `reconciler.cycle.Cycle`."""

    def __init__(self, kind: str) -> None:
        self.kind, self.passes, self.running = kind, 0, 0

    def plan(self) -> object:
        self.passes += 1
        self.running += 1
        print("pass", self.passes, "running", self.running, flush=True)
        if self.kind == "raises" and self.passes == 2:
            self.running -= 1
            raise RuntimeError("an unforeseen thing")
        if self.kind == "hangs" and self.passes == 3:
            threading.Event().wait()
        if self.kind == "slow":
            time.sleep(1.0)
        self.running -= 1
        return None

    def settle(self, planned: object) -> dict[Any, Any]:
        if self.kind == "writes" and self.passes == 2:
            print("writing", flush=True)
            time.sleep(2.0)
            print("written", flush=True)
        if self.kind == "writes for ever" and self.passes == 2:
            print("writing", flush=True)
            threading.Event().wait()
        return {}

    def report(self, planned: object, outcomes: object) -> CycleReport:
        return CycleReport(
            taken_at=datetime.now(UTC),
            duration=timedelta(0),
            api_url="http://h/api",
            api_calls=0,
            server_version=None,
            scopes=(),
            plan=NOTHING_PLANNED,
            outcomes={},
            problems=(),
            warnings=(),
            dry_run=False,
            was_listed=True,
        )


def main() -> None:
    logs.configure("info", logs.Redactor())
    cycle: Any = OddCycle(sys.argv[1])

    def nothing(*_: object) -> None: ...

    builds = []

    def build() -> Duty:
        builds.append(1)
        if sys.argv[1] == "rebuilds badly" and len(builds) > 1:
            raise OSError("no file descriptors left")
        if sys.argv[1] == "rebuilds for ever" and len(builds) > 1:
            threading.Event().wait()
        if sys.argv[1] == "hangs up on itself":
            threading.Thread(target=hang_up, daemon=True).start()
        return Duty("odd", cycle, INTERVAL, timedelta(0), begin=nothing, tell=tell, close=nothing)

    def tell(report: object) -> None:
        if sys.argv[1] == "writes":
            time.sleep(0.7)
            print("told", flush=True)

    def hang_up() -> None:
        while len(builds) < 1_000_000:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)

    Daemon(build, Notifier(os.environ), Event(), Hooks(nothing, nothing)).run()


if __name__ == "__main__":
    main()
