"""The fault proxy counts, and does what it is told to the chosen requests only."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.rigs.prefect import seed_run, set_state, state_of
from tests.rigs.proxy import FaultProxy

pytestmark = pytest.mark.prefect


@pytest.fixture
def proxy(prefect_api_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(prefect_api_url) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, trust_env=False) as client:
        yield client


def test_it_counts_writes_apart_from_reads(proxy: FaultProxy, client: httpx.Client, prefect_api_url: str) -> None:
    run = seed_run(prefect_api_url)
    assert client.get(f"/flow_runs/{run.id}").json()["id"] == str(run.id)
    assert client.post("/flow_runs/filter", json={"limit": 1}).status_code == httpx.codes.OK
    assert proxy.writes == []
    crashed = client.post(f"/flow_runs/{run.id}/set_state", json={"state": {"type": "CRASHED"}})
    assert crashed.json()["status"] == "ACCEPT"
    assert (proxy.count("POST", "/set_state$"), len(proxy.writes), len(proxy.calls)) == (1, 1, 3)


def test_it_answers_for_the_server_as_often_as_told(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.answer("GET", "/health", 429, times=2, retry_after="1")
    answers = [client.get("/health") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "1"


def test_it_cuts_before_or_after_the_server_was_asked(
    proxy: FaultProxy, client: httpx.Client, prefect_api_url: str
) -> None:
    run = seed_run(prefect_api_url)
    path = f"/flow_runs/{run.id}/set_state"
    proxy.cut("POST", "/set_state", times=1)
    proxy.cut("POST", "/set_state", times=1, after=True)
    for state in ("RUNNING", "CRASHED"):
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(path, json={"state": {"type": "CRASHED"}})
        assert state_of(run) == state


def test_it_lets_something_happen_just_before_a_request(
    proxy: FaultProxy, client: httpx.Client, prefect_api_url: str
) -> None:
    run = seed_run(prefect_api_url)
    proxy.before("POST", "/set_state", lambda: set_state(run, "COMPLETED"))
    answer = client.post(f"/flow_runs/{run.id}/set_state", json={"state": {"type": "CRASHED"}})
    assert (answer.json()["status"], state_of(run)) == ("ABORT", "COMPLETED")


def test_it_truncates_an_answer(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.change("POST", "/filter", lambda body: body[:-1])
    with pytest.raises(ValueError, match="Expecting"):
        client.post("/flow_runs/filter", json={"limit": 1}).json()
