"""What a look at a large cluster costs: CPU against plain boto3 describing the same tasks, memory, calls, throttles.

    python -m benchmarks.ecs

A fake AWS in a process of its own holds 10,000 running tasks, and limits the calls as AWS does. Each of the measured
parts is a process of its own too, so that no figure holds another's imports or heap. Exits 1 if a bound is broken.
Linux only: the peak of the resident memory is read from /proc.
"""

# ruff: noqa: PLC0415 - each part imports no more than it measures
from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.ecs_tasks import LIVE, REGION, VANISHED, furnish
from reconciler.model import Condition, FlowRun, Resource, RunId, Seen
from reconciler.testing import flow_run

PASSES = 3
PAGE, THREADS = 100, 4
DEADLINE = 20.0  # s; what the core gives by default
PAUSE = 6.0  # s before each pass: the buckets, AWS's and ours, are full again then
MAX_RATIO, MAX_GROWTH = 1.0, 60.0  # times boto3; MB
IDENTITY = {"sts:GetCallerIdentity": 2, "ecs:DescribeClusters": 2}  # before and after each look
PASS = IDENTITY | {"ecs:DescribeTasks": LIVE // PAGE}

Step = Callable[[], object]
Figures = dict[str, Any]


# The parts, each in a process of its own


def serve() -> None:
    """Hold the cluster until the standard input ends. Answers each line of it with a line of JSON."""
    from tests.ecs.fake import FakeAws

    with FakeAws() as aws:
        tasks = furnish(aws)

        def counted() -> Figures:
            counts = {"calls": dict(aws.calls), "throttled": aws.throttled}
            aws.reset_counts()
            return counts

        def do(command: str) -> object:
            if command == "refill":
                aws.limits.refill()
            elif command == "stop one":
                tasks[0].stop(exits={"prefect": 137})
            elif command == "forget many":
                for task in tasks[:VANISHED]:
                    task.forget()
            return counted()

        _say({"url": aws.url, "runs": [[str(task.run_id), task.pid] for task in tasks]})
        for line in sys.stdin:
            _say(do(line.strip()))


def adapter(url: str, said: Sequence[tuple[str, str]], ended: int, condition: Condition) -> Iterator[Step]:
    """Let the adapter look as the core does: all runs in each pass, then the suspects once more."""
    import boto3  # noqa: F401 - its memory is its own

    from reconciler_adapters.ecs import EcsScope

    scope = EcsScope("benchmark", {"region": REGION, "endpoint_url": url})
    runs = [flow_run(pid, id=UUID(run_id)) for run_id, pid in said]

    def look(asked: Sequence[FlowRun], before: Mapping[RunId, Resource]) -> Seen:
        deadline = time.monotonic() + DEADLINE
        scope.identity(deadline)
        scope.remind(before)
        seen = scope.observe(asked, deadline)
        scope.identity(deadline)
        return seen

    def one_pass() -> None:
        """A figure of a wrong answer is worth nothing."""
        seen = look(runs, {})
        found = [[one.condition for one in seen.observations[run.id]] for run in runs]
        assert found == [[condition]] * ended + [[Condition.ALIVE]] * (LIVE - ended), found[: ended + 1]
        assert not seen.strangers

    def second_look() -> None:
        seen = look(runs[:ended], {})
        assert {one.condition for many in seen.observations.values() for one in many} == {condition}
        assert len(seen.strangers) == LIVE - ended  # the others are not asked about

    yield lambda: scope.identity(time.monotonic() + DEADLINE)
    if not ended:
        yield from [one_pass] * PASSES
    else:
        yield one_pass
        yield second_look


def plain(url: str, said: Sequence[tuple[str, str]]) -> Iterator[Step]:
    """Describe the same tasks by boto3 alone."""
    from concurrent.futures import ThreadPoolExecutor

    import boto3

    arns = [pid.rpartition("::")[2] for _, pid in said]
    chunks = [arns[at : at + PAGE] for at in range(0, len(arns), PAGE)]
    client: list[Any] = []

    def open_it() -> None:
        client.append(boto3.Session().client("ecs", region_name=REGION, endpoint_url=url))
        client[0].describe_clusters(clusters=["default"])

    def describe(chunk: list[str]) -> int:
        answer = client[0].describe_tasks(cluster="default", tasks=chunk, include=["TAGS"])
        return sum(task["lastStatus"] == "RUNNING" and bool(task["tags"]) for task in answer["tasks"])

    def one_pass() -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            assert sum(threads.map(describe, chunks)) == LIVE

    yield open_it
    yield from [one_pass] * PASSES


def measure(part: str) -> None:
    """Take each step of a part after a line of the standard input; the first line is what the server said."""
    server = json.loads(sys.stdin.readline())
    parts: dict[str, Callable[..., Iterator[Step]]] = {
        "adapter": lambda url, runs: adapter(url, runs, 0, Condition.ALIVE),
        "zombie": lambda url, runs: adapter(url, runs, 1, Condition.EXITED),
        "vanished": lambda url, runs: adapter(url, runs, VANISHED, Condition.GONE),
        "plain": plain,
    }
    base = None
    for step in parts[part](server["url"], server["runs"]):
        sys.stdin.readline()
        gc.collect()
        base = _peak(reset=True) if base is None else base  # with the imports, before the first call
        began, used = time.perf_counter(), time.process_time()
        step()
        cpu, wall = time.process_time() - used, time.perf_counter() - began
        _say({"cpu_seconds": round(cpu, 3), "seconds": round(wall, 2), "growth_mb": round(_peak() - base, 1)})


def _say(words: object) -> None:
    print(json.dumps(words), flush=True)


def _peak(*, reset: bool = False) -> float:
    """MB of resident memory at most, since the start or the last reset (the peak of the imports is not the look's)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


# All of it


class _Talk:
    """A process that answers each line with a line of JSON. The first answer may come unasked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out, self._process = process.stdin, process.stdout, process

    def tell(self, line: str) -> None:
        print(line, file=self._in, flush=True)

    def hear(self) -> Figures | None:
        """None: it has ended."""
        line = self._out.readline()
        if line:
            figures: Figures = json.loads(line)
            return figures
        if self._process.wait():
            raise SystemExit("a part failed: see above")
        return None

    def ask(self, line: str) -> Figures:
        self.tell(line)
        return self.hear() or {}


@contextmanager
def _process(part: str) -> Iterator[_Talk]:
    from tests.ecs.fake import DEFAULT_KEY

    mine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nothing = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", __spec__.name, "--part", part]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = mine | nothing | DEFAULT_KEY.environment
    with subprocess.Popen(command, env=env, **pipes) as process:  # noqa: S603
        yield _Talk(process)
        assert process.stdin
        process.stdin.close()


def _run(part: str, server: _Talk, said: Figures) -> list[Figures]:
    """Give the figures of each step. A second look follows at once, a pass when the buckets are full again."""
    server.ask("refill")
    steps: list[Figures] = []
    with _process(part) as talk:
        talk.tell(json.dumps(said))
        talk.tell("open")
        while figures := talk.hear():
            steps.append(figures | server.ask("count"))
            if part in {"adapter", "plain"} and 1 < len(steps) <= PASSES:
                time.sleep(PAUSE)
            if len(steps) <= PASSES:
                talk.tell("next")
    return steps


def _passes(steps: Sequence[Figures]) -> Figures:
    """Put the passes of a part into one: the median of the CPU and wall seconds, and of the rest what all share."""
    passes = steps[1:]
    return {
        "cpu_seconds": statistics.median(one["cpu_seconds"] for one in passes),
        "seconds": statistics.median(one["seconds"] for one in passes),
        "growth_mb": passes[-1]["growth_mb"],
        "calls": [one["calls"] for one in passes],
        "throttled": sum(one["throttled"] for one in passes),
        "opening": steps[0],
    }


def main() -> int:
    """Give 0 if every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--part", choices=["serve", "adapter", "plain", "zombie", "vanished"], help=argparse.SUPPRESS)
    part = parser.parse_args().part
    if part:
        serve() if part == "serve" else measure(part)
        return 0
    with _process("serve") as server:
        said = server.hear() or {}
        ours, theirs = (_passes(_run(part, server, said)) for part in ("adapter", "plain"))
        server.ask("stop one")
        zombie = _run("zombie", server, said)[1:]
        server.ask("forget many")
        vanished = _run("vanished", server, said)[1:]
    ratio = ours["cpu_seconds"] / theirs["cpu_seconds"]
    bounds = {
        f"CPU at most {MAX_RATIO} times that of boto3": ratio <= MAX_RATIO,
        f"peak memory grows by at most {MAX_GROWTH} MB": ours["growth_mb"] <= MAX_GROWTH,
        f"{LIVE // PAGE} DescribeTasks and 4 calls": all(calls == PASS for calls in ours["calls"]),
        "nothing is throttled": not any(one["throttled"] for one in (ours, *zombie, *vanished)),
    }
    figures = {"adapter": ours, "plain": theirs, "zombie": zombie, "vanished": vanished, "boto3": version("boto3")}
    print(json.dumps(figures | {"ratio": round(ratio, 2), "bounds": bounds}, indent=2))
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
