"""Sightings are believed only where nobody else can write them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.memory import Memory
from reconciler.model import RunId, Sighting
from reconciler.testing import FakeScope, flow_run

NOW = datetime.now(UTC)


def forged(scope: FakeScope, pid: str) -> tuple[Sighting, RunId]:
    run = flow_run(pid)
    seen = NOW - timedelta(seconds=30)
    sighting = Sighting(
        scope="fake",
        identity="engine-1",
        resource=scope.resource(run),
        first_seen=seen,
        last_seen=seen,
        live_seen=seen,
        ended_seen=None,
        reason="is running",
    )
    return sighting, run.id


@pytest.mark.parametrize(("mode", "is_believed"), [(0o700, True), (0o755, True), (0o777, False), (0o1777, False)])
def test_a_sighting_that_others_could_write_is_not_read(tmp_path: Path, mode: int, is_believed: bool) -> None:
    folder = tmp_path / "state"
    attacker = Memory(folder / "memory.sqlite3")
    sighting, run_id = forged(FakeScope("fake"), "pid")
    attacker.note([sighting])
    attacker.close()
    folder.chmod(mode)
    before = (folder / "memory.sqlite3").read_bytes()
    with closing(Memory(folder / "memory.sqlite3")) as memory:
        assert bool(memory.recall([run_id])) is is_believed
        memory.note([sighting])
        assert memory.recall([run_id]), "it still remembers, for itself"
        assert len(memory.problems) == (not is_believed)
        assert all("`chmod 700` it" in problem for problem in memory.problems)
    assert is_believed or (folder / "memory.sqlite3").read_bytes() == before


def test_a_database_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite3"
    Memory(path).close()
    path.chmod(0o666)
    Memory(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("pragma quick_check").fetchone() == ("ok",)
