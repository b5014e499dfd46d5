"""Processes for flow runs that were seeded elsewhere; they carry the run's id, and do nothing."""

from __future__ import annotations

import os
import subprocess
import uuid
from uuid import UUID

from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, set_state


class Sleepers:
    """One process per flow run, on this machine. `end` them."""

    def __init__(self) -> None:
        self._processes: dict[UUID, subprocess.Popen[bytes]] = {}

    def run(self, run: SeededRun) -> SeededRun:
        """Start it and report it, as a worker and Prefect's client do: again, while the run is not due yet."""
        call(run.api, "PATCH", f"/flow_runs/{run.id}", {"infrastructure_pid": str(self.start(run))})
        own = str(uuid.uuid4())
        wait_until(lambda: set_state(run, "RUNNING", transition_id=own)["status"] == "ACCEPT", f"{run.name} is due", 30)
        return run

    def start(self, run: SeededRun) -> int:
        """Start it and tell nobody; gives the pid."""
        environment = {"PATH": os.environ["PATH"], "PREFECT__FLOW_RUN_ID": str(run.id)}
        process = self._processes[run.id] = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
        return process.pid

    def kill(self, *runs: SeededRun) -> None:
        for process in [self._processes[run.id] for run in runs]:
            process.kill()
            process.wait(10)

    def lives(self, run: SeededRun) -> bool:
        return self._processes[run.id].poll() is None

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait(10)
