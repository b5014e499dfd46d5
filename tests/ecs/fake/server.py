"""The loopback address: reads the calls of SDKs, and writes what the fake answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl
from uuid import uuid4

from tests.ecs.fake.answers import HTML, Answer, Call, Refused, as_html, refusal

_SCOPE = re.compile(r"Credential=([^/,\s]+)/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
_TARGET = "AmazonEC2ContainerServiceV20141113."
_DRIP = 0.02  # seconds between two bytes

Respond = Callable[[Call], Answer | None]


class Listener(ThreadingHTTPServer):
    """`respond` is called in a thread of each connection; None resets the connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, respond: Respond, clock: Callable[[], datetime], ended: threading.Event) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond, self.clock, self.ended = respond, clock, ended
        self.connections: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), name="fake AWS", daemon=True).start()

    def end(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        """A client may hang up at any time."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            answer = self.server.respond(self._call(body))
        except Refused as refused:
            answer = refusal("ecs", refused)
        if answer is None:
            self._reset()
        else:
            self._send(answer)

    def do_GET(self) -> None:
        self._send(as_html(404, "404 Not Found"))

    def _call(self, body: bytes) -> Call:
        """Raises Refused: without a signature nobody is asked."""
        found = _SCOPE.search(self.headers.get("Authorization", ""))
        if found is None:
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        access_key, region, service = found.groups()
        token = self.headers.get("X-Amz-Security-Token")
        if service == "sts":
            said = dict(parse_qsl(body.decode()))
            return Call(service, said.pop("Action", ""), region, access_key, token, said)
        operation = self.headers.get("X-Amz-Target", "").removeprefix(_TARGET)
        return Call(service, operation, region, access_key, token, json.loads(body or b"{}"))

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        self.send_header("Date", format_datetime(self.server.clock(), usegmt=True))
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.content_type != HTML:
            self.send_header("x-amzn-RequestId", str(uuid4()))
        self.end_headers()
        shown = answer.body[: len(answer.body) // 2] if answer.cut else answer.body
        if answer.drips:
            self._drip(shown)
        else:
            self.wfile.write(shown)
        self.close_connection |= answer.cut

    def _drip(self, body: bytes) -> None:
        for at in range(len(body)):
            self.wfile.write(body[at : at + 1])
            if self.server.ended.wait(_DRIP):
                return

    def _reset(self) -> None:
        """A real RST: no lingering, and closed under the hands of the files that are open on it."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing: the tests look at what the client saw."""
