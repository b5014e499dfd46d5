"""A Prefect server as far as `prefect_api` uses one, faithful to what was seen of 3.8.8, with faults on demand."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from reconciler.model import FlowRun, Verdict
from reconciler.plan import Finding, Listing
from reconciler.prefect_api import Connection, PrefectApi
from tests.fake_orchestration import (
    TERMINAL,
    is_event,
    matching_task_runs,
    new_state,
    propose,
    propose_to_task_run,
    reschedule,
    stamp,
    verdict,
)

Fault = Callable[[httpx.Request], httpx.Response | Exception | None]

URL = "http://prefect.test:4200/api"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _is_within(time: str | None, window: dict[str, str]) -> bool:
    return time is not None and window["after_"] <= time <= window["before_"]


@dataclass
class FakePrefect:
    """State of the server. `faults` are asked before every answer; the first that returns something wins."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pools: dict[str, str] = field(default_factory=dict)
    templates: dict[str, Any] = field(default_factory=dict)  # base job templates by name of the pool
    heartbeats: list[dict[str, Any]] = field(default_factory=list)
    task_runs: list[dict[str, Any]] = field(default_factory=list)
    knows_end_time: bool = True
    logs: list[dict[str, Any]] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    poisoned: set[str] = field(default_factory=set)
    most: int = 200
    ignores_filter: bool = False
    has_ui: bool = True
    has_events: bool = True
    has_labels: bool = True
    events: dict[str, dict[str, Any]] = field(default_factory=dict)  # by id: the server takes each once
    credentials: str | None = None
    csrf_tokens: dict[str, str] | None = None  # by client; None: switched off
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    resets_next: bool = False

    def add(self, state_type: str = "RUNNING", name: str | None = None, **fields: Any) -> dict[str, Any]:
        number = len(self.runs)
        run_id = str(uuid4())
        start = fields.pop("expected_start_time", stamp(START + timedelta(seconds=number)))
        run: dict[str, Any] = {
            "id": run_id,
            "name": f"run-{number}",
            "created": start,
            "expected_start_time": start,
            "next_scheduled_start_time": None,
            "run_count": 1,
            "infrastructure_pid": f"pid-{number}",
            "work_pool_name": None,
            "work_queue_name": None,
            "labels": {},
            "deployment_id": None,
            "parent_task_run_id": None,
            "tags": [],
            "empirical_policy": {"retries": 0, "retry_type": None},
            "parameters": {"unused": [1, 2, {"three": None}]},
        }
        self.runs[run_id] = run
        self.enter(run_id, state_type, name)
        run |= fields
        return run

    def enter(self, run_id: str, state_type: str, name: str | None = None, **details: Any) -> dict[str, Any]:
        """What an engine or a worker does: write a state, whatever the last one was."""
        state = new_state(state_type, name, self.now(), **details)
        ended = state["timestamp"] if state_type in TERMINAL else None
        self.runs[run_id] |= {"state": state, "state_type": state_type, "state_name": state["name"], "end_time": ended}
        self.history.setdefault(run_id, []).append(state)
        return state

    def add_task_run(self, run_id: str, state_type: str = "RUNNING", child: str | None = None) -> dict[str, Any]:
        """A task run of that flow run; `child` is the subflow that it stands for."""
        row = {"id": str(uuid4()), "name": f"task-{len(self.task_runs)}", "flow_run_id": run_id}
        row["state"] = new_state(state_type, None, self.now(), child_flow_run_id=child)
        self.task_runs.append(row)
        return row

    def count(self, path: str) -> int:
        return sum(request.url.path.endswith(path) for request in self.requests)

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.resets_next:
            self.resets_next = False
            raise httpx.ReadError("[Errno 104] Connection reset by peer")
        response = next((found for fault in self.faults if (found := fault(request)) is not None), None)
        if isinstance(response, Exception):
            raise response
        response = response or self._refuse(request) or self._route(request)
        self.resets_next = response.status_code == 500
        response.headers.setdefault("Date", format_datetime(self.now(), usegmt=True))
        return response

    def _refuse(self, request: httpx.Request) -> httpx.Response | None:
        """CSRF comes before the credentials."""
        if self.csrf_tokens is not None and request.method != "GET":
            client = request.headers.get("Prefect-Csrf-Client", "")
            if "Prefect-Csrf-Token" not in request.headers:
                return httpx.Response(403, json={"detail": "Missing CSRF token."})
            if self.csrf_tokens.get(client) != request.headers["Prefect-Csrf-Token"]:
                return httpx.Response(403, json={"detail": "Invalid CSRF token or client identifier."})
        if self.credentials is not None and request.headers.get("Authorization") != self.credentials:
            return httpx.Response(401, json={"exception_message": "Unauthorized"})
        return None

    def _route(self, request: httpx.Request) -> httpx.Response:
        root, path = request.url.path[:4], request.url.path[4:]
        if root != "/api":
            return httpx.Response(404, json={"detail": "Not Found"})
        body = json.loads(request.content or b"{}")
        if match := re.fullmatch(r"/flow_runs/([0-9a-f-]{36})(/set_state|/labels)?", path):
            if match[2] == "/labels" and not self.has_labels:
                return httpx.Response(404, json={"detail": "Not Found"})
            run = self.runs.get(match[1])
            if run is None:
                missing = {"exception_message": "Flow run not found"} if match[2] else {"detail": "Flow run not found"}
                return httpx.Response(404, json=missing)
            if match[2]:
                return self._set_state(run, body) if match[2] == "/set_state" else self._label(run, body)
            return _server_error() if match[1] in self.poisoned else httpx.Response(200, json=run)
        if match := re.fullmatch(r"/task_runs/([0-9a-f-]{36})/set_state", path):
            row = next((row for row in self.task_runs if row.get("id") == match[1]), None)
            return propose_to_task_run(row, body, self.now())
        routes: dict[str, Callable[[], httpx.Response]] = {
            "/flow_runs/filter": lambda: self._filter(body),
            "/flow_runs/count": lambda: httpx.Response(200, json=len(self._matching(body))),
            "/ui/flow_runs/history": lambda: self._ids(body),
            "/flow_run_states/": lambda: httpx.Response(
                200, json=self.history.get(request.url.params["flow_run_id"], [])
            ),
            "/work_pools/filter": lambda: self._pools(body),
            "/events/count-by/resource": lambda: self._count_events(body),
            "/logs/filter": lambda: self._log_lines(body),
            "/task_runs/filter": lambda: self._task_runs(body),
            "/logs/": lambda: self._log(body),
            "/events": lambda: self._take_events(body),
            "/admin/version": lambda: httpx.Response(200, json="3.8.8"),
            "/csrf-token": lambda: self._csrf_token(request.url.params["client"]),
        }
        return routes.get(path, lambda: httpx.Response(404, json={"detail": "Not Found"}))()

    def _matching(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = body["flow_runs"]
        state = {} if self.ignores_filter else wanted.get("state", {})
        types, names = state.get("type", {}).get("any_"), state.get("name", {}).get("any_")
        after = wanted.get("expected_start_time", {}).get("after_", "")
        ended = wanted.get("end_time", {}).get("after_")
        without, only = set(wanted.get("id", {}).get("not_any_", ())), wanted.get("id", {}).get("any_")
        assert all(UUID(run_id) for run_id in without)
        rows = [
            run
            for run in self.runs.values()
            if (types is None or run["state_type"] in types)
            and (names is None or run["state_name"] in names)
            and run["expected_start_time"] >= after
            and (ended is None or (run["end_time"] or "") >= ended)
            and run["id"] not in without
            and (only is None or run["id"] in only)
        ]
        return sorted(rows, key=lambda run: str(run["expected_start_time"]))

    def _page(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        sort, offset, rows = body.get("sort"), body.get("offset", 0), self._matching(body)
        if sort == "END_TIME_DESC":
            rows.sort(key=lambda run: str(run["end_time"] or ""), reverse=True)
        elif "any_" not in body["flow_runs"].get("id", {}):
            assert sort == "EXPECTED_START_TIME_ASC"
        return rows[offset : offset + body["limit"]]

    def _filter(self, body: dict[str, Any]) -> httpx.Response:
        if body["limit"] > self.most:
            detail = f"Invalid limit: must be less than or equal to {self.most}."
            return httpx.Response(422, json={"detail": detail})
        page = self._page(body)
        return _server_error() if any(run["id"] in self.poisoned for run in page) else httpx.Response(200, json=page)

    def _ids(self, body: dict[str, Any]) -> httpx.Response:
        if not self.has_ui:
            return httpx.Response(404, json={"detail": "Not Found"})
        return httpx.Response(200, json=[{"id": run["id"], "lateness": 0.0} for run in self._page(body)])

    def _set_state(self, run: dict[str, Any], body: dict[str, Any]) -> httpx.Response:
        assert body["force"] is False
        proposed = body["state"]
        if (refused := propose(run, proposed)) is not None:
            return refused
        if proposed["type"] == "SCHEDULED":
            assert run["state_type"] in TERMINAL, "else no worker would pick it up"
            reschedule(run, proposed["state_details"]["scheduled_time"])
        state = self.enter(run["id"], proposed["type"], proposed["name"], **proposed["state_details"])
        state["message"] = proposed["message"]
        return verdict("ACCEPT", state, None)

    def _label(self, run: dict[str, Any], labels: dict[str, Any]) -> httpx.Response:
        """Whatever it is given; what is no plain value makes the run unreadable."""
        if not all(isinstance(value, str | int | float | bool) for value in labels.values()):
            self.poisoned.add(run["id"])
        run["labels"] = {**run["labels"], **labels}
        return httpx.Response(204)

    def _take_events(self, body: list[dict[str, Any]]) -> httpx.Response:
        if not self.has_events:
            return httpx.Response(404, json={"detail": "Not Found"})
        if not all(is_event(event) for event in body):
            return httpx.Response(422, json={"exception_message": "Invalid request received."})
        for event in body:
            self.events.setdefault(event["id"], event)
        return httpx.Response(204)

    def _pools(self, body: dict[str, Any]) -> httpx.Response:
        names = body["work_pools"]["name"]["any_"]
        rows = [
            {"name": name, "type": kind, "base_job_template": self.templates.get(name, {})}
            for name, kind in self.pools.items()
            if name in names
        ]
        return httpx.Response(200, json=rows)

    def _count_events(self, body: dict[str, Any]) -> httpx.Response:
        if not self.has_events:
            return httpx.Response(404, json={"detail": "Not Found"})
        assert body["filter"]["event"] == {"prefix": ["prefect.flow-run.heartbeat"]}
        ids = body["filter"].get("resource", {}).get("id")
        return httpx.Response(200, json=[row for row in self.heartbeats if ids is None or row["value"] in ids])

    def _log_lines(self, body: dict[str, Any]) -> httpx.Response:
        wanted, window = set(body["logs"]["flow_run_id"]["any_"]), body["logs"]["timestamp"]
        assert body["sort"] == "TIMESTAMP_DESC"
        rows = [row for row in self.logs if row["flow_run_id"] in wanted and _is_within(row["timestamp"], window)]
        rows.sort(key=lambda line: str(line["timestamp"]), reverse=True)
        return httpx.Response(200, json=rows[body["offset"] :][: body["limit"]])

    def _task_runs(self, body: dict[str, Any]) -> httpx.Response:
        if body["task_runs"].keys() <= {"id", "state"}:
            return self._task_runs_as_asked(body)
        wanted, ((key, window),) = set(body["flow_runs"]["id"]["any_"]), body["task_runs"].items()
        if key == "end_time" and not self.knows_end_time:
            return httpx.Response(422, json={"exception_message": "Invalid request received."})
        assert body["sort"] == {"start_time": "EXPECTED_START_TIME_DESC", "end_time": "END_TIME_DESC"}[key]
        rows = [row for row in self.task_runs if row["flow_run_id"] in wanted and _is_within(row.get(key), window)]
        rows.sort(key=lambda row: str(row[key]), reverse=True)
        return httpx.Response(200, json=rows[body["offset"] :][: body["limit"]])

    def _task_runs_as_asked(self, body: dict[str, Any]) -> httpx.Response:
        if body["limit"] > self.most:
            detail = f"Invalid limit: must be less than or equal to {self.most}."
            return httpx.Response(422, json={"detail": detail})
        rows = self.task_runs if self.ignores_filter else matching_task_runs(self.task_runs, body)
        return httpx.Response(200, json=rows[body.get("offset", 0) :][: body["limit"]])

    def _log(self, body: list[dict[str, Any]]) -> httpx.Response:
        for line in body:
            assert set(line) <= {"name", "level", "message", "timestamp", "flow_run_id"}
        self.logs += body
        return httpx.Response(201)

    def _csrf_token(self, client: str) -> httpx.Response:
        if self.csrf_tokens is None:
            return httpx.Response(422, json={"detail": "CSRF protection is disabled."})
        self.csrf_tokens[client] = uuid4().hex
        return httpx.Response(200, json={"token": self.csrf_tokens[client], "client": client})


def _server_error() -> httpx.Response:
    return httpx.Response(500, json={"exception_message": "Internal Server Error"})


def failing(path: str, *answers: httpx.Response | Exception) -> Fault:
    """The given answers, one after the other, for requests whose path ends so; afterwards nothing is wrong."""
    left = list(answers)

    def fault(request: httpx.Request) -> httpx.Response | Exception | None:
        return left.pop(0) if left and request.url.path.endswith(path) else None

    return fault


def always(path: str, answer: Callable[[httpx.Request], httpx.Response | Exception]) -> Fault:
    """The same kind of answer to every request whose path ends so."""
    return lambda request: answer(request) if request.url.path.endswith(path) else None


def connect(
    server: FakePrefect,
    url: str = URL,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    **settings: Any,
) -> PrefectApi:
    return PrefectApi(Connection(url, **settings), transport=server.transport(), monotonic=monotonic, clock=clock)


def ids(listing: Listing) -> set[str]:
    return {str(run.id) for run in listing.runs}


def zombie(run: FlowRun, rule: str = "6", **fields: Any) -> Finding:
    reason = "Docker container 0 exited with code 137"
    return Finding(run=run, verdict=Verdict.ZOMBIE, rule=rule, reason=reason, **fields)


def judged(server: FakePrefect, state_type: str = "RUNNING", name: str | None = None, **fields: Any) -> Finding:
    """A zombie as a listing found it; the requests for that are forgotten."""
    row = server.add(state_type, name, **fields)
    run = next(run for run in connect(server).in_flight().runs if str(run.id) == row["id"])
    server.requests.clear()
    return zombie(run)


def record_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would be slept between attempts, in seconds."""
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    return waits
