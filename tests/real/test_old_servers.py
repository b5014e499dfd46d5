"""A whole pass against older Prefect servers: 2.20 has no labels and no events, 3.0 has both and lacks other routes."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.real.orchestration import check_cancelled, check_families, check_resumed, connected, finding_of
from tests.rigs.polling import wait_until
from tests.rigs.prefect import call, read, seed_run, state_of
from tests.rigs.reconcile import QUICK, Reconcile, process_scope


@pytest.mark.slow
def test_a_killed_process_is_settled(old_api_url: str, tmp_path: Path) -> None:
    run = seed_run(old_api_url, work_pool="old-pool")
    environment = {"PATH": os.environ["PATH"], "PREFECT__FLOW_RUN_ID": str(run.id)}
    process = subprocess.Popen(["sleep", "600"], env=environment)
    try:
        call(old_api_url, "PATCH", f"/flow_runs/{run.id}", {"infrastructure_pid": str(process.pid)})
        reconcile = Reconcile(old_api_url, tmp_path, process_scope("old-pool"), **QUICK)
        assert reconcile("--dry-run").run(run.id)["verdict"] == "HEALTHY"
        assert state_of(run) == "RUNNING"
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: reconcile().run(run.id)["outcome"] == "ACCEPTED", "settled", 60, 1)
    state = read(run)["state"]
    assert (state["type"], state["name"]) == ("CRASHED", "Crashed")
    assert "no longer exists" in state["message"]


@pytest.mark.slow
def test_families_ends_and_resumptions(old_api_url: str) -> None:
    check_families(old_api_url)
    check_cancelled(old_api_url)
    check_resumed(old_api_url)


@pytest.mark.slow
def test_a_server_without_events_or_labels_is_settled_in_silence(old_api_url: str) -> None:
    run = seed_run(old_api_url)
    with connected(old_api_url) as api:
        outcome = api.settle(replace(finding_of(api, run), labels_run=True))
    assert outcome.is_last_word
    assert outcome.detail == ""
