"""The newest log line or task run of each suspect."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from reconciler.model import LifeSign
from reconciler.ports import OrchestratorError
from reconciler.prefect_api import PrefectApi
from tests.fake_prefect import FakePrefect, always, connect, stamp

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)  # of the tests and of the API
QUIET = timedelta(seconds=200)


def at_now(server: FakePrefect) -> PrefectApi:
    server.now = lambda: NOW
    return connect(server, clock=lambda: NOW)


def log(run: str, seconds: float, name: str = "prefect.flow_runs") -> dict[str, object]:
    return {
        "name": name,
        "level": 20,
        "message": "x",
        "timestamp": stamp(NOW - timedelta(seconds=seconds)),
        "flow_run_id": run,
    }


def task(run: str, started: float | None, ended: float | None = None) -> dict[str, object]:
    times = {"start_time": started, "end_time": ended}
    return {"flow_run_id": run} | {
        key: None if at is None else stamp(NOW - timedelta(seconds=at)) for key, at in times.items()
    }


def test_the_newest_of_each_run(server: FakePrefect) -> None:
    first, second, third, silent = (server.add()["id"] for _ in range(4))
    server.logs = [log(first, 50), log(first, 9), log(second, 30), log(silent, 300)]
    server.task_runs = [task(second, 100, 20), task(third, 7), task(silent, 900, 201)]
    signs = at_now(server).life_signs([UUID(one) for one in (first, second, third, silent)], QUIET)
    assert signs == {
        UUID(first): LifeSign("log line", NOW - timedelta(seconds=9)),
        UUID(second): LifeSign("task run", NOW - timedelta(seconds=20)),
        UUID(third): LifeSign("task run", NOW - timedelta(seconds=7)),
    }


def test_what_the_worker_and_we_write_is_no_sign_of_the_run(server: FakePrefect) -> None:
    run = server.add()["id"]
    others = (
        "prefect.flow_runs.worker",
        "prefect.flow_runs.runner",
        "prefect.flow_runs.observer",
        "prefect.reconciler",
    )
    server.logs = [log(run, 5, name) for name in others]
    assert at_now(server).life_signs([UUID(run)], QUIET) == {}
    server.logs.append(log(run, 90, "my.own.logger"))
    assert at_now(server).life_signs([UUID(run)], QUIET)[UUID(run)].at == NOW - timedelta(seconds=90)


def test_a_talkative_run_does_not_hide_the_others(server: FakePrefect) -> None:
    server.most = 5
    talkative, other = server.add()["id"], server.add()["id"]
    for _ in range(4):
        server.add()
    server.logs = [log(talkative, second) for second in range(50)] + [log(other, 100)]
    api = at_now(server)
    api.in_flight()  # learns how much the server gives at once
    signs = api.life_signs([UUID(talkative), UUID(other)], QUIET)
    assert {run: sign.at for run, sign in signs.items()} == {
        UUID(talkative): NOW,
        UUID(other): NOW - timedelta(seconds=100),
    }
    assert server.count("/logs/filter") == 2


def test_a_server_that_does_not_know_when_task_runs_end(server: FakePrefect) -> None:
    server.knows_end_time = False
    run = server.add()["id"]
    server.task_runs = [task(run, 40, 5)]
    api = at_now(server)
    assert api.life_signs([UUID(run)], QUIET)[UUID(run)].at == NOW - timedelta(seconds=5), "it is in the row"
    api.life_signs([UUID(run)], QUIET)
    assert server.count("/task_runs/filter") == 3, "refused once in a pass"


def test_filters_that_are_dropped_by_the_server_do_no_harm(server: FakePrefect) -> None:
    mine, other = UUID(server.add()["id"]), UUID(server.add()["id"])
    rows = [log(str(other), 3), log(str(mine), 500)]
    server.faults.append(always("/logs/filter", lambda request: httpx.Response(200, json=rows)))
    assert at_now(server).life_signs([mine], QUIET) == {}


@pytest.mark.parametrize("path", ["/logs/filter", "/task_runs/filter"])
@pytest.mark.parametrize("answer", [httpx.Response(503), httpx.Response(403), httpx.Response(200, json={"no": "list"})])
def test_what_cannot_be_read_is_an_error(server: FakePrefect, path: str, answer: httpx.Response) -> None:
    server.faults.append(always(path, lambda request: answer))
    with pytest.raises(OrchestratorError):
        at_now(server).life_signs([UUID(int=1)], QUIET)


def test_three_calls_for_all(server: FakePrefect) -> None:
    runs = [UUID(server.add()["id"]) for _ in range(20)]
    api = at_now(server)
    assert api.life_signs(runs, QUIET) == {}
    assert api.calls == 3
    assert json.loads(server.requests[0].content)["logs"]["flow_run_id"]["any_"] == sorted(map(str, runs))


def test_the_last_end_of_many_task_runs(server: FakePrefect) -> None:
    """They began in another order than they end."""
    server.most = 5
    run = server.add()["id"]
    for _ in range(5):
        server.add()
    server.task_runs = [task(run, 20 + number) for number in range(30)] + [task(run, 190, 1)]
    api = at_now(server)
    api.in_flight()
    assert api.life_signs([UUID(run)], QUIET)[UUID(run)] == LifeSign("task run", NOW - timedelta(seconds=1))


def test_what_others_write_does_not_hide_the_run_s_own_lines(server: FakePrefect) -> None:
    server.most = 5
    run = server.add()["id"]
    for _ in range(5):
        server.add()
    server.logs = [log(run, second, "prefect.flow_runs.worker") for second in range(12)] + [log(run, 50)]
    api = at_now(server)
    api.in_flight()
    assert api.life_signs([UUID(run)], QUIET)[UUID(run)].at == NOW - timedelta(seconds=50)


def test_lines_of_the_future_are_no_sign(server: FakePrefect) -> None:
    run = server.add()["id"]
    server.logs = [log(run, -3600), log(run, -30)]
    assert at_now(server).life_signs([UUID(run)], QUIET)[UUID(run)].at == NOW + timedelta(seconds=30)


def test_long_lines_are_read_a_few_at_a_time(server: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.prefect_api.transport._LARGEST", 20_000)
    run = server.add()["id"]
    server.logs = [log(run, second) | {"message": "x" * 5000} for second in range(50)]
    assert at_now(server).life_signs([UUID(run)], QUIET)[UUID(run)].at == NOW
