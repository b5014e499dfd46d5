"""A real Prefect server: free loopback port, its own home folder, SQLite."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import httpx

from tests.rigs.polling import wait_until
from tests.rigs.processes import Program, inherited_environment, kill_flow_processes

CHECKOUT = Path(__file__).parents[2]


def prefect_venv(variable: str = "RECONCILER_TEST_PREFECT", folder: str = "prefect") -> Path | None:
    """The virtual environment that holds Prefect: named by an environment variable, else the one `make setup` makes."""
    venv = Path(os.environ.get(variable) or CHECKOUT / ".venvs" / folder)
    return venv if (venv / "bin" / "prefect").exists() else None


class PrefectServer:
    """`with PrefectServer(venv, folder) as server:`; `server.api_url` ends in "/api"."""

    def __init__(self, venv: Path, folder: Path) -> None:
        self.venv = venv
        self.folder = folder
        self.port = free_port()
        self.api_url = f"http://127.0.0.1:{self.port}/api"
        self._program: Program | None = None

    @property
    def command(self) -> list[str]:
        return [str(self.venv / "bin" / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]

    @property
    def environment(self) -> dict[str, str]:
        """For the server, and with it for every client of this server that the rigs start."""
        return inherited_environment(
            PATH=f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
            PREFECT_HOME=str(self.folder),
            PREFECT_API_URL=self.api_url,
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            DO_NOT_TRACK="1",
        )

    def start(self) -> PrefectServer:
        """Start, and wait until it is healthy. A restart finds the same data at the same address."""
        program = self._program = Program(self.command, self.folder / "server.log", self.environment)
        try:
            wait_until(lambda: program.must_run() and self.healthy(), f"Prefect server at {self.api_url} healthy", 180)
        except BaseException:
            program.end()
            raise
        return self

    def healthy(self) -> bool:
        try:
            return (
                httpx.get(f"{self.api_url}/health", trust_env=False, verify=False, timeout=5).status_code
                == httpx.codes.OK
            )
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        kill_flow_processes(self.api_url)
        if self._program:
            self._program.end()

    def __enter__(self) -> PrefectServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
