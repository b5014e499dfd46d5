"""Deployments of a worker's flows, and the limits on how many of their runs run at once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, history, read, seed_deployment, wait_for_state
from tests.rigs.worker import FLOWS, Worker, kill_flow


@dataclass(frozen=True, slots=True)
class Deployment:
    """Whose runs a worker fetches."""

    api: str
    id: str

    def submit(self, **parameters: object) -> SeededRun:
        """A flow run for the worker to fetch."""
        row = call(self.api, "POST", f"/deployments/{self.id}/create_flow_run", {"parameters": parameters})
        return SeededRun(self.api, UUID(row["id"]), row["name"])

    def runs(self) -> list[str]:
        """The ids of all its flow runs."""
        body = {"deployments": {"id": {"any_": [self.id]}}}
        return [row["id"] for row in call(self.api, "POST", "/flow_runs/filter", body)]

    def slots(self) -> int:
        """How many slots of its own limit are taken, as the server counts them (3.8.8)."""
        limit = call(self.api, "GET", f"/deployments/{self.id}")["global_concurrency_limit"]["id"]
        return int(call(self.api, "GET", f"/v2/concurrency_limits/{limit}")["active_slots"])


def deploy(worker: Worker, flow: str, script: str = FLOWS.name, **fields: object) -> Deployment:
    """One of the flows of a script beside the worker's own. `fields` go into the deployment, as `concurrency_limit`."""
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(FLOWS.parent)}}
    entrypoint = f"{script}:{flow}"
    name = f"{flow}-on-{worker.pool}"  # one of the same flow and name would be the same deployment
    api, body = worker.server.api_url, {"name": name, "entrypoint": entrypoint, "path": ".", "pull_steps": [step]}
    return Deployment(api, seed_deployment(api, worker.pool, worker.type, **(body | fields)))


def offered(api: str, pool: str) -> list[str]:
    """The ids of the runs that the server would give to a worker of that pool that asks now."""
    rows = call(api, "POST", f"/work_pools/{pool}/get_scheduled_flow_runs", {})
    return [row["flow_run"]["id"] for row in rows]


def runs_for_the(time: int, run: SeededRun, worker: Worker) -> None:
    """Wait until the run is RUNNING for the so manieth time, in a process that its row names."""

    def is_running() -> bool:
        row = read(run)
        if row["state"]["type"] in {"FAILED", "COMPLETED"}:
            raise AssertionError(f"{run.name} is {row['state']['name']}:\n{worker.log()}")
        return bool((row["state"]["type"], row["run_count"]) == ("RUNNING", time) and row["infrastructure_pid"])

    try:
        wait_until(is_running, f"{run.name} Running, run_count {time}", 90, 0.3)
    except TimeoutError as late:
        raise TimeoutError(f"{late}\n{states_of(run)}\n{worker.log()}") from late


def host_fails(worker: Worker, run: SeededRun) -> None:
    """End the worker and the run's process at once, so that nobody reports; `worker.start()` is the next host."""
    wait_for_state(run, "RUNNING", "SCHEDULED")
    worker.kill()
    kill_flow(run)


def states_of(run: SeededRun) -> list[str]:
    """The names of all its states, oldest first."""
    return [state["name"] for state in history(run)]


def limit_pool(api: str, pool: str, limit: int) -> None:
    """Let no more than so many runs of the pool be Pending or Running."""
    call(api, "PATCH", f"/work_pools/{pool}", {"concurrency_limit": limit})
