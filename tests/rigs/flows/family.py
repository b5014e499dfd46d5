"""Flows with subflows of every kind. Read by Prefect's Python, not by ours."""

# mypy: disable-error-code="untyped-decorator, import-not-found"
from __future__ import annotations

import asyncio
import sys

from prefect import flow, task
from prefect.deployments import arun_deployment
from prefect_docker.decorators import docker


@task(task_run_name="work")
async def work(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task(task_run_name="wait")
async def wait() -> None:
    """PENDING until what it waits for is done."""


@flow(flow_run_name="great-grandchild")
async def great_grandchild(seconds: float) -> None:
    await work(seconds)


@flow(flow_run_name="grandchild")
async def grandchild(seconds: float) -> None:
    await asyncio.gather(work(seconds), great_grandchild(seconds))


@flow(flow_run_name="child")
async def child(seconds: float) -> None:
    await asyncio.gather(work(seconds), grandchild(seconds))


@flow(flow_run_name="sibling")
async def sibling(seconds: float) -> None:
    await work(seconds)


@flow(flow_run_name="parent")
async def parent(seconds: float = 600.0) -> None:
    """Two children at the same time, three levels of them, and at each level a task that works until the end."""
    waiting = wait.submit(wait_for=[work.submit(seconds)])
    await asyncio.gather(child(seconds), sibling(seconds))
    waiting.wait()


@flow(flow_run_name="deployed")
async def deployed(seconds: float = 600.0) -> None:
    """A child in a container of its own."""
    await work(seconds)


@flow(flow_run_name="guardian")
async def guardian(
    deployment: str, pool: str, shelf: str, job_variables: dict[str, object], seconds: float = 600.0
) -> None:
    """A child in its process, and two in containers of their own: of a deployment, and of a work pool alone."""
    await asyncio.gather(
        sibling(seconds),
        arun_deployment(deployment, as_subflow=True, poll_interval=60),
        asyncio.to_thread(_submit, pool, shelf, job_variables, seconds),
    )


def _submit(pool: str, shelf: str, job_variables: dict[str, object], seconds: float) -> None:
    """Send a flow to a work pool without a deployment. The folder `shelf` is the storage of what is sent."""
    launcher = {
        "upload": ["sh", "-c", f'cp "$4" {shelf}/', "upload"],  # of: -m <module> --key <file>
        "execution": ["sh", "-c", f'cd {shelf} && exec {sys.executable} "$@"', "execute"],
    }
    decorate = docker(pool, launcher=launcher, **job_variables)
    decorate(deployed.with_options(flow_run_name="ad-hoc")).submit_to_work_pool(seconds).result()
