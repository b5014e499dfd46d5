"""Our clock, and what it does to what is remembered."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread
from time import monotonic
from uuid import UUID, uuid4

import pytest

from reconciler.clock import Clock, Reading
from reconciler.memory import Memory
from reconciler.model import Resource, Sighting
from tests.spec import NOW

HOUR = timedelta(hours=1)


class Time:
    """A machine's clocks, to be set by hand."""

    def __init__(self) -> None:
        self.wall, self.since_boot, self.awake = NOW, 1000.0, 900.0
        self.clock = Clock(lambda: self.wall, lambda: self.since_boot, lambda: self.awake)

    def passes(self, seconds: float, *, asleep: bool = False) -> None:
        self.wall += timedelta(seconds=seconds)
        self.since_boot += seconds
        self.awake += 0 if asleep else seconds


@pytest.fixture
def time() -> Time:
    return Time()


def test_it_goes_with_the_wall_clock(time: Time) -> None:
    assert time.clock() == NOW
    time.passes(30)
    assert time.clock() == NOW + timedelta(seconds=30)
    assert not time.clock.has_jumped


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_within_a_pass_nobody_sets_it(time: Time, step: timedelta) -> None:
    time.clock.begin()
    time.wall += step
    time.passes(5)
    assert time.clock() == NOW + timedelta(seconds=5)
    assert time.clock.has_jumped
    time.clock.begin()
    assert time.clock() == NOW + step + timedelta(seconds=5)
    assert not time.clock.has_jumped


def test_a_sleep_is_a_jump_and_takes_time(time: Time) -> None:
    time.clock.begin()
    time.passes(600, asleep=True)
    assert time.clock() == NOW + timedelta(seconds=600)
    assert time.clock.has_jumped


def test_what_is_too_little_to_tell_is_no_jump(time: Time) -> None:
    time.clock.begin()
    time.wall += timedelta(seconds=0.9)
    assert not time.clock.has_jumped


def test_the_real_clock() -> None:
    clock = Clock()
    assert abs(clock() - datetime.now(UTC)) < timedelta(seconds=1)
    assert not clock.has_jumped
    assert clock.reading().boot


def sighting(at: datetime) -> Sighting:
    resource = Resource(id="r", title="container r", run_id=uuid4(), created_at=at)
    return Sighting(
        scope="a", identity="A", resource=resource, first_seen=at, last_seen=at, live_seen=at, ended_seen=None
    )


class TestMemory:
    """What is remembered follows a clock that was set, and does not grow old in a machine that slept."""

    @pytest.fixture
    def memory(self, tmp_path: Path, time: Time) -> Memory:
        memory = Memory(tmp_path / "memory.sqlite3")
        memory.keep_time(time.clock.begin(), time.clock())
        memory.note([sighting(NOW)])
        memory.learn("a", "A", NOW)
        memory.note_breakers(["a"], NOW)
        return memory

    def told(self, memory: Memory) -> tuple[datetime, datetime, datetime]:
        run_id = memory._database.execute("select run_id from sightings").fetchone()[0]
        (seen,) = memory.recall([UUID(run_id)]).popitem()[1]
        assert seen.ended_seen is None
        assert seen.resource.created_at == NOW  # the place's clock, which nobody set
        return seen.last_seen, memory.learn("a", "A", NOW + 9 * HOUR).since, memory.breakers()["a"]

    def begin(self, memory: Memory, time: Time) -> datetime | None:
        return memory.keep_time(time.clock.begin(), time.clock())

    def test_time_that_just_passes_moves_nothing(self, memory: Memory, time: Time) -> None:
        time.passes(3600)
        assert self.begin(memory, time) is None
        assert self.told(memory) == (NOW, NOW, NOW)
        memory.close()

    @pytest.mark.parametrize("step", [HOUR, -HOUR])
    def test_a_clock_that_was_set_takes_all_along(self, memory: Memory, time: Time, step: timedelta) -> None:
        time.wall += step
        assert self.begin(memory, time) == NOW + step
        assert self.told(memory) == (NOW + step, NOW + step, NOW + step)
        time.passes(10)
        assert self.begin(memory, time) == NOW + step  # still known, for the amnesty
        assert self.told(memory) == (NOW + step, NOW + step, NOW + step)
        memory.close()

    def test_a_sleep_moves_what_waits_and_leaves_what_was_seen(self, memory: Memory, time: Time) -> None:
        time.passes(3600, asleep=True)
        assert self.begin(memory, time) == NOW + HOUR
        assert self.told(memory) == (NOW, NOW + HOUR, NOW + HOUR)
        memory.close()

    def test_another_run_of_the_machine_moves_nothing(self, memory: Memory) -> None:
        other = Reading("another boot", NOW - HOUR, timedelta(0))
        assert memory.keep_time(other, NOW) is None
        assert self.told(memory) == (NOW, NOW, NOW)
        memory.close()

    def test_small_steps_add_up(self, memory: Memory, time: Time) -> None:
        for _ in range(3):
            time.wall += timedelta(seconds=0.6)
            jumped = self.begin(memory, time)
        assert jumped == NOW + timedelta(seconds=1.2), "the second step was too much"
        assert self.told(memory)[0] == NOW + timedelta(seconds=1.2)
        memory.close()

    def test_a_jump_is_known_also_if_nothing_can_be_written(self, memory: Memory, time: Time) -> None:
        full = "create trigger full before insert on clock begin select raise(abort, 'disk full'); end"
        memory._database.execute(full)
        time.wall += HOUR
        for _ in range(2):
            assert self.begin(memory, time) == NOW + HOUR
            assert any("could not keep the time" in problem for problem in memory.problems)
        memory.close()

    def test_what_cannot_be_read_counts_as_a_jump_once(self, memory: Memory, time: Time) -> None:
        with memory._database:
            memory._database.execute("update clock set zero = 'yesterday'")
        assert self.begin(memory, time) == NOW
        time.passes(100)
        assert self.begin(memory, time) == NOW, "no second jump"
        assert self.told(memory) == (NOW, NOW, NOW)
        memory.close()

    def test_of_two_processes_one_moves_the_times(self, memory: Memory, time: Time, tmp_path: Path) -> None:
        other = Memory(tmp_path / "memory.sqlite3")
        time.wall += HOUR
        reading = time.clock.begin()
        both = Barrier(2)

        def begin(one: Memory) -> None:
            both.wait()
            one.keep_time(reading, NOW + HOUR)

        for _ in range(10):
            threads = [Thread(target=begin, args=(one,)) for one in (memory, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert self.told(memory)[0] == NOW + HOUR
        memory.close()
        other.close()

    def test_a_file_that_somebody_holds_is_waited_for_once(self, memory: Memory, time: Time, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "memory.sqlite3")) as holder:
            holder.execute("begin exclusive")
            began = monotonic()
            time.wall += HOUR
            assert self.begin(memory, time) == NOW + HOUR
            for _ in range(5):
                memory.note([sighting(NOW)])
                memory.breakers()
            assert monotonic() - began < 5, "3 s once, and not for each of eleven statements"
        assert self.begin(memory, time) == NOW + HOUR
        assert not memory.problems
        memory.close()

    def test_what_is_noted_while_the_time_cannot_be_kept_is_not_moved_twice(
        self, memory: Memory, time: Time, tmp_path: Path
    ) -> None:
        with closing(sqlite3.connect(tmp_path / "memory.sqlite3")) as holder:
            holder.execute("begin immediate")
            time.wall -= HOUR
            assert self.begin(memory, time) == NOW - HOUR
        memory.note_breakers(["b"], time.clock())  # the file is free again, in the middle of the pass
        time.passes(30)
        self.begin(memory, time)
        assert "b" not in memory.breakers(), "rather forgotten than an hour old"
        assert self.told(memory)[0] == NOW - HOUR
        memory.note_breakers(["b"], time.clock())
        assert memory.breakers()["b"] == time.clock()
        memory.close()

    def test_one_row_that_cannot_be_read_does_not_stop_the_time(self, memory: Memory, time: Time) -> None:
        with memory._database:
            memory._database.execute("insert into breakers values ('x', 'nonsense')")
        time.wall += HOUR
        self.begin(memory, time)
        time.passes(61)
        assert self.begin(memory, time) == NOW + HOUR, "jumped then, and not now"
        memory.close()
