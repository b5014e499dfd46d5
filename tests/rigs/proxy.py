"""A loopback proxy in front of a Prefect server: counts requests, and spoils the chosen ones."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

READS = re.compile(r"/(filter|count|history|paginate|lateness|get_scheduled_flow_runs|count-by/\w+)/?$")
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "accept-encoding",
    "host",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request that came in, spoiled or not. `path` is without the query."""

    method: str
    path: str
    body: bytes = b""
    query: str = ""

    @property
    def writes(self) -> bool:
        return self.method != "GET" and not READS.search(self.path)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    missing: int = 0  # so many bytes more are announced; the connection is cut instead of sending them


Forward = Callable[[], Answer]
Fault = Callable[[Call, Forward], Answer | None]  # None: cut the connection without an answer


@dataclass(slots=True)
class _Rule:
    method: str
    path: re.Pattern[str]
    body: re.Pattern[bytes]
    fault: Fault
    times: int | None

    def takes(self, call: Call) -> bool:
        is_meant = self.method in {"*", call.method} and self.path.search(call.path) and self.body.search(call.body)
        return self.times != 0 and bool(is_meant)


@dataclass(slots=True)
class _Book:
    """What came in, and what is to be spoiled; shared by the connections' threads."""

    calls: list[Call] = field(default_factory=list)
    rules: list[_Rule] = field(default_factory=list)
    spoiled: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, call: Call) -> Fault | None:
        with self.lock:
            self.calls.append(call)
            rule = next((rule for rule in self.rules if rule.takes(call)), None)
            if rule and rule.times is not None:
                rule.times -= 1
            self.spoiled += rule is not None
            return rule.fault if rule else None


class FaultProxy:
    """`with FaultProxy(api_url) as proxy:` listens at `proxy.url`, which ends in "/api" like the server's.

    A rule takes requests of a method ("*": any) whose path matches a regular expression, `times` times (None: always).
    The first rule that matches wins. Two requests of the same path are told apart by what their `body` matches.
    """

    def __init__(self, api_url: str) -> None:
        upstream = urlsplit(api_url)
        self._book = _Book()
        self._server = _Server(f"{upstream.hostname}:{upstream.port}", self._book)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{upstream.path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fault proxy")

    @property
    def calls(self) -> list[Call]:
        return list(self._book.calls)

    @property
    def writes(self) -> list[Call]:
        """The calls that change something on the server."""
        return [call for call in self.calls if call.writes]

    @property
    def spoiled(self) -> int:
        """How many calls a rule took."""
        return self._book.spoiled

    def count(self, method: str, path: str) -> int:
        """How many requests had this method and a path matching this regular expression."""
        return sum(call.method == method and bool(re.search(path, call.path)) for call in self.calls)

    def reset(self) -> None:
        """Forget the calls and the rules."""
        self._book.calls.clear()
        self._book.rules.clear()
        self._book.spoiled = 0

    def rule(self, method: str, path: str, fault: Fault, times: int | None = None, *, body: str = "") -> None:
        """The general form; `fault` is given the call, and `forward`, which asks the real server."""
        self._book.rules.append(_Rule(method, re.compile(path), re.compile(body.encode()), fault, times))

    def answer(
        self, method: str, path: str, status: int, body: bytes = b"{}", times: int | None = None, **headers: str
    ) -> None:
        """Answer instead of the server: 503, 401, 429 with `retry_after="1"`."""
        named = tuple(
            (name.replace("_", "-"), value) for name, value in {"content_type": "application/json", **headers}.items()
        )
        self.rule(method, path, lambda *_: Answer(status, body, named), times)

    def cut(self, method: str, path: str, times: int | None = None, *, after: bool = False) -> None:
        """Close the connection without an answer; with `after`, only once the server has carried the request out."""

        def fault(_: Call, forward: Forward) -> None:
            if after:
                forward()

        self.rule(method, path, fault, times)

    def before(self, method: str, path: str, happens: Callable[[], object], times: int | None = 1) -> None:
        """Let something happen just before the request reaches the server. It must not go through this rule."""

        def fault(_: Call, forward: Forward) -> Answer:
            happens()
            return forward()

        self.rule(method, path, fault, times)

    def change(self, method: str, path: str, edit: Callable[[bytes], bytes], times: int | None = None) -> None:
        """Edit the body of the server's answer: truncate it, drop a field."""

        def fault(_: Call, forward: Forward) -> Answer:
            real = forward()
            return Answer(real.status, edit(real.body), real.headers)

        self.rule(method, path, fault, times)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.end_connections()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, upstream: str, book: _Book) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.book = book
        self.open: set[socket.socket] = set()

    def end_connections(self) -> None:
        """Wake the threads that wait for a client's next request; `server_close` joins them."""
        for connection in list(self.open):
            connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer's body waits 40 ms for the acknowledgement of its headers
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        target = urlsplit(self.path)
        call = Call(self.command, target.path, body, target.query)
        fault = self.server.book.enter(call)
        answer = fault(call, lambda: self._forward(body)) if fault else self._forward(body)
        if answer is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)  # the Date is the server's own, or an old answer would look fresh
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body) + answer.missing))
        self.end_headers()
        self.wfile.write(answer.body)
        self.close_connection |= answer.missing > 0

    def __getattr__(self, name: str) -> Callable[[], None]:
        """BaseHTTPRequestHandler looks for do_GET, do_POST and so on."""
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _forward(self, body: bytes) -> Answer:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        connection = HTTPConnection(self.server.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body, {**headers, "accept-encoding": "identity"})
            real = connection.getresponse()
            kept = tuple((name, value) for name, value in real.getheaders() if name.lower() not in HOP_BY_HOP)
            return Answer(real.status, real.read(), kept)
        finally:
            connection.close()

    def log_message(self, *_: object) -> None:
        """Keep pytest's output clean."""
