"""A Docker engine as far as the adapter asks one: an HTTP server on a Unix socket or loopback, with scripted faults.

Shapes, filters and error texts are those of Docker 20.10.24 (API 1.41); `test_docker_real.py` asks a real engine the
same things. Usable on its own, for benchmarks: `with FakeDocker() as engine: engine.add(count=1000)`.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

from reconciler.testing import Fault

RUN_LABEL = "io.prefect.flow-run-id"
ZERO_TIME = "0001-01-01T00:00:00Z"
STATUSES = {"created", "restarting", "running", "removing", "paused", "exited", "dead"}
STATUS_FAULTS = {
    Fault.UNAUTHORIZED: 401,
    Fault.FORBIDDEN: 403,
    Fault.PARENT_NOT_FOUND: 404,
    Fault.EXPIRED: 410,
    Fault.THROTTLED: 429,
    Fault.SERVER_ERROR: 500,
    Fault.UNAVAILABLE: 503,
}


def instant(when: datetime | None = None) -> str:
    """RFC 3339 with nanoseconds, as Docker writes it."""
    return (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"


@dataclass
class FakeContainer:
    id: str
    name: str
    labels: dict[str, str]
    state: dict[str, Any]
    memory: int = 0
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    def listed(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Names": [f"/{self.name}"],
            "Created": int(self.created.timestamp()),
            "Labels": self.labels,
            "State": self.state["Status"],
            "Status": "as people read it",
        }

    def inspected(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Created": instant(self.created),
            "State": self.state,
            "HostConfig": {"Memory": self.memory},
            "Config": {"Labels": self.labels},
        }


class FakeDocker:
    """`faults` maps patterns of paths to what happens there; `asked` are the paths asked so far, without version."""

    def __init__(self, socket_path: Path | None = None) -> None:
        self.info: dict[str, Any] = {"ID": "C7G5:Y4MS:XISN", "Name": "prod-7"}
        self.version: dict[str, Any] = {"ApiVersion": "1.41"}
        self.containers: dict[str, FakeContainer] = {}
        self.asked: list[str] = []
        self.faults: dict[str, Fault | bytes] = {}  # bytes: this body, with 200
        self.before: Callable[[str], None] = lambda path: None
        self.healed = threading.Event()
        self._socket_path = socket_path
        self._server = _UnixServer(str(socket_path), _Handler) if socket_path else _Server(("127.0.0.1", 0), _Handler)
        self._server.engine = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def base_url(self) -> str:
        return (
            f"unix://{self._socket_path}" if self._socket_path else f"tcp://127.0.0.1:{self._server.server_address[1]}"
        )

    def __enter__(self) -> FakeDocker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, run_id: UUID | None = None, status: str = "running", **state: Any) -> FakeContainer:
        """Make a container in that status, with the run's label if a run id is given."""
        container_id = secrets.token_hex(32)
        labels = {RUN_LABEL: str(run_id)} if run_id else {}
        container = FakeContainer(container_id, f"otter-{container_id[:6]}", labels, _state(status) | state)
        self.containers[container_id] = container
        return container

    def fill(self, count: int, status: str = "running") -> list[tuple[UUID, FakeContainer]]:
        """Make `count` containers, each of a run of its own."""
        return [(run_id, self.add(run_id, status)) for run_id in (uuid4() for _ in range(count))]

    def remove(self, container: FakeContainer) -> None:
        del self.containers[container.id]

    def inject(self, fault: Fault | bytes, path: str = ".*") -> None:
        self.healed.clear()
        self.faults[path] = fault

    def heal(self) -> None:
        self.faults.clear()
        self.healed.set()

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path == "/version":
            return 200, self.version
        if path == "/_ping":
            return 200, "OK"
        if path == "/info":
            return 200, {"SystemTime": instant()} | self.info
        if path == "/containers/json":
            return self._list(query)
        if match := re.fullmatch(r"/containers/([^/]+)/json", path):
            container = self.containers.get(match[1])
            return (200, container.inspected()) if container else (404, _message(f"No such container: {match[1]}"))
        return 404, _message("page not found")

    def _list(self, query: dict[str, str]) -> tuple[int, Any]:
        filters: dict[str, list[str]] = json.loads(query.get("filters", "{}"))
        if wrong := set(filters.get("status", ())) - STATUSES:
            return 400, _message(f"Invalid filter 'status={wrong.pop()}'")
        everything = query.get("all") == "1" or "status" in filters
        statuses = set(filters.get("status") or (STATUSES if everything else {"running", "paused", "restarting"}))
        labels = [label.partition("=") for label in filters.get("label", ())]
        shown = [container for container in self.containers.copy().values() if container.state["Status"] in statuses]
        return 200, [
            container.listed()
            for container in shown
            if all(
                key in container.labels and (not sep or container.labels[key] == value) for key, sep, value in labels
            )
        ]


def _state(status: str) -> dict[str, Any]:
    ended = status in {"exited", "dead", "removing"}
    return {
        "Status": status,
        "Running": status in {"running", "paused", "restarting"},
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": False,
        "Dead": status == "dead",
        "ExitCode": 0,
        "Error": "",
        "StartedAt": ZERO_TIME if status == "created" else instant(),
        "FinishedAt": instant() if ended else ZERO_TIME,
    }


def _message(text: str) -> dict[str, str]:
    return {"message": text}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    engine: FakeDocker

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what the tests want."""


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[socket.socket, Any]:
        return self.socket.accept()[0], ("unix", 0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 30

    def setup(self) -> None:
        super().setup()
        if self.connection.family != socket.AF_UNIX:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        engine, parts = self.server.engine, urlsplit(self.path)
        path = re.sub(r"^/v1\.\d+(?=/)", "", parts.path)
        engine.asked.append(path)
        engine.before(path)
        fault = next((fault for pattern, fault in engine.faults.items() if re.fullmatch(pattern, path)), None)
        if isinstance(fault, bytes):
            self._send(200, fault)
            return
        if fault:
            self._fail(fault, path)
            return
        status, body = engine.answer(path, {key: values[0] for key, values in parse_qs(parts.query).items()})
        self._send(status, json.dumps(body).encode())

    def _fail(self, fault: Fault, path: str) -> None:
        if fault in STATUS_FAULTS:
            said = "page not found" if fault is Fault.PARENT_NOT_FOUND else f"scripted: {fault.value}"
            self._send(STATUS_FAULTS[fault], json.dumps(_message(said)).encode())
        elif fault is Fault.TIMEOUT:
            self.server.engine.healed.wait(30)
            self.close_connection = True
        elif fault is Fault.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault is Fault.TRUNCATED:
            self._send(200, b'[{"Id": "' + b"a" * 40, missing=100)
        elif fault is Fault.EMPTY:
            self._send(200, b"")
        else:  # valid JSON of the wrong kind
            self._send(200, b'{"message": "ok"}' if path == "/containers/json" else b"[]")

    def _send(self, status: int, body: bytes, missing: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or bool(missing)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""
