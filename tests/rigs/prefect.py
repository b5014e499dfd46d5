"""Seed flow runs over the Prefect REST API, and read back what became of them. `api` is the URL that ends in "/api"."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from tests.rigs.polling import wait_until

FLOW = "seeded-flow"


@dataclass(frozen=True, slots=True)
class SeededRun:
    """A flow run on a real server."""

    api: str
    id: UUID
    name: str


def call(api: str, method: str, path: str, body: object = None) -> Any:
    """One request. SQLite under load answers 503 now and then (seen on 3.8.8), so that one is asked again."""

    def ask() -> httpx.Response | None:
        answer = httpx.request(method, api + path, json=body, trust_env=False, verify=False, timeout=30)
        return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

    answer = wait_until(ask, f"{method} {path} answered with other than 503", 30)
    assert answer is not None
    if answer.is_error:
        raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
    return answer.json() if answer.content else None


def seed_run(
    api: str,
    *,
    state: str = "RUNNING",
    state_name: str | None = None,
    pid: str | None = None,
    work_pool: str | None = None,
    worker_type: str | None = None,
    labels: Mapping[str, object] | None = None,
    tags: Iterable[str] = (),
    parent: SeededRun | None = None,
    name: str | None = None,
) -> SeededRun:
    """Make a flow run the way a worker's looks, and lead it to `state` through PENDING and RUNNING.

    `work_pool` brings the pool (of type `worker_type`, "process" if not given) and a deployment with it. `worker_type`
    becomes the label prefect.worker.type. `parent` makes it an in-process subflow of that run.
    """
    labels = {**({"prefect.worker.type": worker_type} if worker_type else {}), **(labels or {})}
    body: dict[str, object] = {
        "state": {"type": "SCHEDULED" if state == "SCHEDULED" else "PENDING"},
        "tags": list(tags),
    }
    body |= {"labels": labels} if labels else {}
    body |= {"name": name} if name else {}
    body |= {"parent_task_run_id": str(seed_task_run(parent))} if parent else {}
    if work_pool:
        deployment = seed_deployment(api, work_pool, worker_type or "process")
        row = call(
            api, "POST", f"/deployments/{deployment}/create_flow_run", {k: v for k, v in body.items() if k != "labels"}
        )
    else:
        row = call(api, "POST", "/flow_runs/", {**body, "flow_id": seed_flow(api)})
    run = SeededRun(api, UUID(row["id"]), row["name"])
    if work_pool and labels:
        call(api, "PATCH", f"/flow_runs/{run.id}/labels", labels)
    if pid is not None:
        call(api, "PATCH", f"/flow_runs/{run.id}", {"infrastructure_pid": pid})
    _lead_to(run, state, state_name)
    return run


def _lead_to(run: SeededRun, state: str, name: str | None) -> None:
    if state == "SCHEDULED" and name is None:
        return
    if state != "PENDING":
        set_state(run, "RUNNING")
    if state not in {"PENDING", "RUNNING"} or name:
        set_state(run, state, name, force=True)


def set_state(
    run: SeededRun, state: str, name: str | None = None, *, force: bool = False, **details: object
) -> dict[str, Any]:
    """Propose a state; gives the server's answer (`status`, `state`, `details`). `details` are state_details."""
    body = {"state": {"type": state, "name": name, "state_details": details}, "force": force}
    answer: dict[str, Any] = call(run.api, "POST", f"/flow_runs/{run.id}/set_state", body)
    return answer


def read(run: SeededRun) -> dict[str, Any]:
    """The run's row as the server gives it."""
    row: dict[str, Any] = call(run.api, "GET", f"/flow_runs/{run.id}")
    return row


def state_of(run: SeededRun) -> str:
    """The state type, such as "RUNNING"."""
    return str(read(run)["state"]["type"])


def wait_for_state(run: SeededRun, *states: str, seconds: float = 120.0) -> str:
    """Poll until the run is in one of these state types; gives the one."""
    return wait_until(
        lambda: next((s for s in [state_of(run)] if s in states), ""), f"{run.name} {states}", seconds, 0.3
    )


def history(run: SeededRun) -> list[dict[str, Any]]:
    """The run's states, oldest first."""
    rows: list[dict[str, Any]] = call(run.api, "GET", f"/flow_run_states/?flow_run_id={run.id}")
    return sorted(rows, key=lambda row: row["timestamp"])


def logs_of(run: SeededRun) -> list[dict[str, Any]]:
    """The run's log lines (`name` is the logger, `level`, `message`), oldest first."""
    body = {"logs": {"flow_run_id": {"any_": [str(run.id)]}}, "sort": "TIMESTAMP_ASC"}
    rows: list[dict[str, Any]] = call(run.api, "POST", "/logs/filter", body)
    return rows


def forget_runs(api: str) -> None:
    """Delete every flow run of the server, so that a test of a whole pass sees only its own."""
    while rows := call(api, "POST", "/flow_runs/filter", {"limit": 200}):
        for row in rows:
            call(api, "DELETE", f"/flow_runs/{row['id']}")


def seed_flow(api: str, name: str = FLOW) -> str:
    return str(call(api, "POST", "/flows/", {"name": name})["id"])


def seed_work_pool(api: str, name: str, worker_type: str) -> None:
    """Make the pool unless it is there. A worker that starts on it fills in the job template."""
    if not call(api, "POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [name]}}}):
        call(api, "POST", "/work_pools/", {"name": name, "type": worker_type, "base_job_template": {}})


def seed_deployment(api: str, work_pool: str, worker_type: str, **fields: object) -> str:
    """A deployment on that pool; gives its id. `fields` go into the body as they are."""
    seed_work_pool(api, work_pool, worker_type)
    flow = seed_flow(api)
    body = {"name": f"on-{work_pool}", "flow_id": flow, "work_pool_name": work_pool, "enforce_parameter_schema": False}
    return str(call(api, "POST", "/deployments/", {**body, **fields})["id"])


def seed_task_run(run: SeededRun, state: str = "RUNNING") -> UUID:
    """A task run inside `run`, in `state`; gives its id."""
    key = uuid.uuid4().hex
    body = {"flow_run_id": str(run.id), "task_key": key, "dynamic_key": "0", "name": key, "state": {"type": state}}
    return UUID(call(run.api, "POST", "/task_runs/", body)["id"])
