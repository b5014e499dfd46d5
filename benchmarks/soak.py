"""Let the daemon run on a real Prefect server and a real engine, for as long as you like, while runs live and die.

    python -m benchmarks.soak --minutes 60

Every few seconds a run begins and one ends well; every 15 s one becomes a zombie, each time in another way; every five
minutes the engine freezes, the API fails, or the configuration is read again. At the end it says how many zombies were
made and settled, how many healthy runs were crashed (any is a failure), and what the process took: resident memory,
file descriptors, threads, at five minutes and at the end. Needs `make setup`, root, dockerd.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.real.test_acceptance import docker_run
from tests.rigs.daemon import DaemonProcess
from tests.rigs.engine import Engine
from tests.rigs.prefect import SeededRun, history, read, set_state
from tests.rigs.proxy import FaultProxy
from tests.rigs.reconcile import QUICK, docker_scope
from tests.rigs.server import PrefectServer, prefect_venv

POOL = "soak"
HEALTHY = 20
_LIVES, _DIES, _DISTURBS = 5.0, 15.0, 300.0  # seconds between two of each
_SETTLED_WITHIN = 90.0


@dataclass
class Soak:
    """What lives, what was made a zombie, and what the daemon took."""

    api: str
    engine: Engine
    daemon: DaemonProcess
    proxy: FaultProxy
    living: list[tuple[SeededRun, str]] = field(default_factory=list)
    ended: list[SeededRun] = field(default_factory=list)
    zombies: list[tuple[SeededRun, float]] = field(default_factory=list)
    samples: list[dict[str, float]] = field(default_factory=list)

    def begin(self) -> None:
        self.living.append(docker_run(self.api, self.engine, POOL))

    def live(self) -> None:
        """One more begins, and the oldest ends as a run should: it reports, then its container goes."""
        self.begin()
        if len(self.living) > HEALTHY:
            run, container = self.living.pop(0)
            set_state(run, "COMPLETED")
            self.engine.docker("rm", "-f", container)
            self.ended.append(run)

    def die(self, how: int) -> None:
        """One that the daemon has seen (it is not among the youngest) goes without a word."""
        run, container = self.living.pop(random.randrange(len(self.living) - 3))
        if how % 3 == 0:
            self.engine.docker("rm", "-f", container)
        else:
            self.engine.docker("kill", "--signal", "KILL" if how % 3 == 1 else "SEGV", container, check=False)
            self.engine.docker("kill", container, check=False)
        self.zombies.append((run, time.monotonic()))

    def disturb(self, how: int) -> None:
        if how % 3 == 0:
            self.engine.freeze()
            time.sleep(5)
            self.engine.thaw()
        elif how % 3 == 1:
            self.proxy.answer("*", ".", 503)
            time.sleep(5)
            self.proxy.reset()
        else:
            self.daemon.send(signal.SIGHUP)

    def sample(self, began: float) -> dict[str, float]:
        process = psutil.Process(self.daemon.program.pid)
        taken = {
            "minute": round((time.monotonic() - began) / 60, 1),
            "rss_mb": round(process.memory_info().rss / 1e6, 1),
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
            "cpu_seconds": round(sum(process.cpu_times()[:2]), 1),
            "passes": len(self.daemon.passes()),
            "zombies": len(self.zombies),
        }
        self.samples.append(taken)
        print(json.dumps(taken), flush=True)
        return taken

    def verdict(self) -> dict[str, object]:
        """Read every run back from the server."""
        settled = [run for run, _ in self.zombies if _state(run) == "CRASHED"]
        wrong = [run for run in self.ended if _state(run) != "COMPLETED"]
        wrong += [run for run, _ in self.living if _state(run) != "RUNNING"]
        twice = [run for run in settled if [one["type"] for one in history(run)].count("CRASHED") != 1]
        return {
            "made": len(self.zombies),
            "settled": len(settled),
            "settled_twice": len(twice),
            "healthy": len(self.ended) + len(self.living),
            "false": len(wrong),
            "at_5_minutes": next((one for one in self.samples if one["minute"] >= 5), self.samples[0]),
            "at_the_end": self.samples[-1],
        }


def _state(run: SeededRun) -> str:
    return str(read(run)["state"]["type"])


def run(soak: Soak, minutes: float) -> dict[str, object]:
    """Do it, and give the account."""
    began = time.monotonic()
    for _ in range(HEALTHY):
        soak.begin()
    soak.daemon.wait_for_passes(3)
    tasks: list[tuple[float, Callable[[int], object], Iterator[int]]] = [
        (_LIVES, lambda _: soak.live(), itertools.count()),
        (_DIES, soak.die, itertools.count()),
        (_DISTURBS, soak.disturb, itertools.count()),
        (60.0, lambda _: soak.sample(began), itertools.count()),
    ]
    due = [began + every for every, _, _ in tasks]
    while time.monotonic() - began < minutes * 60:
        soak.daemon.program.must_run()
        number = min(range(len(tasks)), key=due.__getitem__)
        time.sleep(max(0.0, due[number] - time.monotonic()))
        every, work, count = tasks[number]
        try:
            work(next(count))
        except (httpx.HTTPError, RuntimeError) as error:  # the rig's own call; the daemon is not concerned
            print(f"the rig: {error}", file=sys.stderr)
        due[number] = max(due[number] + every, time.monotonic())
    end = time.monotonic() + _SETTLED_WITHIN
    while time.monotonic() < end and any(_state(one) != "CRASHED" for one, _ in soak.zombies):
        time.sleep(1)
    soak.sample(began)
    return soak.verdict()


def main() -> int:
    """Give 0 if every zombie was settled once and no healthy run was touched."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    venv = prefect_venv()
    if venv is None:
        raise SystemExit("No Prefect found: `make setup` installs it.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        server = stack.enter_context(PrefectServer(venv, folder))
        engine = stack.enter_context(Engine())
        proxy = stack.enter_context(FaultProxy(server.api_url))
        scope = docker_scope(engine.base_url, POOL)
        daemon = DaemonProcess(proxy.url, folder / "daemon", scope, daemon={"interval": "2s"}, **QUICK)
        stack.enter_context(daemon.start().ready())
        account = run(Soak(server.api_url, engine, daemon, proxy), minutes)
        code, seconds = daemon.stop()
    account |= {"exit_code": code, "seconds_to_end": round(seconds, 2)}
    print(json.dumps(account, indent=2))
    good = account["made"] == account["settled"] and not account["false"] and not account["settled_twice"]
    return 0 if good and code == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
