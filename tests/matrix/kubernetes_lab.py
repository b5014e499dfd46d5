"""Kubernetes: over the fake API server, behind its front."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from reconciler.model import Condition, FlowRun
from reconciler.testing import Fault
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.apiserver.fake import FakeApiServer
from tests.kubernetes.apiserver.faults import FAULTS, Answer, Call, Forward
from tests.kubernetes.apiserver.server import ApiServer
from tests.kubernetes.passes import Passes
from tests.kubernetes.world import HOME, KubernetesWorld, kubernetes_world
from tests.matrix.lab import ENDED, GONE, LIVING, Bounds, Lab
from tests.passes import identity_of


class KubernetesLab(Lab):
    """The cluster's clock moves along."""

    def __init__(self, world: KubernetesWorld, server: ApiServer, another: ApiServer, bounds: Bounds) -> None:
        self.world, self.cluster = world, world.cluster
        self._server, self._another = server, another
        pin = identity_of(world.scope) if bounds.is_pinned else None
        self.passes_there = Passes(world, pin=pin, deadline=bounds.deadline)
        super().__init__(self.passes_there)

    def place(self) -> FlowRun:
        return self.world.place(Condition.ALIVE)

    def _parts(self, run: FlowRun) -> list[Object]:
        job = self.world.jobs[run]
        return [*self.world.pods(job), job]

    def _delete(self, run: FlowRun) -> None:
        for one in self._parts(run):
            self.cluster.delete(one, grace=0 if one["kind"] == "Pod" else None)

    def die(self) -> None:
        for run in self.some(GONE):
            self._delete(run)
        for run in self.some(ENDED):
            pod, job = self._parts(run)
            self.cluster.pod_terminated(pod, 137)
            self.cluster.job_failed(job)

    def inject(self, fault: Fault) -> None:
        self.world.front.inject(fault)

    def inject_into_look_ups(self, fault: Fault) -> bool:
        def spoil(call: Call, forward: Forward) -> Answer | None:
            is_look_up = " in (" in call.query.get("labelSelector", "") or "/jobs/" in call.path
            return FAULTS[fault](call, forward) if is_look_up else forward()

        self.world.front.inject(spoil, path=".*/(jobs|pods|jobs/[^/]+)")
        return True

    def slow_down(self) -> None:
        self.world.front.slow(0.05)

    def rename(self) -> bool:
        uid = self.cluster.namespace("kube-system")["metadata"]["uid"]
        self.passes_there.disguise = str(uid).encode(), str(uuid4()).encode()
        return True

    def swap(self) -> None:
        self.world.front.point_at(self._another)

    def replace(self) -> None:
        first, gone = self.placed[0], self.some(GONE)[0]
        self._delete(first)
        names = [self.world.jobs[run]["metadata"]["name"] for run in (first, gone)]
        for run_id, name in zip((first.id, uuid4()), names, strict=True):
            self.cluster.pod(self.cluster.job(run_id, name=name))

    def unlabel(self) -> None:
        self._label(take_off=True)

    def _label(self, *, take_off: bool) -> None:
        for run in self.some(LIVING) + self.some(ENDED):
            for one in self._parts(run):
                self.cluster.label(one, **{"prefect.io/flow-run-id": None if take_off else str(run.id)})

    def heal(self) -> None:
        self.world.front.heal()
        self.world.front.point_at(self._server)
        self.world.front.rewrite(self.passes_there._edit)  # healing stopped that, too
        self.passes_there.disguise = b"", b""
        self._label(take_off=False)


@contextmanager
def kubernetes_lab(folder: Path, bounds: Bounds) -> Iterator[KubernetesLab]:
    with FakeApiServer() as server, FakeApiServer() as another, kubernetes_world(server, folder) as world:
        another.load([{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": HOME}}])
        lab = KubernetesLab(world, server, another, bounds)
        with closing(lab.many):
            yield lab
