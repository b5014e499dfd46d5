"""What a look at a large cluster costs: CPU against plain httpx and json over the same pages, memory, calls.

    python -m benchmarks.kubernetes

A fake API server in a process of its own holds 10,000 live pods with their Jobs and thousands of ended ones. Each of
the measured parts is a process of its own too, so that no figure holds another's imports or heap. Exits 1 if a bound
is broken. Linux only: the peak of the resident memory is read from /proc.
"""

# ruff: noqa: PLC0415 - each part imports no more than it measures
from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from benchmarks.kubernetes_objects import ENDED, HOME, LIVE, START, name_of, objects, run_id
from reconciler.model import Condition, FlowRun, Seen, StateType

VANISHED = 3_000  # runs of as many as live
PASSES = 3
TOKEN = "token-of-admin"  # noqa: S105 - the fake's
PAGE = "500"
SELECTORS = (
    ("/api/v1/pods", "status.phase!=Succeeded,status.phase!=Failed"),
    ("/apis/batch/v1/jobs", "status.successful=0"),
)
MAX_RATIO, MAX_GROWTH = 2.0, 40.0  # times httpx; MB
# 20 pages each, and one that is empty if an ended object stands behind the last live one; identity, as a pass asks it
MAX_CALLS = 2 * (LIVE // int(PAGE) + 1) + 2
# three lists per 100 of them (Jobs, pods, pods by name), then the names of all Jobs, then their namespace
MAX_LOOK_UP = 3 * VANISHED // 100 + (LIVE + ENDED) // int(PAGE) + 2
DEADLINE = 200.0  # s; the core gives 20, but here the fake server is what takes long


# The parts, each in a process of its own


def serve() -> None:
    """Hold the cluster until the standard input ends."""
    from tests.kubernetes.apiserver.fake import FakeApiServer

    with FakeApiServer() as server:
        server.load(objects())
        print(server.url, flush=True)
        sys.stdin.read()


def adapter(url: str, vanished: int) -> dict[str, object]:
    """Let the adapter look, at runs that live and at some that have vanished."""
    from kubernetes import client, config  # noqa: F401 - their memory is theirs
    from urllib3 import HTTPConnectionPool

    from reconciler_adapters.kubernetes import KubernetesScope

    calls, urlopen = [], HTTPConnectionPool.urlopen

    def counted(*args: Any, **more: Any) -> Any:
        calls.append(1)
        return urlopen(*args, **more)

    HTTPConnectionPool.urlopen = counted  # type: ignore[method-assign]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(_kubeconfig(url), file)  # which is YAML too
        file.flush()
        scope = KubernetesScope("benchmark", {"kubeconfig": file.name})
        scope.identity(time.monotonic() + 5)
        runs = [_run(number) for number in range(LIVE - vanished)] + [_lost(number) for number in range(vanished)]

        def look() -> Seen:
            calls.clear()
            scope.identity(time.monotonic() + DEADLINE)
            seen = scope.observe(runs, time.monotonic() + DEADLINE)
            scope.identity(time.monotonic() + DEADLINE)
            return seen

        figures = _measured(look, 1 if vanished else PASSES, lambda seen: _checked(seen, vanished))
    return figures | {"calls": len(calls), "client": version("kubernetes"), "urllib3": version("urllib3")}


def plain(url: str) -> dict[str, object]:
    """Download the same pages with httpx, and decode each with json."""
    import httpx

    headers = {"Authorization": f"Bearer {TOKEN}", "Accept-Encoding": "identity"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as http:
        http.get("/version").raise_for_status()

        def download() -> list[int]:
            pages = [len(page["items"]) for path, fields in SELECTORS for page in _pages(http, path, fields)]
            return [sum(pages), len(pages)]

        def check(counts: list[int]) -> None:
            assert counts[0] == 2 * LIVE, counts

        return _measured(download, PASSES, check)


def _pages(http: Any, path: str, fields: str) -> Iterator[dict[str, Any]]:
    query = {"limit": PAGE, "labelSelector": "prefect.io/flow-run-id", "fieldSelector": fields}
    while True:
        page = json.loads(http.get(path, params=query).raise_for_status().content)
        yield page
        token = page["metadata"].get("continue")
        if not token:
            return
        query["continue"] = token


def _checked(seen: Seen, vanished: int) -> None:
    """A figure of a wrong answer is worth nothing."""
    conditions = [one.condition for many in seen.observations.values() for one in many]
    assert conditions.count(Condition.ALIVE) == LIVE - vanished, conditions[:5]
    assert conditions.count(Condition.GONE) == vanished
    assert len(seen.strangers) == vanished


def _measured(work: Callable[[], Any], passes: int, check: Callable[[Any], None]) -> dict[str, object]:
    """CPU and wall seconds, median of the passes; by how many MB the peak rose in the first, and in all."""
    gc.collect()
    before, peaks = _peak(reset=True), list[float]()
    cpu, wall = list[float](), list[float]()
    for _ in range(passes):
        began, used = time.perf_counter(), time.process_time()
        found = work()
        cpu.append(time.process_time() - used)
        wall.append(time.perf_counter() - began)
        peaks.append(_peak() - before)
        check(found)
        del found
    return {
        "cpu_seconds": round(statistics.median(cpu), 3),
        "seconds": round(statistics.median(wall), 2),
        "growth_mb_first": round(peaks[0], 1),
        "growth_mb": round(max(peaks), 1),
        "imports_mb": round(before, 1),
    }


def _peak(*, reset: bool = False) -> float:
    """MB of resident memory at most, since the start or the last reset (the peak of the imports is not the look's)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def _kubeconfig(url: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
    }


def _run(number: int) -> FlowRun:
    return _flow_run(run_id(number), f"{HOME}:{name_of(number)}")


def _lost(number: int) -> FlowRun:
    return _flow_run(uuid4(), f"{HOME}:lost-otter-{number}")


def _flow_run(identity: UUID, pid: str) -> FlowRun:
    running = {"state_type": StateType.RUNNING, "state_name": "Running", "state_since": START, "created": START}
    return FlowRun(id=identity, name="run", state_id=identity, pid=pid, run_count=1, **running)  # type: ignore[arg-type]


# All of it


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", __spec__.name, "--part", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def _part(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, *arguments]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    figures: dict[str, Any] = json.loads(answer.stdout)
    return figures


def main() -> int:
    """Give 0 if every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--part", choices=["serve", "adapter", "plain", "vanished"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "serve":
        serve()
        return 0
    if given.part:
        parts: dict[str, Callable[[], dict[str, object]]] = {
            "adapter": lambda: adapter(given.url, 0),
            "vanished": lambda: adapter(given.url, VANISHED),
            "plain": lambda: plain(given.url),
        }
        print(json.dumps(parts[given.part]()))
        return 0
    with _server() as url:
        found = {part: _part("--part", part, "--url", url) for part in ("adapter", "plain", "vanished")}
    ratio = found["adapter"]["cpu_seconds"] / found["plain"]["cpu_seconds"]
    bounds = {
        f"CPU at most {MAX_RATIO} times that of httpx and json": ratio <= MAX_RATIO,
        f"peak memory grows by less than {MAX_GROWTH} MB": found["adapter"]["growth_mb"] < MAX_GROWTH,
        f"at most {MAX_CALLS} calls": found["adapter"]["calls"] <= MAX_CALLS,
        f"at most {MAX_LOOK_UP} more for {VANISHED} vanished runs": found["vanished"]["calls"]
        <= MAX_CALLS + MAX_LOOK_UP,
    }
    print(json.dumps(found | {"ratio": round(ratio, 2), "bounds": bounds}, indent=2))
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
