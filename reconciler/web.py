"""The web part: probes, metrics, the last cycle as JSON, and the status page, served from a thread of its own.

Read-only, and without a login: whoever reaches it reads names of flow runs and reasons. It never writes anything. Who
asks by a name that is not known here (`hosts`) gets the probes' status codes and nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.board import Board
from reconciler.hosts import Hosts
from reconciler.pages import STYLE_SOURCE, status_page
from reconciler.report import as_json
from reconciler.serving import Server, configuration, listening
from reconciler.shown import Health, Settlement, Shown
from reconciler.words import legible, rfc3339

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
LARGE = 8  # answers at once; each holds its whole text, some MB for 10,000 runs
_SLICE = 64 * 1024
_TOLD = 10  # foreign names in the log: anybody can make up more
_START, _STOP = 5.0, 0.5  # seconds
_SETTING = "daemon.allowed_hosts"
_LOG = logging.getLogger(__name__)

_REMEDIES = {
    errno.EADDRINUSE: "something else listens there; stop it, or change `daemon.listen`",
    errno.EADDRNOTAVAIL: "this machine has no such address; change `daemon.listen`",
    errno.EACCES: "no permission; choose a port from 1024 up in `daemon.listen`",
}


class WebPart:
    """Serves at `address` (host, port) while `ensure` is called now and then. Its thread keeps no process alive."""

    def __init__(
        self, address: tuple[str, int], board: Board, metrics: Metrics, allowed_hosts: Collection[str] = ()
    ) -> None:
        hosts = Hosts({address[0], socket.gethostname(), *allowed_hosts})
        self._address, self._app = address, _by_name(hosts, _app(board, metrics), _app_for_others(board))
        self._lock = threading.Lock()
        self._serving: _Serving | None = None

    def ensure(self) -> str | None:
        """Serve, unless it does. None if it serves, else a sentence why it cannot; to be called again then."""
        with self._lock:
            if self._serving is not None and self._serving.is_alive():
                return None
            try:
                self._serving = _Serving(self._app, listening(*self._address))
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

    def __init__(self, app: ASGIApp, bound: socket.socket) -> None:
        super().__init__(name="web part", daemon=True)
        self.up = threading.Event()
        self._socket, self._server = bound, Server(configuration(app, HEADERS), self.up)

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


def _remedy(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return _REMEDIES.get(error.errno) or error.strerror or os.strerror(error.errno)
    return str(error)


def _by_name(hosts: Hosts, known: ASGIApp, others: ASGIApp) -> ASGIApp:
    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        app = known if hosts.knows(Request(scope).headers.get("host")) else others
        await app(scope, receive, send)

    return dispatch


class _Room:
    """How many large answers are under way."""

    taken = 0


class _LargeAnswer:
    """A text that is made when there is room, and sent as fast as it is read, else 503: an ASGI application."""

    def __init__(self, room: _Room, content_type: str, make: Callable[[], str]) -> None:
        self._room, self._type, self._make = room, content_type, make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._room.taken >= LARGE:
            busy = PlainTextResponse("too many are reading; try again\n", 503, {"Retry-After": "5"})
            await busy(scope, receive, send)
            return
        self._room.taken += 1
        try:
            await self._send(self._make().encode(), send)
        finally:
            self._room.taken -= 1

    async def _send(self, body: bytes, send: Send) -> None:
        """In slices: uvicorn waits with each until the one before has left."""
        headers = [(b"content-type", self._type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(body), _SLICE):
            await send({"type": "http.response.body", "body": body[start : start + _SLICE], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _app(board: Board, metrics: Metrics) -> Starlette:
    """Only async endpoints: a worker thread would keep the process alive."""
    room = _Room()

    async def page(_: Request) -> _LargeAnswer:
        return _LargeAnswer(room, "text/html; charset=utf-8", lambda: status_page(board.shown, datetime.now(UTC)))

    async def status(_: Request) -> _LargeAnswer:
        return _LargeAnswer(room, "application/json", lambda: json.dumps(_document(board.shown)))

    async def metrics_text(request: Request) -> Response:
        body, content_type = metrics(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    async def healthz(_: Request) -> Response:
        return _probe(board.health)

    async def readyz(_: Request) -> Response:
        return _probe(board.readiness)

    return _routed({"/": page, "/status": status, "/metrics": metrics_text, "/healthz": healthz, "/readyz": readyz})


def _app_for_others(board: Board) -> Starlette:
    """For names that may be those of a foreign web page: a probe is answered, without reasons."""
    told = set[str]()

    async def refuse(request: Request) -> Response:
        name = legible(request.headers.get("host", ""))[:253]
        if name not in told and len(told) < _TOLD:
            told.add(name)
            _LOG.warning("refused to answer as '%s'; if that is a name of this daemon, add it to `%s`", name, _SETTING)
        sentence = f"this daemon is not known as '{name}': ask by its address, or add the name to {_SETTING}\n"
        return PlainTextResponse(sentence.encode(), 421)

    async def healthz(_: Request) -> Response:
        return _terse(board.health)

    async def readyz(_: Request) -> Response:
        return _terse(board.readiness)

    return _routed({"/healthz": healthz, "/readyz": readyz, "/{path:path}": refuse})


def _routed(endpoints: Mapping[str, Callable[[Request], object]]) -> Starlette:
    app = Starlette(routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()])
    app.router.redirect_slashes = False
    return app


def _terse(health: Health) -> Response:
    return PlainTextResponse("ok\n" if health.ok else "not well\n", 200 if health.ok else 503)


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
        "at": rfc3339(settlement.at),
        "action": str(settlement.action),
        "outcome": str(settlement.kind),
        "detail": settlement.detail,
        "followed": list(settlement.followed),
        "alarm": settlement.alarm,
        "reason": settlement.reason,
        "scope": settlement.scope,
        "resource": settlement.resource,
    }
