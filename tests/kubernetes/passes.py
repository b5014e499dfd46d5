"""Whole passes of the real core over a cluster, with a clock that a test can move: the cluster's moves along."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from uuid import UUID

import httpx

from reconciler.model import FlowRun
from reconciler.plan import Policy
from reconciler.testing import flow_run
from reconciler_adapters.kubernetes import KubernetesScope
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.world import KubernetesWorld, pid_of
from tests.passes import DEADLINE, ScopePasses

_STAMP = re.compile(rb'"(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d)Z"')


class Passes(ScopePasses):
    """`run` gives flow runs to Prefect, `look` makes one pass, `later` lets time go by. The policy is the default."""

    def __init__(
        self,
        world: KubernetesWorld,
        *,
        scope: KubernetesScope | None = None,
        exclusive: bool = False,
        pin: str | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        super().__init__(
            scope or world.scope,
            "kubernetes",
            exclusive=exclusive,
            pin=pin,
            deadline=deadline,
            policy=Policy(),
        )
        self.world = world
        self.disguise: tuple[bytes, bytes] = (b"", b"")  # in the server's answers, the first reads as the second
        world.front.rewrite(self._edit)
        world.cluster.http.event_hooks = {"request": [self._settle]}

    def run(self, pid: str | Object | None = None, *, run_id: UUID | None = None, **changes: object) -> FlowRun:
        """Let a flow run be in flight: Running for 5 minutes. `pid`: as it stands there, or the Job that it names."""
        pid = pid_of(pid) if isinstance(pid, dict) else pid
        run = flow_run(pid, **({"id": run_id} if run_id else {}), **changes)
        self.api.runs.append(run)
        return run

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
        super().close()


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
