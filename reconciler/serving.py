"""The HTTP server of the web part: few connections, and none that lasts.

Whoever reaches the port may open as many as he likes, and send nothing, or read nothing. That may neither keep a probe
out, since a failing one restarts the pod, nor take the file descriptors of the cycle.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from asyncio import BaseTransport, TimerHandle, Transport
from collections.abc import Callable, Sequence
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 100
FIRST_REQUEST, LIFE = 10.0, 30.0  # seconds


class Connection(H11Protocol):
    """uvicorn's, with an end. Of too many the one that has been idle longest makes room for the new one."""

    since = 0.0
    timers: tuple[TimerHandle, ...] = ()

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast("Transport", transport))
        self.since = self.loop.time()
        self.timers = (
            self.loop.call_later(FIRST_REQUEST, self._give_up),
            self.loop.call_later(LIFE, self.shutdown),  # at once if idle, else after the answer under way
            self.loop.call_later(2 * LIFE, self.transport.abort),
        )
        others = [one for one in self.connections if isinstance(one, Connection) and one is not self]
        if len(others) >= CONNECTIONS:
            longest = min(others, key=lambda one: (not one.is_idle, one.since))
            self.connections.discard(longest)  # its end is told later, and the next one comes before that
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self.timers:
            timer.cancel()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request waits for its answer; the rest of an answer may still wait for its reader."""
        return cast("object", self.cycle) is None or self.cycle.response_complete

    def _give_up(self) -> None:
        if cast("object", self.cycle) is None:
            self.transport.abort()


class Server(uvicorn.Server):
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


def configuration(app: Callable[..., Any], headers: Sequence[tuple[str, str]]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=list(headers),
        backlog=CONNECTIONS,  # all of it is taken in at once, before any connection makes room
    )


def listening(host: str, port: int) -> socket.socket:
    """Bind here: uvicorn ends the process when it cannot. "::" takes IPv4 in, too."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    both = family is socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, backlog=128, dualstack_ipv6=both)
