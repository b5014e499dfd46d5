"""A fake AWS with an EcsScope bound to its cluster "default"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

from reconciler.model import Condition, FlowRun
from reconciler.testing import Fault, flow_run
from reconciler_adapters.ecs import EcsScope
from tests.ecs.fake import REGION, FakeAws, FakeTask, FaultKind

FAULTS: dict[Fault, FaultKind] = {
    Fault.TIMEOUT: FaultKind.HANG,
    Fault.RESET: FaultKind.RESET,
    Fault.UNAUTHORIZED: FaultKind.UNRECOGNIZED,
    Fault.FORBIDDEN: FaultKind.DENIED,
    Fault.PARENT_NOT_FOUND: FaultKind.CLUSTER_NOT_FOUND,
    Fault.EXPIRED: FaultKind.EXPIRED,
    Fault.THROTTLED: FaultKind.THROTTLED,
    Fault.SERVER_ERROR: FaultKind.SERVER_ERROR,
    Fault.UNAVAILABLE: FaultKind.UNAVAILABLE,
    Fault.TRUNCATED: FaultKind.TRUNCATED,
    Fault.EMPTY: FaultKind.EMPTY,
    Fault.MALFORMED: FaultKind.MALFORMED,
}


class EcsWorld:
    """`scope` asks with the key of the environment. `tasks`: those that were placed, by their run's id.

    What is placed is older than the five minutes for which ECS may not show a task that it has.
    """

    has_exited = True

    def __init__(self, aws: FakeAws) -> None:
        self.aws = aws
        self.cluster = aws.cluster("default")
        self.tasks: dict[UUID, FakeTask] = {}
        self.scope = self.bind()

    def bind(self, name: str = "prod", **options: object) -> EcsScope:
        """Another scope on the same AWS."""
        return EcsScope(name, {"region": REGION, "endpoint_url": self.aws.url, **options})

    def place(self, condition: Condition) -> FlowRun:
        run_id = uuid4()
        if condition is Condition.GONE:
            return self.run_of(f"default::{self.aws.unknown_task()}", run_id)
        task = self.aws.task(self.cluster, run_id)
        if condition is Condition.EXITED:
            task.stop(exits={"prefect": 137})
        elif condition is Condition.STARTING:
            task.starting()
        elif condition is Condition.STOPPING:
            task.notice()
        self.tasks[run_id] = task
        return self.run_of(task.pid, run_id)

    def run_of(self, pid: str | None, run_id: UUID) -> FlowRun:
        """A flow run that has been Running for six minutes; its task was asked for a minute before."""
        now = self.aws.now()
        since, created = now - timedelta(minutes=6), now - timedelta(minutes=10)
        return flow_run(pid, id=run_id, state_since=since, created=created)

    def inject(self, fault: Fault) -> bool:
        self.aws.fault(FAULTS[fault])
        return True

    def heal(self) -> None:
        self.aws.heal()

    def slow_down(self, seconds: float) -> bool:
        self.aws.delay = seconds
        return True

    def replace_identity(self) -> None:
        """The same key is of another account, which has a cluster of the same name."""
        self.aws.account = "999999999999"
        self.aws.cluster("default")

    def replace_resource(self, run: FlowRun) -> None:
        self.tasks[run.id].carry(uuid4())

    def unlabel(self, run: FlowRun) -> bool:
        self.tasks[run.id].untag()
        return True


@contextmanager
def ecs_world(aws: FakeAws) -> Iterator[EcsWorld]:
    world = EcsWorld(aws)
    try:
        yield world
    finally:
        world.scope.close()
