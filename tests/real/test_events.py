"""What a settlement tells the server: one event that automations choose by, and labels on request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.deployments import Deployment, states_of
from tests.rigs.events import SETTLED, all_written, automation, emit, events, fired, resource_of, settlements
from tests.rigs.host import Host, Judged, judged
from tests.rigs.policy import add_policy
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, history, read, seed_deployment, seed_run, state_of
from tests.rigs.proxy import Answer, Call, FaultProxy, Forward
from tests.rigs.reconcile import QUICK, Reconcile, process_scope

pytestmark = [pytest.mark.prefect]
REASON = "prefect-reconciler.reason"
LABELS = {
    REASON: "Removed",
    "prefect-reconciler.adapter": "process",
    "prefect-reconciler.scope": "this-host",
    "prefect-reconciler.rule": "7",
    "prefect-reconciler.action": "crash",
}


@pytest.fixture
def host(empty_api_url: str, tmp_path: Path) -> Iterator[Host]:
    made = Host(empty_api_url, tmp_path)
    yield made
    made.end()


def settle(host: Host, *runs: SeededRun, **policy: object) -> Judged:
    """Kill what was seen alive, and settle it."""
    reconcile = host.reconcile()
    add_policy(reconcile.file, **policy)
    judged(reconcile, "--dry-run", runs=list(runs))
    host.kill(*runs)
    found = judged(reconcile, runs=list(runs))
    assert {found.of(run) for run in runs} == {("ZOMBIE", None, "ACCEPTED")}
    return found


def of_ours(labels: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in labels.items() if key.startswith("prefect-reconciler")}


def test_an_automation_resumes_what_was_removed_and_another_one_waits_for_oom_kills(host: Host) -> None:
    (run,) = host.start("otter")
    api, alarm = host.api, Deployment(host.api, seed_deployment(host.api, "pager", "process", name="page"))
    resume = {"type": "change-flow-run-state", "state": "SCHEDULED", "name": "AwaitingRetry"}
    page = {"type": "run-deployment", "source": "selected", "deployment_id": alarm.id}
    with automation(api, {REASON: "Removed"}, resume) as resumes, automation(api, {REASON: "OOMKilled"}, page) as pages:
        settle(host, run)
        wait_until(lambda: state_of(run) == "SCHEDULED", "the automation rescheduled the run", 60, 0.3)
        assert states_of(run)[-2:] == ["Crashed", "AwaitingRetry"]
        assert read(run)["empirical_policy"]["retry_type"] == "reschedule", "a worker fetches it"
        assert alarm.runs() == []
        emit(api, SETTLED, resource_of(seed_run(api)), **{REASON: "OOMKilled"})  # so the other one is well
        wait_until(lambda: alarm.runs() and fired(api, pages), "the other automation pages", 60, 0.3)
        all_written(api)
        assert (fired(api, resumes), fired(api, pages), len(alarm.runs())) == (1, 1, 1)


def test_each_settlement_is_one_event(host: Host) -> None:
    first, second = host.start("first", "second")
    settle(host, first, second, breaker_count=5)
    reconcile = host.reconcile()
    for _ in range(2):
        assert reconcile().code == 0
    sent = settlements(first, second)
    assert sorted(one["resource"]["prefect.resource.id"] for one in sent) == sorted(map(resource_of, (first, second)))
    (event,) = [one for one in sent if one["resource"]["prefect.resource.id"] == resource_of(first)]
    assert of_ours(event["resource"]) == LABELS
    assert event["resource"]["prefect.resource.name"] == "first"
    state = read(first)["state"]
    assert (event["payload"]["message"], event["payload"]["state_id"]) == (state["message"], state["id"])
    assert event["occurred"] == state["timestamp"]
    roles = {one["prefect.resource.role"]: one["prefect.resource.id"] for one in event["related"]}
    assert roles["deployment"] == f"prefect.deployment.{read(first)['deployment_id']}"
    assert of_ours(read(first)["labels"]) == {}
    assert len(events(host.api, resource_of(first), name="prefect.flow-run.Crashed")) == 1, "the server's own"


def test_two_reconcilers_that_settle_at_the_same_time_send_one_event(host: Host, tmp_path: Path) -> None:
    (run,) = host.start("otter")
    both, missed = threading.Barrier(2), list[str]()

    def together(_: Call, forward: Forward) -> Answer:
        try:
            both.wait(30)
        except threading.BrokenBarrierError:
            missed.append("one proposed alone")
        return forward()

    with FaultProxy(host.api) as proxy:
        sides = [Reconcile(proxy.url, tmp_path / side, process_scope(host.pool), **QUICK) for side in ("a", "b")]
        for side in sides:
            judged(side, "--dry-run", runs=[run])
        host.kill(run)
        proxy.rule("POST", f"/flow_runs/{run.id}/set_state$", together, 2)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda side: judged(side, runs=[run]).of(run), sides))
        assert proxy.count("POST", r"/set_state$") == 2
    assert missed == []
    assert sorted(str(outcome) for _, _, outcome in found) == ["ACCEPTED", "SETTLED_ELSEWHERE"]
    assert [state["type"] for state in history(run)] == ["PENDING", "RUNNING", "CRASHED"]
    assert len(settlements(run)) == 1


def test_labels_on_request(host: Host) -> None:
    (run,) = host.start("otter")
    before = read(run)["labels"]
    settle(host, run, label_settled=True)
    labels = read(run)["labels"]
    assert of_ours(labels) == LABELS
    assert {key: labels[key] for key in before} == before
