"""ECS: over the fake AWS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from reconciler.model import FlowRun
from reconciler.testing import Fault
from tests.ecs.fake import FakeAws, FakeTask
from tests.ecs.passes import Passes
from tests.ecs.world import FAULTS, EcsWorld, ecs_world
from tests.matrix.lab import ENDED, GONE, LIVING, Bounds, Lab
from tests.passes import identity_of


class EcsLab(Lab):
    """AWS's clock moves along. Faults of one action alone are in `tests/ecs/test_faults.py`."""

    def __init__(self, world: EcsWorld, bounds: Bounds) -> None:
        self.world, self.tasks = world, dict[str, FakeTask]()  # by pid
        self._account = world.aws.account
        pin = identity_of(world.scope) if bounds.is_pinned else None
        self.passes_there = Passes(world, pin=pin, deadline=bounds.deadline)
        super().__init__(self.passes_there)

    def place(self) -> FlowRun:
        task = self.world.aws.task(self.world.cluster, uuid4())
        self.tasks[task.pid] = task
        return self.passes_there.run(task)

    def _of(self, run: FlowRun) -> FakeTask:
        return self.tasks[run.pid or ""]

    def die(self) -> None:
        for run in self.some(GONE):
            self._of(run).forget()
        for run in self.some(ENDED):
            self._of(run).stop(exits={"prefect": 137})
        self.many.later(300)  # before that a task may be missing that was just made

    def inject(self, fault: Fault) -> None:
        self.world.aws.fault(FAULTS[fault])

    def slow_down(self) -> None:
        self.world.aws.delay = 0.05

    def rename(self) -> bool:
        return False  # a task's ARN names account and cluster, which are the identity

    def swap(self) -> None:
        self.world.replace_identity()

    def replace(self) -> None:
        """No ARN is used again: what is started in place of the first one is another task of the same run."""
        self._of(self.placed[0]).forget()
        self.world.aws.task(self.world.cluster, self.placed[0].id)
        gone = self._of(self.some(GONE)[0])
        gone.is_forgotten = False
        gone.carry(uuid4())

    def unlabel(self) -> None:
        for run in self.some(LIVING) + self.some(ENDED):
            self._of(run).untag()

    def heal(self) -> None:
        self.world.heal()
        self.world.aws.delay, self.world.aws.account = 0.0, self._account
        for run in self.placed:
            self._of(run).carry(run.id)
        for run in self.some(GONE):
            self._of(run).forget()


@contextmanager
def ecs_lab(_folder: Path, bounds: Bounds) -> Iterator[EcsLab]:
    """Its keys are those of the environment."""
    with FakeAws() as aws:
        aws.cluster("default")
        with ecs_world(aws) as world:
            lab = EcsLab(world, bounds)
            with closing(lab.many):
                yield lab
