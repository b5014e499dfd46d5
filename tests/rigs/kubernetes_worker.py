"""A real Kubernetes worker, whose Jobs a Kubelet runs."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from tests.rigs.prefect import SeededRun, call, seed_deployment
from tests.rigs.server import PrefectServer
from tests.rigs.worker import FLOWS, Worker

NAMESPACE = "prefect"


class KubernetesWorker(Worker):
    """Works in the cluster that `kubeconfig` names, in the namespace NAMESPACE, which must exist.

    Its observer, which sets the runs of failed and deleted Jobs to Crashed, is a thread of it, and watches the whole
    cluster. `variables` are the job variables of the next runs: memory_limit="512Mi".
    """

    def __init__(self, server: PrefectServer, folder: Path, kubeconfig: Path, *, flows: Path = FLOWS) -> None:
        super().__init__(server, folder, flows=flows)
        self.type = "kubernetes"
        self.pool = self.pool.replace("process", self.type)
        self.kubeconfig = kubeconfig
        self.variables: dict[str, object] = {"namespace": NAMESPACE}

    @property
    def command(self) -> list[str]:
        return ["/usr/bin/env", f"KUBECONFIG={self.kubeconfig}", *super().command]

    def submit(self, flow: str = "sleeper", **parameters: object) -> SeededRun:
        api = self.server.api_url
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(self.flows.parent)}}
        entrypoint = f"{self.flows.name}:{flow}"
        deployment = seed_deployment(api, self.pool, self.type, entrypoint=entrypoint, path=".", pull_steps=[step])
        body = {"parameters": parameters, "job_variables": self.variables}
        row = call(api, "POST", f"/deployments/{deployment}/create_flow_run", body)
        return SeededRun(api, UUID(row["id"]), row["name"])
