from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import stamina
import structlog

from reconciler.plan import Listing
from reconciler.ports import OrchestratorError
from reconciler.prefect_api import Connection, PrefectApi
from tests.fake_prefect import (
    FakePrefect,
    always,
    connect,
    failing,
    record_waits,
)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_busy_servers_are_asked_again(server: FakePrefect, status: int) -> None:
    server.add()
    busy = httpx.Response(status, json={"exception_message": "Service Unavailable"})
    server.faults.append(failing("/flow_runs/filter", busy, busy))
    assert len(connect(server).in_flight().runs) == 1


@pytest.mark.parametrize(
    "error", [httpx.ReadError("reset"), httpx.RemoteProtocolError("x"), httpx.ReadTimeout("x"), httpx.ConnectError("x")]
)
def test_network_errors_are_retried(server: FakePrefect, error: Exception) -> None:
    server.add()
    server.faults.append(failing("/flow_runs/count", error, error))
    assert len(connect(server).in_flight().runs) == 1


def test_retries_end(server: FakePrefect) -> None:
    server.faults.append(always("count", lambda request: httpx.Response(503, json={"detail": "database is locked"})))
    api = connect(server)
    with pytest.raises(OrchestratorError, match=r"not available: it keeps answering status 503 \(database is locked\)"):
        api.ping()
    assert api.calls == 6
    patient = connect(server, retry_for=0)
    with pytest.raises(OrchestratorError):
        patient.ping()
    assert patient.calls == 1


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 8),
        ("100000", 30, 31),
        (lambda now: now + timedelta(seconds=5), 4, 6),
        (lambda now: now - timedelta(seconds=5), 0, 1),
        ("soon", 0.2, 1.2),
    ],
)
def test_retry_after_is_honoured_and_bounded(
    server: FakePrefect, monkeypatch: pytest.MonkeyPatch, value: Any, low: float, high: float
) -> None:
    waits = record_waits(monkeypatch)
    text = value if isinstance(value, str) else value(datetime.now(UTC)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    server.faults.append(failing("count", httpx.Response(429, headers={"Retry-After": text})))
    with stamina.set_testing(False):
        connect(server).ping()
    assert len(waits) == 1
    assert low <= waits[0] <= high


def test_a_500_is_not_asked_again(server: FakePrefect) -> None:
    server.faults.append(always("count", lambda request: httpx.Response(500, json={})))
    api = connect(server)
    with pytest.raises(OrchestratorError, match="failed with status 500"):
        api.ping()
    assert api.calls == 1


def test_the_headers_of_a_request(server: FakePrefect) -> None:
    custom = {"user-agent": "prefect/3", "Prefect-Csrf-Token": "x", "X-Team": "data", "accept-encoding": "identity"}
    connect(server, api_key="pnu_secret", headers=custom).ping()
    headers = server.requests[0].headers
    assert headers["Authorization"] == "Bearer pnu_secret"
    assert re.fullmatch(r"prefect-reconciler/[\w.+]+", headers["User-Agent"])
    assert headers["X-Team"] == "data"
    assert headers.get_list("Accept-Encoding") == ["identity"]
    assert "Prefect-Csrf-Token" not in headers
    assert headers["Content-Type"] == "application/json"
    assert server.requests[0].content.startswith(b"{")  # gzip request bodies are refused


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"auth_string": "admin:pässword", "api_key": "key"},
            "Basic " + base64.b64encode("admin:pässword".encode()).decode(),
        ),
        ({"api_key": "key"}, "Bearer key"),
        ({"api_key": "key", "headers": {"authorization": "Custom x"}}, "Custom x"),
        ({"url": "http://me:p%40ss@prefect.test/api"}, "Basic " + base64.b64encode(b"me:p@ss").decode()),
    ],
)
def test_which_credentials_win(server: FakePrefect, settings: dict[str, Any], expected: str) -> None:
    connect(server, **settings).ping()
    assert server.requests[0].headers.get_list("Authorization") == [expected]
    assert "@" not in str(server.requests[0].url)


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"api_key": "pnu_secret"}, "PREFECT_API_KEY"),
        ({"auth_string": "pnu_secret"}, "PREFECT_API_AUTH_STRING"),
        ({"headers": {"Authorization": "pnu_secret"}}, "PREFECT_CLIENT_CUSTOM_HEADERS"),
        ({"url": "http://u:pnu_secret@prefect.test/api"}, "in the address"),
        ({}, "set PREFECT_API_KEY or PREFECT_API_AUTH_STRING"),
    ],
)
def test_refused_credentials_name_the_setting(server: FakePrefect, settings: dict[str, Any], setting: str) -> None:
    server.credentials = "Bearer right"
    with pytest.raises(OrchestratorError, match=setting) as error:
        connect(server, **settings).in_flight()
    assert "pnu_secret" not in str(error.value)
    assert "http://prefect.test" in str(error.value)


def test_a_403_names_the_rights(server: FakePrefect) -> None:
    server.faults.append(always("count", lambda request: httpx.Response(403, json={"detail": "read only"})))
    with pytest.raises(OrchestratorError, match=r"PREFECT_API_KEY \(403: read only\)"):
        connect(server, api_key="k").ping()


def test_csrf_tokens_are_fetched_when_asked_for_and_when_replaced(server: FakePrefect) -> None:
    server.csrf_tokens = {}
    server.add()
    api = connect(server)
    assert len(api.in_flight().runs) == 1
    assert server.count("/csrf-token") == 1
    server.csrf_tokens = dict.fromkeys(server.csrf_tokens, "replaced by another process")
    assert len(api.in_flight().runs) == 1
    assert server.count("/csrf-token") == 2
    (client,) = server.csrf_tokens
    assert UUID(client).version == 4
    assert connect(server).in_flight().runs
    assert len(server.csrf_tokens) == 2


def test_no_csrf_token_is_fetched_unasked(server: FakePrefect) -> None:
    connect(server).in_flight()
    assert server.count("/csrf-token") == 0


def test_a_401_that_hides_behind_a_403(server: FakePrefect) -> None:
    server.csrf_tokens = {}
    server.credentials = "Bearer right"
    with pytest.raises(OrchestratorError, match=r"\(401\): check PREFECT_API_KEY"):
        connect(server, api_key="wrong").in_flight()


def test_a_redirect_names_the_host_and_no_token(server: FakePrefect) -> None:
    target = "https://u:p@login.test/start?token=pnu_secret"
    server.faults.append(lambda request: httpx.Response(307, headers={"Location": target}))
    with pytest.raises(OrchestratorError, match=r"redirects to https://login\.test: ") as error:
        connect(server).ping()
    assert "pnu_secret" not in str(error.value)


def test_an_address_without_api(server: FakePrefect) -> None:
    with pytest.raises(OrchestratorError, match=r"no Prefect API at http://prefect\.test: does the address end in"):
        connect(server, "http://prefect.test/").ping()
    server.faults.append(lambda request: httpx.Response(200, html="<html>Prefect UI</html>"))
    with pytest.raises(OrchestratorError, match="does the address end in /api"):
        connect(server).ping()


@pytest.mark.parametrize("url", ["", "prefect.test/api", "ftp://prefect.test/api", "http:///api", "http://h:x/api"])
def test_an_address_that_cannot_work(server: FakePrefect, url: str) -> None:
    with pytest.raises(OrchestratorError, match="PREFECT_API_URL"):
        connect(server, url)


def test_settings_that_cannot_be_sent_are_not_quoted(server: FakePrefect) -> None:
    for settings in ({"api_key": "pnu_secret\n"}, {"headers": {"X-Key": "pnu_secret\r\n"}}):
        with pytest.raises(OrchestratorError, match="line break") as error:
            connect(server, **settings)
        assert "pnu_secret" not in str(error.value)


def test_a_missing_certificate_file_is_named(server: FakePrefect) -> None:
    with pytest.raises(OrchestratorError, match=r"no-such\.pem .*PREFECT_API_SSL_CERT_FILE"):
        connect(server, ca_file="no-such.pem")


def test_an_untrusted_certificate_is_not_retried(server: FakePrefect) -> None:
    error = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    server.faults.append(lambda request: error)
    api = connect(server)
    with pytest.raises(OrchestratorError, match="not trusted: give its authority as PREFECT_API_SSL_CERT_FILE"):
        api.ping()
    assert api.calls == 1


def test_secrets_are_in_no_repr_and_no_log(server: FakePrefect) -> None:
    settings = Connection(
        "http://u:pnu_one@prefect.test/api?k=pnu_two",
        api_key="pnu_three",
        auth_string="u:pnu_four",
        headers={"X": "pnu_five"},
    )
    assert "pnu_" not in repr(settings)
    server.csrf_tokens = {}
    server.add()
    server.faults.append(failing("count", httpx.ReadError("reset")))
    with structlog.testing.capture_logs() as lines:
        api = PrefectApi(settings, transport=server.transport())
        api.in_flight()
    assert lines
    assert "pnu_" not in repr(lines) + api.url
    assert next(iter(server.csrf_tokens.values())) not in repr(lines)


def test_the_version_is_asked_once_and_may_be_missing(server: FakePrefect) -> None:
    api = connect(server)
    api.in_flight()
    api.in_flight()
    assert api.server_version == "3.8.8"
    assert server.count("/admin/version") == 1
    server.faults.append(always("version", lambda request: httpx.Response(404, json={"detail": "Not Found"})))
    api = connect(server)
    assert api.in_flight() == Listing(runs=())
    assert api.server_version is None


@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        ({"api_key": "pnu_0123456789"}, "pnu_0123456789"),
        ({"auth_string": "admin:open-sesame"}, "open-sesame"),
        ({"headers": {"X-Proxy-Token": "tok-0123456789"}}, "tok-0123456789"),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 409, 422, 429, 503])
def test_an_answer_that_quotes_our_secret(
    server: FakePrefect, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], secret: str, status: int
) -> None:
    record_waits(monkeypatch)

    def quote(request: httpx.Request) -> httpx.Response:
        sent = {name: value for name, value in request.headers.items() if name not in {"host", "accept"}}
        return httpx.Response(status, json={"detail": f"refused: {secret} {sent}"}, request=request)

    server.faults.append(always("/filter", quote))
    with pytest.raises(OrchestratorError) as refused:
        connect(server, **settings).in_flight()
    assert "refused: ***" in str(refused.value)
    assert secret not in str(refused.value)
    assert base64.b64encode(settings.get("auth_string", "x").encode()).decode() not in str(refused.value)
