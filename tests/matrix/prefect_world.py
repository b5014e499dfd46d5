"""Runs on a real Prefect server, a place that shows what a test lets happen to them, and our passes over a proxy."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from reconciler.cycle import Cycle
from reconciler.memory import Memory
from reconciler.model import FlowRun, RunMapping
from reconciler.outlook import Outlook
from reconciler.plan import CycleReport, Finding, Policy, transition_id
from reconciler.ports import BoundScope
from reconciler.prefect_api import Connection, PrefectApi
from reconciler.testing import FakeScope, flow_run
from tests.rigs.prefect import SeededRun, call, history, seed_deployment, set_state
from tests.rigs.proxy import FaultProxy

_NO_TIME = timedelta(0)
# No time is left to pass: what holds a run back under a fault is the fault alone.
AT_ONCE = Policy(
    grace=_NO_TIME, confirm_after=_NO_TIME, settle_failed=_NO_TIME, settle_zero=_NO_TIME, settle_starting=_NO_TIME
)


class Pool:
    """A work pool of one test module, with a deployment to make runs from."""

    def __init__(self, api: str) -> None:
        self.api, self.name = api, f"matrix-{uuid4().hex[:8]}"
        self._deployment = seed_deployment(api, self.name, "process")

    def run(self, name: str) -> SeededRun:
        """A RUNNING flow run, as a worker's looks."""
        body = {"state": {"type": "PENDING"}, "name": name}
        row = call(self.api, "POST", f"/deployments/{self._deployment}/create_flow_run", body)
        run = SeededRun(self.api, UUID(row["id"]), name)
        call(self.api, "PATCH", f"/flow_runs/{run.id}", {"infrastructure_pid": f"host:{run.id.hex}"})
        set_state(run, "RUNNING")
        return run


class World:
    """One place of one pool, and passes over it. `retry_for`: seconds for which one call is made again."""

    def __init__(self, proxy: FaultProxy, pool: Pool, *, retry_for: float = 0.0) -> None:
        self.place, self.proxy = FakeScope(), proxy
        self._stack = ExitStack()
        self.api = self._stack.enter_context(
            closing(PrefectApi(Connection(proxy.url, retry_for=retry_for, tls_verify=False)))
        )
        mapping = RunMapping(work_pools=frozenset({pool.name}))
        outlook = Outlook([BoundScope(self.place, "fake", mapping)], Memory(), deadline=20.0)
        self._cycle = Cycle(self.api, self._stack.enter_context(closing(outlook)), AT_ONCE, wait=lambda _: None)

    def lives(self, runs: Iterable[SeededRun]) -> None:
        for run in runs:
            self.place.answers[run.id] = [self.place.alive(_known(run))]

    def vanishes(self, run: SeededRun) -> None:
        del self.place.answers[run.id]

    def exits(self, run: SeededRun, code: int) -> None:
        self.place.answers[run.id] = [self.place.exited(_known(run), code, datetime.now(UTC))]

    def completes(self, run: SeededRun) -> None:
        """It ends by itself: reports first, then exits. Once."""
        if states(run)[-1] != "COMPLETED":
            set_state(run, "COMPLETED")
            self.exits(run, 0)

    def look(self) -> CycleReport:
        """One whole pass."""
        planned = self._cycle.plan()
        return self._cycle.report(planned, self._cycle.settle(planned))

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _known(run: SeededRun) -> FlowRun:
    return flow_run(f"host:{run.id.hex}", id=run.id, name=run.name)


def states(run: SeededRun) -> list[str]:
    """The types of its states, oldest first, read behind the proxy's back."""
    return [row["type"] for row in history(run)]


def crashes(run: SeededRun) -> int:
    """How often it was set to Crashed."""
    return states(run).count("CRASHED")


def our_crashes(run: SeededRun) -> int:
    """How often by us, told by the transition id."""
    rows: list[dict[str, Any]] = history(run)
    ours = {str(transition_id(run.id, UUID(row["id"]))) for row in rows}
    return sum(row["type"] == "CRASHED" and row["state_details"]["transition_id"] in ours for row in rows)


def found(report: CycleReport, run: SeededRun) -> Finding:
    """What the pass says of this run."""
    return next(finding for finding in report.plan.findings if finding.run.id == run.id)
