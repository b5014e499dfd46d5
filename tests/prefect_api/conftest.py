from __future__ import annotations

from collections.abc import Iterator

import pytest
import stamina

from tests.fake_prefect import FakePrefect


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=6, cap=True):
        yield


@pytest.fixture
def server() -> FakePrefect:
    return FakePrefect()
