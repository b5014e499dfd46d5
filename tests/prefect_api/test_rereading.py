"""Flow runs by their ids: one that cannot be read must neither look deleted nor hide the others."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from reconciler.model import StateType
from reconciler.ports import OrchestratorError, Unreadable
from tests.fake_prefect import FakePrefect, always, connect


def ids(rows: list[dict[str, Any]]) -> set[UUID]:
    return {UUID(row["id"]) for row in rows}


def test_runs_in_any_state_are_read(server: FakePrefect) -> None:
    rows = [server.add(state) for state in ("COMPLETED", "SCHEDULED", "PAUSED", "CRASHED")]
    found = connect(server).reread(ids(rows) | {uuid4()})
    assert [found[UUID(row["id"])].state_type for row in rows] == [
        StateType.COMPLETED,
        StateType.SCHEDULED,
        StateType.PAUSED,
        StateType.CRASHED,
    ]
    assert connect(server).reread([]) == {}


def test_only_a_final_state_tells_its_message_and_each_its_transition(server: FakePrefect) -> None:
    ended, running = server.add("CRASHED"), server.add()
    for row in (ended, running):
        row["state"]["message"] = "it was\nme" + "!" * 9000
    found = connect(server).reread(ids([ended, running]))
    message = found[UUID(ended["id"])].state_message
    assert message is not None
    assert message.startswith("it was me!")
    assert len(message) < 400
    assert found[UUID(running["id"])].state_message is None
    assert found[UUID(running["id"])].transition_id == UUID(running["state"]["state_details"]["transition_id"])


def test_a_poisoned_row_does_not_hide_the_others_and_does_not_look_deleted(server: FakePrefect) -> None:
    rows = [server.add() for _ in range(200)]
    bad = {UUID(rows[17]["id"]), UUID(rows[140]["id"])}
    server.poisoned = {str(run_id) for run_id in bad}
    api = connect(server)
    with pytest.raises(Unreadable) as caught:
        api.reread(ids(rows))
    assert caught.value.run_ids == bad
    assert set(caught.value.rows) == ids(rows) - bad
    assert all(str(run_id) in str(caught.value) for run_id in bad)
    assert "PATCH /flow_runs/<id>/labels" in str(caught.value)
    assert api.calls <= 61 + 16, "each 500 costs the next connection too"


def test_the_search_is_bounded(server: FakePrefect) -> None:
    rows = [server.add() for _ in range(200)]
    server.poisoned = {row["id"] for row in rows[::2]}
    with pytest.raises(Unreadable) as caught:
        connect(server).reread(ids(rows))
    assert {UUID(run_id) for run_id in server.poisoned} <= caught.value.run_ids
    assert caught.value.run_ids | set(caught.value.rows) == ids(rows)
    assert server.count("/filter") <= 2 * 61
    assert len(str(caught.value)) < 500


def test_a_server_that_fails_for_all_is_an_error(server: FakePrefect) -> None:
    rows = [server.add() for _ in range(3)]
    server.faults.append(always("/filter", lambda request: httpx.Response(500)))
    with pytest.raises(OrchestratorError, match=r"cannot be read: .* failed with status 500"):
        connect(server).reread(ids(rows))


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_refusal_is_not_searched_for(server: FakePrefect, status: int) -> None:
    server.faults.append(always("/filter", lambda request: httpx.Response(status)))
    api = connect(server)
    with pytest.raises(OrchestratorError) as caught:
        api.reread([uuid4() for _ in range(200)])
    assert not isinstance(caught.value, Unreadable)
    assert api.calls <= 6


def test_a_row_that_is_not_understood_is_not_deleted_either(server: FakePrefect) -> None:
    good, odd, nameless, other = (server.add() for _ in range(4))
    odd["run_count"] = "many"
    api = connect(server)
    with pytest.raises(Unreadable) as caught:
        api.reread(ids([good, odd, other]))
    assert caught.value.run_ids == {UUID(odd["id"])}
    assert "its data are not understood" in str(caught.value)
    body = json.loads(json.dumps([good, nameless | {"id": "?"}]))
    server.faults.append(always("/filter", lambda request: httpx.Response(200, json=body)))
    with pytest.raises(Unreadable) as caught:
        api.reread(ids([good, nameless, other]))
    assert caught.value.run_ids == ids([nameless, other]), "it may be any of these"


def test_a_server_that_ignores_the_filter_gives_no_others(server: FakePrefect) -> None:
    mine, other = server.add(), server.add()
    server.faults.append(always("/filter", lambda request: httpx.Response(200, json=[mine, other])))
    assert set(connect(server).reread(ids([mine]))) == ids([mine])
