"""Docker: over its fake engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from reconciler.model import FlowRun
from reconciler.plan import Policy
from reconciler.testing import Fault, flow_run
from reconciler_adapters.docker import DockerScope
from tests.adapters.fake_docker import RUN_LABEL, FakeContainer, FakeDocker, instant
from tests.matrix.lab import ENDED, GONE, LIVING, Bounds, Lab
from tests.passes import ScopePasses, identity_of


class DockerLab(Lab):
    """The engine's clock moves along."""

    def __init__(self, engine: FakeDocker, bounds: Bounds) -> None:
        self.engine = engine
        self.containers: dict[str, FakeContainer] = {}  # by pid
        self._own = dict(engine.info)
        scope = DockerScope("engine", {"base_url": engine.base_url})
        pin = identity_of(scope) if bounds.is_pinned else None
        many = ScopePasses(scope, "docker", exclusive=False, pin=pin, deadline=bounds.deadline, policy=Policy())
        self._tick(many)
        super().__init__(many)

    def _tick(self, many: ScopePasses, pause: float = 0.0) -> None:
        def before(_path: str) -> None:
            time.sleep(pause)
            self.engine.info["SystemTime"] = instant(many.now())

        self.engine.before = before

    def place(self) -> FlowRun:
        container = self.engine.add(run_id := uuid4())
        run = flow_run(f"http+docker://localhost:{container.id}", id=run_id)
        self.containers[run.pid or ""] = container
        return run

    def _of(self, run: FlowRun) -> FakeContainer:
        return self.containers[run.pid or ""]

    def die(self) -> None:
        for run in self.some(GONE):
            self.engine.remove(self._of(run))
        for run in self.some(ENDED):
            ended = {"Status": "exited", "Running": False, "ExitCode": 137, "FinishedAt": instant(self.many.now())}
            self._of(run).state.update(ended)

    def inject(self, fault: Fault) -> None:
        self.engine.inject(fault)

    def inject_into_look_ups(self, fault: Fault) -> bool:
        self.engine.inject(fault, "/containers/[^/]+/json")
        return True

    def slow_down(self) -> None:
        self._tick(self.many, 0.05)

    def rename(self) -> bool:
        self.engine.info["ID"] = "ANOTHER"
        return True

    def swap(self) -> None:
        self.rename()
        self._kept, self.engine.containers = self.engine.containers, {}

    def replace(self) -> None:
        first, other = self._of(self.placed[0]), self._of(self.some(GONE)[0])
        self.engine.remove(first)
        self.engine.add(self.placed[0].id).name = first.name
        self.engine.add(uuid4()).name = other.name

    def unlabel(self) -> None:
        """Only of runs with a pid: an engine never changes the labels of a container, so that alone is kept as care."""
        for number in {*LIVING, *ENDED} - {*self.without_pid}:
            self._of(self.placed[number]).labels.clear()

    def heal(self) -> None:
        self.engine.heal()
        self._tick(self.many)
        self.engine.info = dict(self._own)
        self.engine.containers = self.__dict__.pop("_kept", self.engine.containers)
        for run in self.placed:
            self._of(run).labels[RUN_LABEL] = str(run.id)


@contextmanager
def docker_lab(_folder: Path, bounds: Bounds) -> Iterator[DockerLab]:
    with FakeDocker() as engine:
        lab = DockerLab(engine, bounds)
        with closing(lab.many):
            yield lab
