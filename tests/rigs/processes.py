"""Start a program in a process group of its own, and end that group and nothing else."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

LOOPBACK_ONLY = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


class Program:
    """A running program. Its output goes to `log`; it leads its own process group."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float) -> int:
        """Wait for its end, and give its exit code."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL to this one process; its children live on."""
        self._process.kill()
        self._process.wait(10)

    def end(self, patience: float = 10.0) -> None:
        """SIGTERM to the group, then SIGKILL to what is left of it after `patience` seconds. May be called twice."""
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._signal_group(signal.SIGKILL)
        self._process.wait(10)

    def must_run(self) -> bool:
        """Raise, with the end of the log, when the program has ended; handy inside a polled condition."""
        if not self.running:
            raise RuntimeError(f"`{shlex.join(self.command)}` ended with {self._process.returncode}:\n{self.tail()}")
        return True

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def inherited_environment(**more: str) -> dict[str, str]:
    """Our environment without any PREFECT_* or RECONCILER_* setting of the user's, plus `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "RECONCILER_"))}
    return {**kept, **LOOPBACK_ONLY, **more}


def kill_flow_processes(api_url: str) -> None:
    """SIGKILL the flow processes that report to this server; a killed worker leaves them behind."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if environment.get("PREFECT_API_URL") == api_url and "PREFECT__FLOW_RUN_ID" in environment:
                process.kill()
