"""Processes of this host, as Prefect's process workers start them.

A process carries its flow run's id in the environment variable PREFECT__FLOW_RUN_ID, and so do its children; the run's
pid is a bare number since Prefect 3.2.8 (#17295), `<host name>:<number>` before. Neither proves which host is meant:
host names are cloned with their machines. `.serve()` sets the variable after the exec, where nobody can read it.

EXITED is never said: a process that was waited for leaves nothing, and one that was not (a defunct one) cannot show
whose it was.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from reconciler.model import Cause, Condition, FlowRun, Observation, Place, Resource, RunId, Seen
from reconciler.options import read_options
from reconciler.ports import AdapterError, Misconfigured, Problem
from reconciler_adapters.process_table import PRIVILEGE, Doubt, Process, ProcFiles, Table, boot_id, scan

_MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_PID = re.compile(r"(?:([^:]+):)?([0-9]{1,10})")
_PID_MAX = 2**31
_MAX_STRANGERS = 10_000
_BOOT_MARGIN = timedelta(seconds=60)
_CHECK_SECONDS = 10.0
_OPTIONS = ("host_name", "proc")


class ProcessScope:
    """The processes of one Linux host, in its initial PID namespace.

    Options, both texts: `proc` (default "/proc"), the host's /proc when it is mounted elsewhere, for a sidecar;
    `host_name` (default: what the host calls itself), the name in sentences and in pids of the old form.
    """

    worker_types = frozenset({"process"})

    def __init__(
        self, name: str, options: Mapping[str, object], *, machine_id_files: Sequence[Path] = _MACHINE_ID_FILES
    ) -> None:
        if sys.platform != "linux":
            raise Misconfigured(f"scope '{name}': adapter 'process' reads Linux's /proc and does not work here")
        chosen = read_options(name, "process", options, texts=_OPTIONS).texts
        self.name = name
        self.files = ProcFiles(chosen.get("proc", "/proc"))
        self._host = chosen.get("host_name", socket.gethostname())
        self._host_names = {self._host.lower(), socket.gethostname().lower()}
        self._machine_id_files = machine_id_files
        self._remembered: Mapping[RunId, Resource] = {}

    @classmethod
    def discover(cls) -> Mapping[str, object] | None:
        return {} if sys.platform == "linux" and os.access("/proc/self/stat", os.R_OK) else None

    def identity(self, deadline: float) -> str:
        """Read the machine-id; without one it is "boot:<boot id>".

        The latter changes at each reboot, which voids sightings and nothing else; `systemd-machine-id-setup` gives
        the host a machine-id. A container shows the one of its image, unless the host's file is mounted over it.
        """
        return self._machine_id() or f"boot:{boot_id(self.files)}"

    def locate(self, run: FlowRun) -> Place:
        return Place.UNSAID if run.pid is None or self._pid_here(run) else Place.ELSEWHERE

    def remind(self, resources: Mapping[RunId, Resource]) -> None:
        """Remember processes, for the boot of the host in which they were alive: none outlives it."""
        self._remembered = resources

    def observe(self, runs: Sequence[FlowRun], deadline: float) -> Seen:
        """Give each run one observation: of the process its pid names if that carries its id, else of the oldest one.

        The others are that one's descendants, what an earlier attempt left, or the hooks that a worker runs after a
        crash (seen with 3.8.8); the run lives while any of them does. GONE needs a table in which no process of
        doubtful owner may be the run's. Left to chance: a flow under a custom `command` whose wrapper was killed and
        which has overwritten its own environment.
        """
        table = scan(self.files, deadline)
        look = _Look(table, self._host, self._remembered)
        asked = {run.id for run in runs}
        others = (look.alive(run_id, None) for run_id in table.carriers if run_id not in asked)
        strangers = [seen.resource for seen in others if seen and seen.resource]
        return Seen(
            observations={run.id: [look.of(run, self._pid_here(run))] for run in runs},
            strangers=strangers[:_MAX_STRANGERS],
            incomplete=_sentence(table.blind) if table.blind else None,
            place_time=table.taken_at,
            place_started=table.booted,
        )

    def check(self) -> Sequence[Problem]:
        problems = []
        if self._machine_id() is None:
            remedy = "run systemd-machine-id-setup, or mount the host's /etc/machine-id into the container"
            problems.append(Problem("there is no machine-id: each reboot of the host voids its sightings", remedy))
        try:
            table = scan(self.files, time.monotonic() + _CHECK_SECONDS)
        except AdapterError as error:
            return [*problems, Problem(str(error), "mount the host's /proc and set the option `proc` to its path")]
        denied = [process for process in table.doubtful if process.doubt is Doubt.DENIED]
        if table.blind:
            problems.append(table.blind)
        elif denied:
            text = (
                f"cannot read the environment of {len(denied)} of {len(table.processes)} processes (process "
                f"{denied[0].pid} of uid {denied[0].uid}): a run that began before one of them did stays UNKNOWN"
            )
            problems.append(Problem(text, PRIVILEGE))
        return problems

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def _pid_here(self, run: FlowRun) -> int | None:
        """The pid as a number, if it may be one of this host."""
        parsed = _PID.fullmatch(run.pid or "")
        if parsed is None or (parsed[1] and parsed[1].lower() not in self._host_names):
            return None
        return int(parsed[2]) if 0 < int(parsed[2]) < _PID_MAX else None

    def _machine_id(self) -> str | None:
        for path in self._machine_id_files:
            try:
                text = path.read_text("ascii").strip()
            except (OSError, ValueError):
                continue
            if re.fullmatch(r"[0-9a-f]{32}", text):  # it may be empty, or "uninitialized"
                return text
        return None


@dataclass(frozen=True, slots=True)
class _Look:
    """One table, asked about runs."""

    table: Table
    host: str
    remembered: Mapping[RunId, Resource]  # what was last seen alive

    def of(self, run: FlowRun, pid: int | None) -> Observation:
        return self.alive(run.id, pid) or self._untold(run, pid) or self._gone(run, pid)

    def alive(self, run_id: RunId, pid: int | None) -> Observation | None:
        carriers = [process for process in self.table.carriers.get(run_id, ()) if not process.is_foreign]
        if not carriers:
            return None
        leader = next((process for process in carriers if process.pid == pid), carriers[0])
        reason = "is stopped by a signal" if leader.state in {"T", "t"} else "is running"
        if pid not in {None, leader.pid}:
            reason += f" (though not as process {pid}, which the run names)"
        return Observation(condition=Condition.ALIVE, reason=reason, resource=self._resource(leader, run_id))

    def _untold(self, run: FlowRun, pid: int | None) -> Observation | None:
        """Why the run's absence from the table is not its end."""
        if foreign := next(iter(self.table.carriers.get(run.id, ())), None):
            reason = (
                f"process {foreign.pid} of another PID namespace (a container?) carries its id; "
                "that is not this scope's to judge"
            )
            resource = self._resource(foreign, run.id)
            return Observation(condition=Condition.UNKNOWN, reason=reason, resource=resource)
        if self.table.blind:
            return Observation(condition=Condition.UNKNOWN, reason=_sentence(self.table.blind))
        if other := self.table.doubt_about(run.created, pid):
            reason = f"process {other.pid} (uid {other.uid}), which may be the run's, {other.doubt}"
            return Observation(condition=Condition.UNKNOWN, reason=reason)
        return None

    def _gone(self, run: FlowRun, pid: int | None) -> Observation:
        if pid is None:
            return Observation(
                condition=Condition.GONE, reason=f"was not found among the processes of host {self.host}"
            )
        present = self.table.processes.get(pid)
        resource = Resource(id=f"{self.table.boot_id}/{pid}", title=self._title(pid), run_id=run.id, key=str(pid))
        if present and present.is_defunct:
            reason = "is defunct (ended, not yet reaped by its parent)"
            return Observation(condition=Condition.GONE, reason=reason, resource=resource)
        notes = ["its pid now belongs to another process"] if present else []
        cause = None
        if self.table.booted > max(run.state_since, run.created) + _BOOT_MARGIN:
            notes.append(f"host booted at {_text(self.table.booted)}")
            cause = Cause.HOST_RESTART if self._was_alive_in_an_earlier_boot(run, pid) else None
        reason = "no longer exists" + (f" ({'; '.join(notes)})" if notes else "")
        return Observation(condition=Condition.GONE, reason=reason, resource=resource, cause=cause)

    def _was_alive_in_an_earlier_boot(self, run: FlowRun, pid: int) -> bool:
        """Without that nobody knows that the process was on this host, nor that it lived until the reboot."""
        before = self.remembered.get(run.id)
        return before is not None and before.key == str(pid) and before.id.partition("/")[0] != self.table.boot_id

    def _resource(self, process: Process, run_id: RunId) -> Resource:
        return Resource(
            id=f"{self.table.boot_id}/{process.pid}/{process.start}",
            title=self._title(process.pid),
            run_id=run_id,
            key=str(process.pid),
            is_whole=False,  # any process that a flow starts carries its run's id, and need not be what runs it
            created_at=self.table.started(process),
            removal="" if process.is_foreign else f"kill {process.pid}",
        )

    def _title(self, pid: int) -> str:
        return f"process {pid} on host {self.host}"


def _sentence(problem: Problem) -> str:
    return f"{problem.text}; {problem.remedy}"


def _text(time_of_host: datetime) -> str:
    return f"{time_of_host:%Y-%m-%d %H:%M:%S} UTC"
