"""Whole passes of the real core over the fake AWS, with a clock that a test can move: AWS's moves along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

from reconciler.model import FlowRun
from reconciler.plan import Policy
from reconciler.testing import flow_run
from reconciler_adapters.ecs import EcsScope
from tests.ecs.fake import FakeTask
from tests.ecs.world import EcsWorld
from tests.passes import DEADLINE, ScopePasses


class Passes(ScopePasses):
    """`run` gives flow runs to Prefect, `look` makes one pass, `later` lets time go by. The policy is the default."""

    def __init__(
        self,
        world: EcsWorld,
        *,
        scope: EcsScope | None = None,
        exclusive: bool = False,
        pin: str | None = None,
        deadline: float = DEADLINE,
        policy: Policy | None = None,
    ) -> None:
        super().__init__(
            scope or world.scope,
            "ecs",
            exclusive=exclusive,
            pin=pin,
            deadline=deadline,
            policy=policy or Policy(),
        )
        self.world = world
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


@contextmanager
def passes(world: EcsWorld, **options: object) -> Iterator[Passes]:
    """Passes whose memory is closed at the end. The scope is the world's unless another is given."""
    many = Passes(world, **options)  # type: ignore[arg-type]
    try:
        yield many
    finally:
        many.close()
