"""The older servers start, and answer what the product asks first."""

from __future__ import annotations

import httpx
import pytest

from tests.rigs.prefect import call, seed_run, state_of
from tests.rigs.server import PrefectServer

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


def test_an_older_server_answers(old_server: PrefectServer, request: pytest.FixtureRequest) -> None:
    api = old_server.api_url
    assert httpx.get(f"{api}/health", trust_env=False).json() is True
    assert call(api, "GET", "/admin/version") == request.node.callspec.params["old_server"]
    assert call(api, "POST", "/flow_runs/filter", {"limit": 1}) == []


def test_an_older_server_takes_a_seeded_run(old_api_url: str) -> None:
    run = seed_run(old_api_url, pid="4242", work_pool="old")
    assert state_of(run) == "RUNNING"
