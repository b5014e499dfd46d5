"""The ECS API of ministack, behind which real containers of a private engine stand.

What it does otherwise than AWS, seen on 1.5.33: StopTask keeps the tags, calls the task STOPPED before its containers
are, and gives them exit code 0 whatever they end with; when an essential container exits, the others get its exit code
and go on running; the absent stop code and reason of a living task are ""; an image that cannot be pulled is
"ResourceInitializationError: unable to pull image or start container: ..."; `entryPoint` is ignored; RunTask makes a
cluster that is not there, and DescribeTasks in one says MISSING; `docker rm -f` leaves a task RUNNING for ever; a task
id is a UUID; times are cut to seconds. Its state is gone when it ends, and with SIGTERM its containers go too.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import httpx

from tests.rigs.engine import IMAGE, Engine
from tests.rigs.polling import wait_until
from tests.rigs.processes import Program, inherited_environment
from tests.rigs.server import CHECKOUT, free_port

FLOW_RUN_ID = "prefect.io/flow-run-id"
CONTAINER = "prefect"  # what Prefect calls the container that runs the flow
NO_MINISTACK = "No ministack in .venvs/ministack or RECONCILER_TEST_MINISTACK; `make setup` installs it."
NO_IMAGE = "127.0.0.1:1/no/such:1"  # refused at once, and by nobody else's machine


def ministack_venv() -> Path | None:
    """The virtual environment that holds ministack: named by an environment variable, else the one of `make setup`."""
    venv = Path(os.environ.get("RECONCILER_TEST_MINISTACK") or CHECKOUT / ".venvs" / "ministack")
    return venv if (venv / "bin" / "ministack").exists() else None


class Ministack:
    """`with Ministack(venv, folder, engine) as cloud:`; `cloud.ecs` is a boto3 client of it."""

    region = "us-east-1"
    account = "000000000000"

    def __init__(self, venv: Path, folder: Path, engine: Engine) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.venv, self.folder, self.engine = venv, folder, engine
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ecs = self.client("ecs")
        self._program: Program | None = None

    def credentials(self) -> dict[str, str]:
        """For clients of it: these, and none of this machine's."""
        nowhere = str(self.folder / "none")
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": nowhere,
            "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        }

    def environment(self) -> dict[str, str]:
        """With these, any AWS client talks to it."""
        return {**self.credentials(), "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": self.region}

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    @property
    def pid(self) -> int:
        assert self._program, "ministack was not started"
        return self._program.pid

    def start(self) -> Ministack:
        """Start it and wait until it answers. After `kill` it is at the same address, and knows nothing."""
        environment = inherited_environment(
            BIND_HOST="127.0.0.1",
            GATEWAY_PORT=str(self.port),
            DOCKER_HOST=self.engine.base_url,
            TMPDIR=str(self.folder),  # for its pid file
            SFTP_ENABLED="0",
            IOT_MTLS_ENABLED="0",  # would listen at a port of its own
        )
        program = self._program = Program([self.venv / "bin" / "ministack"], self.folder / "ministack.log", environment)
        try:
            wait_until(lambda: program.must_run() and self._answers(), f"ministack at {self.url} answering", 60)
        except BaseException:
            program.end()
            raise
        return self

    def freeze(self) -> None:
        """SIGSTOP: it accepts connections, and never answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def kill(self) -> None:
        """SIGKILL: nothing listens at its address any more; its containers live on."""
        assert self._program, "ministack was not started"
        self._program.kill()

    def close(self) -> None:
        self.ecs.close()
        if self._program:
            self._program.end()

    def __enter__(self) -> Ministack:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def create_cluster(self, name: str) -> str:
        """Gives its ARN."""
        return str(self.ecs.create_cluster(clusterName=name)["cluster"]["clusterArn"])

    def define(self, family: str, *containers: Mapping[str, object], volumes: Iterable[object] = ()) -> str:
        """A task definition; gives its ARN. Without containers it is one that sleeps."""
        filled = [
            {"name": CONTAINER, "image": f"{IMAGE}:latest", "memory": 64, **container}
            for container in containers or [{"command": ["sleep", "3600"]}]
        ]
        # any other mode than "host" asks for the engine's default network, which is none
        made = self.ecs.register_task_definition(
            family=family,
            networkMode="host",
            requiresCompatibilities=["EC2"],
            containerDefinitions=filled,
            volumes=list(volumes),
        )
        return str(made["taskDefinition"]["taskDefinitionArn"])

    def run_task(self, cluster: str, definition: str, run_id: object) -> str:
        """One task with the tag and the environment that a Prefect worker gives it; gives its ARN."""
        environment = [{"name": "PREFECT__FLOW_RUN_ID", "value": str(run_id)}]
        started = self.ecs.run_task(
            cluster=cluster,
            taskDefinition=definition,
            launchType="EC2",
            tags=[{"key": FLOW_RUN_ID, "value": str(run_id)}],
            overrides={"containerOverrides": [{"name": CONTAINER, "environment": environment}]},
        )
        return str(started["tasks"][0]["taskArn"])

    def stop_task(self, cluster: str, arn: str, reason: str) -> None:
        """Answers when its containers have stopped: after 5 s they are killed."""
        self.ecs.stop_task(cluster=cluster, task=arn, reason=reason)

    def task(self, cluster: str, arn: str) -> dict[str, Any]:
        """As DescribeTasks gives it, with its tags."""
        (found,) = self.ecs.describe_tasks(cluster=cluster, tasks=[arn], include=["TAGS"])["tasks"]
        return dict(found)

    def wait_for(self, cluster: str, arn: str, status: str, seconds: float = 30) -> dict[str, Any]:
        """Until its lastStatus is `status`; gives the task."""
        wait_until(lambda: self.task(cluster, arn)["lastStatus"] == status, f"{arn} {status}", seconds)
        return self.task(cluster, arn)

    def container_of(self, arn: str, name: str = CONTAINER) -> str:
        """The engine's id of the task's container of that name, dead or alive."""
        labels = {"task-arn": arn, "container-name": name}
        filters = [
            word for key, value in labels.items() for word in ("--filter", f"label=com.amazonaws.ecs.{key}={value}")
        ]
        return self.engine.docker("ps", "--all", "--quiet", "--no-trunc", *filters)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/_ministack/health", trust_env=False, timeout=5).is_success
        except httpx.TransportError:
            return False
