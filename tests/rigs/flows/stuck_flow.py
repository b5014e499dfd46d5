"""A flow that sleeps until its second try. Read by Prefect's Python, not by ours."""

# mypy: disable-error-code="untyped-decorator, import-not-found"
from __future__ import annotations

from prefect import flow


@flow(retries=1, retry_delay_seconds=15)
def fails_first() -> None:
    """Its process waits out the delay itself; no worker ever fetches such a run."""
    raise RuntimeError("the first try")
