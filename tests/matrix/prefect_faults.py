"""What can go wrong between us and the Prefect API, and with which of our calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.matrix.table import API_FAULTS
from tests.rigs.prefect import SeededRun, history, read
from tests.rigs.proxy import Answer, Call, Fault, FaultProxy, Forward

Make = Callable[[], Fault]


@dataclass(frozen=True, slots=True)
class Wrong:
    """One kind of fault. Each `make()` is one that remembers nothing yet."""

    row: str  # of the matrix
    variant: str
    make: Make
    lands: bool = False  # the server has carried the request out

    def __post_init__(self) -> None:
        assert self.row in API_FAULTS

    def __str__(self) -> str:
        return f"{self.row} {self.variant}".strip().replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Where:
    """Which of our calls it hits. `holds`: without an answer to it nothing may be written at all.

    `holds_absences`: what has ended is still written.
    """

    name: str
    method: str
    path: str
    body: str = ""
    holds: bool = True
    holds_absences: bool = True
    tells: bool = True  # its failure makes the pass incomplete

    def __str__(self) -> str:
        return self.name

    def spoil(self, proxy: FaultProxy, fault: Fault) -> None:
        proxy.rule(self.method, self.path, fault, body=self.body)


def answers(status: int, body: bytes = b'{"detail":"said the proxy"}', **headers: str) -> Make:
    """An answer that the server never gave."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    answer = Answer(status, body, (("content-type", "application/json"), *named))
    return lambda: lambda *_: answer


def says(status: str, state: str | None) -> Make:
    """An answer to a proposal, as the server gives it: 200, and the refusal in the body."""
    row = {
        "id": "6b2f0c50-0d4e-4f33-8d0a-7d2a1f0c9e11",
        "type": state,
        "name": state,
        "timestamp": "2026-01-01T00:00:00Z",
    }
    body = {
        "status": status,
        "state": row if state else None,
        "details": {"type": f"{status.lower()}_details", "reason": "a rule of the server"},
    }
    return answers(200, json.dumps(body).encode())


def cuts(*, after: bool) -> Make:
    """No answer at all; with `after`, though the server was asked."""

    def fault(_: Call, forward: Forward) -> None:
        if after:
            forward()

    return lambda: fault


def halves(*, broken_off: bool) -> Make:
    """Half of the true answer, as if it were whole; `broken_off`: the connection ends in its middle."""

    def fault(_: Call, forward: Forward) -> Answer:
        real = forward()
        half = len(real.body) // 2
        missing = len(real.body) - half if broken_off else 0
        return Answer(real.status, real.body[:half], real.headers, missing)

    return lambda: fault


def keeps_for_ever() -> Make:
    """A cache that never asks again: the first answer to each request, its Date and all, is the answer for ever."""

    def make() -> Fault:
        kept: dict[Call, Answer] = {}

        def fault(call: Call, forward: Forward) -> Answer:
            if call not in kept:
                kept[call] = forward()
            return kept[call]

        return fault

    return make


class OldCopy:
    """A copy of the server's data that does not follow: the runs of that moment, however they are asked for."""

    def __init__(self, runs: Sequence[SeededRun]) -> None:
        self._rows = [read(run) for run in runs]
        self._histories = {f"flow_run_id={run.id}": history(run) for run in runs}

    def answer(self, call: Call, forward: Forward) -> Answer:
        """What it knows; the server has to answer the rest."""
        known = self._known(call)
        return forward() if known is None else Answer(200, json.dumps(known).encode())

    def _known(self, call: Call) -> object:
        if call.path.endswith("/flow_run_states/"):
            return self._histories.get(call.query)
        if call.method == "GET":
            return next((row for row in self._rows if call.path.endswith(f"/flow_runs/{row['id']}")), None)
        rows = [row for row in self._rows if _matches(row, json.loads(call.body)["flow_runs"])]
        return len(rows) if call.path.endswith("/count") else rows


def _matches(row: dict[str, Any], asked: dict[str, Any]) -> bool:
    state, later = asked.get("state", {}), "expected_start_time" in asked
    return (
        not later
        and row["id"] in asked.get("id", {}).get("any_", [row["id"]])
        and row["state"]["type"] in state.get("type", {}).get("any_", [row["state"]["type"]])
        and row["state"]["name"] in state.get("name", {}).get("any_", [row["state"]["name"]])
    )


EVERYTHING = Where("everything", "*", ".")
LIST = Where("list", "POST", "/flow_runs/filter$", '"sort"')
REREAD = Where("re-read", "POST", "/flow_runs/filter$", '"any_":\\["[0-9a-f]{8}-', holds=False, holds_absences=False)
COUNT = Where("count", "POST", "/flow_runs/count$")
POOLS = Where("pools", "POST", "/work_pools/filter$", holds=False)  # so runs may be mapped nowhere
HISTORY = Where("history", "GET", "/flow_run_states/$")
HEARTBEATS = Where("heartbeats", "POST", "/events/count-by/resource$")
LAST_LOOK = Where("last look", "GET", "/flow_runs/[0-9a-f-]{36}$")
WRITE = Where("set_state", "POST", "/set_state$")
LOG_LINE = Where("log line", "POST", "/logs/$", holds=False, holds_absences=False, tells=False)
LOG_LINES = Where("log lines", "POST", "/logs/filter$")
TASK_RUNS = Where("task runs", "POST", "/task_runs/filter$")
READS = (LIST, REREAD, COUNT, POOLS, HISTORY, HEARTBEATS, LOG_LINES, TASK_RUNS, LAST_LOOK)
CALLS = (EVERYTHING, *READS, WRITE, LOG_LINE)
FEW = (EVERYTHING, LIST, WRITE, LOG_LINE)  # for what differs from another fault in its words only
WITH_BODIES = (EVERYTHING, *(read for read in READS if read is not COUNT), WRITE)

WRONGS = {
    Wrong("503", "", answers(503)): CALLS,
    Wrong("429", "", answers(429, retry_after="1")): FEW,
    Wrong("401", "", answers(401)): FEW,
    Wrong("403", "", answers(403)): CALLS,
    Wrong("cut connection", "before", cuts(after=False)): FEW,
    Wrong("cut connection", "after", cuts(after=True), lands=True): FEW,
    Wrong("half a page", "", halves(broken_off=False), lands=True): WITH_BODIES,
    Wrong("half a page", "broken off", halves(broken_off=True), lands=True): (EVERYTHING, LIST, HISTORY, WRITE),
}
CELLS = [(wrong, where) for wrong, calls in WRONGS.items() for where in calls]
REFUSALS = [
    Wrong(status, variant, says(status, state))
    for status in ("ABORT", "REJECT")
    for variant, state in (("", "RUNNING"), ("bare", None))
]
