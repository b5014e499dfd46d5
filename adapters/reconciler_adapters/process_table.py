"""One pass over the process table of a Linux host, read from procfs.

Everything is read relative to the procfs mount, not to the reader: a mount shows the processes of one PID namespace
and of those below it, whoever reads it. psutil is not used: the mount would have to be set in a global of it.

An environment may hold secrets. Nothing but the flow run's id leaves `_run_id_in`.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain, takewhile
from uuid import UUID

from reconciler.model import RunId
from reconciler.ports import AdapterError, Misconfigured, Problem

# The files are 0400, so CAP_SYS_PTRACE alone is not enough (seen on Linux 6.18).
PRIVILEGE = "run as root (in a container: with CAP_SYS_PTRACE), or grant CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"

_HIDDEN = Problem("the processes of other users are hidden (hidepid, or a security module)", PRIVILEGE)
_NAMESPACE = Problem(
    "this reconciler is in a PID namespace of its own", "share the host's (docker run --pid=host, hostPID: true)"
)
_INIT, _KTHREADD = 1, 2
_LATEST = 2**40  # clock ticks: centuries
_PF_KTHREAD = 0x00200000  # linux/sched.h; systemd tells kernel threads by it, too
_EXEC = timedelta(seconds=5)  # far more than an exec takes
_MARGIN = timedelta(seconds=60)  # clocks of host and server: a process this much older than a run cannot be the run's
_RUN_ID = re.compile(rb"\0PREFECT__FLOW_RUN_ID=([^\0]*)")
_ENDED = (FileNotFoundError, ProcessLookupError)


class Doubt(StrEnum):
    """Why an environment does not tell whose a process is. Completes "process N (uid U) ..."."""

    DENIED = f"has an environment that cannot be read; {PRIVILEGE}"
    EMPTY = "shows no environment: it begins or ends just now, or was started without one"
    ERASED = "has overwritten its environment, as setproctitle does; set SPT_NOENV=1 for the flow to keep it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    pid: int
    start: int | None = None  # clock ticks since boot, of the fork: an exec keeps it; None: not readable
    state: str = "?"
    group: int = 0
    session: int = 0
    is_kernel_thread: bool = False
    is_defunct: bool = False
    run_id: RunId | None = None
    doubt: Doubt | None = None
    uid: int | None = None  # read only for processes with a run id or a doubt, as is the next one
    is_foreign: bool = False  # of a PID namespace below that of the mount: a container's

    @property
    def is_doubtful(self) -> bool:
        """Whether it may be anyone's. Init is no flow run's process; and even root may be kept from reading it."""
        return self.doubt is not None and self.pid != _INIT


class ProcFiles:
    """The files of one procfs mount. Every method raises OSError."""

    def __init__(self, root: str) -> None:
        self.root = root

    def pids(self) -> list[int]:
        with os.scandir(self.root) as entries:
            return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())

    def read(self, name: str) -> bytes:
        descriptor = os.open(f"{self.root}/{name}", os.O_RDONLY)
        try:
            chunks = []
            while chunk := os.read(descriptor, 65536):
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The processes that were there, and what keeps this list from being the whole truth. Times are the host's."""

    boot_id: str
    taken_at: datetime
    booted: datetime  # now - CLOCK_BOOTTIME; `btime` of /proc/stat is cut to whole seconds
    ticks: int  # per second
    processes: Mapping[int, Process]
    carriers: Mapping[RunId, Sequence[Process]]  # live ones, oldest first
    doubtful: Sequence[Process]  # youngest first; those of unknown age before all
    blind: Problem | None  # why a process may be there and not in this table

    def started(self, process: Process) -> datetime | None:
        return None if process.start is None else self.booted + timedelta(seconds=process.start / self.ticks)

    def doubt_about(self, created: datetime, pid: int | None) -> Process | None:
        """Find a process that may belong to the run of that creation time and pid, although nothing says so.

        One that overwrote its environment, or was started without one, counts only if its pid, group or session is the
        run's, or the run has no pid: session servers (sshd, postgres) do this all day, and a flow's process leads its
        session. A young one without an environment may be within its exec.
        """
        earliest = (created - _MARGIN - self.booted).total_seconds() * self.ticks

        def is_young(process: Process) -> bool:
            return process.start is None or process.start >= earliest

        named = filter(is_young, (one for one in (self.processes.get(pid or 0),) if one and one.is_doubtful))
        for process in chain(named, takewhile(is_young, self.doubtful)):
            lasting = process.doubt is Doubt.ERASED or (process.doubt is Doubt.EMPTY and self._age(process) > _EXEC)
            if not lasting or pid in {None, process.pid, process.group, process.session}:
                return process
        return None

    def _age(self, process: Process) -> timedelta:
        started = self.started(process)
        return timedelta(0) if started is None else self.taken_at - started


def boot_id(files: ProcFiles) -> str:
    try:
        return str(UUID(files.read("sys/kernel/random/boot_id").decode("ascii").strip()))
    except _ENDED as error:
        raise Misconfigured(f"{files.root} is no procfs of a Linux host; set the option `proc` to one") from error
    except (OSError, ValueError) as error:
        raise AdapterError(f"cannot read the boot id in {files.root}: {error}") from error


def scan(files: ProcFiles, deadline: float) -> Table:
    """Read every process once. Raises AdapterError; what ends meanwhile is not an error."""
    taken_at = datetime.now(UTC)
    booted = taken_at - timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
    boot, pids = boot_id(files), _pids(files)
    processes: dict[int, Process] = {}
    for count, pid in enumerate(pids):
        if time.monotonic() > deadline:
            raise AdapterError(f"reading {files.root} took too long: {count} of {len(pids)} processes by the deadline")
        if process := _read(files, pid):
            processes[pid] = process
    carriers: dict[RunId, list[Process]] = {}
    for process in sorted(processes.values(), key=lambda one: one.start or 0):
        if process.run_id:
            carriers.setdefault(process.run_id, []).append(process)
    doubtful = [process for process in processes.values() if process.is_doubtful]
    doubtful.sort(key=lambda one: (one.start is None, one.start), reverse=True)
    return Table(
        boot_id=boot, taken_at=taken_at, booted=booted, ticks=os.sysconf("SC_CLK_TCK"), processes=processes,
        carriers=carriers, doubtful=doubtful, blind=_blind(processes),
    )  # fmt: skip


def _blind(processes: Mapping[int, Process]) -> Problem | None:
    init, kthreadd = processes.get(_INIT), processes.get(_KTHREADD)
    if init is None or init.start is None:
        return _HIDDEN
    # Kernel threads are of the initial PID namespace only. That pid 1 and ourselves share a namespace says nothing (in
    # a container they do), and of the initial one's /proc/1/ns/pid only root may read the number.
    return None if kthreadd and kthreadd.is_kernel_thread else _NAMESPACE


def _pids(files: ProcFiles) -> list[int]:
    try:
        return files.pids()
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise Misconfigured(f"cannot list {files.root}: {error.strerror}; set the option `proc`") from error
    except OSError as error:
        raise AdapterError(f"cannot list {files.root}: {error.strerror}") from error


def _read(files: ProcFiles, pid: int) -> Process | None:
    """Read one process; None if it has ended."""
    try:
        process = _read_identity(files, pid)
        return _with_owner(files, process) if process.run_id or process.doubt else process
    except _ENDED:
        return None
    except OSError as error:
        raise AdapterError(f"cannot read process {pid} in {files.root}: {error.strerror}") from error
    except (ValueError, IndexError) as error:
        raise AdapterError(f"cannot make sense of {files.root}/{pid}/stat") from error


def _read_identity(files: ProcFiles, pid: int) -> Process:
    for _ in range(2):  # during an exec, and while a process ends, there is no environment
        process = _read_stat(files, pid)
        if not (process.is_kernel_thread or process.is_defunct or process.doubt):
            process = _with_run_id(files, process)
        if process.doubt is not Doubt.EMPTY:
            break
    return process


def _read_stat(files: ProcFiles, pid: int) -> Process:
    try:
        raw = files.read(f"{pid}/stat")
    except PermissionError:
        return Process(pid=pid, doubt=Doubt.DENIED)
    fields = raw[raw.rindex(b")") + 1 :].split()  # the name before it may hold anything, brackets and blanks too
    state, threads, start = fields[0].decode("ascii"), int(fields[17]), int(fields[19])
    if not 0 <= start < _LATEST:
        raise ValueError("no time since the boot")
    return Process(
        pid=pid,
        state=state,
        group=int(fields[2]),
        session=int(fields[3]),
        start=start,
        is_kernel_thread=bool(int(fields[6]) & _PF_KTHREAD),
        # when only the main thread has ended, the state is Z as well (seen on Linux 6.18)
        is_defunct=state in {"Z", "X", "x"} and threads <= 1,
    )


def _with_run_id(files: ProcFiles, process: Process) -> Process:
    """Read the environment as it was at the exec: a forked child shows its parent's."""
    try:
        block = b"\0" + files.read(f"{process.pid}/environ")
    except PermissionError:
        return replace(process, doubt=Doubt.DENIED)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ESRCH, errno.EIO}:
            raise
        block = b"\0"
    if run_id := _run_id_in(block):
        return replace(process, run_id=run_id, doubt=None)
    # entries are never empty, unless something was written over them
    doubt = Doubt.EMPTY if block == b"\0" else Doubt.ERASED if b"\0\0" in block else None
    return replace(process, doubt=doubt)


def _run_id_in(block: bytes) -> RunId | None:
    found = _RUN_ID.search(block)
    try:
        return UUID(found[1].decode("ascii")) if found else None
    except ValueError:
        return None


def _with_owner(files: ProcFiles, process: Process) -> Process:
    """Read user and PID namespace. `NSpid` (since Linux 4.1) lists the pid in each namespace from the mount's down."""
    try:
        status = files.read(f"{process.pid}/status")
    except PermissionError:
        return process
    uid, pids = re.search(rb"^Uid:\s+(\d+)", status, re.MULTILINE), re.search(rb"^NSpid:(.*)$", status, re.MULTILINE)
    return replace(process, uid=int(uid[1]) if uid else None, is_foreign=bool(pids and len(pids[1].split()) > 1))
