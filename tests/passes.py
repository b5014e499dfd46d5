"""Whole passes of the real core over one scope, with a clock that a test can move."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from reconciler.clock import Clock, since_boot
from reconciler.cycle import Cycle
from reconciler.memory import Memory
from reconciler.model import FlowRun, Heartbeat, RunId, RunMapping, StateRecord, StateType
from reconciler.outlook import Outlook
from reconciler.plan import Finding, Listing, Policy
from reconciler.ports import BoundScope, Scope
from reconciler.testing import FakeOrchestrator
from tests.rigs.polling import wait_until

DEADLINE = 20.0


class Prefect(FakeOrchestrator):
    """Lists, like the real one, only what is in flight; `before_reread` is what others do meanwhile."""

    before_reread: Callable[[], object] = staticmethod(lambda: None)

    def in_flight(self) -> Listing:
        return Listing(runs=tuple(run for run in super().in_flight().runs if run.is_in_flight))

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        self.before_reread()
        return super().reread(run_ids)


class MovedClock:
    """The machine's clock, moved on by jumps that nobody can notice: no clock of the machine stays behind."""

    def __init__(self) -> None:
        self.moves: list[tuple[int, int]] = []  # at this real second it was moved to so many seconds ahead

    def move(self, seconds: float) -> None:
        self.moves.append((int(time.time()) + 1, self.ahead + round(seconds)))

    def settle(self) -> None:
        """Wait out the second of the last move: Kubernetes cuts its times to seconds, and none may be of both sides."""
        if self.moves:
            wait_until(lambda: time.time() >= self.moves[-1][0], "the next second", every=0.02)

    @property
    def ahead(self) -> int:
        return self.moves[-1][1] if self.moves else 0

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def moved(self, then: datetime) -> datetime:
        """What this clock showed at that real time."""
        ahead = [ahead for since, ahead in self.moves if then.timestamp() >= since]
        return then + timedelta(seconds=ahead[-1] if ahead else 0)

    def clock(self) -> Clock:
        return Clock(self, lambda: since_boot() + self.ahead, lambda: time.monotonic() + self.ahead)


class ScopePasses:
    """`look` makes one pass, `later` lets time go by. The passes of each platform give flow runs to Prefect (`run`)."""

    def __init__(
        self, scope: Scope, adapter: str, *, exclusive: bool, pin: str | None, deadline: float, policy: Policy
    ) -> None:
        self.api, self.now, self.waited = Prefect(), MovedClock(), list[float]()
        mapping = RunMapping(work_pools=frozenset({"pool"}), exclusive=exclusive)
        self._memory = Memory()
        self.outlook = Outlook([BoundScope(scope, adapter, mapping, pin)], self._memory, deadline, self.now)
        self.cycle = Cycle(self.api, self.outlook, policy, wait=self._wait, clock=self.now.clock())

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


def identity_of(scope: Scope) -> str:
    """What `reconcile check` prints, to be pinned."""
    return scope.identity(time.monotonic() + DEADLINE)
