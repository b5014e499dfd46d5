"""The web part: probes, metrics, the last cycle as JSON, and the status page, served from a thread of its own.

Read-only, and without a login: whoever reaches it reads names of flow runs and reasons. It never writes anything.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from reconciler.board import Board
from reconciler.pages import STYLE_SOURCE, legible, status_page
from reconciler.report import as_json
from reconciler.shown import Health, Settlement, Shown

Metrics = Callable[[str], tuple[bytes, str]]  # Accept header -> body and content type

HEADERS = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src {STYLE_SOURCE}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
_CONNECTIONS = 100  # more are answered with 503: they must not take the file descriptors of the cycle
_START, _STOP = 5.0, 0.5  # seconds
_LOG = logging.getLogger(__name__)

_REMEDIES = {
    errno.EADDRINUSE: "something else listens there; stop it, or change `daemon.listen`",
    errno.EADDRNOTAVAIL: "this machine has no such address; change `daemon.listen`",
    errno.EACCES: "no permission; choose a port from 1024 up in `daemon.listen`",
}


class WebPart:
    """Serves at `address` (host, port) while `ensure` is called now and then. Its thread keeps no process alive."""

    def __init__(self, address: tuple[str, int], board: Board, metrics: Metrics) -> None:
        self._address, self._app = address, _app(board, metrics)
        self._lock = threading.Lock()
        self._serving: _Serving | None = None

    def ensure(self) -> str | None:
        """Serve, unless it does. None if it serves, else a sentence why it cannot; to be called again then."""
        with self._lock:
            if self._serving is not None and self._serving.is_alive():
                return None
            try:
                self._serving = _Serving(self._app, _listening(*self._address))
            except (OSError, UnicodeError, OverflowError) as error:
                return f"the web part cannot listen on {self._shown}: {_remedy(error)}"
            self._serving.start()
            self._serving.up.wait(_START)
            return None if self._serving.is_up else f"the web part on {self._shown} did not come up; the log says why"

    def close(self) -> None:
        """Stop within a second."""
        with self._lock:
            if self._serving is not None:
                self._serving.stop()
            self._serving = None

    @property
    def _shown(self) -> str:
        host, port = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Serving(threading.Thread):
    """One uvicorn server on one listening socket."""

    def __init__(self, app: Starlette, listening: socket.socket) -> None:
        super().__init__(name="web part", daemon=True)
        self.up = threading.Event()
        self._socket, self._server = listening, _Server(_config(app), self.up)

    @property
    def is_up(self) -> bool:
        return self._server.started and self.is_alive()

    def run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._socket]))
        except BaseException:  # noqa: BLE001 - uvicorn leaves by SystemExit, too; `ensure` begins again
            _LOG.exception("the web part ended")
        finally:
            self._socket.close()
            self.up.set()

    def stop(self) -> None:
        self._server.should_exit = True
        self.join(_STOP)
        self._server.force_exit = True
        self.join(1.0 - _STOP)


class _Server(uvicorn.Server):
    """Says when it has begun, and leaves no connection behind. In a thread uvicorn installs no signal handlers."""

    def __init__(self, config: uvicorn.Config, up: threading.Event) -> None:
        super().__init__(config)
        self._up = up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for left in list(self.server_state.connections):  # clients that do not read their answer
            if left.transport is not None:
                left.transport.abort()
        await asyncio.sleep(0)


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=list(HEADERS),
        limit_concurrency=_CONNECTIONS,
    )


def _listening(host: str, port: int) -> socket.socket:
    """Bind here: uvicorn ends the process when it cannot. "::" takes IPv4 in, too."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    both = family is socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, backlog=128, dualstack_ipv6=both)


def _remedy(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return _REMEDIES.get(error.errno) or error.strerror or os.strerror(error.errno)
    return str(error)


def _app(board: Board, metrics: Metrics) -> Starlette:
    """Only async endpoints: a worker thread would keep the process alive."""

    async def page(_: Request) -> Response:
        return HTMLResponse(status_page(board.shown, datetime.now(UTC)))

    async def status(_: Request) -> Response:
        return Response(json.dumps(_document(board.shown)), media_type="application/json")

    async def metrics_text(request: Request) -> Response:
        body, content_type = metrics(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    async def healthz(_: Request) -> Response:
        return _probe(board.health)

    async def readyz(_: Request) -> Response:
        return _probe(board.readiness)

    endpoints = {"/": page, "/status": status, "/metrics": metrics_text, "/healthz": healthz, "/readyz": readyz}
    app = Starlette(routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()])
    app.router.redirect_slashes = False
    return app


def _probe(health: Health) -> Response:
    text = "\n".join(legible(reason) for reason in health.reasons) or "ok"
    return PlainTextResponse(f"{text}\n".encode(), 200 if health.ok else 503)


def _document(shown: Shown) -> Mapping[str, object]:
    """Build the document of `reconcile --json`, and what only a daemon knows."""
    cycle = as_json(shown.last.report) if shown.last else {"version": 1, "taken_at": None}
    return cycle | {
        "ready": shown.readiness.ok,
        "reasons": list(shown.readiness.reasons),
        "configuration_problems": list(shown.configuration_problems),
        "settlements": [_settlement(settlement) for settlement in shown.settlements],
    }


def _settlement(settlement: Settlement) -> Mapping[str, object]:
    return {
        "id": str(settlement.run_id),
        "name": settlement.name,
        "at": settlement.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "outcome": str(settlement.kind),
        "detail": settlement.detail,
        "alarm": settlement.alarm,
        "reason": settlement.reason,
        "scope": settlement.scope,
        "resource": settlement.resource,
    }
