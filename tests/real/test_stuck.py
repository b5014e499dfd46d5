"""Runs that wait for what will never come: a retry, a start, an end. With real parts, and the opt-ins that end them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.real.test_acceptance import some_pool
from tests.rigs.daemon import DaemonProcess
from tests.rigs.deployments import deploy, host_fails, states_of
from tests.rigs.engine import Engine
from tests.rigs.host import judged
from tests.rigs.policy import add_policy
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, history, read, seed_run, set_state, state_of
from tests.rigs.proxy import FaultProxy
from tests.rigs.reconcile import QUICK, Reconcile, docker_scope, process_scope
from tests.rigs.sleepers import Sleepers
from tests.rigs.worker import Worker

pytestmark = [pytest.mark.prefect]
NEVER = "it awaited a retry in its own process, which nothing else would ever have started or ended"


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    made = Sleepers()
    yield made
    made.end()


def exclusive(pool: str) -> str:
    return process_scope(pool) + "exclusive = true\n"


def settled(reconcile: Reconcile, run: SeededRun) -> dict[str, Any]:
    """Pass until something was proposed."""
    rows = wait_until(lambda: [row for row in [reconcile().run(run.id)] if row["outcome"]], "settled", 90, 0.3)
    return rows[0]


def test_a_retry_whose_process_died_in_its_sleep(process_worker: Worker, tmp_path: Path) -> None:
    worker, api = process_worker, process_worker.server.api_url
    reconcile = Reconcile(api, tmp_path / "r", process_scope(worker.pool), **QUICK)
    run = deploy(worker, "fails_first", "stuck_flow.py").submit()
    wait_until(lambda: states_of(run)[-1] == "AwaitingRetry", "the first try has failed", 90, 0.3)
    row = read(run)
    due = datetime.fromisoformat(row["state"]["state_details"]["scheduled_time"])
    assert row["empirical_policy"]["retry_type"] == "in_process"
    assert reconcile("--dry-run").run(run.id)["verdict"] == "HEALTHY"
    host_fails(worker, run)
    found = judged(reconcile, runs=[run])
    assert datetime.now(UTC) < due
    assert found.of(run) == ("WAITING", None, None)
    assert "its retry is due at" in found.why(run)
    worker.start()  # it never fetches such a run
    done = settled(reconcile, run)
    assert (done["outcome"], done["state_name"]) == ("ACCEPTED", "AwaitingRetry")
    last = history(run)[-1]
    assert last["name"] == "Crashed"
    assert NEVER in last["message"]
    assert datetime.fromisoformat(last["timestamp"]) > due
    assert states_of(run).count("AwaitingRetry") == 1


def test_a_run_that_a_worker_will_fetch_is_never_touched(
    empty_api_url: str, sleepers: Sleepers, tmp_path: Path
) -> None:
    """Rescheduled on SIGTERM, or after a crash: its infrastructure is dead, and it is due for long."""
    pool, past = some_pool(), (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    runs = [
        sleepers.run(seed_run(empty_api_url, state="PENDING", work_pool=pool, name=name))
        for name in ("on-sigterm", "after-a-crash")
    ]
    by_sigterm, after_crash = runs
    with FaultProxy(empty_api_url) as proxy:
        reconcile = Reconcile(proxy.url, tmp_path, exclusive(pool), **QUICK)
        add_policy(reconcile.file, crash_pending=True, finish_cancelling=True, breaker_count=50)
        judged(reconcile, "--dry-run", runs=runs)
        sleepers.kill(*runs)
        set_state(after_crash, "CRASHED")
        for run in runs:
            assert set_state(run, "SCHEDULED", "AwaitingRetry", scheduled_time=past)["status"] == "ACCEPT"
        kinds = [read(run)["empirical_policy"]["retry_type"] for run in (by_sigterm, after_crash)]
        assert kinds == [None, "reschedule"]
        before = [read(run)["state_id"] for run in runs]
        for _ in range(3):
            done = reconcile()
            assert (done.code, done.document["runs"]) == (0, [])
        assert proxy.writes == []
    assert [read(run)["state_id"] for run in runs] == before


def test_what_never_starts_is_held_up_to_light_and_settled_on_request(
    empty_api_url: str, sleepers: Sleepers, tmp_path: Path
) -> None:
    """The second one carries the pid of an earlier attempt, which is dead: that says nothing of this one."""
    pool = some_pool()
    first, second = runs = [
        seed_run(empty_api_url, state="PENDING", work_pool=pool, name="first"),
        rescheduled(sleepers, seed_run(empty_api_url, state="PENDING", work_pool=pool, name="second")),
    ]
    reconcile = Reconcile(empty_api_url, tmp_path / "r", process_scope(pool), **QUICK)
    add_policy(reconcile.file, crash_pending=True)
    found = judged(reconcile, runs=runs)
    assert {found.of(run) for run in runs} == {("WAITING", None, None)}, "15 min have not passed"
    add_policy(reconcile.file, report_after="2s")
    wait_until(lambda: all(judged(reconcile, runs=runs).of(run)[0] == "HELD" for run in runs), "held", 60, 0.3)
    found = judged(reconcile, runs=runs)
    assert all("crash_pending cannot judge it" in found.why(run) for run in runs), "any host may have it"
    warned(empty_api_url, tmp_path / "d", pool, runs)
    assert [state_of(run) for run in runs] == ["PENDING"] * 2
    reconcile = Reconcile(empty_api_url, tmp_path / "r", exclusive(pool), **QUICK, quiet="1s")  # it is known by now
    add_policy(reconcile.file, crash_pending=True, report_after="2s", resume_max=1, resume_work_pools=[pool])
    found = judged(reconcile, runs=runs)
    assert {found.of(run) for run in runs} == {("ZOMBIE", None, "ACCEPTED")}
    for run in (first, second):
        assert states_of(run)[-1] == "Crashed", "and not resumed: it may start after all"
        assert "and no infrastructure was found" in read(run)["state"]["message"]


def rescheduled(sleepers: Sleepers, run: SeededRun) -> SeededRun:
    """Give it a first attempt that died, and a second that a worker took and did not start."""
    sleepers.run(run)
    sleepers.kill(run)
    for state, name in (("CRASHED", None), ("SCHEDULED", "AwaitingRetry"), ("PENDING", None)):
        set_state(run, state, name)
    assert (state_of(run), read(run)["infrastructure_pid"] is None) == ("PENDING", False)
    return run


def warned(api: str, folder: Path, pool: str, runs: list[SeededRun]) -> None:
    """By the daemon, without any opt-in."""
    made = DaemonProcess(api, folder, process_scope(pool))
    add_policy(made.file, report_after="2s", **QUICK)
    with made.start().ready() as daemon:
        for run in runs:
            held = wait_until(
                lambda run=run: [line for line in daemon.of_run(run.id) if line["verdict"] == "HELD"],  # type: ignore[misc]
                f"{run.name} is told",
                30,
            )
            assert [line["level"] for line in held] == ["warning"]
            assert "`crash_pending = true`" in held[0]["event"]
        daemon.wait_for_passes(2)
        assert [len([line for line in daemon.of_run(run.id) if line["verdict"] == "HELD"]) for run in runs] == [1, 1]


@pytest.mark.docker
def test_what_failed_to_start_is_settled_with_the_platform_s_words(
    empty_api_url: str, engine: Engine, tmp_path: Path
) -> None:
    pool = some_pool()
    run = seed_run(empty_api_url, state="PENDING", work_pool=pool, worker_type="docker")
    label = ("--label", f"io.prefect.flow-run-id={run.id}", "--network", "none")
    made = engine.docker("create", *label, engine.busybox, "/no/such/program")
    call(run.api, "PATCH", f"/flow_runs/{run.id}", {"infrastructure_pid": f"http+docker://localhost:{made}"})
    engine.docker("start", made, check=False)
    reconcile = Reconcile(empty_api_url, tmp_path, docker_scope(engine.base_url, pool), **QUICK)
    done = settled(reconcile, run)
    assert (done["outcome"], done["cause"], done["rule"]) == ("ACCEPTED", "FailedToStart", "6")
    assert "no such file or directory" in read(run)["state"]["message"]


def test_what_is_being_cancelled_is_reported_and_ended_on_request(
    empty_api_url: str, sleepers: Sleepers, tmp_path: Path
) -> None:
    pool = some_pool()
    dead, lively = runs = [
        sleepers.run(seed_run(empty_api_url, state="PENDING", work_pool=pool, name=name)) for name in ("dead", "lively")
    ]
    reconcile = Reconcile(empty_api_url, tmp_path, process_scope(pool), **QUICK, cancelling_limit="2s")
    judged(reconcile, "--dry-run", runs=runs)
    for run in runs:
        set_state(run, "CANCELLING")
    sleepers.kill(dead)
    wait_until(lambda: judged(reconcile, runs=runs).of(dead)[0] == "HELD", "held", 60, 0.3)
    found = judged(reconcile, runs=runs)
    assert [found.of(run)[0] for run in runs] == ["HELD", "HEALTHY"]
    assert "no longer exists" in found.why(dead)
    assert "; cancelling for " in found.why(dead)
    assert "`finish_cancelling = true`" in found.why(dead)
    assert [state_of(run) for run in runs] == ["CANCELLING"] * 2
    add_policy(reconcile.file, finish_cancelling=True, resume_max=1, resume_work_pools=[pool])
    found = judged(reconcile, runs=runs)
    assert (found.of(dead), found.rows[dead.id]["action"]) == (("ZOMBIE", None, "ACCEPTED"), "cancel")
    assert found.of(lively) == ("HEALTHY", None, None)
    with FaultProxy(empty_api_url) as proxy:
        again = Reconcile(proxy.url, tmp_path, process_scope(pool), **QUICK, cancelling_limit="2s")
        add_policy(again.file, finish_cancelling=True, resume_max=1, resume_work_pools=[pool])
        assert [row["id"] for row in again().document["runs"]] == [str(lively.id)]
        assert proxy.writes == []
    assert states_of(dead) == ["Pending", "Running", "Cancelling", "Cancelled"]
    assert read(dead)["state"]["message"].endswith("Set by prefect-reconciler.")
    assert state_of(lively) == "CANCELLING"
