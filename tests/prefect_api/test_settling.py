from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import pytest

from reconciler.model import OutcomeKind, StateType, Verdict
from reconciler.plan import transition_id
from tests.fake_prefect import (
    URL,
    FakePrefect,
    always,
    connect,
    failing,
    judged,
    zombie,
)
from tests.prefect_api.faults import lost, meanwhile


@pytest.mark.parametrize(
    ("state_type", "name", "retry"),
    [("RUNNING", None, None), ("PENDING", "Submitting", None), ("SCHEDULED", "AwaitingRetry", "in_process")],
)
def test_a_zombie_is_settled(server: FakePrefect, state_type: str, name: str | None, retry: str | None) -> None:
    finding = judged(server, state_type, name, empirical_policy={"retry_type": retry})
    run = finding.run

    outcome = connect(server).settle(finding)

    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.alarm is None
    assert outcome.state_before is not None
    assert outcome.state_before.id == run.state_id
    state = server.runs[str(run.id)]["state"]
    assert (str(outcome.state_id), outcome.is_undisturbed, outcome.detail) == (state["id"], True, "")
    assert (state["type"], state["name"]) == ("CRASHED", "Crashed")
    assert state["state_details"]["transition_id"] == str(transition_id(run.id, run.state_id))
    (line,) = server.logs
    assert (line["name"], line["level"], line["flow_run_id"]) == ("prefect.reconciler", 40, str(run.id))
    assert line["message"] == finding.message
    assert datetime.fromisoformat(line["timestamp"]) == datetime.fromisoformat(state["timestamp"])
    assert [request.method for request in server.requests] == ["GET", "POST", "GET", "POST", "POST"]
    assert [request.url.path for request in server.requests][3:] == ["/api/logs/", "/api/events"]
    assert json.loads(server.requests[1].content)["state"]["message"] == finding.message


def test_what_must_never_be_proposed_is_not_even_asked_about(server: FakePrefect) -> None:
    run = judged(server).run
    api = connect(server)
    for unfit in (
        {"state_type": StateType.CANCELLING, "state_name": "Cancelling"},
        {"state_type": StateType.PAUSED},
        {"state_type": StateType.SCHEDULED, "state_name": "AwaitingRetry", "retry_type": "reschedule"},
        {"state_type": StateType.SCHEDULED, "state_name": "Late", "retry_type": "in_process"},
        {"state_type": StateType.COMPLETED},
    ):
        assert api.settle(zombie(replace(run, **unfit))).kind is OutcomeKind.REFUSED
    assert api.settle(replace(zombie(run), verdict=Verdict.HELD)).kind is OutcomeKind.REFUSED
    assert api.calls == 0


@pytest.mark.parametrize("final", ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"])
def test_a_run_that_ended_meanwhile(server: FakePrefect, final: str) -> None:
    finding = judged(server)
    server.enter(str(finding.run.id), final)
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, f"already {final}")
    assert server.count("/set_state") == 0


def test_a_run_that_ends_between_read_and_write(server: FakePrefect) -> None:
    finding = judged(server)
    server.faults.append(
        lambda request: (
            server.enter(str(finding.run.id), "COMPLETED") and None if request.url.path.endswith("/set_state") else None
        )
    )
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "already COMPLETED")
    assert server.logs == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run_count": 2}, "its run count is now 2, was 1"),
        ({"infrastructure_pid": "new"}, "its infrastructure_pid is now new, was pid-0"),
        ({"empirical_policy": {"retry_type": "reschedule"}}, "its kind of retry is now reschedule, was None"),
    ],
)
def test_a_run_that_moved_on_is_left_alone(server: FakePrefect, change: dict[str, Any], words: str) -> None:
    finding = judged(server)
    server.runs[str(finding.run.id)] |= change
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.STATE_CHANGED, words)
    assert server.count("/set_state") == 0


def test_a_state_entered_anew_is_another_state(server: FakePrefect) -> None:
    finding = judged(server)
    server.enter(str(finding.run.id), "RUNNING")
    assert "it entered Running anew at" in connect(server).settle(finding).detail
    server.enter(str(finding.run.id), "SCHEDULED", "AwaitingRetry")
    assert connect(server).settle(finding).detail == "its state is now SCHEDULED, was RUNNING"
    assert server.count("/set_state") == 0


def test_a_deleted_run(server: FakePrefect) -> None:
    finding = judged(server)
    row = server.runs.pop(str(finding.run.id))
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.STATE_CHANGED, "it was deleted")
    # deleted after the read
    server.faults.append(failing(row["id"], httpx.Response(200, json=row)))
    assert connect(server).settle(finding).detail == "it was deleted"
    assert server.count("/set_state") == 1


def test_a_404_of_the_route_is_not_a_deleted_run(server: FakePrefect) -> None:
    finding = judged(server)
    outcome = connect(server, "http://prefect.test/elsewhere").settle(finding)
    assert outcome.kind is OutcomeKind.FAILED
    assert "does the address end in /api" in outcome.detail


def test_two_reconcilers_settle_once(server: FakePrefect) -> None:
    finding = judged(server)
    assert connect(server).settle(finding).kind is OutcomeKind.ACCEPTED
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "another reconciler settled it")


def test_two_reconcilers_at_the_same_moment(server: FakePrefect) -> None:
    finding = judged(server)
    others = connect(server)

    def other_first(request: httpx.Request) -> None:
        if request.url.path.endswith("/set_state"):
            server.faults.clear()
            assert others.settle(finding).kind is OutcomeKind.ACCEPTED

    server.faults.append(other_first)
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "another reconciler settled it")
    assert len(server.logs) == 1


@pytest.mark.parametrize("answer", [httpx.ReadError("reset"), httpx.ReadTimeout("slow"), httpx.Response(504)])
def test_an_answer_that_was_lost_is_recognised_as_ours(server: FakePrefect, answer: httpx.Response | Exception) -> None:
    finding = judged(server)

    server.faults.append(lost(server, "/set_state", answer))
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.alarm is None
    assert outcome.state_before is not None
    assert outcome.is_last_word
    assert [state["type"] for state in server.history[str(finding.run.id)]] == ["RUNNING", "CRASHED"]
    assert len(server.logs) == 1


@pytest.mark.parametrize(
    ("then", "name"), [("COMPLETED", "Completed"), ("SCHEDULED", "Scheduled"), ("CANCELLED", "Cancelled")]
)
def test_what_was_written_is_owned_up_to_when_the_run_has_moved_on_before_we_knew(
    server: FakePrefect, then: str, name: str
) -> None:
    """Otherwise nobody would count that false crash as ours."""
    finding = judged(server)
    run_id = str(finding.run.id)

    def moves_on() -> None:
        server.faults.append(meanwhile(run_id, lambda: server.enter(run_id, then)))

    server.faults += [meanwhile("/set_state", moves_on), lost(server, "/set_state", httpx.ReadTimeout("slow"))]
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.ACCEPTED, f"the flow run has reported {name} since")
    assert not outcome.is_undisturbed
    assert not outcome.is_last_word
    assert [state["type"] for state in server.history[run_id]] == ["RUNNING", "CRASHED", then]


@pytest.mark.parametrize("answer", [httpx.ConnectError("refused"), httpx.Response(429), httpx.Response(503)])
def test_a_proposal_that_did_not_arrive_is_made_again_after_a_new_read(
    server: FakePrefect, answer: httpx.Response | Exception
) -> None:
    finding = judged(server)
    server.faults.append(failing("/set_state", answer))
    assert connect(server).settle(finding).kind is OutcomeKind.ACCEPTED
    assert [request.method for request in server.requests][:4] == ["GET", "POST", "GET", "POST"]


def test_a_proposal_that_did_not_arrive_is_not_claimed(server: FakePrefect) -> None:
    finding = judged(server)
    other = connect(server)

    def refused_then_other(request: httpx.Request) -> Exception | None:
        if not request.url.path.endswith("/set_state"):
            return None
        server.faults.clear()
        other.settle(finding)
        return httpx.ConnectError("refused")

    server.faults.append(refused_then_other)
    assert connect(server).settle(finding).kind is OutcomeKind.SETTLED_ELSEWHERE


@pytest.mark.parametrize("status", ["REJECT", "ABORT", "WAIT"])
def test_a_refusal_tells_the_servers_reason(server: FakePrefect, status: str) -> None:
    finding = judged(server)
    state = server.runs[str(finding.run.id)]["state"]
    answer = {"status": status, "state": state, "details": {"reason": "Not today."}}
    server.faults.append(failing("/set_state", httpx.Response(201, json=answer)))
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.REFUSED
    assert "Not today." in outcome.detail


def test_another_accepted_state_alarms(server: FakePrefect) -> None:
    finding = judged(server)
    state = server.runs[str(finding.run.id)]["state"] | {"type": "FAILED", "name": "Failed"}
    answer = {"status": "ACCEPT", "state": state, "details": {}}
    server.faults.append(failing("/set_state", httpx.Response(201, json=answer)))
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.REFUSED
    assert outcome.alarm is not None
    assert "accepted Failed" in outcome.alarm


def test_a_new_attempt_that_slipped_in_alarms(server: FakePrefect) -> None:
    finding = judged(server)

    def new_attempt(request: httpx.Request) -> None:
        if request.url.path.endswith("/set_state"):
            server.enter(str(finding.run.id), "RUNNING", "Retrying")

    server.faults.append(new_attempt)
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.state_before is not None
    assert outcome.state_before.name == "Retrying"
    assert outcome.alarm is not None
    assert "it replaced Retrying of" in outcome.alarm
    assert "type RUNNING" in outcome.alarm
    assert not outcome.is_undisturbed


def test_a_run_that_heals_itself_is_told(server: FakePrefect) -> None:
    finding = judged(server)
    server.faults.append(
        lambda request: (
            server.enter(str(finding.run.id), "COMPLETED") and None
            if request.url.path.endswith("/flow_run_states/")
            else None
        )
    )
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert "has reported Completed since" in outcome.detail
    assert outcome.state_id is not None
    assert not outcome.is_undisturbed


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/flow_run_states/", "could not be checked"),
        ("/logs/", "no line was added to the flow run's log"),
        ("/events", "no event was sent"),
    ],
)
def test_after_work_that_fails_changes_nothing_but_the_detail(server: FakePrefect, path: str, words: str) -> None:
    finding = judged(server)
    server.faults.append(always(path, lambda request: httpx.Response(500, json={})))
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert words in outcome.detail + (outcome.alarm or "")
    assert (outcome.alarm is not None) is ("checked" in words), "what it replaced is for a person to look at"
    assert outcome.is_undisturbed is ("checked" not in words)
    assert outcome.state_id is not None


@pytest.mark.parametrize("path", ["", "/set_state"])
@pytest.mark.parametrize(
    "answer", [httpx.Response(500, json={}), httpx.Response(200, text="x"), httpx.ReadTimeout("x")]
)
def test_an_error_is_an_outcome(server: FakePrefect, path: str, answer: httpx.Response | Exception) -> None:
    finding = judged(server)
    server.faults.append(always(f"{finding.run.id}{path}", lambda request: answer))
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.FAILED
    assert URL in outcome.detail


@pytest.mark.parametrize(
    ("slow_reads", "kind", "proposals"),
    [(0, OutcomeKind.ACCEPTED, 1), (2, OutcomeKind.ACCEPTED, 1), (3, OutcomeKind.FAILED, 0)],
)
def test_a_read_that_is_too_old_is_not_acted_on(
    server: FakePrefect, slow_reads: int, kind: OutcomeKind, proposals: int
) -> None:
    finding = judged(server)
    seconds = 0.0

    def slow(request: httpx.Request) -> None:
        nonlocal seconds
        seconds += 4.2 if server.count(str(finding.run.id)) <= slow_reads else 0.1

    server.faults.append(slow)
    outcome = connect(server, monotonic=lambda: seconds).settle(finding)
    assert outcome.kind is kind
    assert server.count("/set_state") == proposals
    if not proposals:
        assert "takes 4.2 s to answer" in outcome.detail
        assert server.count(str(finding.run.id)) == 3
