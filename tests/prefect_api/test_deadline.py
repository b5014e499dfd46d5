"""A pass that has reached its deadline asks nothing more, and finishes the settlement that it began."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from reconciler.clock import since_boot
from reconciler.model import OutcomeKind
from reconciler.ports import OrchestratorError
from reconciler.prefect_api import Connection, PrefectApi
from reconciler.prefect_api.api import SETTLEMENT_TIME
from tests.fake_prefect import FakePrefect, always, connect, failing, judged, record_waits


def test_nothing_is_read_after_it(server: FakePrefect) -> None:
    api = connect(server)
    api.begin(since_boot() - 1)
    with pytest.raises(OrchestratorError, match=r"reached its deadline \(cycle_deadline\)"):
        api.in_flight()
    assert api.calls == 0
    api.begin(since_boot() + 60)
    assert api.in_flight().runs == ()


def test_a_request_lasts_no_longer_than_what_is_left(server: FakePrefect) -> None:
    timeouts = []

    def watch(request: httpx.Request) -> httpx.Response | None:
        timeouts.append(request.extensions["timeout"])
        return None

    server.faults.append(watch)
    api = connect(server, timeout=30.0)
    api.begin(since_boot() + 1000)
    api.in_flight()
    assert {each["read"] for each in timeouts} == {30.0}
    timeouts.clear()
    api.begin(since_boot() + 5)
    api.in_flight()
    assert timeouts
    assert all(4 < each["read"] <= 5 and 4 < each["connect"] <= 5 for each in timeouts)


def test_retries_end_with_it(server: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = record_waits(monkeypatch)
    server.faults.append(always("/filter", lambda _: httpx.Response(429, headers={"Retry-After": "25"})))
    api = connect(server, retry_for=45.0)
    api.begin(since_boot() + 2)
    with pytest.raises(OrchestratorError):
        api.in_flight()
    assert not waits, "it would end after the deadline"


def test_a_settlement_has_time_of_its_own(server: FakePrefect) -> None:
    finding = judged(server)
    api = connect(server)
    api.begin(since_boot() - 1)
    assert api.settle(finding).kind is OutcomeKind.ACCEPTED
    with pytest.raises(OrchestratorError, match="cycle_deadline"):
        api.history(finding.run.id)
    assert SETTLEMENT_TIME == 30, "`settings.times` counts on it"


def test_errors_are_counted(server: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> None:
    record_waits(monkeypatch)
    busy = [httpx.Response(503), httpx.ConnectError("refused"), httpx.Response(429)]
    server.faults.append(failing("/filter", *busy))
    api = connect(server)
    api.in_flight()
    assert api.errors == 3
    server.faults.append(failing("/filter", httpx.Response(401)))
    with pytest.raises(OrchestratorError):
        api.in_flight()
    assert api.errors == 4
    assert api.errors < api.calls


def test_the_server_s_clock_is_learned_anew_in_each_pass(server: FakePrefect) -> None:
    api = connect(server)
    unasked = api.clock
    api.in_flight()
    assert api.clock.uncertainty < unasked.uncertainty
    api.begin(since_boot() + 60)
    assert api.clock == unasked, "in days two clocks drift apart"


class Drip(BaseHTTPRequestHandler):
    """One byte at a time, for ever."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b" ")
                time.sleep(0.1)

    def log_message(self, *_: object) -> None: ...


def test_a_server_that_drips_does_not_outlast_it() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Drip) as dripping:
        threading.Thread(target=dripping.serve_forever, args=(0.05,), daemon=True).start()
        api = PrefectApi(Connection(f"http://127.0.0.1:{dripping.server_address[1]}/api"))
        api.begin(since_boot() + 1)
        began = time.monotonic()
        with pytest.raises(OrchestratorError, match="did not answer to the end before the deadline"):
            api.in_flight()
        assert 0.9 < time.monotonic() - began < 3
        api.close()
        dripping.shutdown()


def test_a_missing_route_for_events_is_asked_again_in_the_next_pass(server: FakePrefect) -> None:
    """One 404, of a proxy perhaps, must not switch the life signs off for ever."""
    finding = judged(server)
    server.faults.append(failing("/count-by/resource", httpx.Response(404, json={"detail": "Not Found"})))
    api = connect(server)
    api.begin(since_boot() + 60)
    assert api.heartbeats([finding.run.id]) is None
    assert api.heartbeats([finding.run.id]) is None, "once in a pass is enough"
    api.begin(since_boot() + 60)
    assert api.heartbeats([finding.run.id]) == {}


def test_an_address_that_httpx_cannot_read() -> None:
    for url in ("http://\u2603.example/api", "http://[v1.a]/api"):
        with pytest.raises(OrchestratorError, match="the address of the Prefect API is not usable"):
            PrefectApi(Connection(url))
