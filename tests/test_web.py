"""The web part over real sockets of loopback."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from markupsafe import escape

from reconciler.board import Board
from reconciler.model import OutcomeKind, StateType, Verdict
from reconciler.news import News
from reconciler.pages import STYLE, legible
from reconciler.pages.links import Links, ui_of
from reconciler.plan import Outcome, Resumption, Settled
from reconciler.snapshot import ScopeView
from reconciler.web import HEADERS, WebPart
from tests.test_board import NOW, SEES, Clock, finding, orphan, report

PATHS = ("/", "/status", "/metrics", "/healthz", "/readyz")
HOSTILE = "<script>alert('1')</script>"


class Desk:
    """A web part on a free port, its board, and a client."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.board = Board(api_url="http://127.0.0.1:4200/api", patience=90, monotonic=self.clock)
        self.address = ("127.0.0.1", free_port())
        self.part = WebPart(self.address, self.board, lambda _: (b"up 1\n", "text/plain; version=0.0.4"))
        self.client = httpx.Client(base_url="http://{}:{}".format(*self.address), trust_env=False)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def page(self) -> str:
        answer = self.get("/")
        assert answer.status_code == 200
        return answer.text


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "web part"]


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    try:
        assert desk.part.ensure() is None
        yield desk
    finally:
        desk.client.close()
        desk.part.close()
    assert threads() == []


def test_before_the_first_pass(desk: Desk) -> None:
    assert (desk.get("/healthz").status_code, desk.get("/healthz").text) == (200, "ok\n")
    assert (desk.get("/readyz").status_code, desk.get("/readyz").text) == (503, "no pass has ended yet\n")
    document = desk.get("/status").json()
    assert document == {
        "version": 1,
        "taken_at": None,
        "ready": False,
        "reasons": ["no pass has ended yet"],
        "configuration_problems": [],
        "settlements": [],
    }
    page = desk.page()
    assert "The first pass is under way" in page
    assert "No zombie was settled yet." in page
    assert "Nothing has been judged yet." in page


def test_after_a_pass(desk: Desk) -> None:
    zombie = finding(Verdict.ZOMBIE, "it was removed", name="stereotyped-otter")
    outcomes = {zombie.run.id: Outcome(OutcomeKind.ACCEPTED, "")}
    desk.board.note(News(report([zombie, finding(Verdict.HEALTHY)], outcomes)))
    assert (desk.get("/readyz").status_code, desk.get("/readyz").text) == (200, "ok\n")
    status = desk.get("/status")
    assert status.headers["content-type"] == "application/json"
    document = status.json()
    assert document["ready"] is True
    assert document["counts"]["in_flight"] == 2
    assert document["counts"]["ZOMBIE"] == 1
    assert len(document["runs"]) == 2
    [settlement] = document["settlements"]
    assert settlement["id"] == str(zombie.run.id)
    assert settlement["outcome"] == "ACCEPTED"
    assert settlement["reason"] == "it was removed"
    assert settlement["at"] == "2026-03-01T12:00:00.000Z"
    page = desk.page()
    assert "Everything is in view" in page
    assert "2 flow runs in flight: 1 healthy, 1 zombie; 1 accepted (2.0 s, 3 API calls)." in page
    assert f'href="http://127.0.0.1:4200/runs/flow-run/{zombie.run.id}"' in page
    assert "set to Crashed" in page
    assert "No run is suspected or held." in page


def test_what_was_written_and_what_followed_is_shown(desk: Desk) -> None:
    zombie = replace(finding(Verdict.ZOMBIE), resumption=Resumption(1, 2, timedelta(seconds=30)))
    cancelled = finding(Verdict.ZOMBIE, state_type=StateType.CANCELLING)
    accepted = Outcome(OutcomeKind.ACCEPTED, "")
    outcomes = {one.run.id: accepted for one in (zombie, cancelled)}
    desk.board.note(News(report([zombie, cancelled], outcomes, settled=Settled(resumed={zombie.run.id: accepted}))))
    told = {one["id"]: (one["action"], one["followed"]) for one in desk.get("/status").json()["settlements"]}
    assert told == {
        str(zombie.run.id): ("crash", ["then resumed (1 of 2), due in 30 s"]),
        str(cancelled.run.id): ("cancel", []),
    }
    page = desk.page()
    assert "set to Crashed" in page
    assert "set to Cancelled" in page
    assert "then resumed (1 of 2), due in 30 s" in page


def test_orphans_are_shown_with_the_command_for_a_person(desk: Desk) -> None:
    one = orphan("otter")
    desk.board.note(News(report(orphans={"prod-7": (one,)})))
    page = desk.page()
    assert "Docker container c-otter is alive, and its flow run is Completed" in page
    assert f'href="http://127.0.0.1:4200/runs/flow-run/{one.run.id}"' in page
    assert 'remove it with <span class="code">docker rm -f c-otter</span>' in page
    assert "nothing is ever removed by prefect-reconciler" in page
    (told,) = desk.get("/status").json()["orphans"]
    assert (told["scope"], told["age_seconds"], told["removal"]) == ("prod-7", 7200, "docker rm -f c-otter")


def test_more_orphans_than_are_shown_are_counted_and_none_is_said(desk: Desk) -> None:
    desk.board.note(News(report(orphans={"a": tuple(orphan(f"otter-{number}") for number in range(57))})))
    assert "and 7 more; <a" in desk.page()
    assert len(desk.get("/status").json()["orphans"]) == 57
    desk.board.note(News(report(orphans={"a": ()})))
    assert "Nothing lives on whose flow run has ended." in desk.page()
    assert "is ever removed" not in desk.page()
    desk.board.note(News(report()))
    assert "Orphans" not in desk.page(), "nobody asked"
    assert desk.get("/status").json()["orphans"] is None


def test_metrics_come_with_their_content_type(desk: Desk) -> None:
    answer = desk.get("/metrics")
    assert answer.text == "up 1\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"


def test_red_probes_tell_one_reason_per_line(desk: Desk) -> None:
    scopes = (replace(SEES, error="refused\nby the engine"), ScopeView(name="b", adapter="docker", incomplete="half"))
    desk.board.note(News(report(scopes=scopes)))
    answer = desk.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.splitlines() == [
        "scope 'prod-7' could not be read: refused by the engine",
        "scope 'b' could not be read: half",
    ]
    assert desk.get("/healthz").status_code == 200
    desk.clock.seconds += 91
    assert desk.get("/healthz").status_code == 503
    assert desk.get("/healthz").text == "no further pass has ended for 91 s; one is due at least every 90 s\n"


def test_every_answer_has_the_headers(desk: Desk) -> None:
    for path in (*PATHS, "/nowhere", "/favicon.ico"):
        answer = desk.get(path)
        for name, value in HEADERS:
            assert answer.headers.get_list(name) == [value], (path, name)
        assert "server" not in answer.headers
    policy = desk.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert f"<style>{STYLE}</style>" in desk.page()


def test_only_get_and_head(desk: Desk) -> None:
    for path in PATHS:
        head, got = desk.client.head(path), desk.get(path)
        assert head.status_code == got.status_code
        assert head.content == b""
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            assert desk.client.request(method, path).status_code == 405, (method, path)
    assert desk.get("/healthz/").status_code == 404
    assert desk.get("/../etc/passwd").status_code == 404


def test_names_and_reasons_are_escaped(desk: Desk) -> None:
    scopes = (ScopeView(name=HOSTILE, adapter=HOSTILE, identity=HOSTILE, error=HOSTILE),)
    outcome = Outcome(OutcomeKind.FAILED, HOSTILE, alarm=HOSTILE)
    hostile = finding(Verdict.ZOMBIE, HOSTILE, name=HOSTILE, work_pool=HOSTILE, state_name=HOSTILE)
    findings = [hostile, finding(Verdict.HELD, HOSTILE), finding(Verdict.UNMANAGED, HOSTILE)]
    alive = orphan(HOSTILE, state_type=StateType.FAILED)
    desk.board.note(
        News(
            report(
                findings,
                {hostile.run.id: outcome},
                scopes=scopes,
                problems=(HOSTILE,),
                warnings=(HOSTILE,),
                orphans={HOSTILE: (alive,)},
            )
        )
    )
    desk.board.refused([HOSTILE])
    page = desk.page()
    assert "<script" not in page
    assert page.count(escape(HOSTILE)) > 16
    assert desk.get("/status").json()["configuration_problems"] == [HOSTILE]
    desk.board.failed(HOSTILE)
    assert "<script" not in desk.page()


def test_control_characters_and_endless_names_break_nothing(desk: Desk) -> None:
    names = ["\x1b[31mred\x00", "\u202eevil", "half \ud800 pair", "n" * 10_000, "two\nlines", ""]
    findings = [finding(Verdict.HELD, f"because of {name}", name=name) for name in names]
    desk.board.note(News(report(findings)))
    page = desk.page()
    for sign in ("\x1b", "\x00", "\u202e", "\ud800"):
        assert sign not in page
    assert "n" * 199 + "\N{HORIZONTAL ELLIPSIS}</bdi>" in page
    assert "<bdi>two lines</bdi>" in page
    assert f"<bdi>{findings[-1].run.id}</bdi>" in page
    document = json.loads(desk.get("/status").content)
    assert document["runs"][3]["name"] == "n" * 10_000


def test_a_pass_that_could_not_list_shows_no_zeros(desk: Desk) -> None:
    why = "the in-flight flow runs could not be listed: connection refused"
    desk.board.note(News(report(was_listed=False, problems=(why,))))
    page = desk.page()
    assert "Not everything is in view" in page
    assert page.count(why) == 1
    assert "Nothing was judged: the flow runs could not be listed." in page
    assert "tiles" not in page.partition("</style>")[2]


def test_the_page_after_a_bug_shows_what_was_known_before(desk: Desk) -> None:
    desk.board.failed("a bug of ours: KeyError")
    assert "a bug of ours: KeyError" in desk.page()
    desk.board.note(News(report([finding(Verdict.HELD, name="crimson-falcon")])))
    desk.board.failed("a bug of ours: KeyError")
    page = desk.page()
    assert "crimson-falcon" in page
    assert "The pass before that failure ended" in page


def test_more_rows_than_are_shown_are_counted(desk: Desk) -> None:
    desk.board.note(News(report([finding(Verdict.HELD) for _ in range(512)])))
    assert "and 12 more; <a" in desk.page()


def test_it_answers_while_cycles_end(desk: Desk) -> None:
    cycles = [News(report([finding(Verdict.HELD) for _ in range(size)])) for size in (1, 40)]
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.001):
            desk.board.note(cycles[int(time.monotonic() * 1000) % 2])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            document = desk.get("/status").json()
            assert document.get("counts", {"HELD": 0})["HELD"] == len(document.get("runs", []))
            assert desk.get("/").status_code == 200
    finally:
        stop.set()
        writer.join()


def test_a_bug_in_an_endpoint_is_logged_and_ends_nothing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: str) -> tuple[bytes, str]:
        raise ZeroDivisionError

    part = WebPart(("127.0.0.1", free_port()), desk.board, broken)
    try:
        assert part.ensure() is None
        url = "http://{}:{}".format(*part._address)
        answer = httpx.get(f"{url}/metrics", trust_env=False)
        assert answer.status_code == 500
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
        assert "ZeroDivisionError" in caplog.text
    finally:
        part.close()


def test_a_port_in_use_is_told_and_served_once_it_is_free(desk: Desk) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        part = WebPart(("127.0.0.1", port), desk.board, lambda _: (b"", "text/plain"))
        says = "something else listens there; stop it, or change `daemon.listen`"
        assert part.ensure() == f"the web part cannot listen on 127.0.0.1:{port}: {says}"
        assert part.ensure() == f"the web part cannot listen on 127.0.0.1:{port}: {says}"
    try:
        assert part.ensure() is None
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
    finally:
        part.close()


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("192.0.2.1", "this machine has no such address; change `daemon.listen`"),
        ("no-such-host.invalid", ""),
        ("a" * 300, ""),
    ],
)
def test_an_address_that_is_not_ours_is_told(desk: Desk, host: str, says: str) -> None:
    sentence = WebPart((host, 9464), desk.board, lambda _: (b"", "")).ensure()
    assert sentence is not None
    assert sentence.startswith(f"the web part cannot listen on {host}:9464: ")
    assert sentence.endswith(says)


def test_it_serves_ipv6(desk: Desk) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("This machine has no IPv6.")
    part = WebPart(("::1", free_port()), desk.board, lambda _: (b"", "text/plain"))
    try:
        assert part.ensure() is None
        assert httpx.get(f"http://[::1]:{part._address[1]}/healthz", trust_env=False).status_code == 200
    finally:
        part.close()


def test_a_dead_server_is_started_again(desk: Desk) -> None:
    [first] = threads()
    assert desk.part._serving is not None
    desk.part._serving._server.should_exit = True  # as if it had ended by itself
    first.join(5)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{desk.address[1]}/healthz", trust_env=False)
    assert desk.part.ensure() is None
    assert desk.get("/healthz").status_code == 200
    [second] = threads()
    assert second is not first


def test_a_server_that_cannot_begin_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave(*_: object, **__: object) -> None:
        raise SystemExit(1)

    part = WebPart(("127.0.0.1", free_port()), desk.board, lambda _: (b"", "text/plain"))
    with monkeypatch.context() as patched:
        patched.setattr("uvicorn.Server.startup", leave)
        sentence = part.ensure()
    assert sentence == f"the web part on 127.0.0.1:{part._address[1]} did not come up; the log says why"
    try:
        assert part.ensure() is None
    finally:
        part.close()


def test_close_is_quick_with_clients_that_hang(desk: Desk) -> None:
    big = [finding(Verdict.HEALTHY, "r" * 1000) for _ in range(8000)]
    desk.board.note(News(report(big)))
    with (
        closing(socket.create_connection(desk.address)) as idle,
        closing(socket.create_connection(desk.address)) as slow,
    ):
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")  # and no end
        slow.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")  # and never reads the answer
        assert slow.recv(10) == b"HTTP/1.1 2"
        began = time.monotonic()
        desk.part.close()
        assert time.monotonic() - began < 1.2
        assert threads() == []
    desk.part.close()


def test_ensure_is_cheap_and_starts_one_thread(desk: Desk) -> None:
    callers = [threading.Thread(target=desk.part.ensure) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(threads()) == 1


RUN = UUID("11111111-2222-3333-4444-555555555555")
CLOUD = "https://api.prefect.cloud/api/accounts/A/workspaces/W"


@pytest.mark.parametrize(
    ("ui_url", "api_url", "version", "link"),
    [
        ("", "http://host:4200/api", "3.8.8", f"http://host:4200/runs/flow-run/{RUN}"),
        ("", "http://host:4200/api/", None, f"http://host:4200/runs/flow-run/{RUN}"),
        ("", "http://host:4200/api", "2.20.25", f"http://host:4200/flow-runs/flow-run/{RUN}"),
        ("", "https://host/prefect/api", "3.0.11", f"https://host/prefect/runs/flow-run/{RUN}"),
        ("", CLOUD, None, f"https://app.prefect.cloud/account/A/workspace/W/runs/flow-run/{RUN}"),
        ("https://ui.example/", "http://host:4200/api", "3.8.8", f"https://ui.example/runs/flow-run/{RUN}"),
        ("javascript:alert(1)", "http://host:4200/api", "3.8.8", f"http://host:4200/runs/flow-run/{RUN}"),
        ("", "http://user:secret@host:4200/api", "3.8.8", f"http://host:4200/runs/flow-run/{RUN}"),
        ("", "javascript:alert(1)//api", "3.8.8", ""),
        ("", "http://[broken/api", "3.8.8", ""),
    ],
)
def test_links_to_the_prefect_ui(ui_url: str, api_url: str, version: str | None, link: str) -> None:
    assert Links.to(ui_url, api_url, version).run(RUN) == link


def test_the_ui_of_an_api_alone() -> None:
    assert ui_of(CLOUD) == "https://app.prefect.cloud/account/A/workspace/W"
    assert ui_of("http://127.0.0.1:4200/api") == "http://127.0.0.1:4200"


def test_legible_text_is_one_line() -> None:
    assert legible("a\tb\nc\x1b\u200f") == "a b c\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    assert legible("naïve Größe 日本 🦊") == "naïve Größe 日本 🦊"


def test_a_run_without_an_address_is_no_link() -> None:
    board = Board(api_url="unix:/run/prefect", patience=90)
    part = WebPart(("127.0.0.1", free_port()), board, lambda _: (b"", "text/plain"))
    board.note(News(report([finding(Verdict.HELD, name="crimson-falcon")], taken_at=NOW)))
    try:
        assert part.ensure() is None
        page = httpx.get("http://{}:{}/".format(*part._address), trust_env=False).text
    finally:
        part.close()
    assert '<b class="name"><bdi>crimson-falcon</bdi></b>' in page
