"""The status port under attack, over real sockets of loopback: who reaches it must not keep the probes out, nor read it
through somebody else's browser.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from reconciler import serving, web
from reconciler.front import Front
from reconciler.hosts import Hosts
from reconciler.model import Verdict
from reconciler.news import News
from reconciler.settings import Settings, load
from reconciler.web import HEADERS
from tests.homes import config, problems
from tests.rigs.polling import wait_until
from tests.test_board import finding, report
from tests.test_web import Desk, free_port

ALWAYS = [
    None,  # HTTP/1.0, as HAProxy's plain httpchk
    "127.0.0.1:9464",
    "10.42.0.17:9464",  # a kubelet's probe, Prometheus by pod
    "[::1]:9464",
    "[fe80::1%eth0]:9464",
    "localhost",
    "LOCALHOST:9464",
    "reconciler.localhost",
    "prefect-reconciler:9464",  # a service of Compose
    "reconciler.prefect.svc:9464",
    "reconciler.prefect.svc.cluster.local.:9464",
]
FOREIGN = [
    "evil.example:9464",
    "localhost.evil.example",
    "127.0.0.1.evil.example:9464",
    "svc.evil.example",
    "evil.local",
    "evil.example]:1",
    "a:b:c.d",
    "reconciler.prefect",
]


@pytest.mark.parametrize("header", ALWAYS)
def test_probes_and_prometheus_are_known_without_a_setting(header: str | None) -> None:
    assert Hosts().knows(header)


@pytest.mark.parametrize("header", FOREIGN)
def test_names_that_a_web_page_may_have_are_not(header: str) -> None:
    assert not Hosts().knows(header)


@pytest.mark.parametrize("header", ["status.example.com", "Status.Example.Com.:80", "a.b.example.org:1"])
def test_allowed_names(header: str) -> None:
    hosts = Hosts(["STATUS.example.com", "*.example.org"])
    assert hosts.knows(header)
    assert not hosts.knows("example.org")
    assert not hosts.knows("status.example.com.evil.example")
    assert Hosts(["*"]).knows("evil.example")


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    try:
        assert desk.part.ensure() is None
        yield desk
    finally:
        desk.client.close()
        desk.part.close()


def connected(stack: ExitStack, desk: Desk, count: int, said: bytes = b"") -> list[socket.socket]:
    made = []
    for _ in range(count):
        made.append(stack.enter_context(closing(socket.create_connection(desk.address, timeout=10))))
        made[-1].sendall(said)
    return made


def probe(desk: Desk, path: str = "/healthz") -> int:
    """As a kubelet does: on a connection of its own."""
    with closing(http.client.HTTPConnection(*desk.address, timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1_000_000) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def connections(desk: Desk) -> int:
    assert desk.part._serving is not None
    return len(desk.part._serving._server.server_state.connections)


def test_idle_connections_do_not_keep_a_probe_out(desk: Desk) -> None:
    with ExitStack() as stack:
        idle = connected(stack, desk, 300)
        assert [probe(desk) for _ in range(20)] == [200] * 20
        assert connections(desk) <= serving.CONNECTIONS
        wait_until(lambda: sum(map(is_closed, idle)) >= 200, "the oldest to be closed", 5)


def test_halves_of_requests_do_not_keep_a_probe_out(desk: Desk) -> None:
    with ExitStack() as stack:
        connected(stack, desk, 150, b"GET /status HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert probe(desk) == 200


def test_answers_that_nobody_reads_cost_little(desk: Desk) -> None:
    """Each of these would hold 8 MB, or more, if they were all made."""
    desk.board.note(News(report([finding(Verdict.HEALTHY, "r" * 1000) for _ in range(8000)])))
    assert len(desk.get("/status").content) > 8_000_000
    process = psutil.Process()
    before = process.memory_info().rss
    with ExitStack() as stack:
        slow = connected(stack, desk, 60, b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = [connection.recv(12) for connection in slow]
        assert answers.count(b"HTTP/1.1 200") == 8
        assert answers.count(b"HTTP/1.1 503") == 52
        assert process.memory_info().rss - before < 60 * 4_000_000
        assert (probe(desk), probe(desk, "/metrics")) == (200, 200)
        assert probe(desk, "/status") == 503
        connected(stack, desk, 150)
        assert not is_closed(slow[answers.index(b"HTTP/1.1 200")]), "an answer under way is not what makes room"
    wait_until(lambda: probe(desk, "/status") == 200, "room again, once they have gone", 10)


def test_a_connection_without_a_request_ends(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    monkeypatch.setattr(serving, "FIRST_REQUEST", 0.2)
    with ExitStack() as stack:
        [silent] = connected(stack, desk, 1)
        [half] = connected(stack, desk, 1, b"GET / HTTP/1.1\r\nHost: x\r\n")
        wait_until(lambda: is_closed(silent) and is_closed(half), "both to be closed", 5)
    assert connections(desk) == 0


def test_a_connection_that_drips_ends_however_busy_it_looks(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    monkeypatch.setattr(serving, "LIFE", 0.3)
    desk.board.note(News(report([finding(Verdict.HEALTHY, "r" * 1000) for _ in range(8000)])))
    with ExitStack() as stack:
        [drip] = connected(stack, desk, 1, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        [unread] = connected(stack, desk, 1, b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert drip.recv(100).startswith(b"HTTP/1.1 200")

        def ended() -> bool:
            with contextlib.suppress(OSError):
                drip.send(b"G")
            return connections(desk) == 0

        wait_until(ended, "both to be closed", 5)
        assert unread.recv(12) == b"HTTP/1.1 200"


def test_a_request_on_time_is_answered_on_a_long_connection(desk: Desk) -> None:
    for _ in range(3):
        assert desk.get("/healthz").status_code == 200
    assert connections(desk) == 1, "kept alive"


def test_no_page_of_another_name_reads_anything(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """What a browser sends after `evil.example` was pointed to this address."""
    desk.board.note(News(report(problems=("the API key was refused by http://10.0.0.7:4200",))))
    for path in ("/", "/status", "/metrics", "/nowhere"):
        answer = desk.client.get(path, headers={"Host": "evil.example:9464"})
        assert answer.status_code == 421
        assert answer.text == (
            "this daemon is not known as 'evil.example:9464': ask by its address, or add the name to "
            "daemon.allowed_hosts\n"
        )
        for name, value in HEADERS:
            assert answer.headers.get_list(name) == [value]
    assert desk.client.post("/", headers={"Host": "evil.example"}).status_code == 405
    assert caplog.text.count("refused to answer as 'evil.example:9464'") == 1
    for number in range(50):
        desk.client.get("/", headers={"Host": f"{number}.evil.example"})
    assert caplog.text.count("refused to answer as") == 10


def test_probes_are_answered_under_any_name_without_reasons(desk: Desk) -> None:
    named = {"Host": "prefect-reconciler.example.com"}
    assert desk.client.get("/healthz", headers=named).text == "ok\n"
    answer = desk.client.get("/readyz", headers=named)
    assert (answer.status_code, answer.text) == (503, "not well\n")
    assert desk.get("/readyz").text == "no pass has ended yet\n"


def test_a_request_without_a_host_is_answered(desk: Desk) -> None:
    with closing(socket.create_connection(desk.address, timeout=5)) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_the_names_are_those_of_the_settings_and_of_the_reload(tmp_path: Path) -> None:
    port = free_port()

    def asked(name: str) -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/status", headers={"Host": name})
            return connection.getresponse().status

    def settings(names: str) -> Settings:
        text = f'[api]\nurl = "http://h/api"\n[daemon]\nlisten = "127.0.0.1:{port}"\nallowed_hosts = {names}\n'
        return load(config(tmp_path, text), {"HOME": str(tmp_path)}).settings

    front = Front(settings("[]"))
    try:
        front.serve(settings("[]"))
        assert (asked("a.example"), asked("b.example"), asked(socket.gethostname())) == (421, 421, 200)
        front.serve(settings('["a.example"]'))
        assert (asked("a.example"), asked("b.example")) == (200, 421)
    finally:
        front.serve(Settings())


@pytest.mark.parametrize("name", ["http://status.example.com", "status.example.com:9464", "a/b", "*.", "a.*.example"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    text = problems(tmp_path, config(tmp_path, f'[api]\nurl = "http://h/api"\n[daemon]\nallowed_hosts = ["{name}"]\n'))
    assert text.startswith(f"daemon.allowed_hosts: '{name}' is not a name; write it without scheme and port")


def test_the_document_has_these_bounds_and_these_names() -> None:
    text = " ".join((Path(__file__).parents[1] / "docs" / "security.md").read_text(encoding="utf-8").split())
    assert f"at most {serving.CONNECTIONS}, of which" in text
    assert f"within {serving.FIRST_REQUEST:.0f} s, and none outlasts {2 * serving.LIFE:.0f} s" in text
    assert web.LARGE == 8
    assert "At most eight page or `/status` answers" in text
    assert all(f"`{end}`" in text for end in (".svc", ".svc.cluster.local"))
