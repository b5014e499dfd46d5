"""A run that we crashed is started again while that Crashed is its state, once, and no other run ever is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from reconciler.clock import since_boot
from reconciler.model import Cause, OutcomeKind, StateType, Verdict
from reconciler.plan import Finding, Resumption, resumption_id
from reconciler.prefect_api import PrefectApi
from tests.fake_prefect import FakePrefect, always, connect, failing, judged
from tests.prefect_api.faults import lost, meanwhile

DEPLOYMENT = "6f0d9d0e-5a7c-4c3e-9d55-7d1d9a3b8f11"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESUMPTION = Resumption(number=1, most=2, delay=timedelta(seconds=30))


def crashed(server: FakePrefect, api: PrefectApi | None = None, **fields: Any) -> tuple[Finding, UUID]:
    """A run that we have just settled, and the id of its Crashed."""
    finding = judged(server, **{"deployment_id": DEPLOYMENT} | fields)
    finding = replace(finding, cause=Cause.EVICTED, resumption=RESUMPTION)
    crash_id = (api or connect(server)).settle(finding).state_id
    assert crash_id is not None
    server.requests.clear()
    return finding, crash_id


def states(server: FakePrefect, finding: Finding) -> list[str]:
    return [state["name"] for state in server.history[str(finding.run.id)]]


def test_a_crashed_run_is_set_to_await_its_retry(server: FakePrefect) -> None:
    server.now = lambda: NOW + timedelta(minutes=7)  # its clock is ahead of ours
    api = connect(server, clock=lambda: NOW)
    finding, crash_id = crashed(server, api)
    outcome = api.resume(finding, crash_id)
    assert (outcome.kind, outcome.detail, outcome.alarm) == (OutcomeKind.ACCEPTED, "", None)
    assert outcome.is_last_word
    assert outcome.state_before is not None
    assert outcome.state_before.id == crash_id
    row = server.runs[str(finding.run.id)]
    state = row["state"]
    assert (str(outcome.state_id), state["type"], state["name"]) == (state["id"], "SCHEDULED", "AwaitingRetry")
    assert row["empirical_policy"]["retry_type"] == "reschedule"
    assert state["state_details"]["transition_id"] == str(resumption_id(finding.run.id, crash_id))
    due = datetime.fromisoformat(state["state_details"]["scheduled_time"])
    assert abs(due - server.now() - RESUMPTION.delay) < timedelta(seconds=3), "by the server's clock"
    assert state["message"] == f"resumed (1 of 2) by prefect-reconciler after Evicted: {finding.reason}"
    assert states(server, finding) == ["Running", "Crashed", "AwaitingRetry"]
    assert [request.method for request in server.requests] == ["GET", "POST", "GET"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resumption": None}, "nobody asked for it"),
        ({"verdict": Verdict.HELD}, "only a flow run that we set to Crashed"),
        ({"run": {"state_type": StateType.CANCELLING}}, "only a flow run that we set to Crashed"),
        ({"run": {"parent_task_run_id": uuid4()}}, "a subflow never is"),
        ({"run": {"deployment_id": None}}, "it has no deployment"),
    ],
)
def test_what_must_never_be_resumed_is_not_even_asked_about(
    server: FakePrefect, change: dict[str, Any], words: str
) -> None:
    finding, crash_id = crashed(server)
    if "run" in change:
        change = {"run": replace(finding.run, **change["run"])}
    api = connect(server)
    outcome = api.resume(replace(finding, **change), crash_id)
    assert outcome.kind is OutcomeKind.REFUSED
    assert words in outcome.detail
    assert api.calls == 0


@pytest.mark.parametrize(
    ("state_type", "name", "told"),
    [
        ("SCHEDULED", "AwaitingRetry", "AwaitingRetry"),  # by an automation
        ("PENDING", None, "Pending"),
        ("RUNNING", "Retrying", "Retrying"),
        ("COMPLETED", None, "Completed"),
        ("CANCELLED", None, "Cancelled"),
        ("CRASHED", None, "Crashed"),  # another one
    ],
)
def test_a_run_that_is_not_in_our_crash_any_more_is_left_alone(
    server: FakePrefect, state_type: str, name: str | None, told: str
) -> None:
    finding, crash_id = crashed(server)
    server.enter(str(finding.run.id), state_type, name)
    outcome = connect(server).resume(finding, crash_id)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.STATE_CHANGED, f"it is {told} by now: left alone")
    assert server.count("/set_state") == 0


def test_a_deleted_run(server: FakePrefect) -> None:
    finding, crash_id = crashed(server)
    del server.runs[str(finding.run.id)]
    outcome = connect(server).resume(finding, crash_id)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.STATE_CHANGED, "it was deleted")


@pytest.mark.parametrize("answer", [httpx.ReadTimeout("slow"), httpx.ReadError("reset"), httpx.Response(503)])
def test_an_answer_that_was_lost_is_recognised_as_ours(server: FakePrefect, answer: httpx.Response | Exception) -> None:
    finding, crash_id = crashed(server)
    server.faults.append(lost(server, "/set_state", answer))
    outcome = connect(server).resume(finding, crash_id)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.is_last_word
    assert states(server, finding) == ["Running", "Crashed", "AwaitingRetry"]


def test_an_answer_that_was_lost_is_recognised_when_a_worker_was_faster(server: FakePrefect) -> None:
    """Otherwise the run would be told as resumed by somebody else, or resumed twice."""
    finding, crash_id = crashed(server)
    run_id = str(finding.run.id)

    def fetched() -> None:
        server.faults.append(meanwhile(run_id, lambda: server.enter(run_id, "PENDING")))

    server.faults += [meanwhile("/set_state", fetched), lost(server, "/set_state", httpx.ReadTimeout("slow"))]
    outcome = connect(server).resume(finding, crash_id)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.ACCEPTED, "the flow run has reported Pending since")
    assert outcome.alarm is None
    assert not outcome.is_undisturbed
    assert server.count("/set_state") == 1


def test_a_proposal_that_did_not_arrive_is_made_again_after_a_new_read(server: FakePrefect) -> None:
    finding, crash_id = crashed(server)
    server.faults.append(failing("/set_state", httpx.Response(503), httpx.ConnectError("refused")))
    assert connect(server).resume(finding, crash_id).kind is OutcomeKind.ACCEPTED
    assert [request.method for request in server.requests] == ["GET", "POST"] * 3 + ["GET"]


def test_a_503_and_then_an_automation(server: FakePrefect) -> None:
    finding, crash_id = crashed(server)
    run_id = str(finding.run.id)
    server.faults += [
        meanwhile("/set_state", lambda: server.enter(run_id, "SCHEDULED")),
        failing("/set_state", httpx.Response(503)),
    ]
    outcome = connect(server).resume(finding, crash_id)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.STATE_CHANGED, "it is Scheduled by now: left alone")
    assert states(server, finding) == ["Running", "Crashed", "Scheduled"]


def test_two_reconcilers_resume_once(server: FakePrefect) -> None:
    finding, crash_id = crashed(server)
    assert connect(server).resume(finding, crash_id).kind is OutcomeKind.ACCEPTED
    outcome = connect(server).resume(finding, crash_id)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "another reconciler resumed it")
    # and at the same moment
    finding, crash_id = crashed(server)
    server.faults.append(meanwhile("/set_state", lambda: connect(server).resume(finding, crash_id)))
    outcome = connect(server).resume(finding, crash_id)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "another reconciler resumed it")
    assert states(server, finding) == ["Running", "Crashed", "AwaitingRetry"]


def test_an_end_that_slipped_in_alarms(server: FakePrefect) -> None:
    """The server accepts Scheduled for a run that has completed."""
    finding, crash_id = crashed(server)
    run_id = str(finding.run.id)
    server.faults.append(meanwhile("/set_state", lambda: server.enter(run_id, "COMPLETED")))
    outcome = connect(server).resume(finding, crash_id)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert not outcome.is_undisturbed
    assert outcome.alarm is not None
    assert "AwaitingRetry replaced Completed of" in outcome.alarm
    assert f"POST /flow_runs/{run_id}/set_state with type CANCELLED" in outcome.alarm


def test_the_servers_own_reason_is_told(server: FakePrefect) -> None:
    """Its deployment was deleted meanwhile."""
    finding, crash_id = crashed(server)
    server.runs[str(finding.run.id)]["deployment_id"] = None
    outcome = connect(server).resume(finding, crash_id)
    assert outcome.kind is OutcomeKind.REFUSED
    assert "Cannot reschedule a run without an associated deployment." in outcome.detail


def test_another_accepted_state_alarms(server: FakePrefect) -> None:
    finding, crash_id = crashed(server)
    state = server.runs[str(finding.run.id)]["state"] | {"type": "FAILED", "name": "Failed"}
    server.faults.append(failing("/set_state", httpx.Response(201, json={"status": "ACCEPT", "state": state})))
    outcome = connect(server).resume(finding, crash_id)
    assert outcome.kind is OutcomeKind.REFUSED
    assert outcome.alarm is not None
    assert "AwaitingRetry was proposed, and the server accepted Failed" in outcome.alarm


def test_a_history_that_cannot_be_read_alarms(server: FakePrefect) -> None:
    finding, crash_id = crashed(server)
    server.faults.append(always("/flow_run_states/", lambda request: httpx.Response(403)))
    outcome = connect(server).resume(finding, crash_id)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert not outcome.is_undisturbed
    assert "what AwaitingRetry replaced could not be checked" in (outcome.alarm or "")


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(503), httpx.ReadTimeout("x")])
def test_an_error_is_an_outcome(server: FakePrefect, answer: httpx.Response | Exception) -> None:
    finding, crash_id = crashed(server)
    server.faults.append(always(str(finding.run.id), lambda request: answer))
    assert connect(server).resume(finding, crash_id).kind is OutcomeKind.FAILED


def test_it_has_time_of_its_own(server: FakePrefect) -> None:
    finding, crash_id = crashed(server)
    api = connect(server)
    api.begin(since_boot() - 1)
    assert api.resume(finding, crash_id).kind is OutcomeKind.ACCEPTED
