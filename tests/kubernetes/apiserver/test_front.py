"""The proxy spoils what it is told to, and nothing else."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.testing import Fault
from tests.kubernetes.apiserver.faults import Answer, Call, Forward, empty_object, plain, truncated_chunks
from tests.kubernetes.apiserver.front import FaultFront
from tests.rigs.polling import wait_until

PODS = "/api/v1/pods"
LIST = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [{"metadata": {"name": "a"}}]}
EVENT = b'{"type":"BOOKMARK"}\n'


class Small:
    """As much of an API server as the front needs: one list, one watch, 404 for the rest."""

    ca_file: Path | None = None

    def __init__(self, name: str = "small") -> None:
        self.name = name
        self.compacted = 0
        self.next_event = threading.Event()
        self.heard: list[str] = []
        self._server = _SmallServer(("127.0.0.1", 0), _SmallHandler)
        self._server.small = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def token(self, user: str) -> str:
        return f"{user} of {self.name}"

    def compact(self) -> None:
        self.compacted += 1

    def close(self) -> None:
        self.next_event.set()
        self._server.shutdown()
        self._server.server_close()


class _SmallServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    small: Small


class _SmallHandler(BaseHTTPRequestHandler):
    server: _SmallServer

    def do_GET(self) -> None:
        self.server.small.heard.append(f"{self.path} {self.headers.get('authorization')}")
        known = self.path.startswith(PODS)
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-From", self.server.small.name)
        self.end_headers()
        if "watch=1" in self.path:
            self.wfile.write(EVENT)
            self.server.small.next_event.wait(30)
            self.wfile.write(EVENT)
        else:
            self.wfile.write(json.dumps(LIST if known else {"kind": "Status", "code": 404}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(201)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def small() -> Iterator[Small]:
    server = Small()
    yield server
    server.close()


@pytest.fixture
def front(small: Small) -> Iterator[FaultFront]:
    with FaultFront(small) as front:
        yield front


@pytest.fixture
def client(front: FaultFront) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front.url, trust_env=False, timeout=5) as client:
        yield client


def test_passes_on_what_it_is_not_told_to_spoil(front: FaultFront, client: httpx.Client, small: Small) -> None:
    answer = client.get(PODS, params={"limit": "5", "labelSelector": "a in (b,c)"}, headers={"authorization": "me"})
    assert (answer.status_code, answer.json(), answer.headers["x-from"]) == (200, LIST, "small")
    assert client.post("/some", content=b"body").content == b"body"
    assert client.get("/none").status_code == 404
    assert small.heard[0] == "/api/v1/pods?limit=5&labelSelector=a+in+%28b%2Cc%29 me"
    assert [(call.method, call.path, call.query) for call in front.calls] == [
        ("GET", PODS, {"limit": "5", "labelSelector": "a in (b,c)"}),
        ("POST", "/some", {}),
        ("GET", "/none", {}),
    ]


def test_keeps_the_connection(front: FaultFront) -> None:
    connection = http.client.HTTPConnection(front.url.removeprefix("http://"))
    ends = set()
    front.inject(Fault.SERVER_ERROR, times=1)
    for _ in range(3):
        connection.request("GET", PODS)
        ends.add(connection.sock.getsockname())
        connection.getresponse().read()
    connection.close()
    assert len(ends) == 1


def test_is_a_cluster_to_clients(front: FaultFront, small: Small) -> None:
    front.compact()
    assert (front.ca_file, front.token("admin"), small.compacted) == (None, "admin of small", 1)


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        (Fault.UNAUTHORIZED, 401, "Unauthorized"),
        (Fault.FORBIDDEN, 403, "Forbidden"),
        (Fault.EXPIRED, 410, "Expired"),
        (Fault.SERVER_ERROR, 500, "InternalError"),
        (Fault.UNAVAILABLE, 503, "ServiceUnavailable"),
    ],
)
def test_failures_are_a_status(front: FaultFront, client: httpx.Client, fault: Fault, code: int, reason: str) -> None:
    front.inject(fault)
    answer = client.get(PODS)
    said = answer.json()
    assert (answer.status_code, said["kind"], said["code"], said["reason"]) == (code, "Status", code, reason)
    assert answer.headers["date"]


def test_failures_of_filters_are_text(front: FaultFront, client: httpx.Client) -> None:
    front.inject(Fault.PARENT_NOT_FOUND, times=1)
    front.inject(Fault.THROTTLED)
    answer = client.get(f"{PODS}/a")
    assert (answer.status_code, answer.text) == (404, "404 page not found\n")
    answer = client.get(PODS)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_timeout_lasts_until_healed(front: FaultFront, client: httpx.Client) -> None:
    front.inject(Fault.TIMEOUT)
    with pytest.raises(httpx.ReadTimeout):
        client.get(PODS, timeout=0.2)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.get, PODS)
        wait_until(lambda: len(front.calls) == 2, "the second call came in", every=0.01)
        assert not held.done()
        front.heal()
        assert held.result(5).json() == LIST


def test_reset_is_a_real_one(front: FaultFront) -> None:
    front.inject(Fault.RESET)
    address = ("127.0.0.1", int(front.url.rsplit(":")[-1]))
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(f"GET {PODS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@pytest.mark.parametrize("fault", [Fault.TRUNCATED, truncated_chunks])
def test_truncated_in_the_middle(front: FaultFront, client: httpx.Client, fault: Any) -> None:
    front.inject(fault, times=1)
    with client.stream("GET", PODS) as answer, pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012
        assert answer.status_code == 200
        part = b""
        for piece in answer.iter_bytes():
            part += piece
    whole = json.dumps(LIST).encode()
    assert part == whole[: len(whole) // 2]
    assert client.get(PODS).json() == LIST


def test_bodies_of_nothing(front: FaultFront, client: httpx.Client) -> None:
    front.inject(Fault.EMPTY, times=1)
    front.inject(empty_object)
    answers = client.get(PODS), client.get(PODS)
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b""), (200, b"{}")]


def test_malformed_is_json_of_the_wrong_shape(front: FaultFront, client: httpx.Client) -> None:
    front.inject(Fault.MALFORMED)
    listed, got = client.get(PODS), client.get("/none")
    assert (listed.status_code, listed.json()) == (200, LIST | {"items": {}})
    assert (got.status_code, got.json()["kind"]) == (200, "Status")


def test_only_the_chosen_calls(front: FaultFront, client: httpx.Client) -> None:
    front.inject(Fault.EXPIRED, path=PODS, having="continue", times=1)
    front.inject(Fault.UNAVAILABLE, path="/some.*", verb="*")
    codes = [client.get(path).status_code for path in (PODS, f"{PODS}?continue=x", f"{PODS}?continue=x", f"{PODS}/a")]
    assert codes == [200, 410, 200, 200]
    assert client.post("/something").status_code == 503


def test_a_fault_of_the_test_s_own(front: FaultFront, client: httpx.Client) -> None:
    def odd(call: Call, forward: Forward) -> Answer | None:
        return plain(418, f"{call.path} {forward().status}")

    front.inject(odd)
    answer = client.get(PODS)
    assert (answer.status_code, answer.text) == (418, f"{PODS} 200")


def test_slow(front: FaultFront, client: httpx.Client) -> None:
    front.slow(0.2)
    began = time.monotonic()
    assert client.get(PODS).json() == LIST
    assert time.monotonic() - began >= 0.2


def test_drip(front: FaultFront, client: httpx.Client) -> None:
    front.drip(len(json.dumps(LIST)) / 0.3)
    began = time.monotonic()
    assert client.get(PODS).json() == LIST
    assert time.monotonic() - began >= 0.25
    front.drip(1)
    with client.stream("GET", PODS) as answer:
        assert next(answer.iter_raw()) == b"{"


def test_rewrite(front: FaultFront, client: httpx.Client) -> None:
    front.rewrite(lambda path, code, headers, body: (code + 1, headers | {"x-path": path}, body[:1] + b"}"))
    answer = client.get(PODS)
    assert (answer.status_code, answer.headers["x-path"], answer.headers["x-from"]) == (201, PODS, "small")
    assert answer.json() == {}


def test_heal_ends_everything(front: FaultFront, client: httpx.Client) -> None:
    front.slow(60)
    front.drip(1)
    front.rewrite(lambda path, code, headers, body: (500, headers, body))
    front.inject(Fault.RESET)
    front.heal()
    assert client.get(PODS).json() == LIST


def test_events_of_a_watch_come_one_by_one(front: FaultFront, client: httpx.Client, small: Small) -> None:
    with client.stream("GET", f"{PODS}?watch=1") as answer:
        events = answer.iter_bytes()
        assert next(events) == EVENT
        small.next_event.set()
        assert b"".join(events) == EVENT
    front.inject(Fault.UNAUTHORIZED)
    assert client.get(f"{PODS}?watch=1").status_code == 401


def test_another_server_at_the_same_address(front: FaultFront, client: httpx.Client) -> None:
    assert client.get(PODS).headers["x-from"] == "small"
    other = Small("other")
    front.point_at(other)
    assert client.get(PODS).headers["x-from"] == "other"
    assert front.token("reader") == "reader of other"
    other.close()
    with pytest.raises(httpx.TransportError):
        client.get(PODS)


def test_a_client_that_gave_up_is_quiet(
    front: FaultFront, client: httpx.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    front.drip(50)
    with client.stream("GET", PODS):
        pass
    front.heal()
    front.inject(Fault.TIMEOUT)
    with pytest.raises(httpx.ReadTimeout):
        client.get(PODS, timeout=0.1)
    front.heal()
    assert client.get(PODS).json() == LIST
    wait_until(lambda: len(front._listener.open) == 1, "only the living connection is left", 5, every=0.01)
    assert capfd.readouterr().err == ""


def test_ends_with_connections_open(small: Small) -> None:
    front = FaultFront(small)
    with httpx.Client(base_url=front.url, trust_env=False) as client:
        client.get(PODS)
        front.inject(Fault.TIMEOUT)
        with pytest.raises(httpx.ReadTimeout):
            client.get(PODS, timeout=0.1)
        front.close()
        with pytest.raises(httpx.TransportError):
            client.get(PODS)
    wait_until(lambda: not front._listener.open, "no connection is left", 5, every=0.01)
