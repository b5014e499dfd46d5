"""What follows a settlement, against a real Prefect server: the event, labels, task runs, Cancelled, a resumption."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from reconciler.model import OutcomeKind
from reconciler.prefect_api import Connection, PrefectApi
from reconciler.prefect_api.rereading import Unreadable
from tests.real.orchestration import (
    check_cancelled,
    check_families,
    check_resumed,
    connected,
    events_of,
    finding_of,
    listed,
)
from tests.rigs.polling import wait_until
from tests.rigs.prefect import call, read, seed_run, set_state, state_of

pytestmark = pytest.mark.prefect


class LosesAnswer(httpx.HTTPTransport):
    """The first request to a path that ends so is carried out, and its answer lost."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path, self.times = path, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.url.path.endswith(self._path):
            response.read()
            self.times += 1
            if self.times == 1:
                raise httpx.ReadTimeout("lost")
        return response


def test_families_and_their_task_runs(prefect_api_url: str) -> None:
    check_families(prefect_api_url)


def test_a_stuck_cancelling(prefect_api_url: str) -> None:
    check_cancelled(prefect_api_url)


def test_a_resumption(prefect_api_url: str) -> None:
    since = timedelta(minutes=10)
    with connected(prefect_api_url) as api:
        before = {run.id for run, _ in api.crashed_by_us(since)}
        run = check_resumed(prefect_api_url)
        later = {run.id: message for run, message in api.crashed_by_us(since)}
        left = later.keys() - before
        assert len(left) == 1, "two of the three have been started again"
        assert all("its container was evicted" in later[run_id] for run_id in left)
    assert read(run)["empirical_policy"]["retry_type"] == "reschedule"


@pytest.mark.parametrize("path", ["/set_state", "/events"])
def test_a_settlement_is_one_event_though_an_answer_is_lost(prefect_api_url: str, path: str) -> None:
    run = seed_run(prefect_api_url, work_pool=f"pool-{uuid.uuid4()}", tags=["nightly"])
    transport = LosesAnswer(path)
    with closing(PrefectApi(Connection(prefect_api_url), transport=transport)) as api, connected(run.api) as other:
        finding = finding_of(api, run)
        outcome = api.settle(finding)
        assert outcome.is_last_word, outcome
        assert outcome.detail == ""
        assert transport.times == (2 if path == "/events" else 1)
        assert other.settle(finding).kind is OutcomeKind.SETTLED_ELSEWHERE
        later = seed_run(prefect_api_url)
        assert api.settle(finding_of(api, later)).is_last_word
    wait_until(lambda: events_of(later), "the event of a later settlement is kept", 60)
    (event,) = events_of(run)
    assert event["resource"] == {
        "prefect.resource.id": f"prefect.flow-run.{run.id}",
        "prefect.resource.name": run.name,
        "prefect-reconciler.reason": "Evicted",
        "prefect-reconciler.adapter": "docker",
        "prefect-reconciler.scope": "prod-7",
        "prefect-reconciler.rule": "6",
        "prefect-reconciler.action": "crash",
    }
    related = {one["prefect.resource.id"]: one["prefect.resource.role"] for one in event["related"]}
    assert related == {f"prefect.deployment.{finding.run.deployment_id}": "deployment", "prefect.tag.nightly": "tag"}
    assert event["payload"] == {"message": finding.message, "state_id": str(outcome.state_id)}


def test_labels_on_request_leave_the_run_readable(prefect_api_url: str) -> None:
    run = seed_run(prefect_api_url, labels={"own": 1})
    with connected(prefect_api_url) as api:
        assert api.settle(replace(finding_of(api, run), labels_run=True, scope=None)).detail == ""
    assert (
        read(run)["labels"].items()
        >= {
            "own": 1,
            "prefect-reconciler.reason": "Evicted",
            "prefect-reconciler.adapter": "docker",
            "prefect-reconciler.rule": "6",
            "prefect-reconciler.action": "crash",
        }.items()
    )


def test_a_poisoned_run_does_not_look_deleted(prefect_api_url: str) -> None:
    runs = [seed_run(prefect_api_url) for _ in range(9)]
    bad, deleted = runs[3], runs[7]
    with connected(prefect_api_url) as api:
        transitions = {one.id: listed(api, one).transition_id for one in runs}
        set_state(runs[0], "COMPLETED")
        call(prefect_api_url, "DELETE", f"/flow_runs/{deleted.id}")
        call(prefect_api_url, "PATCH", f"/flow_runs/{bad.id}/labels", {"broken": None})
        try:
            with pytest.raises(Unreadable) as caught:
                api.reread([one.id for one in runs])
        finally:
            call(prefect_api_url, "PATCH", f"/flow_runs/{bad.id}/labels", {"broken": "mended"})
        assert caught.value.run_ids == {bad.id}
        assert set(caught.value.rows) == {one.id for one in runs} - {bad.id, deleted.id}
        assert caught.value.rows[runs[0].id].state_type == "COMPLETED"
        assert set(api.reread([one.id for one in runs])) == {one.id for one in runs} - {deleted.id}
    assert set(transitions.values()) == {None}, "plain HTTP gives none"
    assert state_of(bad) == "RUNNING"
