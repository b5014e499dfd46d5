"""The event of a settlement, and its labels on the flow run."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import httpx
import pytest

from reconciler.clock import since_boot
from reconciler.model import Cause, Condition, Observation, OutcomeKind, Resource
from reconciler.plan import Finding
from reconciler.prefect_api import Connection, PrefectApi
from tests.fake_prefect import URL, FakePrefect, always, connect, failing, judged
from tests.prefect_api.faults import lost

DEPLOYMENT = "6f0d9d0e-5a7c-4c3e-9d55-7d1d9a3b8f11"
SETTLED = "prefect-reconciler.flow-run.settled"


def evicted(server: FakePrefect, **fields: object) -> Finding:
    finding = judged(server, **fields)  # type: ignore[arg-type]
    resource = Resource(id="r", title="Docker container 016a on engine e-1", run_id=finding.run.id)
    seen = Observation(condition=Condition.EXITED, reason="x", resource=resource, exit_code=137)
    return replace(finding, observation=seen, cause=Cause.EVICTED, adapter="docker", scope="prod-7")


def test_the_event_names_the_run_and_why(server: FakePrefect) -> None:
    finding = evicted(server, deployment_id=DEPLOYMENT, tags=["b", "a"], work_pool_name="pool")
    run = finding.run
    outcome = connect(server).settle(finding)
    ((event_id, event),) = server.events.items()
    assert UUID(event_id)
    assert event["event"] == SETTLED
    assert datetime.fromisoformat(event["occurred"]) == datetime.fromisoformat(
        server.runs[str(run.id)]["state"]["timestamp"]
    )
    assert event["resource"] == {
        "prefect.resource.id": f"prefect.flow-run.{run.id}",
        "prefect.resource.name": run.name,
        "prefect-reconciler.reason": "Evicted",
        "prefect-reconciler.adapter": "docker",
        "prefect-reconciler.scope": "prod-7",
        "prefect-reconciler.rule": "6",
        "prefect-reconciler.action": "crash",
    }
    assert [tuple(each.values()) for each in event["related"]] == [
        (f"prefect.deployment.{DEPLOYMENT}", "deployment"),
        ("prefect.tag.a", "tag"),
        ("prefect.tag.b", "tag"),
    ]
    assert event["payload"] == {
        "message": finding.message,
        "state_id": str(outcome.state_id),
        "resource": "Docker container 016a on engine e-1",
        "exit_code": 137,
        "condition": "EXITED",
    }


def test_what_is_not_known_is_left_out(server: FakePrefect) -> None:
    finding = judged(server)
    finding = replace(finding, run=replace(finding.run, name=""))
    assert connect(server).settle(finding).detail == ""
    (event,) = server.events.values()
    assert set(event["resource"]) == {"prefect.resource.id", "prefect-reconciler.rule", "prefect-reconciler.action"}
    assert event["related"] == []
    assert set(event["payload"]) == {"message", "state_id"}


def test_an_exit_code_of_zero_is_known(server: FakePrefect) -> None:
    finding = evicted(server)
    assert finding.observation is not None
    connect(server).settle(replace(finding, observation=replace(finding.observation, exit_code=0)))
    (event,) = server.events.values()
    assert event["payload"]["exit_code"] == 0


def test_an_event_whose_answer_was_lost_is_sent_again_as_the_same_one(server: FakePrefect) -> None:
    server.faults.append(lost(server, "/events", httpx.ReadTimeout("slow")))
    assert connect(server).settle(evicted(server)).detail == ""
    assert server.count("/events") == 2
    assert len(server.events) == 1


def test_only_what_was_accepted_is_told(server: FakePrefect) -> None:
    finding = evicted(server)
    server.enter(str(finding.run.id), "COMPLETED")
    assert connect(server).settle(finding).kind is OutcomeKind.SETTLED_ELSEWHERE
    assert server.events == {}


def test_a_server_without_events_is_asked_once_in_a_pass(server: FakePrefect) -> None:
    server.has_events = False
    api = connect(server)
    findings = [evicted(server) for _ in range(3)]
    assert [api.settle(finding).detail for finding in findings] == [""] * 3
    assert server.count("/events") == 1
    api.begin(since_boot() + 60)
    server.has_events = True
    api.settle(evicted(server))
    assert len(server.events) == 1


def test_what_fails_is_a_note(server: FakePrefect) -> None:
    server.faults.append(failing("/events", httpx.Response(422, json={"exception_message": "no"})))
    finding = evicted(server)
    outcome = connect(server).settle(finding)
    assert outcome.is_last_word
    assert outcome.detail.startswith("no event was sent: ")
    assert len(server.logs) == 1


def test_no_secret_leaves_in_an_event(server: FakePrefect) -> None:
    finding = evicted(server, tags=["plain", "of-s3cret"])
    finding = replace(finding, run=replace(finding.run, name="run-s3cret"))
    assert finding.observation is not None
    assert finding.observation.resource is not None
    resource = replace(finding.observation.resource, title="pod s3cret \x1b[31m" + "x" * 5000)
    finding = replace(finding, observation=replace(finding.observation, resource=resource), reason="s3cret")
    hide = lambda text: text.replace("s3cret", "***")  # noqa: E731
    api = PrefectApi(Connection(URL), transport=server.transport(), hide=hide)
    assert api.settle(finding).kind is OutcomeKind.ACCEPTED
    (event,) = server.events.values()
    assert "s3cret" not in json.dumps(event)
    assert event["resource"]["prefect.resource.name"] == "run-***"
    assert [each["prefect.resource.id"] for each in event["related"]] == ["prefect.tag.plain"]
    assert len(event["payload"]["resource"]) == 300
    assert "\x1b" not in event["payload"]["resource"]


def test_a_run_with_many_tags_is_told_of_too(server: FakePrefect) -> None:
    finding = evicted(server, tags=[f"t{number}" for number in range(400)] + ["y" * 1000])
    assert connect(server).settle(finding).detail == ""
    (event,) = server.events.values()
    assert len(event["related"]) == 50


def test_labels_on_request_are_plain_texts(server: FakePrefect) -> None:
    finding = evicted(server, labels={"own": 1})
    run_id = str(finding.run.id)
    connect(server).settle(finding)
    assert server.runs[run_id]["labels"] == {"own": 1}, "nobody asked for them"
    other = replace(evicted(server), labels_run=True, scope=None, cause=None)
    assert connect(server).settle(other).detail == ""
    assert server.runs[str(other.run.id)]["labels"] == {
        "prefect-reconciler.adapter": "docker",
        "prefect-reconciler.rule": "6",
        "prefect-reconciler.action": "crash",
    }
    assert server.poisoned == set()


def test_a_server_without_labels_is_asked_once_in_a_pass(server: FakePrefect) -> None:
    server.has_labels = False
    findings = [replace(evicted(server), labels_run=True) for _ in range(3)]
    api = connect(server)
    assert [api.settle(finding).detail for finding in findings] == [""] * 3
    assert server.count("/labels") == 1


def test_labels_of_a_run_that_is_deleted_meanwhile(server: FakePrefect) -> None:
    findings = [replace(evicted(server), labels_run=True) for _ in range(2)]
    gone = httpx.Response(404, json={"exception_message": "Flow run with id x not found"})
    server.faults.append(failing("/labels", gone))
    api = connect(server)
    assert [api.settle(finding).detail for finding in findings] == ["", ""]
    assert server.count("/labels") == 2, "the route is there"


@pytest.mark.parametrize("path", ["/events", "/labels", "/logs/"])
def test_a_server_that_is_away_delays_nothing_but_its_own_note(server: FakePrefect, path: str) -> None:
    server.faults.append(always(path, lambda request: httpx.Response(503)))
    outcome = connect(server).settle(replace(evicted(server), labels_run=True))
    assert outcome.is_last_word
    assert "keeps answering status 503" in outcome.detail
