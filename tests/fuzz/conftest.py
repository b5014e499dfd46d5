from __future__ import annotations

from collections.abc import Iterator

import pytest
import stamina
import structlog


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True), structlog.testing.capture_logs():
        yield
