"""The status page in headless Chromium: what hostile names do to it, what it asks for, and whether it fits a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from reconciler.board import Board
from reconciler.model import Guard, OutcomeKind, Verdict
from reconciler.news import News
from reconciler.plan import Breaker, Finding, Outcome, Plan
from reconciler.snapshot import ScopeView
from reconciler.web import WebPart
from tests.conftest import missing
from tests.test_board import finding, report

HOSTILE = '<script>document.title="owned"</script><img src=//evil.example/x.png onerror="document.title=1">'
LONG = "nightly_" + "aggregation" * 900
NOW = datetime.now(UTC)
API = "http://127.0.0.1:4200/api"

SCOPES = (
    ScopeView(
        name="docker-host-7", adapter="docker", identity="4c0f2c1e-9d7b-4f0e-8a51-0e5c3b1f7a20", mapped=43, sighted=41
    ),
    ScopeView(
        name="docker-host-8",
        adapter="docker",
        error="the Docker engine at unix:///var/run/docker.sock did not answer within 20 s; is it running?",
        mapped=17,
        sighted=16,
    ),
    ScopeView(
        name="batch",
        adapter="kubernetes",
        identity="kube-system 1b0c77f2-6d0e-4f35-9d38-6f5a6a7ef0aa",
        incomplete="namespace 'etl-team': pods may not be listed (403); grant `list` on pods",
        pinned=True,
        exclusive=True,
        mapped=8,
        sighted=8,
    ),
)
DIED = (
    "Docker container 016aa6b2b5b6 (stereotyped-otter) on engine prod-7 exited with code 137 (SIGKILL) at 05:31:10 UTC"
)
GONE = "Docker container 77ab0c1d2e3f (ivory-lemur) on engine prod-7 was removed; last seen running 05:30:02 UTC"


def verdicts() -> list[Finding]:
    """Return runs of all six verdicts, hostile and long names among them."""
    never = "it was never seen in scope 'docker-host-7', and others may run it: set `exclusive = true` on that scope"
    blind = "scope 'docker-host-8' could not tell: the Docker engine did not answer within 20 s; is it running?"
    waiting = f"{DIED}; the run is given until 05:39:22 UTC to report it"
    held = (
        "3 of 5 runs are missing from scope 'docker-host-7' at once: more likely the place is wrong than the runs dead"
    )
    return [
        finding(Verdict.HELD, held, guard=Guard.BREAKER, name="crimson-falcon", work_pool="docker-pool"),
        finding(Verdict.HELD, f"{GONE}; mode is observe", guard=Guard.MODE, name=HOSTILE, work_pool="docker-pool"),
        finding(Verdict.UNKNOWN, blind, name="amber-heron", work_pool="docker-pool", state_name="Retrying"),
        finding(Verdict.UNKNOWN, f"could not tell: {HOSTILE}", name=LONG),
        finding(Verdict.WAITING, waiting, name="tidy-\u202ekoala\x1b[31m\x00", work_pool="docker-pool"),
        *(finding(Verdict.UNMANAGED, never) for _ in range(4)),
        *(finding(Verdict.UNMANAGED, "it has neither work pool nor infrastructure_pid") for _ in range(2)),
        *(finding(Verdict.HEALTHY) for _ in range(37)),
    ]


def rich_board() -> Board:
    """Three settlements, six verdicts, two scopes that do not see, a breaker, a refused configuration."""
    board = Board(api_url=API, patience=3600)
    accepted, elsewhere, failed = (
        finding(Verdict.ZOMBIE, reason, name=name)
        for reason, name in ((DIED, "stereotyped-otter"), (GONE, "ivory-lemur"), (DIED, "quick-wren"))
    )
    earlier = NOW - timedelta(minutes=41)
    board.note(News(report([accepted], {accepted.run.id: Outcome(OutcomeKind.ACCEPTED, "")}, taken_at=earlier)))
    outcomes = {
        elsewhere.run.id: Outcome(OutcomeKind.SETTLED_ELSEWHERE, "another reconciler settled it"),
        failed.run.id: Outcome(OutcomeKind.FAILED, "the Prefect API did not answer within 30 s"),
    }
    findings = [elsewhere, failed, *verdicts()]
    ages: dict[UUID, datetime] = {one.run.id: NOW - timedelta(minutes=number**3) for number, one in enumerate(findings)}
    problems = (
        *(f"scope '{one.name}' could not be read: {one.error or one.incomplete}" for one in SCOPES[1:]),
        f"flow run {failed.run.id} was not settled: the Prefect API did not answer within 30 s",
    )
    last = report(
        outcomes=outcomes,
        plan=Plan(findings=tuple(findings), breakers=(Breaker("docker-host-7", 3, 5),)),
        taken_at=NOW - timedelta(seconds=7),
        scopes=SCOPES,
        problems=problems,
    )
    board.note(News(last, (), ages))
    board.refused(['policy.grace: "soon" is not a duration; write for example "30s" (line 12 of reconciler.toml)'])
    return board


def calm_board() -> Board:
    board = Board(api_url=API, patience=3600)
    board.note(News(report([finding(Verdict.HEALTHY) for _ in range(12)], taken_at=NOW - timedelta(seconds=4))))
    return board


@contextmanager
def served(board: Board) -> Iterator[str]:
    """Serve the board on a free port of loopback; gives "http://127.0.0.1:PORT"."""
    address = ("127.0.0.1", free_port())
    part = WebPart(address, board, lambda _: (b"", "text/plain"))
    assert part.ensure() is None
    try:
        yield "http://{}:{}".format(*address)
    finally:
        part.close()


def free_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return int(server.server_address[1])


@pytest.fixture
def chromium(tmp_path: Path) -> Callable[..., str]:
    """Run headless Chromium with these arguments; gives its standard output."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing("No Chromium on this machine; on Debian `apt-get install chromium` brings it.")
    base = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    base += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

    def run(*arguments: str) -> str:
        command = [*base, f"--user-data-dir={tmp_path / 'chromium'}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def rich() -> Iterator[str]:
    with served(rich_board()) as url:
        yield url


def test_names_make_no_element(chromium: Callable[..., str], rich: str) -> None:
    dom = chromium("--dump-dom", f"{rich}/")
    assert "Not everything is in view" in dom
    assert "owned" in dom
    assert "<title>\u2715 Not everything is in view - prefect-reconciler</title>" in dom
    elements = {name.lower() for name in re.findall(r"<([a-zA-Z][\w-]*)", dom)}
    assert not elements & {"script", "img", "iframe", "object", "embed", "form", "base", "link", "svg"}
    assert not re.search(r"<[^>]*\son\w+\s*=", dom)
    assert "\x1b" not in dom
    assert "\u202e" not in dom


class Addresses(HTMLParser):
    """Every attribute of a page that a browser may fetch or follow."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.followed: list[str] = []
        self.fetched: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if tag == "a" and name == "href":
                self.followed.append(value or "")
            elif name in {"src", "srcset", "href", "action", "data", "poster", "background", "style", "ping"}:
                self.fetched.append(value or "")


def test_the_page_fetches_nothing_and_leads_only_to_the_prefect_ui(rich: str) -> None:
    page = httpx.get(f"{rich}/").text
    addresses = Addresses(page)
    assert addresses.fetched == []
    assert "url(" not in page
    assert "@import" not in page
    run = re.compile(re.escape(API.removesuffix("/api")) + "(/runs/flow-run/[0-9a-f-]{36})?")
    others = {address for address in addresses.followed if not run.fullmatch(address)}
    assert others == {"status", "metrics", "readyz", "healthz"}
    assert len(addresses.followed) == 14  # six runs in doubt, three settlements, the UI, our own


_OUTER = """<!doctype html>
<iframe src="/page" style="width:WIDTHpx;height:800px;border:0"></iframe><pre></pre>
<script>
document.querySelector("iframe").onload = ({target}) => {
  const inner = target.contentDocument, root = inner.documentElement;
  const sticksOut = (one) => one.getBoundingClientRect().right > root.clientWidth + 1;
  document.querySelector("pre").textContent = JSON.stringify({
    shown: root.clientWidth, needed: root.scrollWidth,
    font: target.contentWindow.getComputedStyle(root).fontFamily,
    wide: [...inner.querySelectorAll("body *")].filter(sticksOut).map((one) => one.tagName + "." + one.className),
  });
};
</script>"""


@contextmanager
def frame(url: str, width: int) -> Iterator[str]:
    """Serve the page's bytes and, around them in a frame of that width, a script that measures. A window of headless
    Chromium may not be as narrow as a phone. Of the page's policy only the ban on frames is left out.
    """
    answer = httpx.get(f"{url}/")
    page, policy = answer.content, answer.headers["Content-Security-Policy"].replace("frame-ancestors 'none'; ", "")
    outer = _OUTER.replace("WIDTH", str(width)).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page if self.path == "/page" else outer
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            if body is page:
                self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def measured(chromium: Callable[..., str], address: str) -> dict[str, Any]:
    dom = chromium("--virtual-time-budget=3000", "--dump-dom", address)
    found = re.search(r"<pre>(.+?)</pre>", dom)
    assert found, dom[-2000:]
    return dict(json.loads(html.unescape(found[1])))


@pytest.mark.parametrize("width", [320, 390, 740, 1200])
def test_it_fits_without_scrolling_sideways(chromium: Callable[..., str], rich: str, width: int) -> None:
    with frame(rich, width) as address:
        measures = measured(chromium, address)
    assert measures["shown"] == width
    assert measures["needed"] == width
    assert measures["wide"] == []
    assert measures["font"].startswith("system-ui")  # the policy names the style by its hash, and lets it in


@pytest.mark.parametrize("make", [rich_board, calm_board], ids=["rich", "calm"])
def test_a_screenshot_has_something_on_it(
    chromium: Callable[..., str], tmp_path: Path, make: Callable[[], Board]
) -> None:
    picture = tmp_path / "page.png"
    with served(make()) as url:
        chromium(f"--screenshot={picture}", "--window-size=1200,1400", f"{url}/")
    header = picture.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (1200, 1400)
    assert picture.stat().st_size > 20_000  # a blank page of this size is some 5 kB
