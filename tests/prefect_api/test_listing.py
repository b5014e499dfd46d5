from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog

from reconciler.model import FlowRun, StateType
from reconciler.ports import Orchestrator, OrchestratorError
from tests.fake_prefect import (
    START,
    URL,
    FakePrefect,
    always,
    connect,
    ids,
    stamp,
)


def test_is_an_orchestrator(server: FakePrefect) -> None:
    api: Orchestrator = connect(server)
    assert api.url == URL
    assert api.calls == 0


def test_lists_what_is_in_flight_and_nothing_else(server: FakePrefect) -> None:
    in_process = {"empirical_policy": {"retry_type": "in_process"}}
    expected = {
        server.add("PENDING")["id"],
        server.add("RUNNING", "A name of the user's own")["id"],
        server.add("CANCELLING")["id"],
        server.add("SCHEDULED", "AwaitingRetry", **in_process)["id"],
    }
    server.add("SCHEDULED", "AwaitingRetry", empirical_policy={"retry_type": "reschedule"})
    server.add("SCHEDULED", "AwaitingRetry", empirical_policy=None)
    server.add("SCHEDULED", "Late", **in_process)
    server.add("PAUSED")
    server.add("COMPLETED")

    listing = connect(server).in_flight()

    assert ids(listing) == expected
    assert listing.problems == ()


def test_a_row_in_our_words(server: FakePrefect) -> None:
    parent, deployment = "6f0d9d0e-5a7c-4c3e-9d55-7d1d9a3b8f10", "6f0d9d0e-5a7c-4c3e-9d55-7d1d9a3b8f11"
    row = server.add(
        "RUNNING",
        "Retrying",
        run_count=2,
        infrastructure_pid="host:77",
        work_pool_name="k8s",
        work_queue_name="fast",
        labels={"prefect.worker.name": "w-1", "prefect.worker.type": "docker", "own": {"nested": [1]}},
        deployment_id=deployment,
        parent_task_run_id=parent,
        tags=["a", "b"],
        next_scheduled_start_time="2026-03-01T13:00:00Z",
    )

    (run,) = connect(server).in_flight().runs

    assert run == FlowRun(
        id=UUID(row["id"]),
        name="run-0",
        state_id=UUID(row["state"]["id"]),
        state_type=StateType.RUNNING,
        state_name="Retrying",
        state_since=datetime.fromisoformat(row["state"]["timestamp"]),
        created=START,
        run_count=2,
        pid="host:77",
        work_pool="k8s",
        work_queue="fast",
        worker="w-1",
        worker_type="docker",
        deployment_id=UUID(deployment),
        parent_task_run_id=UUID(parent),
        tags=frozenset({"a", "b"}),
        scheduled_time=datetime(2026, 3, 1, 13, tzinfo=UTC),
        transition_id=UUID(row["state"]["state_details"]["transition_id"]),
    )
    assert server.count("/work_pools/filter") == 0


def test_a_pool_gives_the_worker_type_where_no_label_does(server: FakePrefect) -> None:
    server.pools = {"docker-pool": "docker", "other": "ecs"}
    server.add(work_pool_name="docker-pool", labels={"prefect.worker.type": 5, "prefect.worker.name": None})
    old = server.add(work_pool_name="docker-pool")
    del old["labels"]  # Prefect 2.20
    server.add(work_pool_name="deleted")
    server.add()

    types = [(run.worker, run.worker_type) for run in connect(server).in_flight().runs]

    assert types == [(None, "docker"), (None, "docker"), (None, None), (None, None)]
    assert server.count("/work_pools/filter") == 1


def test_unreadable_pools_leave_the_type_open_and_are_told(server: FakePrefect) -> None:
    server.add(work_pool_name="docker-pool")
    server.faults.append(always("/work_pools/filter", lambda request: httpx.Response(403, json={"detail": "no"})))
    listing = connect(server).in_flight()
    assert listing.runs[0].worker_type is None
    assert "the types and templates of 1 work pools could not be read" in listing.problems[0]


def test_a_row_that_is_not_understood_is_skipped_and_named(server: FakePrefect) -> None:
    good = {server.add()["id"], server.add()["id"]}
    stateless = server.add(state=None)["id"]
    server.add(id="not a uuid")
    unknown = server.add("RUNNING")
    unknown["state"] = unknown["state"] | {"type": "DANCING"}
    listing = connect(server).in_flight()
    assert ids(listing) == good
    text = "\n".join(listing.problems)
    assert len(listing.problems) == 3
    assert f"flow run {stateless} was skipped" in text
    assert f"flow run {unknown['id']} was skipped" in text
    assert "without a readable id" in text


def test_history_is_sorted_and_tells_transitions(server: FakePrefect) -> None:
    run = server.add("PENDING")
    server.enter(run["id"], "RUNNING", transition_id="free text")
    server.enter(run["id"], "COMPLETED", transition_id=None)
    states = server.history[run["id"]]
    expected = [UUID(state["id"]) for state in states]
    states.reverse()
    history = connect(server).history(UUID(run["id"]))
    assert [record.id for record in history] == expected
    assert [record.type for record in history] == [StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]
    assert [isinstance(record.transition_id, UUID) for record in history] == [True, False, False]


def beat(run_id: object, count: int = 2) -> dict[str, Any]:
    times = {"start_time": stamp(START), "end_time": stamp(START + timedelta(seconds=30))}
    return {"value": f"prefect.flow-run.{run_id}", "label": "x", "count": count} | times


def test_heartbeats_of_the_asked_runs_in_one_call(server: FakePrefect) -> None:
    runs = [UUID(server.add()["id"]) for _ in range(3)]
    server.heartbeats = [beat(runs[0]), beat(runs[2], 5), {**beat(runs[0]), "value": "prefect.worker.x"}]
    api = connect(server)
    found = api.heartbeats(runs[:2])
    assert found is not None
    assert set(found) == {runs[0]}
    assert (found[runs[0]].count, found[runs[0]].last) == (2, START + timedelta(seconds=30))
    window = json.loads(server.requests[0].content)["filter"]["occurred"]
    since, until = (datetime.fromisoformat(window[key]) for key in ("since", "until"))
    assert until - since == timedelta(minutes=61)
    assert api.heartbeats([]) == {}
    assert api.calls == 1


def test_heartbeats_of_many_runs_are_asked_without_ids(server: FakePrefect) -> None:
    runs = [UUID(int=number) for number in range(201)]
    server.heartbeats = [beat(runs[0]), beat(UUID(int=999))]
    found = connect(server).heartbeats(runs)
    assert found is not None
    assert set(found) == {runs[0]}
    assert "resource" not in json.loads(server.requests[0].content)["filter"]


def test_a_server_without_events_is_asked_once(server: FakePrefect) -> None:
    server.has_events = False
    api = connect(server)
    with structlog.testing.capture_logs() as lines:
        assert api.heartbeats([UUID(int=1)]) is None
        assert api.heartbeats([UUID(int=1)]) is None
    assert api.calls == 1
    assert [line["log_level"] for line in lines].count("info") == 1


def test_unreadable_heartbeats_are_an_error_not_an_absence(server: FakePrefect) -> None:
    server.faults.append(lambda request: httpx.Response(503))
    with pytest.raises(OrchestratorError):
        connect(server).heartbeats([UUID(int=1)])


def test_reads_runs_again_a_page_at_a_time() -> None:
    server = FakePrefect(pools={"pool": "docker"})
    rows = [server.add(work_pool_name="pool") for _ in range(201)]
    api = connect(server)
    assert len(api.in_flight().runs) == 201
    server.enter(rows[0]["id"], "COMPLETED")
    del server.runs[rows[1]["id"]]
    before = api.calls
    again = api.reread({UUID(row["id"]) for row in rows[:-1]})
    assert api.calls - before == 1
    assert again[UUID(rows[0]["id"])].state_type is StateType.COMPLETED
    assert UUID(rows[1]["id"]) not in again
    assert {run.worker_type for run in again.values()} == {"docker"}, "as in the list"
    assert len(api.reread({UUID(row["id"]) for row in rows})) == 200
    assert api.calls - before == 3


def test_a_list_whose_pools_could_not_be_read_is_not_whole() -> None:
    """Its runs are mapped nowhere, so they would be missing where the breaker counts."""
    server = FakePrefect(pools={"pool": "process"})
    server.add(work_pool_name="pool")
    server.faults.append(always("/work_pools/filter", lambda request: httpx.Response(403)))
    listing = connect(server).in_flight()
    assert len(listing.runs) == 1
    assert not listing.is_whole
