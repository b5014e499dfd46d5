"""Whole passes of the real core over the fake AWS, with a clock that a test can move: AWS's moves along."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

from reconciler.cycle import Cycle
from reconciler.memory import Memory
from reconciler.model import FlowRun, Heartbeat, RunMapping, StateRecord, StateType
from reconciler.outlook import Outlook
from reconciler.plan import Finding, Listing, Policy
from reconciler.ports import BoundScope
from reconciler.testing import flow_run
from reconciler_adapters.ecs import EcsScope
from tests.ecs.fake import FakeTask
from tests.ecs.world import EcsWorld
from tests.kubernetes.passes import MovedClock, Prefect

_DEADLINE = 20.0


class Passes:
    """`run` gives flow runs to Prefect, `look` makes one pass, `later` lets time go by. The policy is the default."""

    def __init__(
        self,
        world: EcsWorld,
        *,
        scope: EcsScope | None = None,
        exclusive: bool = False,
        pin: str | None = None,
        deadline: float = _DEADLINE,
        policy: Policy | None = None,
    ) -> None:
        self.world, self.api, self.now, self.waited = world, Prefect(), MovedClock(), list[float]()
        mapping = RunMapping(work_pools=frozenset({"pool"}), exclusive=exclusive)
        bound = BoundScope(scope or world.scope, "ecs", mapping, pin)
        self._memory = Memory()
        self.outlook = Outlook([bound], self._memory, deadline, self.now)
        self.cycle = Cycle(self.api, self.outlook, policy or Policy(), wait=self._wait, clock=self.now.clock())
        world.aws.now = self.now

    def run(self, task: FakeTask | str | None = None, *, run_id: UUID | None = None, **changes: object) -> FlowRun:
        """Let a flow run be in flight: Running for 6 minutes, created 10 minutes ago.

        `task`: its pid as it stands there, or the task that it names, whose run id it then has by default.
        """
        pid = task.pid if isinstance(task, FakeTask) else task
        own = task.run_id if isinstance(task, FakeTask) else None
        now = self.now()
        times = {"state_since": now - timedelta(minutes=6), "created": now - timedelta(minutes=10)}
        run = flow_run(pid, **({"id": run_id or own or uuid4()} | times | changes))
        self.api.runs.append(run)
        return run

    def becomes(self, run: FlowRun, state: StateType, name: str | None = None, **changes: object) -> FlowRun:
        """Let the flow run enter that state now; the former one is history."""
        now = next(each for each in self.api.runs if each.id == run.id)
        before = StateRecord(id=now.state_id, type=now.state_type, name=now.state_name, timestamp=now.state_since)
        self.api.past.setdefault(run.id, []).append(before)
        values = {"state_id": uuid4(), "state_type": state, "state_since": self.now()} | changes
        after = replace(now, state_name=name or state.value.title(), **values)  # type: ignore[arg-type]
        self.api.runs = [after if each.id == run.id else each for each in self.api.runs]
        return after

    def beats(self, run: FlowRun, ago: float) -> None:
        """Let it have sent ten heartbeats at the default pace, the last so many seconds ago."""
        last = self.now() - timedelta(seconds=ago)
        assert self.api.hearts is not None
        self.api.hearts[run.id] = Heartbeat(10, last - timedelta(seconds=9 * 180), last)

    def later(self, seconds: float) -> None:
        self.now.move(seconds)

    def look(self, *, dry: bool = False) -> list[Finding]:
        """One pass. A run that was written is in flight no more."""
        planned = self.cycle.plan()
        report = self.cycle.report(planned, None if dry else self.cycle.settle(planned))
        self.outlook.remember(Listing(runs=tuple(self.api.runs)), planned.plan, planned.began)
        settled = {finding.run.id for finding in self.api.written}
        self.api.runs = [run for run in self.api.runs if run.id not in settled]
        return list(report.plan.findings)

    def judged(self, run: FlowRun, *, dry: bool = False) -> Finding:
        """One pass, and what it says of this run."""
        return next(finding for finding in self.look(dry=dry) if finding.run.id == run.id)

    @property
    def written(self) -> list[str]:
        """The messages of all that was written."""
        return [finding.message for finding in self.api.written]

    def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now.move(seconds)

    def close(self) -> None:
        self.outlook.close()


@contextmanager
def passes(world: EcsWorld, **options: object) -> Iterator[Passes]:
    """Passes whose memory is closed at the end. The scope is the world's unless another is given."""
    many = Passes(world, **options)  # type: ignore[arg-type]
    try:
        yield many
    finally:
        many.close()


def identity_of(scope: EcsScope) -> str:
    """What `reconcile check` prints, to be pinned."""
    return scope.identity(time.monotonic() + _DEADLINE)
