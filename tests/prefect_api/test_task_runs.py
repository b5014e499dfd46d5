"""Whose task runs, which are open, and the end of one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from reconciler.clock import since_boot
from reconciler.model import OutcomeKind, StateType, TaskRun
from reconciler.plan import transition_id
from reconciler.ports import OrchestratorError
from tests.fake_prefect import FakePrefect, always, connect, failing
from tests.prefect_api.faults import lost, meanwhile


def add_run(server: FakePrefect) -> UUID:
    return UUID(server.add()["id"])


def open_task_run(server: FakePrefect, state_type: str = "RUNNING") -> tuple[TaskRun, dict[str, Any]]:
    run = add_run(server)
    row = server.add_task_run(str(run), state_type)
    (found,) = connect(server).open_task_runs([run])
    return found, row


def test_parents_are_told_in_pages(server: FakePrefect) -> None:
    server.most = 3
    run, other = add_run(server), add_run(server)
    for _ in range(3):
        server.add()
    rows = [server.add_task_run(str(run if number % 2 else other)) for number in range(7)]
    api = connect(server)
    api.in_flight()  # learns how much the server gives at once
    before = api.calls
    wanted = [UUID(row["id"]) for row in rows]
    assert api.parents(wanted) == {UUID(row["id"]): UUID(row["flow_run_id"]) for row in rows}
    assert api.calls - before == 3
    assert api.parents([]) == {}
    assert api.calls - before == 3


def test_a_task_run_that_is_deleted_or_nobodys_has_no_parent(server: FakePrefect) -> None:
    run = add_run(server)
    mine, free = server.add_task_run(str(run)), server.add_task_run(str(run))
    free["flow_run_id"] = None
    assert connect(server).parents([UUID(mine["id"]), UUID(free["id"]), uuid4()]) == {UUID(mine["id"]): run}


def test_a_server_that_ignores_the_filter_gives_no_others(server: FakePrefect) -> None:
    run, other = add_run(server), add_run(server)
    mine = server.add_task_run(str(run))
    server.add_task_run(str(run), "COMPLETED")
    server.add_task_run(str(other))
    server.ignores_filter = True
    api = connect(server)
    assert api.parents([UUID(mine["id"])]) == {UUID(mine["id"]): run}
    assert [str(found.id) for found in api.open_task_runs([run])] == [mine["id"]]


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(403), httpx.Response(200, json={"no": "list"})])
def test_what_cannot_be_read_is_an_error(server: FakePrefect, answer: httpx.Response) -> None:
    server.faults.append(always("/task_runs/filter", lambda request: answer))
    with pytest.raises(OrchestratorError):
        connect(server).parents([uuid4()])
    with pytest.raises(OrchestratorError):
        connect(server).open_task_runs([uuid4()])


def test_the_open_ones(server: FakePrefect) -> None:
    run, other, child = add_run(server), add_run(server), add_run(server)
    running, pending = server.add_task_run(str(run)), server.add_task_run(str(other), "PENDING")
    stands_for = server.add_task_run(str(run), child=str(child))
    for ended in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "SCHEDULED", "PAUSED"):
        server.add_task_run(str(run), ended)
    server.add_task_run(str(child))
    found = {task_run.id: task_run for task_run in connect(server).open_task_runs({run, other})}
    assert set(found) == {UUID(row["id"]) for row in (running, pending, stands_for)}
    assert found[UUID(running["id"])] == TaskRun(
        id=UUID(running["id"]),
        name=running["name"],
        flow_run_id=run,
        state_id=UUID(running["state"]["id"]),
        state_type=StateType.RUNNING,
    )
    assert found[UUID(pending["id"])].state_type is StateType.PENDING
    assert found[UUID(stands_for["id"])].placeholder


def test_all_pages_are_read_up_to_a_bound(server: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> None:
    run = add_run(server)
    for _ in range(450):
        server.add_task_run(str(run))
    api = connect(server)
    assert len({found.id for found in api.open_task_runs([run])}) == 450
    assert api.calls == 3
    bodies = [json.loads(request.content) for request in server.requests]
    assert [body["offset"] for body in bodies] == [0, 200, 400]
    monkeypatch.setattr("reconciler.prefect_api.task_runs.MOST_OPEN_TASK_RUNS", 210)
    found = api.open_task_runs([run])
    assert len(found) == 210
    for task_run in found:
        assert api.settle_task_run(task_run, "x").kind is OutcomeKind.ACCEPTED
    assert len(api.open_task_runs([run])) == 210, "the rest is told by the next calls"


def test_a_server_that_ignores_the_offset_is_not_asked_for_ever(server: FakePrefect) -> None:
    run = add_run(server)
    for _ in range(200):
        server.add_task_run(str(run))
    server.faults.append(always("/task_runs/filter", lambda request: httpx.Response(200, json=server.task_runs)))
    api = connect(server)
    assert len(api.open_task_runs([run])) == 200
    assert api.calls == 26, "5,000 rows, whatever is new in them"


def test_no_run_is_no_call(server: FakePrefect) -> None:
    api = connect(server)
    assert list(api.open_task_runs([])) == []
    assert api.calls == 0


@pytest.mark.parametrize("state_type", ["RUNNING", "PENDING"])
def test_a_task_run_is_crashed_with_the_reason(server: FakePrefect, state_type: str) -> None:
    task_run, row = open_task_run(server, state_type)
    outcome = connect(server).settle_task_run(task_run, "its flow run died")
    assert (outcome.kind, outcome.detail) == (OutcomeKind.ACCEPTED, "")
    state = row["state"]
    assert (state["type"], state["name"], state["message"]) == ("CRASHED", "Crashed", "its flow run died")
    assert state["state_details"]["transition_id"] == str(transition_id(task_run.id, task_run.state_id))
    assert str(outcome.state_id) == state["id"]


@pytest.mark.parametrize("final", ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"])
def test_one_that_has_ended_stays_as_it_is(server: FakePrefect, final: str) -> None:
    task_run, row = open_task_run(server)
    row["state"] = server.add_task_run(str(task_run.flow_run_id), final)["state"]
    outcome = connect(server).settle_task_run(task_run, "x")
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, f"already {final}")
    assert row["state"]["type"] == final


def test_the_second_one_is_too_late(server: FakePrefect) -> None:
    task_run, _ = open_task_run(server)
    assert connect(server).settle_task_run(task_run, "x").kind is OutcomeKind.ACCEPTED
    outcome = connect(server).settle_task_run(task_run, "x")
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "another reconciler settled it")


@pytest.mark.parametrize("answer", [httpx.ReadTimeout("slow"), httpx.ReadError("reset"), httpx.Response(503)])
def test_an_answer_that_was_lost_is_recognised_as_ours(server: FakePrefect, answer: httpx.Response | Exception) -> None:
    task_run, row = open_task_run(server)
    server.faults.append(lost(server, "/set_state", answer))
    outcome = connect(server).settle_task_run(task_run, "x")
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert str(outcome.state_id) == row["state"]["id"]


def test_a_rejection_with_our_own_transition_is_ours_if_an_answer_was_lost(server: FakePrefect) -> None:
    """As the policy of flow runs has it; perhaps that of task runs will."""
    task_run, row = open_task_run(server)
    reject = lambda: {"status": "REJECT", "state": row["state"], "details": {}}  # noqa: E731
    server.faults += [
        lost(server, "/set_state", httpx.ReadTimeout("slow")),
        lambda request: (
            httpx.Response(200, json=reject())
            if request.url.path.endswith("/set_state") and row["state"]["type"] == "CRASHED"
            else None
        ),
    ]
    assert connect(server).settle_task_run(task_run, "x").kind is OutcomeKind.ACCEPTED
    outcome = connect(server).settle_task_run(task_run, "x")
    assert outcome.kind is OutcomeKind.SETTLED_ELSEWHERE


def test_an_end_that_comes_while_the_server_is_away(server: FakePrefect) -> None:
    task_run, row = open_task_run(server)
    ended = server.add_task_run(str(task_run.flow_run_id), "COMPLETED")["state"]
    server.faults += [
        meanwhile("/set_state", lambda: row.update(state=ended)),
        failing("/set_state", httpx.Response(503), httpx.Response(503)),
    ]
    outcome = connect(server).settle_task_run(task_run, "x")
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "already COMPLETED")


def test_a_deleted_one(server: FakePrefect) -> None:
    task_run, _ = open_task_run(server)
    server.task_runs.clear()
    outcome = connect(server).settle_task_run(task_run, "x")
    assert (outcome.kind, outcome.detail) == (OutcomeKind.STATE_CHANGED, "it was deleted")


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(503), httpx.Response(200, text="x")])
def test_an_error_is_an_outcome(server: FakePrefect, answer: httpx.Response) -> None:
    task_run, _ = open_task_run(server)
    server.faults.append(always("/set_state", lambda request: answer))
    assert connect(server).settle_task_run(task_run, "x").kind is OutcomeKind.FAILED


def test_what_is_not_open_is_not_even_proposed(server: FakePrefect) -> None:
    task_run, _ = open_task_run(server)
    api = connect(server)
    outcome = api.settle_task_run(replace(task_run, state_type=StateType.PAUSED), "x")
    assert outcome.kind is OutcomeKind.REFUSED
    assert api.calls == 0


def test_all_of_them_together_outlast_the_pass_by_one_settlement(server: FakePrefect) -> None:
    task_run, row = open_task_run(server)
    api = connect(server)
    api.begin(since_boot() - 1)
    assert [found.id for found in api.open_task_runs([task_run.flow_run_id])] == [task_run.id]
    assert api.settle_task_run(task_run, "y" * 9000).kind is OutcomeKind.ACCEPTED
    assert len(row["state"]["message"]) == 5000
    api.begin(since_boot() - 31)
    outcome = api.settle_task_run(task_run, "x")
    assert outcome.kind is OutcomeKind.FAILED
    assert "cycle_deadline" in outcome.detail
