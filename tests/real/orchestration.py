"""What is asked of a real Prefect server about families, ends and resumptions; the same of each version."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from reconciler.model import Cause, FlowRun, OutcomeKind, Verdict
from reconciler.plan import Finding, Resumption
from reconciler.prefect_api import Connection, PrefectApi
from tests.rigs.prefect import SeededRun, call, history, read, seed_run, seed_task_run, set_state

SETTLED = "prefect-reconciler.flow-run.settled"
RESUMPTION = Resumption(number=1, most=2, delay=timedelta(minutes=10))


def listed(api: PrefectApi, run: SeededRun) -> FlowRun:
    return next(found for found in api.in_flight().runs if found.id == run.id)


def finding_of(api: PrefectApi, run: SeededRun, rule: str = "6") -> Finding:
    return Finding(
        run=listed(api, run),
        verdict=Verdict.ZOMBIE,
        rule=rule,
        reason="its container was evicted",
        cause=Cause.EVICTED,
        adapter="docker",
        scope="prod-7",
    )


def connected(api_url: str) -> closing[PrefectApi]:
    return closing(PrefectApi(Connection(api_url)))


def task_run(api_url: str, task_run_id: UUID) -> dict[str, Any]:
    row: dict[str, Any] = call(api_url, "GET", f"/task_runs/{task_run_id}")
    return row


def events_of(run: SeededRun) -> list[dict[str, Any]]:
    """Ours about this run, that are kept."""
    since, until = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
    wanted = {
        "occurred": {"since": since.isoformat(), "until": until.isoformat()},
        "event": {"name": [SETTLED]},
        "resource": {"id": [f"prefect.flow-run.{run.id}"]},
    }
    events: list[dict[str, Any]] = call(run.api, "POST", "/events/filter", {"filter": wanted})["events"]
    return events


def check_families(api_url: str) -> None:
    """A subflow's parent; the open task runs, the subflow's placeholder among them; each is settled once."""
    parent = seed_run(api_url)
    child = seed_run(api_url, parent=parent)
    pending, ended = seed_task_run(parent, "PENDING"), seed_task_run(parent, "COMPLETED")
    with connected(api_url) as api:
        in_process = listed(api, child)
        assert in_process.is_in_process_subflow
        placeholder = in_process.parent_task_run_id
        assert placeholder is not None
        assert api.parents([placeholder, pending, ended, uuid.uuid4()]) == dict.fromkeys(
            (placeholder, pending, ended), parent.id
        )
        found = {one.id: one for one in api.open_task_runs([parent.id, child.id])}
        assert set(found) == {placeholder, pending}
        assert [found[one].state_type for one in (placeholder, pending)] == ["RUNNING", "PENDING"]
        assert [found[one].placeholder for one in (placeholder, pending)] == [True, False]
        for one in found.values():
            outcome = api.settle_task_run(one, "its flow run is Crashed")
            assert outcome.kind is OutcomeKind.ACCEPTED, outcome
            again = api.settle_task_run(one, "its flow run is Crashed")
            assert again.kind is OutcomeKind.SETTLED_ELSEWHERE, again
        state = task_run(api_url, pending)["state"]
        assert (state["type"], state["name"], state["message"]) == ("CRASHED", "Crashed", "its flow run is Crashed")
        assert api.open_task_runs([parent.id, child.id]) == []
        done = replace(found[pending], id=ended, state_id=uuid.uuid4())
        assert api.settle_task_run(done, "x").detail == "already COMPLETED"
        gone = api.settle_task_run(replace(done, id=uuid.uuid4()), "x")
        assert (gone.kind, gone.detail) == (OutcomeKind.STATE_CHANGED, "it was deleted")


def check_cancelled(api_url: str) -> None:
    """Cancelling becomes Cancelled, once; what has completed stays completed."""
    run, completed = seed_run(api_url, state="CANCELLING"), seed_run(api_url, state="CANCELLING")
    with connected(api_url) as api:
        finding, other = finding_of(api, run, "9"), finding_of(api, completed, "9")
        set_state(completed, "COMPLETED", force=True)
        outcome = api.settle(finding)
        assert outcome.kind is OutcomeKind.ACCEPTED, outcome
        assert outcome.is_last_word
        assert (outcome.alarm, outcome.detail) == (None, "")
        assert api.settle(finding).kind is OutcomeKind.SETTLED_ELSEWHERE
        assert api.settle(other).detail == "already COMPLETED"
    state = read(run)["state"]
    assert (state["type"], state["name"], state["message"]) == ("CANCELLED", "Cancelled", finding.message)
    assert [one["type"] for one in history(run)] == ["PENDING", "RUNNING", "CANCELLING", "CANCELLED"]
    assert read(completed)["state"]["type"] == "COMPLETED"


def check_resumed(api_url: str) -> SeededRun:
    """Crashed by us, then AwaitingRetry, once; not without a deployment, not what was resumed by others."""
    pool = f"pool-{uuid.uuid4()}"
    run, taken, script = seed_run(api_url, work_pool=pool), seed_run(api_url, work_pool=pool), seed_run(api_url)
    with connected(api_url) as api:
        crashes = {}
        for one in (run, taken, script):
            finding = replace(finding_of(api, one), resumption=RESUMPTION)
            settled = api.settle(finding)
            assert settled.is_last_word, settled
            assert settled.state_id is not None
            crashes[one.id] = finding, settled.state_id
        outcome = api.resume(*crashes[run.id])
        assert outcome.kind is OutcomeKind.ACCEPTED, outcome
        assert outcome.is_last_word
        assert api.resume(*crashes[run.id]).detail == "another reconciler resumed it"
        set_state(taken, "SCHEDULED", "AwaitingRetry")
        assert api.resume(*crashes[taken.id]).detail == "it is AwaitingRetry by now: left alone"
        finding, crash_id = crashes[script.id]
        pretended = replace(finding, run=replace(finding.run, deployment_id=uuid.uuid4()))
        refused = api.resume(pretended, crash_id)
        assert refused.kind is OutcomeKind.REFUSED
        assert "Cannot reschedule a run without an associated deployment" in refused.detail, refused
        assert api.reread([run.id])[run.id].state_name == "AwaitingRetry"
    row = read(run)
    assert (row["state_type"], row["state_name"]) == ("SCHEDULED", "AwaitingRetry")
    assert row["state"]["message"].startswith("resumed (1 of 2) by prefect-reconciler after Evicted: its container")
    due = datetime.fromisoformat(row["state"]["state_details"]["scheduled_time"])
    assert abs(due - datetime.now(UTC) - RESUMPTION.delay) < timedelta(minutes=1)
    return run
