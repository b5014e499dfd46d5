"""Real process and docker workers, and real flow runs on them."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from pathlib import Path
from uuid import UUID

import psutil

from tests.rigs.engine import IMAGE, Engine
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, read, seed_deployment, seed_work_pool, wait_for_state
from tests.rigs.processes import Program, kill_flow_processes
from tests.rigs.server import PrefectServer

FLOWS = Path(__file__).parent / "flows" / "demo_flow.py"  # not beside our prefect.py, which would hide Prefect


class Worker:
    """`with Worker(server, folder) as worker:` serves a work pool of its own. With an engine it is a docker worker."""

    def __init__(
        self,
        server: PrefectServer,
        folder: Path,
        *,
        engine: Engine | None = None,
        pool: str | None = None,
        flows: Path = FLOWS,
    ) -> None:
        self.server = server
        self.folder = folder
        self.engine = engine
        self.flows = flows  # the script whose flows it runs
        self.type = "docker" if engine else "process"
        self.pool = pool or f"{self.type}-{uuid.uuid4().hex[:8]}"
        self._program: Program | None = None

    @property
    def command(self) -> list[str]:
        return [str(self.server.venv / "bin" / "prefect"), "worker", "start", "--type", self.type, "--pool", self.pool]

    @property
    def pid(self) -> int:
        assert self._program, "the worker was not started"
        return self._program.pid

    def start(self) -> Worker:
        """Start it and wait until the server knows it."""
        seed_work_pool(self.server.api_url, self.pool, self.type)
        environment = {**self.server.environment, "PREFECT_WORKER_QUERY_SECONDS": "2"}
        if self.engine:
            environment["DOCKER_HOST"] = self.engine.base_url
        program = self._program = Program(self.command, self.folder / f"{self.pool}.log", environment, cwd=self.folder)
        known = f"/work_pools/{self.pool}/workers/filter"
        try:
            wait_until(
                lambda: program.must_run() and call(self.server.api_url, "POST", known, {}),
                f"worker on {self.pool} online",
                120,
                0.5,
            )
        except BaseException:
            program.end()
            raise
        return self

    def submit(self, flow: str = "sleeper", **parameters: object) -> SeededRun:
        """A flow run of one of the script's flows, for this worker to fetch."""
        api = self.server.api_url
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(self.flows.parent)}}
        variables = flow_container(self.server.venv, self.flows.parent) if self.engine else {}
        deployment = seed_deployment(
            api,
            self.pool,
            self.type,
            entrypoint=f"{self.flows.name}:{flow}",
            path=".",
            pull_steps=[step],
            job_variables=variables,
        )
        row = call(api, "POST", f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})
        return SeededRun(api, UUID(row["id"]), row["name"])

    def run(self, flow: str = "sleeper", **parameters: object) -> SeededRun:
        """As `submit`, and wait until it is RUNNING and carries its `infrastructure_pid`."""
        run = self.submit(flow, **parameters)
        try:
            state = wait_for_state(run, "RUNNING", "FAILED", "CRASHED", "COMPLETED")
        except TimeoutError as late:
            raise TimeoutError(f"{late}\n{self.log()}") from late
        assert state == "RUNNING", f"{run.name} is {state}:\n{self.log()}"
        wait_until(lambda: read(run)["infrastructure_pid"], f"{run.name} has an infrastructure_pid")
        return run

    def log(self) -> str:
        return self._program.tail() if self._program else ""

    def kill(self) -> None:
        """SIGKILL the worker; what it started lives on."""
        assert self._program, "the worker was not started"
        self._program.kill()

    def close(self) -> None:
        """End the worker and its flows' processes; containers are the engine's to remove."""
        if self._program:
            self._program.end()
        kill_flow_processes(self.server.api_url)

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def flow_process(run: SeededRun) -> psutil.Process:
    """The process of a process worker's run."""
    return psutil.Process(int(read(run)["infrastructure_pid"]))


def kill_flow(run: SeededRun) -> None:
    """SIGKILL the process of a process worker's run, and wait until it is dead."""
    process = flow_process(run)
    process.kill()
    wait_until(lambda: not alive(process), f"process {process.pid} dead", 10)


def alive(process: psutil.Process) -> bool:
    """Whether it runs; a dead process that nobody has reaped does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def container_of(run: SeededRun) -> str:
    """The container id in a docker worker's `infrastructure_pid`."""
    return str(read(run)["infrastructure_pid"]).rsplit(":", 1)[1]


def containers_of(engine: Engine, run: SeededRun) -> list[str]:
    """Every container with the run's label, dead or alive."""
    return engine.docker(
        "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label=io.prefect.flow-run-id={run.id}"
    ).split()


def flow_container(venv: Path, flows: Path) -> dict[str, object]:
    """Job variables with which a docker worker runs a flow in a busybox container.

    The container gets this machine's libraries, Python and Prefect, read-only, at the places where they are here.
    """
    ask = [str(venv / "bin" / "python"), "-c", "import sys; print(sys.base_prefix)"]
    prefix = subprocess.run(ask, capture_output=True, check=True, text=True).stdout.strip()
    wanted = ["/usr", "/lib", "/lib64", "/etc/ssl", prefix, str(venv), str(flows)]
    folders = [folder for folder in wanted if Path(folder).exists() and not folder.startswith("/usr/")]
    return {
        "image": f"{IMAGE}:latest",
        "image_pull_policy": "Never",
        "network_mode": "host",  # the server listens on this machine's loopback
        "volumes": [f"{folder}:{folder}:ro" for folder in dict.fromkeys(folders)],
        "command": f"{venv}/bin/prefect flow-run execute",
        "env": {"PREFECT_HOME": "/tmp/prefect", "HOME": "/tmp"},
    }
