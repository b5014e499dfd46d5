"""Whoever waits for a dead run's slot gets it, once: real workers, and the limits of deployments and work pools."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.rigs.deployments import Deployment, deploy, host_fails, limit_pool, offered, runs_for_the, states_of
from tests.rigs.host import judged
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, history, set_state, state_of
from tests.rigs.reconcile import QUICK, Reconcile, process_scope
from tests.rigs.worker import Worker

pytestmark = [pytest.mark.prefect]
WAITS = "AwaitingConcurrencySlot"


@pytest.fixture
def reconcile(process_worker: Worker, tmp_path: Path) -> Reconcile:
    api = process_worker.server.api_url
    return Reconcile(api, tmp_path / "r", process_scope(process_worker.pool), **QUICK)


def late_report(run: SeededRun) -> None:
    """As the flow's own process does that was not dead after all: the server accepts it over a Crashed."""
    answer = set_state(run, "COMPLETED", transition_id=str(uuid.uuid4()))
    assert (answer["status"], state_of(run)) == ("ACCEPT", "COMPLETED")


def settle(reconcile: Reconcile, dead: SeededRun) -> None:
    assert judged(reconcile, runs=[dead]).of(dead) == ("ZOMBIE", None, "ACCEPTED")


def waiting(limited: Deployment) -> SeededRun:
    run = limited.submit()
    wait_until(lambda: states_of(run)[-1] == WAITS, f"{run.name} waits for a slot", 60, 0.3)
    return run


def test_the_slot_of_a_deployment(process_worker: Worker, reconcile: Reconcile) -> None:
    worker = process_worker
    limited = deploy(worker, "sleeper", concurrency_limit=1)
    first = limited.submit()
    runs_for_the(1, first, worker)
    second = waiting(limited)
    assert judged(reconcile, "--dry-run", runs=[first]).of(first) == ("HEALTHY", None, None)
    host_fails(worker, first)
    assert (state_of(first), limited.slots()) == ("RUNNING", 1)
    settle(reconcile, first)
    assert (states_of(second)[-1], limited.slots()) == (WAITS, 0)
    worker.start()
    runs_for_the(1, second, worker)
    assert limited.slots() == 1
    late_report(first)
    assert reconcile().run(second.id)["verdict"] == "HEALTHY"
    assert limited.slots() == 1
    third = waiting(limited)
    assert (state_of(second), states_of(third), limited.slots()) == ("RUNNING", ["Scheduled", WAITS], 1)
    assert [state["type"] for state in history(first)][-2:] == ["CRASHED", "COMPLETED"]


def test_the_slot_of_a_work_pool(process_worker: Worker, reconcile: Reconcile) -> None:
    worker, api, pool = process_worker, process_worker.server.api_url, process_worker.pool
    limit_pool(api, pool, 1)
    flows = deploy(worker, "sleeper")
    first = flows.submit()
    runs_for_the(1, first, worker)
    second = flows.submit()
    assert offered(api, pool) == []
    assert judged(reconcile, "--dry-run", runs=[first]).of(first) == ("HEALTHY", None, None)
    host_fails(worker, first)
    assert (state_of(first), state_of(second), offered(api, pool)) == ("RUNNING", "SCHEDULED", [])
    settle(reconcile, first)
    assert offered(api, pool) == [str(second.id)]
    worker.start()
    runs_for_the(1, second, worker)
    third = flows.submit()
    late_report(first)
    assert reconcile().run(second.id)["verdict"] == "HEALTHY"
    assert offered(api, pool) == []
    assert (state_of(second), state_of(third)) == ("RUNNING", "SCHEDULED")
