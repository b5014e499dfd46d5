"""Run the real `reconciler` daemon as a service manager does: notify socket, watchdog, and its log in a file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx

from tests.rigs.polling import wait_until
from tests.rigs.processes import Program, inherited_environment
from tests.rigs.server import free_port

COMMAND = (sys.executable, "-c", "from reconciler.cli import daemon_main; daemon_main()")


class NotifySocket:
    """What systemd listens on. `messages` has every datagram with the seconds since the start."""

    def __init__(self, path: Path) -> None:
        self.path, self.messages = path, list[tuple[float, str]]()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.1)
        self._began, self._closed = time.monotonic(), threading.Event()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                text = self._socket.recv(65536).decode()
                self.messages.append((time.monotonic() - self._began, text))
        self._socket.close()

    def lines(self) -> list[str]:
        return [line for _, text in list(self.messages) for line in text.splitlines()]

    def has(self, line: str) -> bool:
        return line in self.lines()

    def statuses(self) -> list[str]:
        return [line.removeprefix("STATUS=") for line in self.lines() if line.startswith("STATUS=")]

    def last_words(self) -> list[str]:
        """What was said last; a pass that runs when the end comes may still feed the watchdog."""
        return [line for line in self.lines() if line != "WATCHDOG=1"][-2:]

    def close(self) -> None:
        self._closed.set()


class DaemonProcess:
    """One `reconciler` with a configuration and a memory of its own."""

    def __init__(
        self, api: str, folder: Path, *scopes: str, daemon: dict[str, str] | None = None, **policy: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.api, self.folder, self.file = api, folder, folder / "reconciler.toml"
        self.state, self.port = folder / "state", free_port()
        self.prefix: tuple[str, ...] = ()
        self.environment = dict[str, str]()
        self.configure(*scopes, daemon=daemon, **policy)
        self._program: Program | None = None
        self.notify: NotifySocket | None = None

    def configure(self, *scopes: str, daemon: dict[str, str] | None = None, **policy: str) -> None:
        settings = {"interval": "1s", "jitter": "0s", "listen": f"127.0.0.1:{self.port}"} | (daemon or {})
        lines = [f'state_dir = "{self.state}"', "[daemon]", *(f'{key} = "{value}"' for key, value in settings.items())]
        lines += ["[policy]", *(f'{key} = "{value}"' for key, value in policy.items()), *scopes]
        self.file.write_text("\n".join(lines) + "\n")

    def start(self, watchdog: float | None = 600.0) -> Self:
        self.notify = NotifySocket(self.folder / f"notify-{time.monotonic_ns()}")
        environ = inherited_environment(
            PREFECT_API_URL=self.api, PREFECT_HOME=str(self.folder), NOTIFY_SOCKET=str(self.notify.path)
        )
        environ |= {"WATCHDOG_USEC": str(int(watchdog * 1_000_000))} if watchdog else {}
        self._program = Program([*self.prefix, *COMMAND, "--config", self.file], self.log, environ | self.environment)
        return self

    def ready(self, seconds: float = 60) -> Self:
        def is_ready() -> bool:
            assert self.notify is not None
            return self.program.must_run() and self.notify.has("READY=1")

        wait_until(is_ready, "READY=1 on the notify socket", seconds)
        return self

    @property
    def program(self) -> Program:
        assert self._program is not None, "start it first"
        return self._program

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def passes(self) -> list[dict[str, Any]]:
        return [record for record in self.records() if "api_calls" in record]

    def of_run(self, run_id: object) -> list[dict[str, Any]]:
        return [record for record in self.records() if record.get("flow_run") == str(run_id)]

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=5, trust_env=False)

    def status(self, path: str) -> int | None:
        try:
            return self.get(path).status_code
        except httpx.HTTPError:
            return None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.program.pid, number)

    def wait_for_passes(self, more: int, seconds: float = 60) -> None:
        """Wait until so many more passes have ended."""
        before = len(self.passes())
        wait_until(
            lambda: self.program.must_run() and len(self.passes()) >= before + more, f"{more} more passes", seconds
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send the signal, and give exit code and seconds."""
        began = time.monotonic()
        self.send(number)
        code = self.program.wait(30)
        return code, time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._program is not None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
            self.program.end()
        if self.notify is not None:
            self.notify.close()
