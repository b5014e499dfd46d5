"""The process adapter over real processes. P01 to P07 are the cases that users reported; see `process_world`."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from reconciler.model import Cause, Condition, Place
from reconciler.ports import AdapterError, Misconfigured, Reminded
from reconciler.testing import AdapterContract, Fault, World, flow_run
from reconciler_adapters.process import ProcessScope
from tests.adapters.process_world import (
    HOST,
    ProcessWorld,
    children,
    end,
    in_another_place,
    look,
    need_root,
    observe,
    os_error,
)
from tests.rigs.polling import wait_until

NOBODY = 65534


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ProcessWorld]:
    with ProcessWorld(tmp_path) as world:
        yield world


class TestProcessConformance(AdapterContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        with ProcessWorld(tmp_path) as world:
            yield world


# --- P01 to P07


def test_p01_worker_and_flow_are_gone(world: ProcessWorld) -> None:
    run = world.place(Condition.GONE)
    seen = look(world, run)
    assert seen.condition is Condition.GONE
    assert seen.resource
    assert f"{seen.resource.title} {seen.reason}" == f"process {run.pid} on host {HOST} no longer exists"
    assert seen.exit_code is None


def test_p01_the_host_booted_since(world: ProcessWorld) -> None:
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    run = replace(world.place(Condition.GONE), created=long_ago, state_since=long_ago)
    seen = look(world, run)
    assert re.fullmatch(r"no longer exists \(host booted at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)", seen.reason)


@pytest.mark.parametrize(
    ("seen_before", "has_rebooted", "began_before_the_boot", "cause"),
    [
        ("itself", True, True, Cause.HOST_RESTART),
        ("itself", True, False, None),  # it was started anew since, and its pid is the same by chance
        ("itself", False, True, None),  # it began before the boot, they say, and was seen alive after it
        ("another", True, True, None),  # of an earlier attempt: this one may never have been here
        ("nothing", True, True, None),
    ],
)
def test_p01_a_reboot_is_the_cause_for_what_was_alive_before_it(
    world: ProcessWorld, seen_before: str, has_rebooted: bool, began_before_the_boot: bool, cause: Cause | None
) -> None:
    run, child = world.start_run()
    alive = look(world, run)
    end(child)
    assert alive.resource
    assert alive.cause is None
    before = {
        "itself": {run.id: alive.resource},
        "another": {run.id: replace(alive.resource, key="1" + alive.resource.key)},
        "nothing": {},
    }
    assert isinstance(world.scope, Reminded)
    world.scope.remind(before[seen_before])
    if has_rebooted:
        world.files.over["sys/kernel/random/boot_id"] = f"{uuid4()}\n".encode()
    if began_before_the_boot:
        long_ago = datetime(2001, 1, 1, tzinfo=UTC)
        run = replace(run, created=long_ago, state_since=long_ago)
    seen = look(world, run)
    assert (seen.condition, seen.cause, seen.exit_code) == (Condition.GONE, cause, None)
    assert seen.why is (cause or Cause.REMOVED)
    assert cause is None or "host booted at" in seen.reason


def test_the_removal_ends_the_process(world: ProcessWorld) -> None:
    run, child = world.start_run()
    resource, (stranger,) = look(world, run).resource, observe(world.scope).strangers
    assert resource
    assert resource.removal == stranger.removal == f"kill {child.pid}"
    subprocess.run(resource.removal, shell=True, check=True)
    child.wait(10)
    gone = look(world, run).resource
    assert gone
    assert gone.removal == ""


def test_p02_the_worker_is_killed_and_the_flow_lives_on(world: ProcessWorld) -> None:
    run = flow_run()
    worker = world.spawn(command=["sh", "-c", f"PREFECT__FLOW_RUN_ID={run.id} sleep 1000 & echo $!; exec sleep 1000"])
    flow = world.adopt(worker)
    run = replace(run, pid=str(flow))
    wait_until(lambda: look(world, run).condition is Condition.ALIVE, "the flow has begun", every=0.01)
    end(worker)
    seen = look(world, run)
    assert (seen.condition, seen.reason) == (Condition.ALIVE, "is running")
    everything = ProcessScope("hosts", {})
    (seen,) = observe(everything, run).observations[run.id]
    assert seen.condition is Condition.ALIVE


def test_p03_the_pid_is_recycled(world: ProcessWorld) -> None:
    world.files.shown.add(os.getpid())
    seen = look(world, flow_run(str(os.getpid())))
    assert seen.condition is Condition.GONE
    assert seen.reason == "no longer exists (its pid now belongs to another process)"


def test_p03_the_pid_is_now_another_runs(world: ProcessWorld) -> None:
    other = world.place(Condition.ALIVE)
    seen = observe(world.scope, run := flow_run(other.pid))
    assert seen.observations[run.id][0].condition is Condition.GONE
    assert [resource.run_id for resource in seen.strangers] == [other.id]


@pytest.mark.parametrize(
    ("pid", "place"),
    [
        (None, Place.UNSAID),
        ("17165", Place.UNSAID),
        ("web-3:17165", Place.UNSAID),
        ("WEB-3:17165", Place.UNSAID),
        ("web-4:17165", Place.ELSEWHERE),
        ("web-3:web-3:1", Place.ELSEWHERE),
        ("web-3:", Place.ELSEWHERE),
        (":17165", Place.ELSEWHERE),
        ("0", Place.ELSEWHERE),
        ("-17165", Place.ELSEWHERE),
        ("+17165", Place.ELSEWHERE),
        ("17165\n", Place.ELSEWHERE),
        ("١٢", Place.ELSEWHERE),
        (str(2**31), Place.ELSEWHERE),
        ("9" * 5000, Place.ELSEWHERE),
        ("prefect:brave-cat-x8k2p", Place.ELSEWHERE),
        ("tcp://localhost:016aa6b2b5b6", Place.ELSEWHERE),
    ],
)
def test_p04_a_pid_may_be_of_another_host(world: ProcessWorld, pid: str | None, place: Place) -> None:
    assert world.scope.locate(flow_run(pid)) is place


def test_p04_this_hosts_own_name_counts_too(world: ProcessWorld) -> None:
    own_name = os.uname().nodename
    assert world.scope.locate(flow_run(f"{own_name.upper()}:17165")) is Place.UNSAID
    run, child = world.start_run()
    assert look(world, replace(run, pid=f"{own_name}:{child.pid}")).reason == "is running"


def test_p04_another_hosts_pid_is_not_looked_up_here(world: ProcessWorld) -> None:
    world.files.shown.add(os.getpid())
    seen = look(world, flow_run(f"web-4:{os.getpid()}"))
    assert seen.condition is Condition.GONE
    assert (seen.resource, seen.reason) == (None, f"was not found among the processes of host {HOST}")


def test_p05_a_defunct_process_is_gone_and_tells_no_exit_code(world: ProcessWorld) -> None:
    run, child = world.start_run()
    child.kill()
    wait_until(lambda: b") Z " in Path(f"/proc/{child.pid}/stat").read_bytes(), "the child is defunct", every=0.01)
    os.kill(child.pid, 0)  # what a naive look at the pid would ask, and it succeeds
    seen = look(world, run)
    assert (seen.condition, seen.exit_code) == (Condition.GONE, None)
    assert seen.reason == "is defunct (ended, not yet reaped by its parent)"


def test_p05_a_process_whose_main_thread_alone_has_ended_is_not_gone(world: ProcessWorld) -> None:
    script = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=[1000]).start(); "
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    run = flow_run(created=datetime.now(UTC))
    child = world.spawn(run.id, [sys.executable, "-S", "-E", "-c", script])
    wait_until(lambda: b") Z " in Path(f"/proc/{child.pid}/stat").read_bytes(), "the main thread ended", every=0.01)
    assert child.poll() is None
    assert look(world, replace(run, pid=str(child.pid))).condition is Condition.UNKNOWN


def test_p06_another_user(world: ProcessWorld) -> None:
    run, gone = world.place(Condition.ALIVE), world.place(Condition.GONE)
    cannot = r"process %s \(uid 0\), which may be the run's, has an environment that cannot be read; run as root .*"
    for (condition, reason), pid in zip(in_another_place([run, gone], user=NOBODY), (run.pid, r"\d+"), strict=True):
        assert condition == "UNKNOWN"
        assert re.fullmatch(cannot % pid, reason)


def test_p06_a_pid_namespace_of_ones_own(world: ProcessWorld) -> None:
    runs = [world.place(Condition.ALIVE), world.place(Condition.GONE), flow_run("1"), flow_run(None)]
    for condition, reason in in_another_place(runs, "unshare", "-pf", "--mount-proc"):
        assert condition == "UNKNOWN"
        assert "in a PID namespace of its own; share the host's (docker run --pid=host, hostPID: true)" in reason


def test_p06_a_pid_namespace_of_ones_own_with_the_hosts_proc(world: ProcessWorld) -> None:
    alive, reason = in_another_place([world.place(Condition.ALIVE)], "unshare", "-pf")[0]
    assert (alive, reason) == ("ALIVE", "is running")


@pytest.mark.parametrize("hidepid", [1, 2])
def test_p06_hidden_processes(world: ProcessWorld, hidepid: int) -> None:
    mount = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"'
    run, gone = world.place(Condition.ALIVE), world.place(Condition.GONE)
    for condition, reason in in_another_place([run, gone], "unshare", "-m", "sh", "-c", mount, "sh", user=NOBODY):
        assert condition == "UNKNOWN"
        assert reason.startswith("the processes of other users are hidden (hidepid, or a security module); run as root")


def test_p06_a_containers_process_is_neither_gone_nor_a_stranger(world: ProcessWorld) -> None:
    need_root()
    run = flow_run("17")
    inside = f"PREFECT__FLOW_RUN_ID={run.id} exec sleep 1000"
    outside = world.spawn(command=["unshare", "-pf", "--kill-child", "sh", "-c", inside])
    everything = ProcessScope("hosts", {})
    wait_until(lambda: children(outside.pid), "the container has begun")
    (pid,) = children(outside.pid)
    world.files.shown.add(pid)
    wait_until(lambda: look(world, run).condition is Condition.UNKNOWN, "the flow has begun", every=0.01)
    seen = look(world, run)
    assert seen.reason.startswith(f"process {pid} of another PID namespace (a container?) carries its id")
    assert seen.resource
    assert seen.resource.run_id == run.id
    assert seen.resource.removal == ""
    assert run.id not in {resource.run_id for resource in observe(everything).strangers}


def test_p07_the_flow_is_killed_and_reaped_by_a_living_worker(world: ProcessWorld) -> None:
    (killed, process), (other, _) = world.start_run(), world.start_run()
    assert look(world, killed).condition is Condition.ALIVE
    end(process)
    assert look(world, killed).condition is Condition.GONE
    assert look(world, other).condition is Condition.ALIVE


# --- identity, options, check


def test_the_identity_is_the_machine_id_or_else_the_boot(tmp_path: Path) -> None:
    empty, foreign, good = (tmp_path / name for name in ("empty", "foreign", "good"))
    empty.write_text("\n")
    foreign.write_text("uninitialized\n")
    good.write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    files = [tmp_path / "none", empty, foreign]
    assert ProcessScope("h", {}, machine_id_files=[*files, good]).identity(0) == "3d1219c7c4c5404aaa1f6d2a48adfda4"
    scope = ProcessScope("h", {}, machine_id_files=files)
    assert scope.identity(0) == f"boot:{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    assert any("no machine-id" in problem.text for problem in scope.check())


def test_proc_may_be_mounted_elsewhere(tmp_path: Path, world: ProcessWorld) -> None:
    (tmp_path / "host-proc").symlink_to("/proc")
    run = world.place(Condition.ALIVE)
    scope = ProcessScope("h", {"proc": str(tmp_path / "host-proc")})
    assert observe(scope, run).observations[run.id][0].condition is Condition.ALIVE


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_what_is_no_procfs_is_misconfigured(tmp_path: Path, path: str) -> None:
    scope = ProcessScope("h", {"proc": str(tmp_path / path)})
    with pytest.raises(Misconfigured, match="set the option `proc`"):
        observe(scope)
    assert "`proc`" in scope.check()[-1].remedy


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"procs": "/proc"}, "scope 'h': adapter 'process' has no option 'procs'; the nearest is 'proc'"),
        ({"hostname": "x"}, "scope 'h': adapter 'process' has no option 'hostname'; the nearest is 'host_name'"),
        ({"proc": 3}, "scope 'h': option 'proc' must be a text that is not empty, not 3"),
        ({"host_name": ""}, "scope 'h': option 'host_name' must be a text that is not empty, not ''"),
    ],
)
def test_bad_options(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        ProcessScope("h", options)
    assert str(caught.value) == sentence


def test_only_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ProcessScope.discover() == {}
    monkeypatch.setattr(sys, "platform", "darwin")
    assert ProcessScope.discover() is None
    with pytest.raises(Misconfigured, match="does not work here"):
        ProcessScope("h", {})


def test_check_names_what_is_out_of_sight(world: ProcessWorld) -> None:
    assert not world.scope.check()
    child = world.spawn()
    world.files.over[f"{child.pid}/environ"] = os_error(errno.EACCES)
    (problem,) = world.scope.check()
    assert f"1 of 3 processes (process {child.pid} of uid {os.getuid()})" in problem.text
    assert "CAP_DAC_READ_SEARCH" in problem.remedy
    world.files.over["1/stat"] = os_error(errno.EPERM)
    (problem,) = world.scope.check()
    assert "hidepid" in problem.text
    world.files.fault = Fault.RESET
    (problem,) = world.scope.check()
    assert "cannot list /proc" in problem.text


def test_a_passed_deadline_is_an_error(world: ProcessWorld) -> None:
    with pytest.raises(AdapterError, match="reading /proc took too long: 0 of 2 processes"):
        world.scope.observe([], time.monotonic() - 1)
