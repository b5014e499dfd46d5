"""A plain HTTP proxy on loopback before any API server: counts calls, and lets chosen ones go wrong.

    with FaultFront(server) as front:
        front.inject(Fault.EXPIRED, path="/api/v1/pods", having="continue", times=1)

To clients it is a cluster too: it has `url`, `ca_file`, `token`, `compact`. Answers come uncompressed. A server that
cannot be reached is a connection reset; closing the front leaves the server alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from reconciler.testing import Fault
from tests.kubernetes.apiserver.faults import FAULTS, Answer, Call, Forward, HowWrong
from tests.kubernetes.apiserver.server import ApiServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding"}
PATIENCE = 120.0  # seconds of silence on the server's side
Rewrite = Callable[[str, int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]


@dataclass(slots=True)
class _Rule:
    wrong: HowWrong
    path: re.Pattern[str]
    verb: str
    having: str | None
    times: int | None

    def takes(self, call: Call) -> bool:
        fits = self.verb in {"*", call.method} and (self.having is None or self.having in call.query)
        return fits and self.times != 0 and bool(self.path.fullmatch(call.path))


class FaultFront:
    """`calls` are those that came in; clear the list at will. Of several faults the first injected that fits wins."""

    def __init__(self, server: ApiServer) -> None:
        self.calls: list[Call] = []
        self.ca_file: Path | None = None
        self._lock = threading.Lock()
        self._healed = threading.Event()
        self._rules: list[_Rule] = []
        self._delay = self._rate = 0.0
        self._edit: Rewrite | None = None
        self.point_at(server)
        self._listener = _Listener(self)
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"
        threading.Thread(target=self._listener.serve_forever, args=(0.01,), name="fault front", daemon=True).start()

    def point_at(self, server: ApiServer) -> None:
        """From the next call on, another server answers at the same address."""
        self._upstream = server, ssl.create_default_context(cafile=server.ca_file) if server.ca_file else None

    def inject(
        self,
        fault: Fault | HowWrong,
        path: str = ".*",
        times: int | None = None,
        verb: str = "GET",
        having: str | None = None,
    ) -> None:
        """Let calls of this verb ("*": any) go wrong whose whole path matches, `times` times (None: until healed).

        `having`: only calls with this query parameter, say "continue".
        """
        healed = self._healed

        def hold(_call: Call, forward: Forward) -> Answer:
            healed.wait()
            return forward()

        wrong = fault if not isinstance(fault, Fault) else hold if fault is Fault.TIMEOUT else FAULTS[fault]
        with self._lock:
            self._rules.append(_Rule(wrong, re.compile(path), verb, having, times))

    def slow(self, seconds: float) -> None:
        """Before each answer."""
        self._delay = seconds

    def drip(self, bytes_per_second: float) -> None:
        """Bodies come slowly: byte by byte, in larger pieces above 20 bytes a second."""
        self._rate = bytes_per_second

    def rewrite(self, edit: Rewrite) -> None:
        """The server's answers, watches apart, pass through `edit(path, status, headers, body)`."""
        self._edit = edit

    def heal(self) -> None:
        """Nothing goes wrong any more; answers that are held go out."""
        with self._lock:
            self._rules = []
            self._delay = self._rate = 0.0
            self._edit = None
            self._healed.set()
            self._healed = threading.Event()

    def token(self, user: str) -> str:
        return self._upstream[0].token(user)

    def compact(self) -> None:
        self._upstream[0].compact()

    def close(self) -> None:
        self.heal()
        self._listener.end()

    def __enter__(self) -> FaultFront:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the listener's threads ask.

    def enter(self, call: Call) -> HowWrong | None:
        """Note the call, take its time, and say what goes wrong with it."""
        self.calls.append(call)
        healed = self._healed
        with self._lock:
            rule = next((rule for rule in self._rules if rule.takes(call)), None)
            if rule and rule.times is not None:
                rule.times -= 1
        if self._delay:
            healed.wait(self._delay)
        return rule.wrong if rule else None

    @contextlib.contextmanager
    def ask(self, call: Call) -> Iterator[HTTPResponse]:
        """The server's answer, to be read."""
        server, context = self._upstream
        address = urlsplit(server.url).netloc
        secure = HTTPSConnection(address, timeout=PATIENCE, context=context) if context else None
        connection = secure or HTTPConnection(address, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(call.method, call.target, call.body or None, call.headers)
            yield connection.getresponse()

    def forward(self, call: Call) -> Answer:
        with self.ask(call) as real:
            code, headers, body = real.status, _kept(real.getheaders()), real.read()
        if (edit := self._edit) is not None:
            code, headers, body = edit(call.path, code, headers, body)
        return Answer(code, body, headers)

    def pieces(self, body: bytes) -> Iterator[bytes]:
        """The body at the pace that `drip` asks for."""
        size = max(1, int(self._rate / 20)) if self._rate else max(1, len(body))
        healed, pause = self._healed, size / self._rate if self._rate else 0.0
        for start in range(0, len(body), size):
            yield body[start : start + size]
            if pause:
                healed.wait(pause)


def _kept(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers if name.lower() not in HOP_BY_HOP}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, front: FaultFront) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.front = front
        self.open: set[socket.socket] = set()

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        """A client that gave up is what the tests want; a mistake in a test's own function is told as usual."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def __getattr__(self, name: str) -> Callable[[], None]:
        """BaseHTTPRequestHandler looks for do_GET, do_POST and so on."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        front, call = self.server.front, self._call()
        wrong = front.enter(call)
        try:
            if call.watches and not wrong:
                self._stream(call)
                return
            answer = wrong(call, lambda: front.forward(call)) if wrong else front.forward(call)
        except (OSError, HTTPException):  # the server's end of it, or the client's
            answer = None
        self._send(answer) if answer else self._reset()

    def _call(self) -> Call:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return Call(self.command, parts.path, query, self.path, _kept(self.headers.items()), body)

    def _head(self, code: int, headers: Mapping[str, str], length: int | None) -> None:
        self.send_response_only(code)
        size = {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
        for name, value in ({"date": self.date_time_string()} | dict(headers) | size).items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, answer: Answer) -> None:
        self._head(answer.status, answer.headers, None if answer.chunked else len(answer.body))
        shown = answer.body[: len(answer.body) // 2] if answer.cut else answer.body
        for piece in self.server.front.pieces(shown):
            self._write(piece, chunked=answer.chunked)
        if answer.chunked and not answer.cut:
            self._write(b"", chunked=True)
        self.close_connection |= answer.cut

    def _stream(self, call: Call) -> None:
        """A watch: each event as it comes."""
        with self.server.front.ask(call) as real:
            self._head(real.status, _kept(real.getheaders()), None)
            while piece := real.read1():
                self._write(piece, chunked=True)
        self._write(b"", chunked=True)

    def _write(self, piece: bytes, *, chunked: bool) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)

    def _reset(self) -> None:
        """A real RST: no lingering, and closed under the hands of the files that are open on it."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep pytest's output clean."""
