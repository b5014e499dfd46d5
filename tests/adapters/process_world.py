"""Real processes of this host, seen through /proc; what else happens to run here is left out of sight."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from reconciler.model import Condition, FlowRun, Observation, RunId, Seen
from reconciler.ports import Scope
from reconciler.testing import Fault, flow_run
from reconciler_adapters.process import ProcessScope
from reconciler_adapters.process_table import ProcFiles
from tests.conftest import missing
from tests.rigs.polling import wait_until

SLEEP = ("sleep", "1000")
# What setproctitle does: it writes over the memory that holds arguments and environment.
ERASER = """
import ctypes, pathlib, time
fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
start, end = int(fields[47]), int(fields[48])
ctypes.memset(start, 0, end - start)
time.sleep(1000)
"""
ERASE = (sys.executable, "-S", "-E", "-c", ERASER)
HOST = "web-3"
SCRIPT = """
import ctypes, json, os, sys, time
from uuid import UUID
from reconciler.testing import flow_run
from reconciler_adapters.process import ProcessScope
runs = [flow_run(pid, id=UUID(run_id)) for run_id, pid in json.loads(sys.argv[1])]
if user := int(sys.argv[2]):  # not before: the interpreter may be in a folder of root's
    os.setgroups([]), os.setgid(user), os.setuid(user)
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as after an exec: it may read itself
seen = ProcessScope("hosts", {}).observe(runs, time.monotonic() + 10)
print(json.dumps([[seen.observations[run.id][0].condition, seen.observations[run.id][0].reason] for run in runs]))
"""
_KTHREAD, _INIT = 0x00200000, 0x00400000


def stat_line(pid: int, name: str, flags: int) -> bytes:
    """Write the stat file of a process that started with the host."""
    fields = ["S", "0", "0", "0", "0", "-1", str(flags), *["0"] * 10, "1", "0", "1", *["0"] * 30]
    return f"{pid} ({name}) {' '.join(fields)}\n".encode()


class Glimpse(ProcFiles):
    """The real files of a few processes under init and kthreadd, and what a test puts over them."""

    def __init__(self) -> None:
        super().__init__("/proc")
        self.shown: set[int] = {1, 2}
        self.aliases: dict[int, int] = {}  # this pid number -> the process that has it now
        self.fault: Fault | None = None
        self.over: dict[str, bytes | OSError] = {}
        self.over["1/stat"], self.over["1/environ"] = stat_line(1, "systemd", _INIT), os_error(errno.EACCES)
        self.over["2/stat"] = stat_line(2, "kthreadd", _KTHREAD)

    def pids(self) -> list[int]:
        if self.fault in _LISTING:
            raise os_error(_LISTING[self.fault])
        if self.fault is Fault.EMPTY:
            return []
        many = range(100_000, 101_000) if self.fault is Fault.TIMEOUT else ()
        return sorted(self.shown | set(many))

    def read(self, name: str) -> bytes:
        process, _, file = name.partition("/")
        if self.fault is Fault.TIMEOUT:
            time.sleep(0.05)
        if self.fault is Fault.UNAUTHORIZED and file in {"environ", "stat"}:
            raise os_error(errno.EACCES)
        if self.fault in _GARBLED and file == "stat":
            return _GARBLED[self.fault]
        if self.fault in _READING and process.isdecimal():
            raise os_error(_READING[self.fault])
        if isinstance(found := self.over.get(name), OSError):
            raise found
        if process.isdecimal():
            name = f"{self.aliases.get(int(process), process)}/{file}"
        return super().read(name) if found is None else found


_LISTING = {Fault.RESET: errno.EIO, Fault.FORBIDDEN: errno.EACCES, Fault.PARENT_NOT_FOUND: errno.ENOENT}
_READING = {Fault.THROTTLED: errno.EMFILE, Fault.SERVER_ERROR: errno.ENOMEM}
_GARBLED = {Fault.TRUNCATED: b"17 (sleep) S 1 17", Fault.MALFORMED: b"\xff\xfe{}"}


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class ProcessWorld:
    """A `World` of the conformance tests."""

    has_exited = False

    def __init__(self, folder: Path) -> None:
        self._machine_id = folder / "machine-id"
        self._machine_id.write_text(f"{1:032x}\n")
        scope = ProcessScope("hosts", {"host_name": HOST}, machine_id_files=[self._machine_id])
        scope.files = self.files = Glimpse()
        self.scope: Scope = scope
        self._children: list[subprocess.Popen[bytes]] = []
        self._others: list[int] = []

    def __enter__(self) -> ProcessWorld:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            end(child)
            if child.stdout:
                child.stdout.close()
        for pid in self._others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def spawn(
        self, run_id: RunId | None = None, command: Sequence[str] = SLEEP, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, as a worker does; wait for its environment."""
        env = dict(os.environ if env is None else env)
        if run_id:
            env["PREFECT__FLOW_RUN_ID"] = str(run_id)
        child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, start_new_session=True)
        self._children.append(child)
        self.files.shown.add(child.pid)
        environ = Path(f"/proc/{child.pid}/environ")
        wait_until(lambda: environ.read_bytes() or not env, "the child shows its environment", every=0.01)
        if command is ERASE:
            wait_until(lambda: is_erased(child.pid), "the child erased its environment", every=0.01)
        return child

    def adopt(self, child: subprocess.Popen[bytes]) -> int:
        """Show a process whose pid the child prints, and end it with this world."""
        assert child.stdout
        pid = int(child.stdout.readline())
        self._others.append(pid)
        self.files.shown.add(pid)
        return pid

    def start_run(self) -> tuple[FlowRun, subprocess.Popen[bytes]]:
        """Start a process that carries a run's id; the run names it by its pid."""
        run = flow_run(created=datetime.now(UTC), state_since=datetime.now(UTC))
        child = self.spawn(run.id)
        return replace(run, pid=str(child.pid)), child

    def place(self, condition: Condition) -> FlowRun:
        run, child = self.start_run()
        if condition is not Condition.ALIVE:
            end(child)
        return run

    def inject(self, fault: Fault) -> bool:
        self.files.fault = fault
        return fault not in {Fault.EXPIRED, Fault.UNAVAILABLE}

    def heal(self) -> None:
        self.files.fault = None

    def slow_down(self, seconds: float) -> bool:
        return False  # the kernel answers at once, or not at all

    def replace_identity(self) -> None:
        self._machine_id.write_text(f"{2:032x}\n")

    def replace_resource(self, run: FlowRun) -> None:
        self._replace(run, self.spawn())

    def unlabel(self, run: FlowRun) -> bool:
        self._replace(run, self.spawn(run.id, ERASE))
        return True

    def _replace(self, run: FlowRun, newcomer: subprocess.Popen[bytes]) -> None:
        end(next(child for child in self._children if str(child.pid) == run.pid))
        self.files.shown.discard(newcomer.pid)
        self.files.aliases[int(run.pid or 0)] = newcomer.pid


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait(10)


def is_erased(pid: int) -> bool:
    block = Path(f"/proc/{pid}/environ").read_bytes()
    return bool(block) and not block.strip(b"\0")


def observe(scope: Scope, *runs: FlowRun) -> Seen:
    return scope.observe(runs, time.monotonic() + 10)


def look(world: ProcessWorld, run: FlowRun) -> Observation:
    (observation,) = observe(world.scope, run).observations[run.id]
    return observation


def need_root() -> None:
    if os.getuid() != 0:
        raise missing("Changing user or namespace needs root.")


def in_another_place(runs: Sequence[FlowRun], *prefix: str, user: int = 0) -> list[tuple[str, str]]:
    """What the adapter says of the runs when `prefix` starts it and as that user: condition and reason."""
    need_root()
    told = json.dumps([[str(run.id), run.pid] for run in runs])
    command = [*prefix, sys.executable, "-c", SCRIPT, told, str(user)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "Operation not permitted" in done.stderr or "Permission denied" in done.stderr:
        raise missing(f"This machine does not permit `{' '.join(prefix)}`: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return [(condition, reason) for condition, reason in json.loads(done.stdout)]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
