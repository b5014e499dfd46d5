"""`prefect_api` against a real Prefect server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from reconciler.model import FlowRun, OutcomeKind, StateType, Verdict
from reconciler.plan import Finding, transition_id
from reconciler.prefect_api import Connection, PrefectApi
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, history, logs_of, seed_flow, seed_run, set_state, state_of

pytestmark = pytest.mark.prefect


Connect = Callable[..., PrefectApi]


@pytest.fixture
def connect(prefect_api_url: str) -> Iterator[Connect]:
    """Another `PrefectApi`, of another reconciler, perhaps over a transport of the test's own."""
    with ExitStack() as stack:

        def connect(transport: httpx.BaseTransport | None = None) -> PrefectApi:
            return stack.enter_context(closing(PrefectApi(Connection(prefect_api_url), transport=transport)))

        yield connect


@pytest.fixture
def api(connect: Connect) -> PrefectApi:
    return connect()


class Interrupted(httpx.HTTPTransport):
    """Does something once, after the first answered request to a path that ends so."""

    def __init__(self, path: str, then: Callable[[], object]) -> None:
        super().__init__()
        self._path, self._then = path, then
        self._done = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.url.path.endswith(self._path) and not self._done:
            self._done = True
            self._then()
        return response


def listed(api: PrefectApi, run: SeededRun) -> FlowRun:
    return next(found for found in api.in_flight().runs if found.id == run.id)


def zombie(api: PrefectApi, run: SeededRun) -> Finding:
    return Finding(run=listed(api, run), verdict=Verdict.ZOMBIE, rule="6", reason="its container exited with code 137")


def seed_many(api_url: str, count: int) -> list[str]:
    flow = seed_flow(api_url)
    body = {"flow_id": flow, "state": {"type": "RUNNING"}}
    return [call(api_url, "POST", "/flow_runs/", body)["id"] for _ in range(count)]


def finish(api_url: str, run_ids: list[str]) -> None:
    for run_id in run_ids:
        call(api_url, "POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "COMPLETED"}})


def test_runs_that_finish_while_pages_are_read_hide_no_others(prefect_api_url: str, connect: Connect) -> None:
    runs = seed_many(prefect_api_url, 450)
    transport = Interrupted("/flow_runs/filter", lambda: finish(prefect_api_url, runs[:50]))
    api = connect(transport)

    listing = api.in_flight()

    assert {str(run.id) for run in listing.runs} >= set(runs[50:])
    assert listing.problems == ()
    assert api.server_version
    again = {str(run.id) for run in api.in_flight().runs}
    assert again >= set(runs[50:])
    assert again.isdisjoint(runs[:50])
    finish(prefect_api_url, runs[50:])


def test_a_tie_longer_than_a_page_is_read_to_its_end(prefect_api_url: str, api: PrefectApi) -> None:
    due = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    flow = seed_flow(prefect_api_url)
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": {"scheduled_time": due}}
    body = {"flow_id": flow, "state": state, "empirical_policy": {"retry_type": "in_process"}}
    runs = [call(prefect_api_url, "POST", "/flow_runs/", body)["id"] for _ in range(230)]

    listing = api.in_flight()

    waiting = {str(run.id): run for run in listing.runs if run.state_type is StateType.SCHEDULED}
    assert set(waiting) >= set(runs)
    assert listing.problems == ()
    assert waiting[runs[0]].scheduled_time == datetime.fromisoformat(due)
    assert waiting[runs[0]].awaits_retry_in_process
    for run_id in runs:
        call(prefect_api_url, "DELETE", f"/flow_runs/{run_id}")


def test_a_poisoned_row_is_named_and_the_others_are_listed(prefect_api_url: str, api: PrefectApi) -> None:
    runs = seed_many(prefect_api_url, 30)
    bad = runs[17]
    call(prefect_api_url, "PATCH", f"/flow_runs/{bad}/labels", {"broken": None})
    try:
        listing = api.in_flight()
    finally:
        call(prefect_api_url, "PATCH", f"/flow_runs/{bad}/labels", {"broken": "mended"})

    assert {str(run.id) for run in listing.runs} >= set(runs) - {bad}
    (problem,) = listing.problems
    assert f"PATCH /flow_runs/{bad}/labels" in problem
    mended = api.in_flight()
    assert bad in {str(run.id) for run in mended.runs}
    assert mended.problems == ()
    finish(prefect_api_url, runs)


def test_a_workers_run_is_understood(prefect_api_url: str, api: PrefectApi) -> None:
    pool = f"pool-{uuid.uuid4()}"
    labels = {"prefect.worker.name": "w-1", "prefect.worker.type": "docker"}
    labelled = listed(api, seed_run(prefect_api_url, work_pool=pool, worker_type="docker", labels=labels, pid="a:b"))
    plain = listed(api, seed_run(prefect_api_url, work_pool=pool))
    assert (labelled.worker, labelled.worker_type, labelled.pid) == ("w-1", "docker", "a:b")
    assert (labelled.work_pool, labelled.work_queue) == (pool, "default")
    assert labelled.deployment_id is not None
    assert (plain.worker_type, plain.pid) == ("docker", None)


def test_a_running_zombie_is_settled_and_its_log_says_why(prefect_api_url: str, api: PrefectApi) -> None:
    run = seed_run(prefect_api_url, pid="4242")
    finding = zombie(api, run)

    outcome = api.settle(finding)

    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.alarm is None
    assert outcome.detail == ""
    assert outcome.state_before is not None
    assert outcome.state_before.id == finding.run.state_id
    records = api.history(run.id)
    assert [record.type for record in records] == [StateType.PENDING, StateType.RUNNING, StateType.CRASHED]
    assert records[-1].transition_id == transition_id(run.id, finding.run.state_id)
    assert history(run)[-1]["message"] == finding.message
    (line,) = wait_until(lambda: logs_of(run), "the log line is shown", 30)
    assert (line["name"], line["level"], line["message"]) == ("prefect.reconciler", 40, finding.message)


def test_two_reconcilers_settle_once(prefect_api_url: str, api: PrefectApi, connect: Connect) -> None:
    run = seed_run(prefect_api_url, state="PENDING")
    finding = zombie(api, run)
    other = connect()
    assert api.settle(finding).kind is OutcomeKind.ACCEPTED
    outcome = other.settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "another reconciler settled it")
    assert [state["type"] for state in history(run)] == ["PENDING", "CRASHED"]


def test_two_reconcilers_at_the_same_moment(prefect_api_url: str, api: PrefectApi, connect: Connect) -> None:
    run = seed_run(prefect_api_url)
    finding = zombie(api, run)
    between = Interrupted(f"/flow_runs/{run.id}", lambda: api.settle(finding))
    outcome = connect(between).settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "another reconciler settled it")
    assert len(history(run)) == 3


def test_a_run_that_completes_meanwhile_stays_completed(
    prefect_api_url: str, api: PrefectApi, connect: Connect
) -> None:
    for before_the_read in (True, False):
        run = seed_run(prefect_api_url)
        finding = zombie(api, run)
        complete = lambda run=run: set_state(run, "COMPLETED")  # noqa: E731
        between = Interrupted(f"/flow_runs/{run.id}", (lambda: None) if before_the_read else complete)
        if before_the_read:
            complete()
        outcome = connect(between).settle(finding)
        assert (outcome.kind, outcome.detail) == (OutcomeKind.SETTLED_ELSEWHERE, "already COMPLETED")
        assert state_of(run) == "COMPLETED"
        assert logs_of(run) == []


def test_a_rescheduled_run_is_left_alone(prefect_api_url: str, api: PrefectApi) -> None:
    run = seed_run(prefect_api_url, work_pool=f"pool-{uuid.uuid4()}", worker_type="process")
    finding = zombie(api, run)
    set_state(run, "SCHEDULED", "AwaitingRetry", force=True)
    outcome = api.settle(finding)
    assert outcome.kind is OutcomeKind.STATE_CHANGED
    assert "its state is now SCHEDULED, was RUNNING" in outcome.detail
    assert state_of(run) == "SCHEDULED"


def test_a_new_attempt_that_slips_in_alarms(prefect_api_url: str, api: PrefectApi, connect: Connect) -> None:
    run = seed_run(prefect_api_url)
    finding = zombie(api, run)

    def next_attempt() -> None:
        set_state(run, "CRASHED")
        set_state(run, "RUNNING", "Retrying")

    between = Interrupted(f"/flow_runs/{run.id}", next_attempt)
    outcome = connect(between).settle(finding)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.alarm is not None
    assert "it replaced Retrying" in outcome.alarm
    set_state(run, "RUNNING")  # the repair that the alarm names
    assert state_of(run) == "RUNNING"
    set_state(run, "COMPLETED")


def test_a_deleted_run_is_told(prefect_api_url: str, api: PrefectApi) -> None:
    run = seed_run(prefect_api_url)
    finding = zombie(api, run)
    call(prefect_api_url, "DELETE", f"/flow_runs/{run.id}")
    outcome = api.settle(finding)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.STATE_CHANGED, "it was deleted")


def test_heartbeats_are_counted_per_run(prefect_api_url: str, api: PrefectApi) -> None:
    runs = [uuid.uuid4() for _ in range(3)]
    now = datetime.now(UTC)
    times = [now - timedelta(seconds=seconds) for seconds in (5, 35, 65)]
    events = [_heartbeat(run, at) for run in runs for at in times] + [_heartbeat(runs[0], now - timedelta(hours=2))]
    call(prefect_api_url, "POST", "/events", events)

    for asked in (runs[:2], [*runs[:2], *(uuid.uuid4() for _ in range(200))]):
        beats = wait_until(lambda asked=asked: _complete(api, asked, len(times)), "the heartbeats are counted", 60)
        assert set(beats) == set(runs[:2])
        for beat in beats.values():
            assert (beat.first, beat.last) == (times[-1], times[0])


def _complete(api: PrefectApi, asked: list[UUID], count: int) -> dict[UUID, object] | None:
    beats = api.heartbeats(asked)
    assert beats is not None
    return dict(beats) if len(beats) == 2 and all(beat.count == count for beat in beats.values()) else None


def _heartbeat(run: UUID, at: datetime) -> dict[str, object]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": at.isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [],
        "payload": {},
    }


def test_the_servers_clock_is_ours(api: PrefectApi) -> None:
    api.ping()
    assert abs(api.clock.offset) <= api.clock.uncertainty
    assert api.clock.uncertainty < timedelta(seconds=2)


@pytest.mark.slow
def test_older_servers_are_listed_and_settled(old_api_url: str) -> None:
    run = seed_run(old_api_url, pid="4242")
    with closing(PrefectApi(Connection(old_api_url))) as api:
        finding = zombie(api, run)
        assert finding.run.pid == "4242"
        assert api.server_version
        assert api.settle(finding).kind is OutcomeKind.ACCEPTED
        assert api.settle(finding).kind is OutcomeKind.SETTLED_ELSEWHERE
        beats = api.heartbeats([run.id])
    assert beats is None if api.server_version.startswith("2.") else beats == {}
