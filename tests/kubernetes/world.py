"""A cluster with a KubernetesScope bound to it, behind a front that can let things go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from reconciler.model import Condition, FlowRun
from reconciler.testing import Fault, flow_run
from reconciler_adapters.kubernetes import KubernetesScope
from tests.kubernetes.apiserver.cluster import Cluster
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.apiserver.front import FaultFront
from tests.kubernetes.apiserver.server import ApiServer

HOME = "prefect"


def kubeconfig(path: Path, server: ApiServer, user: str = "admin") -> Path:
    """Write one with the context "lab"."""
    place: dict[str, Any] = {"server": server.url}
    place |= {"certificate-authority": str(server.ca_file)} if server.ca_file else {}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "lab",
                "clusters": [{"name": "lab", "cluster": place}],
                "users": [{"name": user, "user": {"token": server.token(user)}}],
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            }
        )
    )
    return path


def pid_of(job: Object) -> str:
    """As prefect-kubernetes writes it since 0.6.0."""
    return f"{job['metadata']['namespace']}:{job['metadata']['name']}"


class KubernetesWorld:
    """`scope` sees the cluster through `front`, which has one look less to hide than the server itself."""

    has_exited = True

    def __init__(self, cluster: Cluster, front: FaultFront, folder: Path) -> None:
        self.cluster = cluster
        self.front = front
        self._folder = folder
        self.jobs: dict[FlowRun, Object] = {}
        self.scope = self.bind()

    def bind(self, user: str = "admin", **options: object) -> KubernetesScope:
        """Another scope on the same cluster."""
        file = kubeconfig(self._folder / f"{uuid4().hex[:6]}.yaml", self.front, user)
        return KubernetesScope("lab", {"kubeconfig": str(file), **options})

    def place(self, condition: Condition) -> FlowRun:
        run_id = uuid4()
        if condition is Condition.GONE:
            return flow_run(f"{HOME}:wise-otter-zzzzz", id=run_id)
        job = self.cluster.job(run_id)
        pod = self.cluster.pod(job)
        if condition is Condition.EXITED:
            self.cluster.pod_terminated(pod, 137)
            self.cluster.job_failed(job)
        run = flow_run(pid_of(job), id=run_id)
        self.jobs[run] = job
        return run

    def inject(self, fault: Fault) -> bool:
        self.front.inject(fault)
        return True

    def heal(self) -> None:
        self.front.heal()

    def slow_down(self, seconds: float) -> bool:
        self.front.slow(seconds)
        return True

    def replace_identity(self) -> None:
        def another(path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
            own = self.cluster.namespace("kube-system")["metadata"]["uid"].encode()
            return status, headers, body.replace(own, str(uuid4()).encode())

        self.front.rewrite(another)

    def replace_resource(self, run: FlowRun) -> None:
        job = self.jobs[run]
        for pod in self.pods(job):
            self.cluster.delete(pod, grace=0)
        self.cluster.delete(job)
        self.cluster.job(uuid4(), name=job["metadata"]["name"])

    def unlabel(self, run: FlowRun) -> bool:
        job = self.jobs[run]
        for one in (job, *self.pods(job)):
            self.cluster.label(one, **{"prefect.io/flow-run-id": None})
        return True

    def pods(self, job: Object) -> list[Object]:
        home, name = job["metadata"]["namespace"], job["metadata"]["name"]
        query: Mapping[str, str] = {"labelSelector": f"job-name={name}"}
        answer = self.cluster.http.get(f"/api/v1/namespaces/{home}/pods", params=query).raise_for_status().json()
        return [{"apiVersion": "v1", "kind": "Pod"} | pod for pod in answer["items"]]


@contextmanager
def kubernetes_world(server: ApiServer, folder: Path) -> Iterator[KubernetesWorld]:
    with FaultFront(server) as front, Cluster(server) as cluster:
        cluster.create_namespace(HOME)
        cluster.node("node-1")  # where all pods are
        world = KubernetesWorld(cluster, front, folder)
        try:
            yield world
        finally:
            world.scope.close()
            cluster.clear()
