"""What tells whose a process is, and what keeps GONE from being said of its run."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from reconciler.model import Condition
from reconciler.testing import flow_run
from tests.adapters.process_world import (
    ERASE,
    HOST,
    ProcessWorld,
    end,
    is_erased,
    look,
    observe,
    os_error,
    stat_line,
)
from tests.rigs.polling import wait_until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ProcessWorld]:
    with ProcessWorld(tmp_path) as world:
        yield world


# --- what tells whose a process is


def test_one_observation_is_given_of_the_process_that_the_run_names(world: ProcessWorld) -> None:
    run = flow_run(created=datetime.now(UTC))
    parent = world.spawn(run.id, ["sh", "-c", "sleep 1000 & echo $!; wait"])
    child = world.adopt(parent)
    # between fork and exec it has no environment of its own to be read
    wait_until(lambda: Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep"), "the child sleeps", 10)
    for pid, leader in ((parent.pid, parent.pid), (child, child), (None, parent.pid)):
        seen = look(world, replace(run, pid=str(pid) if pid else None))
        assert seen.resource
        assert seen.resource.title == f"process {leader} on host {HOST}"
        assert seen.reason == "is running"
    (stranger,) = observe(world.scope).strangers
    assert stranger.id.split("/")[1] == str(parent.pid)
    end(parent)
    seen = look(world, replace(run, pid=str(parent.pid)))
    assert seen.condition is Condition.ALIVE
    assert seen.reason == f"is running (though not as process {parent.pid}, which the run names)"


def test_a_resource_is_boot_pid_and_start(world: ProcessWorld) -> None:
    run, child = world.start_run()
    resource = look(world, run).resource
    assert resource
    boot, pid, start = resource.id.split("/")
    assert UUID(boot) == UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    assert (int(pid), start) == (child.pid, Path(f"/proc/{child.pid}/stat").read_text().split()[21])
    assert resource.created_at
    assert abs(resource.created_at - datetime.now(UTC)) < timedelta(seconds=30)
    again = look(world, run).resource
    assert again
    assert again.id == resource.id


def test_a_name_full_of_brackets(world: ProcessWorld) -> None:
    run = flow_run(created=datetime.now(UTC))
    shell = world.spawn(run.id, ["sh", "-c", "printf 'x) Z 1 (y' > /proc/$$/comm; sleep 1000 & echo $!; wait"])
    world.adopt(shell)
    assert b"(x) Z 1 (y)" in Path(f"/proc/{shell.pid}/stat").read_bytes()
    assert look(world, replace(run, pid=str(shell.pid))).reason == "is running"


def test_a_stopped_process_is_alive(world: ProcessWorld) -> None:
    run, child = world.start_run()
    child.send_signal(signal.SIGSTOP)
    wait_until(lambda: b") T " in Path(f"/proc/{child.pid}/stat").read_bytes(), "the child is stopped", every=0.01)
    seen = look(world, run)
    assert (seen.condition, seen.reason) == (Condition.ALIVE, "is stopped by a signal")


@pytest.mark.parametrize("value", ["", "no-uuid", "é", "11111111"])
def test_a_value_that_is_no_run_id(world: ProcessWorld, value: str) -> None:
    world.spawn(env={"PREFECT__FLOW_RUN_ID": value})
    assert not observe(world.scope).strangers


def test_a_variable_whose_name_only_ends_alike(world: ProcessWorld) -> None:
    world.spawn(env={"MY_PREFECT__FLOW_RUN_ID": str(uuid4())})
    assert not observe(world.scope).strangers


# --- what keeps GONE from being said


def test_an_unreadable_process_matters_unless_it_is_older_than_the_run(world: ProcessWorld) -> None:
    daemon = world.spawn()
    world.files.over[f"{daemon.pid}/environ"] = os_error(errno.EACCES)
    now = datetime.now(UTC)
    young, old = flow_run("4100000", created=now), flow_run("4100000", created=now + timedelta(minutes=2))
    assert look(world, young).reason.startswith(f"process {daemon.pid} (uid {os.getuid()}), which may be the run's, ")
    assert look(world, young).condition is Condition.UNKNOWN
    assert look(world, old).condition is Condition.GONE
    recycled = look(world, replace(old, pid=str(daemon.pid)))
    assert recycled.reason == "no longer exists (its pid now belongs to another process)"


def test_the_unreadable_process_that_the_run_names_is_the_one_that_is_named(world: ProcessWorld) -> None:
    run, child = world.start_run()
    for pid in (child.pid, world.spawn().pid):
        world.files.over[f"{pid}/environ"] = os_error(errno.EPERM)
    assert look(world, run).reason.startswith(f"process {child.pid} ")


def test_a_process_of_unknown_age_may_be_anyones(world: ProcessWorld) -> None:
    world.files.over[f"{world.spawn().pid}/stat"] = os_error(errno.EACCES)
    far = datetime.now(UTC) + timedelta(days=1)
    assert look(world, flow_run("4100000", created=far)).condition is Condition.UNKNOWN


def test_kernel_threads_and_init_are_no_flow_runs(world: ProcessWorld) -> None:
    world.files.shown.add(3)
    world.files.over |= {"3/stat": stat_line(3, "kworker/0:1", 0x00200000), "3/environ": os_error(errno.EACCES)}
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    for pid in ("1", "3", "4100000", None):
        assert look(world, flow_run(pid, created=long_ago)).condition is Condition.GONE


@pytest.mark.parametrize("number", [0, errno.ESRCH, errno.EIO])
def test_an_empty_environment_says_nothing(world: ProcessWorld, number: int) -> None:
    child = world.spawn(env={})
    if number:
        world.files.over[f"{child.pid}/environ"] = os_error(number)
    for pid in (str(child.pid), "4100000", None):
        seen = look(world, flow_run(pid, created=datetime.now(UTC)))
        assert seen.condition is Condition.UNKNOWN
        assert "shows no environment" in seen.reason


def test_a_process_started_without_an_environment_hides_only_its_own_run(world: ProcessWorld) -> None:
    child = world.spawn(env={})
    run = flow_run("4100000", created=datetime.now(UTC))
    wait_until(lambda: look(world, run).condition is Condition.GONE, "it is no longer within its exec", every=0.2)
    assert look(world, replace(run, pid=str(child.pid))).condition is Condition.UNKNOWN
    assert look(world, replace(run, pid=None)).condition is Condition.UNKNOWN


def test_a_process_that_ends_during_the_pass_is_no_error(world: ProcessWorld) -> None:
    for file in ("stat", "environ"):
        world.files.over[f"{world.spawn().pid}/{file}"] = os_error(errno.ESRCH)
    world.files.shown.add(4_100_000)
    assert look(world, world.place(Condition.ALIVE)).condition is Condition.ALIVE


def test_a_flow_that_overwrote_its_environment_is_not_gone(world: ProcessWorld) -> None:
    run = flow_run(created=datetime.now(UTC))
    child = world.spawn(run.id, ERASE)
    for pid in (str(child.pid), None):
        seen = look(world, replace(run, pid=pid))
        assert seen.condition is Condition.UNKNOWN
        assert "has overwritten its environment, as setproctitle does" in seen.reason


def test_nor_is_it_when_its_wrapper_was_killed(world: ProcessWorld) -> None:
    run = flow_run(created=datetime.now(UTC))
    wrapper = world.spawn(run.id, ["sh", "-c", '"$@" & echo $!; wait', "sh", *ERASE])
    flow = world.adopt(wrapper)
    wait_until(lambda: is_erased(flow), "the flow erased its environment", every=0.01)
    end(wrapper)
    assert look(world, replace(run, pid=str(wrapper.pid))).condition is Condition.UNKNOWN


def test_other_sessions_that_overwrote_theirs_do_not_matter(world: ProcessWorld) -> None:
    world.spawn(command=ERASE)
    assert look(world, world.place(Condition.GONE)).condition is Condition.GONE


def test_a_hidden_table_makes_the_answer_incomplete(world: ProcessWorld) -> None:
    run = world.place(Condition.ALIVE)
    world.files.over["2/stat"] = stat_line(2, "sh", 0)
    seen = observe(world.scope, run, gone := world.place(Condition.GONE))
    assert seen.incomplete
    assert seen.incomplete.startswith("this reconciler is in a PID namespace of its own")
    assert [seen.observations[one.id][0].condition for one in (run, gone)] == [Condition.ALIVE, Condition.UNKNOWN]


def test_the_place_tells_its_times(world: ProcessWorld) -> None:
    seen = observe(world.scope)
    assert seen.place_time
    assert seen.place_started
    assert abs(seen.place_time - datetime.now(UTC)) < timedelta(seconds=10)
    btime = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
    assert btime
    assert abs(seen.place_started.timestamp() - int(btime[1])) < 2
