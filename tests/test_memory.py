from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.memory import Known, Memory

from .spec import NOW, ago, run, sighting


def test_recalls_what_was_seen_under_whatever_identity(tmp_path: Path) -> None:
    memory, of = Memory(tmp_path / "m"), run()
    old = replace(sighting(of), identity="old")
    memory.note([sighting(of), old])
    assert memory.recall([of.id, run().id]) == {of.id: [sighting(of), old]}


def test_keeps_first_seen_and_the_first_end() -> None:
    memory, of = Memory(), run()
    seen = sighting(of)
    later = replace(seen, first_seen=NOW, last_seen=NOW, live_seen=None, ended_seen=NOW, reason="exited")
    memory.note([seen])
    memory.note([later])
    memory.note([replace(later, ended_seen=NOW + timedelta(seconds=5))])
    (kept,) = memory.recall([of.id])[of.id]
    assert (kept.first_seen, kept.last_seen, kept.live_seen, kept.ended_seen) == (
        seen.first_seen,
        NOW,
        seen.live_seen,
        NOW,
    )
    memory.note([replace(seen, last_seen=NOW, live_seen=NOW)])
    assert memory.recall([of.id])[of.id][0].ended_seen is None, "it lives again"


def test_learns_identities() -> None:
    memory = Memory()
    assert memory.learn("a", "one", ago(100)) == Known("one", ago(100))
    assert memory.learn("a", "one", ago(90)) == Known("one", ago(100))
    changed = memory.learn("a", "two", ago(50))
    assert changed == Known("two", ago(50), "one")
    assert memory.learn("a", "two", NOW) == changed


def test_breakers_keep_their_first_time() -> None:
    memory = Memory()
    memory.note_breakers(["a", "b"], ago(60))
    memory.note_breakers(["a"], NOW)
    assert memory.breakers() == {"a": ago(60)}


def test_forgets_old_sightings_of_runs_that_are_over() -> None:
    memory, over, held = Memory(), run(), run()
    old = [replace(sighting(of), last_seen=NOW - timedelta(days=8)) for of in (over, held)]
    memory.note(old)
    memory.forget({held.id}, NOW)
    assert set(memory.recall([held.id, over.id])) == {held.id}


def test_a_broken_file_is_a_warning_not_an_end(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"this is no database at all, not even close" * 100)
    memory = Memory(path)
    assert "going on without" in memory.problems[0]
    memory.note([sighting(of := run())])
    assert set(memory.recall([of.id])) == {of.id}, "it remembers for as long as it runs"


def test_an_unwritable_place_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "m")
    assert str(tmp_path) in memory.problems[0]


def test_two_processes_share_the_file(tmp_path: Path) -> None:
    first, second = Memory(tmp_path / "m"), Memory(tmp_path / "m")
    one, other = run(), run()
    first.note([sighting(one)])
    second.note([sighting(other)])
    assert set(first.recall([one.id, other.id])) == set(second.recall([one.id, other.id])) == {one.id, other.id}
    assert sqlite3.connect(tmp_path / "m").execute("select count(*) from sightings").fetchone() == (2,)


def test_rows_of_somebody_else_s_hand_are_skipped(tmp_path: Path) -> None:
    memory, good = Memory(tmp_path / "m"), run()
    bad = [run() for _ in range(3)]
    memory.note([sighting(of) for of in (good, *bad)])
    for of, column, value in zip(
        bad, ("first_seen", "last_seen", "created_at"), ("never", 7, "2026-01-01"), strict=True
    ):
        with sqlite3.connect(tmp_path / "m") as other:
            other.execute(f"update sightings set {column} = ? where run_id = ?", (value, str(of.id)))
    assert set(memory.recall([good.id, *(of.id for of in bad)])) == {good.id}
    assert len(memory.problems) == 3


def test_another_version_s_notes_are_forgotten(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "m") as other:
        other.execute("create table sightings (something text)")
    memory = Memory(tmp_path / "m")
    memory.note([sighting(of := run())])
    assert set(memory.recall([of.id])) == {of.id}
    assert memory.problems == []


def test_root_leaves_files_that_the_folder_s_owner_can_open(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes files that belong to somebody else")
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    os.chown(folder, 4711, 4712)
    Memory(folder / "memory.sqlite3").close()
    made = (folder / "memory.sqlite3").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (4711, 4712, 0o600)


def test_a_file_that_is_locked_at_the_start(tmp_path: Path) -> None:
    Memory(tmp_path / "memory.sqlite3").close()
    with closing(sqlite3.connect(tmp_path / "memory.sqlite3")) as holder:
        holder.execute("begin exclusive")
        memory = Memory(tmp_path / "memory.sqlite3")
        assert "could not open the memory" in memory.problems[0]
        assert memory.breakers() == {}
        memory.close()


def test_a_link_in_the_state_folder_leads_root_nowhere(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    before = victim.stat()
    folder = tmp_path / "state"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, 4711, 4712)
    (folder / "memory.sqlite3").symlink_to(victim)
    memory = Memory(folder / "memory.sqlite3")
    assert "could not open the memory" in memory.problems[0]
    memory.close()
    assert victim.read_text() == "precious"
    assert victim.stat().st_uid == before.st_uid


def test_a_file_of_the_service_s_stays_its_own(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can open what belongs to somebody else")
    path = tmp_path / "memory.sqlite3"
    Memory(path).close()
    os.chown(path, 4711, 4712)
    Memory(path).close()
    assert path.stat().st_uid == 4711


def test_since_when_a_scope_answers_again(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m.sqlite3")
    assert memory.note_back("a", NOW) is None, "it was never away"
    memory.note_away("a")
    assert memory.note_back("a", NOW) == NOW
    assert memory.note_back("a", NOW + timedelta(seconds=30)) == NOW, "the first time counts"
    assert memory.note_back("b", NOW) is None
    other = Memory(tmp_path / "m.sqlite3")
    assert other.note_back("a", NOW + timedelta(seconds=50)) == NOW, "processes share it"
    other.note_away("a")
    assert memory.note_back("a", NOW + timedelta(minutes=5)) == NOW + timedelta(minutes=5)
    assert not memory.problems
    memory.close()
    other.close()


def test_notes_of_the_version_before_are_kept(tmp_path: Path) -> None:
    r, path = run(), tmp_path / "m.sqlite3"
    with closing(Memory(path)) as memory:
        memory.note([sighting(r)])
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "drop table outages; alter table sightings drop column was_mapped; pragma user_version = 2"
        )
    with closing(Memory(path)) as memory:
        assert list(memory.recall([r.id])) == [r.id]
        memory.note_away("a")
        assert memory.note_back("a", NOW) == NOW
        assert not memory.problems


def test_an_outage_that_the_file_does_not_take_is_known_to_this_process(tmp_path: Path) -> None:
    with closing(Memory(tmp_path / "m.sqlite3")) as memory:
        memory._database.execute("pragma query_only = 1")
        memory.note_away("a")
        assert len(memory.problems) == 1
        assert memory.note_back("a", NOW) == NOW
        assert memory.note_back("a", NOW + timedelta(seconds=30)) == NOW, "and does not begin anew in each pass"


def test_a_return_that_cannot_be_kept_does_not_begin_anew_in_each_pass(tmp_path: Path) -> None:
    with closing(Memory(tmp_path / "m.sqlite3")) as memory:
        memory.note_away("a")
        memory._database.execute("pragma query_only = 1")
        assert memory.note_back("a", NOW) == NOW
        assert memory.note_back("a", NOW + timedelta(minutes=5)) == NOW


def test_what_is_no_time_of_a_return_is_written_anew(tmp_path: Path) -> None:
    with closing(Memory(tmp_path / "m.sqlite3")) as memory:
        with memory._database:
            memory._database.execute("insert into outages values ('a', 'yesterday')")
        assert memory.note_back("a", NOW) == NOW
        assert memory.note_back("a", NOW + timedelta(minutes=5)) == NOW
        assert not memory.problems
