"""Watches: what the fake and a real API server (1.20.2) tell alike."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from tests.kubernetes.apiserver.cluster import Cluster
from tests.kubernetes.apiserver.cluster_rest import path_of
from tests.kubernetes.apiserver.server import ApiServer
from tests.kubernetes.apiserver.test_faithful import jobs, pods


def watched(cluster: Cluster, path: str, *, seconds: int = 1, **params: object) -> list[dict[str, Any]]:
    """All events until the server ends the watch."""
    asked = {"watch": 1, "timeoutSeconds": seconds} | params
    answer = cluster.http.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    return [json.loads(line) for line in answer.text.splitlines()]


def told(events: list[dict[str, Any]], label: str = "colour") -> list[tuple[str, str, str | None]]:
    return [
        (event["type"], event["object"]["metadata"]["name"], event["object"]["metadata"]["labels"].get(label))
        for event in events
    ]


def version(cluster: Cluster, path: str) -> str:
    return str(cluster.http.get(path).json()["metadata"]["resourceVersion"])


def test_changes_since_a_version(cluster: Cluster, home: str) -> None:
    start = version(cluster, jobs(home))
    job = cluster.job(uuid4(), namespace=home, name="one")
    cluster.label(job, colour="blue")
    last = cluster.label(job, colour="red")
    cluster.delete(job)
    events = watched(cluster, jobs(home), resourceVersion=start)
    expected = [("ADDED", "one", None), ("MODIFIED", "one", "blue"), ("MODIFIED", "one", "red")]
    assert told(events) == [*expected, ("DELETED", "one", "red")]
    assert (events[2]["object"], events[0]["object"]["kind"]) == (last, "Job")
    assert int(events[3]["object"]["metadata"]["resourceVersion"]) > int(last["metadata"]["resourceVersion"])
    later = events[1]["object"]["metadata"]["resourceVersion"]
    assert [event["type"] for event in watched(cluster, jobs(home), resourceVersion=later)] == ["MODIFIED", "DELETED"]


def test_what_stops_to_match_is_deleted(cluster: Cluster, home: str) -> None:
    start = version(cluster, pods(home))
    job = cluster.job(uuid4(), namespace=home)
    pod = cluster.pod(job, name="p", labels={"colour": "blue"})
    cluster.label(pod, colour="red")
    gone = cluster.label(pod, colour="green")
    events = watched(cluster, pods(home), resourceVersion=start, labelSelector="colour=red")
    assert told(events) == [("ADDED", "p", "red"), ("DELETED", "p", "red")]
    assert events[1]["object"]["metadata"]["resourceVersion"] == gone["metadata"]["resourceVersion"]
    cluster.pod_terminated(pod, 1)
    events = watched(cluster, pods(home), resourceVersion=start, fieldSelector="status.phase=Running")
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    assert watched(cluster, pods("default"), resourceVersion=start) == []


def test_a_watch_without_a_version_starts_with_all(cluster: Cluster, home: str) -> None:
    cluster.job(uuid4(), namespace=home, name="one")
    assert told(watched(cluster, jobs(home))) == [("ADDED", "one", None)]
    assert told(watched(cluster, jobs(home), resourceVersion=0)) == [("ADDED", "one", None)]


def test_a_watch_tells_at_once_and_ends_in_time(cluster: Cluster, home: str) -> None:
    start = version(cluster, jobs(home))
    params = {"watch": 1, "resourceVersion": start, "timeoutSeconds": 2}
    began = time.monotonic()
    timer = threading.Timer(0.3, lambda: cluster.job(uuid4(), namespace=home, name="one"))
    with cluster.http.stream("GET", jobs(home), params=params) as answer:
        timer.start()
        lines = answer.iter_lines()
        assert json.loads(next(lines))["object"]["metadata"]["name"] == "one"
        assert time.monotonic() - began < 1.5
        assert list(lines) == []
    timer.join()
    assert 1.5 < time.monotonic() - began < 5


def test_bookmarks(cluster: Cluster, home: str) -> None:
    """Shortly before the end, and only when something happened meanwhile."""
    start = version(cluster, jobs(home))
    elsewhere: list[dict[str, Any]] = []
    timer = threading.Timer(0.3, lambda: elsewhere.append(cluster.job(uuid4(), namespace="default")))
    with ThreadPoolExecutor() as pool:
        without = pool.submit(watched, cluster, jobs(home), seconds=3, resourceVersion=start)
        timer.start()
        events = watched(cluster, jobs(home), seconds=3, resourceVersion=start, allowWatchBookmarks="true")
        timer.join()
        assert without.result() == []
    assert {(event["type"], event["object"]["kind"]) for event in events} == {("BOOKMARK", "Job")}
    bookmark = events[-1]
    assert int(bookmark["object"]["metadata"]["resourceVersion"]) >= int(elsewhere[0]["metadata"]["resourceVersion"])


def test_an_old_version_is_an_event(forgetful_server: ApiServer) -> None:
    with Cluster(forgetful_server) as cluster:
        start = version(cluster, jobs("default"))
        job = cluster.job(uuid4(), namespace="default")
        cluster.http.delete(path_of(job), params={"propagationPolicy": "Background"})
        forgetful_server.compact()
        (event,) = watched(cluster, jobs("default"), resourceVersion=start)
        status = event["object"]
        assert (event["type"], status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
        assert watched(cluster, jobs("default"), resourceVersion=version(cluster, jobs("default"))) == []
