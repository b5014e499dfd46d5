"""Cancelled is written for nothing but the very Cancelling that was judged: no server guards it."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from reconciler.model import OutcomeKind
from reconciler.plan import Finding, transition_id
from tests.fake_prefect import FakePrefect, connect, failing, judged
from tests.prefect_api.faults import lost, meanwhile


def cancelling(server: FakePrefect) -> Finding:
    return replace(judged(server, "CANCELLING"), rule="9")


def states(server: FakePrefect, finding: Finding) -> list[str]:
    return [state["type"] for state in server.history[str(finding.run.id)]]


def test_a_stuck_cancelling_becomes_cancelled(server: FakePrefect) -> None:
    finding = cancelling(server)
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.is_last_word
    state = server.runs[str(finding.run.id)]["state"]
    assert (state["type"], state["name"], state["message"]) == ("CANCELLED", "Cancelled", finding.message)
    assert state["state_details"]["transition_id"] == str(transition_id(finding.run.id, finding.run.state_id))
    assert [line["level"] for line in server.logs] == [30]
    (event,) = server.events.values()
    assert event["resource"]["prefect-reconciler.action"] == "cancel"


@pytest.mark.parametrize("rule", ["6", "7", "8", "10"])
def test_no_other_rule_cancels(server: FakePrefect, rule: str) -> None:
    api = connect(server)
    outcome = api.settle(replace(cancelling(server), rule=rule))
    assert outcome.kind is OutcomeKind.REFUSED
    assert f"is never settled by rule {rule}" in outcome.detail
    assert api.calls == 0


@pytest.mark.parametrize("final", ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"])
def test_what_has_ended_is_not_overwritten(server: FakePrefect, final: str) -> None:
    finding = cancelling(server)
    server.enter(str(finding.run.id), final)
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, f"already {final}")
    assert server.count("/set_state") == 0


def test_a_run_that_runs_again_or_is_cancelled_anew_is_left_alone(server: FakePrefect) -> None:
    finding = cancelling(server)
    server.enter(str(finding.run.id), "CANCELLING")
    assert "it entered Cancelling anew at" in connect(server).settle(finding).detail
    server.enter(str(finding.run.id), "RUNNING")
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.STATE_CHANGED, "its state is now RUNNING, was CANCELLING")
    assert server.count("/set_state") == 0


@pytest.mark.parametrize("answer", [httpx.ReadTimeout("slow"), httpx.Response(503), httpx.Response(502)])
def test_an_answer_that_was_lost_is_not_answered_by_a_second_write(
    server: FakePrefect, answer: httpx.Response | Exception
) -> None:
    finding = cancelling(server)
    server.faults.append(lost(server, "/set_state", answer))
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.is_last_word
    assert server.count("/set_state") == 1
    assert states(server, finding) == ["CANCELLING", "CANCELLED"]


@pytest.mark.parametrize("final", ["COMPLETED", "CRASHED"])
def test_after_a_503_the_run_is_read_before_it_is_proposed_again(server: FakePrefect, final: str) -> None:
    finding = cancelling(server)
    run_id = str(finding.run.id)
    server.faults += [
        meanwhile("/set_state", lambda: server.enter(run_id, final)),
        failing("/set_state", httpx.Response(503)),
    ]
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, f"already {final}")
    assert server.count("/set_state") == 1
    assert states(server, finding) == ["CANCELLING", final]


def test_an_end_that_slipped_in_alarms_and_names_the_way_back(server: FakePrefect) -> None:
    finding = cancelling(server)
    run_id = str(finding.run.id)
    server.faults.append(meanwhile("/set_state", lambda: server.enter(run_id, "CRASHED")))
    outcome = connect(server).settle(finding)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert not outcome.is_undisturbed
    assert outcome.alarm is not None
    assert "while Cancelled was being written: it replaced Crashed of" in outcome.alarm
    assert f"POST /flow_runs/{run_id}/set_state" in outcome.alarm


def test_two_reconcilers_cancel_once(server: FakePrefect) -> None:
    finding = cancelling(server)
    assert connect(server).settle(finding).kind is OutcomeKind.ACCEPTED
    outcome = connect(server).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "another reconciler settled it")
    assert states(server, finding) == ["CANCELLING", "CANCELLED"]
