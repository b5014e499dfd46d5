"""A real ECS worker, whose tasks a ministack runs."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from tests.rigs.ministack import Ministack
from tests.rigs.prefect import SeededRun, call, read, seed_deployment
from tests.rigs.server import PrefectServer
from tests.rigs.worker import FLOWS, Worker, flow_container


class EcsWorker(Worker):
    """Submits to the cluster of that name. Its flows run in containers of the ministack's engine.

    Its tasks have a task definition of our own, which mounts this machine's Python and Prefect into busybox; Prefect's
    job variables know no volumes. The worker's SQS observer is on, as by default, and finds no queue, as without
    Prefect's own CloudFormation template.
    """

    def __init__(
        self, server: PrefectServer, folder: Path, cloud: Ministack, cluster: str, *, flows: Path = FLOWS
    ) -> None:
        super().__init__(server, folder, flows=flows)
        self.type = "ecs"
        self.pool = self.pool.replace("process", self.type)
        self.cloud = cloud
        self.cluster = cluster
        self.variables = self._job_variables()

    @property
    def command(self) -> list[str]:
        settings = [f"{name}={value}" for name, value in self.cloud.environment().items()]
        return ["/usr/bin/env", *settings, *super().command]

    def submit(self, flow: str = "sleeper", **parameters: object) -> SeededRun:
        api = self.server.api_url
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(self.flows.parent)}}
        entrypoint = f"{self.flows.name}:{flow}"
        deployment = seed_deployment(
            api, self.pool, self.type, name=flow, entrypoint=entrypoint, path=".", pull_steps=[step]
        )
        body = {"parameters": parameters, "job_variables": self.variables}
        row = call(api, "POST", f"/deployments/{deployment}/create_flow_run", body)
        return SeededRun(api, UUID(row["id"]), row["name"])

    def container_of(self, run: SeededRun) -> str:
        """The engine's id of the container that runs the flow."""
        return self.cloud.container_of(task_of(run))

    def _job_variables(self) -> dict[str, object]:
        docker = flow_container(self.server.venv, self.flows.parent)
        return {
            "cluster": self.cluster,
            "launch_type": "EC2",
            "task_definition_arn": self._task_definition(docker["volumes"]),
            "command": docker["command"],
            "env": docker["env"],
        }

    def _task_definition(self, binds: object) -> str:
        """With Docker's "source:target:ro" as ECS says it."""
        assert isinstance(binds, list)
        places = [bind.split(":")[0] for bind in binds]
        volumes = [{"name": f"folder-{number}", "host": {"sourcePath": place}} for number, place in enumerate(places)]
        mounts = [
            {"sourceVolume": volume["name"], "containerPath": place, "readOnly": True}
            for volume, place in zip(volumes, places, strict=True)
        ]
        return self.cloud.define("flows", {"mountPoints": mounts}, volumes=volumes)


def task_of(run: SeededRun) -> str:
    """The task's ARN in an ECS worker's `infrastructure_pid`, which is "<cluster>::<task ARN>"."""
    return str(read(run)["infrastructure_pid"]).split("::", 1)[1]
