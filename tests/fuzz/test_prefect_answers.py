"""Whatever the Prefect API answers: a value or an OrchestratorError, never another exception."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import FlowRun, OutcomeKind
from reconciler.plan import Outcome
from reconciler.ports import OrchestratorError
from reconciler.prefect_api import Connection, PrefectApi
from tests.fake_prefect import URL, FakePrefect, stamp, zombie
from tests.fuzz.effort import fuzz
from tests.fuzz.spoiling import DEEP, HTML, NUMBERS, STEERING, STRINGS, bodies, encoded

PATHS = (
    "/flow_runs/filter",
    "/flow_runs/count",
    "/ui/flow_runs/history",
    "/flow_run_states/",
    "/work_pools/filter",
    "/events/count-by/resource",
    "/logs/filter",
    "/task_runs/filter",
    "/logs/",
    "/admin/version",
    "/csrf-token",
    "/set_state",
    "/flow_runs/ID",
)
DATES = ["Thu, 01 Jan 9999 00:00:00 GMT", "Thu, 01 Jan 0001 00:00:00 GMT", "x", "1 Jan 24 0:0:0 +99999999999999999999"]
HEADERS = st.dictionaries(
    st.sampled_from(["Date", "Age", "Retry-After", "Content-Type", "Location", "Content-Encoding"]),
    st.one_of(
        st.sampled_from([*DATES, "9" * 400, "-1", "text/html", "http://[::1", "gzip", "br"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
    ),
    max_size=2,
)
STATUSES = st.sampled_from([200] * 12 + [201, 204, 302, 403, 404, 405, 422, 429, 500, 503, 599])
Spoil = Callable[[httpx.Request, httpx.Response], httpx.Response]


class Spoiler:
    """A server of which some answers are spoiled; the others are true."""

    def __init__(self) -> None:
        self.true = FakePrefect(csrf_tokens={})
        self.spoil: dict[str, Spoil] = {}
        self.requests: list[httpx.Request] = []

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        spoil = self.spoil.get(self.path(request))
        response = self._others(request) or self.true.answer(request)
        return spoil(request, response) if spoil else response

    def _others(self, request: httpx.Request) -> httpx.Response | None:
        now, run_ids = stamp(datetime.now(UTC) - timedelta(hours=2)), list(self.true.runs)
        lines = [{"name": "prefect.flow_runs", "timestamp": now, "flow_run_id": run_id} for run_id in run_ids]
        tasks = [{"flow_run_id": run_id, "start_time": now, "end_time": None} for run_id in run_ids]
        answers = {"/api/logs/filter": lines, "/api/task_runs/filter": tasks}
        rows = answers.get(request.url.path)
        return None if rows is None else httpx.Response(200, json=rows)

    @staticmethod
    def path(request: httpx.Request) -> str:
        path = request.url.path.removeprefix("/api")
        known = next((known for known in PATHS if path == known or path.endswith(known)), None)
        return known or ("/flow_runs/ID" if path.startswith("/flow_runs/") else path)

    @property
    def proposals(self) -> list[dict[str, Any]]:
        asked = [one for one in self.requests if one.url.path.endswith("/set_state")]
        return [json.loads(one.content) for one in asked]


def a_server(**fields: Any) -> Spoiler:
    server = Spoiler()
    row = server.true.add(work_pool_name="pool", labels={"prefect.worker.name": "w"}, tags=["a"], **fields)
    row["state"]["timestamp"] = stamp(datetime.now(UTC) - timedelta(minutes=5))
    server.true.pools["pool"] = "docker"
    server.true.templates["pool"] = {"job_configuration": {"cluster_config": "{{ cluster_config }}"}}
    server.true.heartbeats.append(
        {
            "value": f"prefect.flow-run.{row['id']}",
            "count": 3,
            "start_time": stamp(datetime.now(UTC) - timedelta(minutes=50)),
            "end_time": stamp(datetime.now(UTC) - timedelta(minutes=40)),
        }
    )
    return server


def a_client(server: Spoiler | FakePrefect) -> PrefectApi:
    """Without TLS: to read the authorities would take most of the time."""
    return PrefectApi(Connection(URL, tls_verify=False), transport=server.transport())


@st.composite
def spoils(draw: st.DrawFn) -> Callable[[FakePrefect], Spoil]:
    """What becomes of an answer: made at draw time from data, applied to whatever the true answer is then."""
    data = draw(st.data())
    status, headers = draw(STATUSES), draw(HEADERS)

    def of(_: FakePrefect) -> Spoil:
        def spoil(request: httpx.Request, true: httpx.Response) -> httpx.Response:
            value = true.json() if true.content else None
            body = data.draw(bodies(value)) if data.draw(st.booleans()) or status != 200 else true.content
            plain = {"Content-Type": "application/json"} | headers
            if "Content-Encoding" in plain:  # as it comes over the wire: a mock would unpack it at once
                stream = httpx.ByteStream(body)
                return httpx.Response(status, headers=_ascii(plain), stream=stream)
            return httpx.Response(status, headers=_ascii(plain), content=body)

        return spoil

    return of


def _ascii(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def use_all(api: PrefectApi, run: FlowRun) -> None:
    """Every call that a pass makes."""
    with contextlib.suppress(OrchestratorError):
        api.ping()
    with contextlib.suppress(OrchestratorError):
        listing = api.in_flight()
        for text in listing.problems:
            assert len(text) < 3000
    for ask in (
        lambda: api.reread([run.id]),
        lambda: api.history(run.id),
        lambda: api.heartbeats([run.id]),
        lambda: api.life_signs([run.id], timedelta(hours=1)),
    ):
        with contextlib.suppress(OrchestratorError):
            ask()
    now = datetime.now(UTC)
    assert abs(api.clock.to_ours(now) - now) < timedelta(days=40_000)
    outcome = api.settle(zombie(run))
    assert isinstance(outcome, Outcome)
    assert len(outcome.detail) < 3000
    assert len(outcome.alarm or "") < 3000


def the_run(server: Spoiler) -> FlowRun:
    return a_client(server.true).in_flight().runs[0]


@given(path=st.sampled_from(PATHS), spoil=spoils())
@fuzz(150)
def test_one_route_answers_rubbish(path: str, spoil: Callable[[FakePrefect], Spoil]) -> None:
    server = a_server()
    run = the_run(server)
    server.spoil[path] = spoil(server.true)
    use_all(a_client(server), run)
    assert all(one["force"] is False and one["state"]["type"] == "CRASHED" for one in server.proposals)


@given(spoil=spoils())
@fuzz(40)
def test_all_routes_answer_rubbish(spoil: Callable[[FakePrefect], Spoil]) -> None:
    server = a_server()
    run = the_run(server)
    server.spoil = {path: spoil(server.true) for path in PATHS}
    use_all(a_client(server), run)


@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "name": STRINGS,
            "infrastructure_pid": st.one_of(st.none(), STRINGS),
            "work_pool_name": STRINGS,
            "tags": st.lists(STRINGS, max_size=3),
            "labels": st.dictionaries(
                st.sampled_from(["prefect.worker.name", "prefect.worker.type", "x"]),
                st.one_of(STRINGS, NUMBERS, st.just(DEEP), st.none()),
            ),
            "run_count": NUMBERS,
            "estimated_run_time": NUMBERS,
            "total_run_time": NUMBERS,
            "expected_start_time": st.one_of(STRINGS, st.none()),
            "created": STRINGS,
            "next_scheduled_start_time": STRINGS,
            "job_variables": st.one_of(st.none(), st.just(DEEP), st.just({"cluster_config": DEEP})),
        },
    ),
)
@fuzz(100)
def test_a_tenants_row_hides_no_other(fields: dict[str, Any]) -> None:
    """Whatever one run's row holds, the others are listed, and it is listed or told of."""
    server = a_server()
    odd = server.true.add()["id"]
    last = server.true.add()["id"]

    def rows(request: httpx.Request, true: httpx.Response) -> httpx.Response:
        body = true.json()
        if isinstance(body, list):
            body = [row | (fields if row["id"] == odd else {}) for row in body]
        return httpx.Response(true.status_code, headers={"Content-Type": "application/json"}, content=encoded(body))

    server.spoil["/flow_runs/filter"] = rows
    written = json.dumps(fields)
    if any(odd_one in written for odd_one in _NO_JSON):  # no Prefect server writes it: the whole page is an error
        with contextlib.suppress(OrchestratorError):
            a_client(server).in_flight()
        return
    listing = a_client(server).in_flight()
    listed = {str(run.id) for run in listing.runs}
    assert {*server.true.runs} - {odd} <= listed
    assert last in listed
    assert listing.is_whole
    assert odd in listed or any(odd in problem for problem in listing.problems)


_NO_JSON = ("DEEP", "NaN", "Infinity", "\\ud8")
TENANTS = {"name": 10_000_000, "infrastructure_pid": 10_000_000, "work_pool_name": 3_000_000, "work_queue_name": 10**6}


def test_what_is_huge_is_cut_or_told_and_never_equal_to_another() -> None:
    for field, size in TENANTS.items():
        server = FakePrefect()
        pid = "docker://x:" + "a" * 64
        whole = server.add(infrastructure_pid=pid)["id"]
        row = server.add()
        row[field] = pid + "y" * size
        odd = row["id"]
        listing = a_client(server).in_flight()
        runs = {str(run.id): run for run in listing.runs}
        assert runs[whole].pid == pid
        if field == "name":
            assert len(runs[odd].name) == 300
        else:
            assert odd not in runs
            assert any(odd in problem and "characters" in problem for problem in listing.problems)
        assert listing.is_whole
        assert all(len(problem) < 400 for problem in listing.problems)


def test_a_huge_state_name_is_cut_wherever_it_is_told() -> None:
    server = FakePrefect()
    row = server.add("RUNNING", STEERING + HTML + "n" * 1_000_000)
    run = a_client(server).in_flight().runs[0]
    assert len(run.state_name) == 300
    server.enter(row["id"], "RUNNING", "m" * 1_000_000)
    outcome = a_client(server).settle(zombie(run))
    assert outcome.kind is OutcomeKind.STATE_CHANGED
    assert len(outcome.detail) < 1000


def test_a_csrf_token_that_no_header_can_carry_spoils_no_later_request() -> None:
    server = a_server()
    bad = [json.dumps({"token": token, "client": "x"}).encode() for token in ("a\r\nX: y", "\u2603", "t" * 100_000)]

    def token(request: httpx.Request, true: httpx.Response) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "application/json"}, content=bad.pop()) if bad else true

    server.spoil["/csrf-token"] = token
    api = a_client(server)
    for _ in range(3):
        with contextlib.suppress(OrchestratorError):
            api.in_flight()
    assert len(api.in_flight().runs) == 1


def test_a_gzip_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * 200_000_000, compresslevel=1)
    server = a_server()
    run = the_run(server)

    def answer(request: httpx.Request, true: httpx.Response) -> httpx.Response:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        return httpx.Response(200, headers=headers, stream=_Pieces(bomb))

    server.spoil["/flow_run_states/"] = answer
    api = a_client(server)
    with pytest.raises(OrchestratorError, match="more than 64 MiB"):
        api.history(run.id)


class _Pieces(httpx.SyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self):  # type: ignore[no-untyped-def]
        for start in range(0, len(self._body), 4096):
            yield self._body[start : start + 4096]
