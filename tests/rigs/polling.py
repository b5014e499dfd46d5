"""Wait for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, seconds: float = 60.0, every: float = 0.1) -> T:
    """Call `condition` until its answer is true, and give that answer. `what` completes "did not happen: ..."."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"did not happen in {seconds:g} s: {what}")
        time.sleep(every)
    return answer
