"""A flow that lives until a file appears. Read by Prefect's Python, not by ours. Arguments: what it does, the file."""

# mypy: disable-error-code="untyped-decorator, import-not-found"
from __future__ import annotations

import sys
import time
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

DOES, GO = sys.argv[1], Path(sys.argv[2])


def wait() -> None:
    while not GO.exists():
        time.sleep(0.2)


@flow(name="completes")
def completes() -> int:
    wait()
    return 42


@flow(name="fails")
def fails() -> None:
    wait()
    raise ValueError("on purpose")


@flow(name="retries", retries=1, retry_delay_seconds=10)
def retries() -> None:
    if flow_run.run_count == 1:
        raise ValueError("the first time")
    wait()


{"completes": completes, "fails": fails, "retries": retries}[DOES]()
