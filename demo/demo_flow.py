"""The flow of the demonstration: an hour's work. It runs in the process worker, on Prefect's Python."""

# mypy: disable-error-code="untyped-decorator, import-not-found"
from __future__ import annotations

import time

from prefect import flow


@flow(log_prints=True)
def nightly_report() -> None:
    """Count to an hour."""
    for minute in range(60):
        print(f"minute {minute} of 60")
        time.sleep(60)
