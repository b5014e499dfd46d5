"""Flows that real workers run. Read by Prefect's Python, not by ours."""

# mypy: disable-error-code="untyped-decorator, import-not-found"
from __future__ import annotations

import time

from prefect import flow, task


@flow
def sleeper(seconds: float = 600.0) -> None:
    """Work that takes long enough to be killed in the middle."""
    time.sleep(seconds)


@task
def long_task(seconds: float) -> None:
    time.sleep(seconds)


@flow
def with_task(seconds: float = 600.0) -> None:
    long_task(seconds)


@flow
def with_subflow(seconds: float = 600.0) -> None:
    sleeper(seconds)
