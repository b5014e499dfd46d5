"""Whole passes of the real core over a cluster, with a clock that a test can move: the cluster's moves along."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from uuid import UUID, uuid4

import httpx

from reconciler.clock import Clock, since_boot
from reconciler.cycle import Cycle
from reconciler.memory import Memory
from reconciler.model import FlowRun, Heartbeat, RunId, RunMapping, StateRecord, StateType
from reconciler.outlook import Outlook
from reconciler.plan import Finding, Listing, Policy
from reconciler.ports import BoundScope
from reconciler.testing import FakeOrchestrator, flow_run
from reconciler_adapters.kubernetes import KubernetesScope
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.world import KubernetesWorld, pid_of
from tests.rigs.polling import wait_until

_STAMP = re.compile(rb'"(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d)Z"')
_DEADLINE = 20.0


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


class Passes:
    """`run` gives flow runs to Prefect, `look` makes one pass, `later` lets time go by. The policy is the default."""

    def __init__(
        self,
        world: KubernetesWorld,
        *,
        scope: KubernetesScope | None = None,
        exclusive: bool = False,
        pin: str | None = None,
        deadline: float = _DEADLINE,
    ) -> None:
        self.world, self.api, self.now, self.waited = world, Prefect(), MovedClock(), list[float]()
        mapping = RunMapping(work_pools=frozenset({"pool"}), exclusive=exclusive)
        bound = BoundScope(scope or world.scope, "kubernetes", mapping, pin)
        self._memory = Memory()
        self.outlook = Outlook([bound], self._memory, deadline, self.now)
        self.cycle = Cycle(self.api, self.outlook, Policy(), wait=self._wait, clock=self.now.clock())
        self.disguise: tuple[bytes, bytes] = (b"", b"")  # in the server's answers, the first reads as the second
        world.front.rewrite(self._edit)
        world.cluster.http.event_hooks = {"request": [self._settle]}

    def run(self, pid: str | Object | None = None, *, run_id: UUID | None = None, **changes: object) -> FlowRun:
        """Let a flow run be in flight: Running for 5 minutes. `pid`: as it stands there, or the Job that it names."""
        pid = pid_of(pid) if isinstance(pid, dict) else pid
        run = flow_run(pid, **({"id": run_id} if run_id else {}), **changes)
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

    def _settle(self, request: httpx.Request) -> None:
        """Only what is written bears the time."""
        if request.method != "GET":
            self.now.settle()

    def _edit(self, path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The server's times, as its clock would show them had it moved along."""
        if "date" in headers:
            moved = parsedate_to_datetime(headers["date"]) + timedelta(seconds=self.now.ahead)
            headers = headers | {"date": format_datetime(moved, usegmt=True)}
        body = _STAMP.sub(lambda found: self._moved(found[1]), body) if self.now.moves else body
        return status, headers, body.replace(*self.disguise) if self.disguise[0] else body

    def _moved(self, stamp: bytes) -> bytes:
        then = datetime.fromisoformat(f"{stamp.decode()}+00:00")
        return f'"{self.now.moved(then):%Y-%m-%dT%H:%M:%SZ}"'.encode()

    def close(self) -> None:
        self.world.cluster.http.event_hooks = {}
        self.outlook.close()


@contextmanager
def passes(world: KubernetesWorld, **options: object) -> Iterator[Passes]:
    """Passes whose memory is closed at the end. The scope is the world's unless another is given."""
    many = Passes(world, **options)  # type: ignore[arg-type]
    try:
        yield many
    finally:
        many.close()


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def identity_of(scope: KubernetesScope) -> str:
    """What `reconcile check` prints, to be pinned."""
    return scope.identity(time.monotonic() + _DEADLINE)
