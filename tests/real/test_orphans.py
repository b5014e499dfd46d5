"""What lives on of flow runs that have ended: told, with the command that removes it, and never touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.test_acceptance import docker_run, some_pool
from tests.rigs.engine import SYSTEM_FOLDERS, Engine
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, history, seed_run, set_state
from tests.rigs.proxy import FaultProxy
from tests.rigs.reconcile import QUICK, Pass, Reconcile, docker_scope, process_scope
from tests.rigs.sleepers import Sleepers

pytestmark = [pytest.mark.prefect]


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    made = Sleepers()
    yield made
    made.end()


def orphans(done: Pass) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = done.document["orphans"]
    return found


def told(reconcile: Reconcile, run: SeededRun) -> dict[str, Any]:
    """Pass until the run has ended for so long that what lives of it is told; writes nothing in between."""

    def try_it() -> list[dict[str, Any]]:
        return [row for row in orphans(reconcile("--orphans")) if row["run"] == str(run.id)]

    (row,) = wait_until(try_it, "it is told", 60, 0.3)
    return row


def lines_of(reconcile: Reconcile, run: SeededRun) -> list[str]:
    shown = reconcile("--orphans", document=False).out.splitlines()
    return [line for line in shown if line.startswith("orphan") and str(run.id) in line]


def carried_out(command: str) -> None:
    """As a person does, with the system's own programs."""
    environment = {"PATH": os.pathsep.join([SYSTEM_FOLDERS, os.environ["PATH"]])}
    subprocess.run(["/bin/sh", "-c", command], env=environment, check=True, capture_output=True, timeout=60)


def test_a_process_that_outlives_its_run(empty_api_url: str, sleepers: Sleepers, tmp_path: Path) -> None:
    pool = some_pool()
    over, lively = (
        sleepers.run(seed_run(empty_api_url, state="PENDING", work_pool=pool, name=name)) for name in ("over", "lively")
    )
    set_state(over, "COMPLETED")
    with FaultProxy(empty_api_url) as proxy:
        long = Reconcile(proxy.url, tmp_path / "long", process_scope(pool), **QUICK, quiet="1h")
        assert orphans(long("--orphans")) == [], "it ended a moment ago"
        reconcile = Reconcile(proxy.url, tmp_path / "short", process_scope(pool), **QUICK, quiet="1s")
        row = told(reconcile, over)
        assert (row["scope"], row["state"]) == ("this-host", "COMPLETED")
        assert 1 <= row["age_seconds"] <= 120
        (line,) = lines_of(reconcile, over)
        assert "Completed since" in line
        assert line.endswith(f"; remove it with: {row['removal']}")
        assert [lines_of(reconcile, lively), reconcile().document["orphans"]] == [[], None], "it is asked for"
        assert (sleepers.lives(over), history(over)[-1]["type"]) == (True, "COMPLETED")
        carried_out(row["removal"])
        wait_until(lambda: not sleepers.lives(over), "the command removed it", 10)
        assert sleepers.lives(lively)
        assert orphans(reconcile("--orphans")) == []
        assert proxy.writes == []


@pytest.mark.docker
def test_a_container_that_outlives_its_run(empty_api_url: str, engine: Engine, tmp_path: Path) -> None:
    pool = some_pool()
    over, made = docker_run(empty_api_url, engine, pool)
    lively, other = docker_run(empty_api_url, engine, pool)
    set_state(over, "FAILED")
    with FaultProxy(empty_api_url) as proxy:
        reconcile = Reconcile(proxy.url, tmp_path, docker_scope(engine.base_url, pool), **QUICK, quiet="1s")
        row = told(reconcile, over)
        (line,) = lines_of(reconcile, over)
        assert "Failed since" in line
        assert row["removal"] in line
        assert lines_of(reconcile, lively) == []
        listed = engine.docker("ps", "--quiet", "--no-trunc").split()
        assert set(listed) == {made, other}
        assert row["resource"] == made
        carried_out(row["removal"])
        assert engine.docker("ps", "--all", "--quiet", "--no-trunc").split() == [other]
        assert orphans(reconcile("--orphans")) == []
        assert proxy.writes == []
