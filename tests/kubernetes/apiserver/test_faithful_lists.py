"""Selectors, pages, old tokens, metadata only: what the fake and a real API server (1.20.2) answer alike."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.kubernetes.apiserver.cluster import Cluster
from tests.kubernetes.apiserver.cluster_rest import METADATA_ONLY, path_of
from tests.kubernetes.apiserver.server import ApiServer
from tests.kubernetes.apiserver.test_faithful import jobs, pods, refusal


def names(cluster: Cluster, path: str, **params: object) -> list[str]:
    answer = cluster.http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return [item["metadata"]["name"] for item in answer.json()["items"]]


@pytest.fixture
def three(cluster: Cluster, home: str) -> str:
    """A namespace with the pods a (i=0), b (i=1, colour=blue) and c (i=2, colour=)."""
    job = cluster.job(uuid4(), namespace=home)
    cluster.pod(job, name="a", labels={"i": "0"})
    cluster.pod(job, name="b", labels={"i": "1", "colour": "blue"}, phase="Pending", node=None)
    cluster.pod_terminated(cluster.pod(job, name="c", labels={"i": "2", "colour": ""}, node="node-2"), 1)
    return home


LABELS = {
    "": "abc",
    "i=1": "b",
    "i==1": "b",
    "i!=1": "ac",
    "colour!=blue": "ac",
    "i in (0,2)": "ac",
    "i in (0, 2 ,7)": "ac",
    "i notin (0,2)": "b",
    "colour notin (blue)": "ac",
    "colour": "bc",
    "!colour": "a",
    "colour,i!=2": "b",
    "colour=": "c",
    "colour in (blue,)": "bc",
    "i>0": "bc",
    "i<1": "a",
    " i = 1 ": "b",
    "prefect.io/flow-run-name=wise-otter,i in (0,1),!colour": "a",
}


@pytest.mark.parametrize("selector", LABELS)
def test_label_selectors(cluster: Cluster, three: str, selector: str) -> None:
    assert names(cluster, pods(three), labelSelector=selector) == list(LABELS[selector])


START = "unable to parse requirement: "
WRONG_LABELS = {
    "i in (0,": f"{START}found '', expected: ',', or identifier",
    "i in 0": f"{START}found '0' expected: '('",
    "i in (0 1)": f"{START}found '1', expected: ',' or ')'",
    "a==b==c": "found '==', expected: ',' or 'end of string'",
    "a=b c": "found 'c', expected: ',' or 'end of string'",
    "a b": f"{START}found 'b', expected: '=', '!=', '==', 'in', notin'",
    "!": f"{START}found '', expected: identifier",
    "=b": "found '=', expected: !, identifier, or 'end of string'",
    "a=b,": "found '', expected: identifier after ','",
    "a,,b": "found ',', expected: identifier after ','",
    "-x=1": f'{START}invalid label key "-x": name part must consist of alphanumeric characters',
    "x=-1": f'{START}invalid label value: "-1"',
}


@pytest.mark.parametrize("selector", WRONG_LABELS)
def test_wrong_label_selectors(cluster: Cluster, home: str, selector: str) -> None:
    code, reason, message, _ = refusal(cluster.http.get(pods(home), params={"labelSelector": selector}))
    assert (code, reason) == (400, "BadRequest")
    if selector not in {"i in (0,", "x=-1"}:  # these texts differ between versions
        assert message.startswith(WRONG_LABELS[selector])


FIELDS = {
    "metadata.name=a": "a",
    "metadata.name!=a": "bc",
    "metadata.namespace=default": "",
    "status.phase=Running": "a",
    "status.phase==Failed": "c",
    "status.phase!=Succeeded,status.phase!=Failed": "ab",
    "spec.nodeName=node-1": "a",
    "spec.nodeName=": "b",
    "spec.restartPolicy=Never,status.phase=Pending": "b",
}


@pytest.mark.parametrize("selector", FIELDS)
def test_field_selectors_of_pods(cluster: Cluster, three: str, selector: str) -> None:
    assert names(cluster, pods(three), fieldSelector=selector) == list(FIELDS[selector])
    assert set(FIELDS[selector]) <= set(names(cluster, "/api/v1/pods", fieldSelector=selector))


def test_field_selectors_of_jobs(cluster: Cluster, home: str) -> None:
    for name in ("done", "failed", "new"):
        cluster.job(uuid4(), namespace=home, name=name)
    cluster.job_complete(cluster.http.get(f"{jobs(home)}/done").json())
    cluster.job_failed(cluster.http.get(f"{jobs(home)}/failed").json())
    assert names(cluster, jobs(home), fieldSelector="status.successful=0") == ["failed", "new"]
    assert names(cluster, jobs(home), fieldSelector="status.successful=1") == ["done"]
    assert names(cluster, jobs(home), fieldSelector="status.successful!=0,metadata.name=done") == ["done"]


@pytest.mark.parametrize(
    ("path", "selector", "message"),
    [
        ("/api/v1/pods", "spec.zebra=1", "field label not supported: spec.zebra"),
        ("/api/v1/pods", "status.successful=0", "field label not supported: status.successful"),
        ("/api/v1/nodes", "status.phase=x", "field label not supported: status.phase"),
        ("/apis/batch/v1/jobs", "status.phase=x", 'field label "status.phase" not supported for batchv1.Job'),
        (
            "/apis/rbac.authorization.k8s.io/v1/roles",
            "x=y",
            '"x" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("/api/v1/pods", "metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("/api/v1/pods", "metadata.name=a,b", "invalid selector: 'metadata.name=a,b'; can't understand 'b'"),
    ],
)
def test_wrong_field_selectors(cluster: Cluster, path: str, selector: str, message: str) -> None:
    answer = cluster.http.get(path, params={"fieldSelector": selector})
    assert refusal(answer) == (400, "BadRequest", message, None)


def test_lists(cluster: Cluster, three: str) -> None:
    answer = cluster.http.get(pods(three)).json()
    assert (answer["kind"], answer["apiVersion"]) == ("PodList", "v1")
    assert answer["metadata"].keys() <= {"resourceVersion", "selfLink"}
    newest = max(int(item["metadata"]["resourceVersion"]) for item in answer["items"])
    assert int(answer["metadata"]["resourceVersion"]) >= newest
    assert all("kind" not in item and "apiVersion" not in item for item in answer["items"])
    nowhere = cluster.http.get(jobs("nowhere"))
    assert (nowhere.status_code, nowhere.json()["kind"], nowhere.json()["items"]) == (200, "JobList", [])


def page(cluster: Cluster, path: str, **params: object) -> tuple[str, dict[str, Any]]:
    answer = cluster.http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return "".join(item["metadata"]["name"] for item in body["items"]), body["metadata"]


def test_pages_are_of_one_moment(cluster: Cluster, three: str) -> None:
    path = pods(three)
    first, meta = page(cluster, path, limit=1)
    assert (first, meta["remainingItemCount"]) == ("a", 2)
    cluster.pod(cluster.job(uuid4(), namespace=three), name="aa")
    cluster.delete(cluster.http.get(f"{path}/b").json(), grace=0)
    second, after = page(cluster, path, limit=1, **{"continue": meta["continue"]})
    assert (second, after["remainingItemCount"], after["resourceVersion"]) == ("b", 1, meta["resourceVersion"])
    third, last = page(cluster, path, limit=1, **{"continue": after["continue"]})
    assert third == "c"
    assert not last.keys() & {"continue", "remainingItemCount"}
    assert page(cluster, path, limit=2)[0] == "aaa"


def test_pages_of_all_namespaces(cluster: Cluster, three: str) -> None:
    for name in ("a-x", "a", "zz"):
        cluster.create_namespace(name)
        cluster.pod(run_id=uuid4(), namespace=name, name="p")
    found, token = [], ""
    while True:
        params = {"limit": 2} | ({"continue": token} if token else {})
        body = cluster.http.get("/api/v1/pods", params=params).json()
        found += [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in body["items"]]
        if not (token := body["metadata"].get("continue", "")):
            break
    assert found == [("a-x", "p"), ("a", "p"), (three, "a"), (three, "b"), (three, "c"), ("zz", "p")]


def test_pages_with_selectors(cluster: Cluster, three: str) -> None:
    first, meta = page(cluster, pods(three), limit=1, labelSelector="i in (0,2)")
    assert first == "a"
    assert "remainingItemCount" not in meta
    more = {"continue": meta["continue"], "labelSelector": "i in (0,2)"}
    second, meta = page(cluster, pods(three), limit=1, **more)
    assert (second, meta.get("continue")) == ("c", None)
    assert "remainingItemCount" not in page(cluster, pods(three), limit=1, fieldSelector="status.phase!=x")[1]
    # The only match is followed by others: there is a token, and nothing behind it.
    only, meta = page(cluster, pods(three), limit=1, labelSelector="i=0")
    assert only == "a"
    more = {"continue": meta["continue"], "labelSelector": "i=0"}
    assert page(cluster, pods(three), limit=1, **more)[0] == ""


def test_old_tokens_expire(api_server: ApiServer, cluster: Cluster, three: str) -> None:
    _, meta = page(cluster, pods(three), limit=1)
    cluster.delete(cluster.http.get(f"{pods(three)}/b").json(), grace=0)
    api_server.compact()
    answer = cluster.http.get(pods(three), params={"limit": 1, "continue": meta["continue"]})
    code, reason, message, _ = refusal(answer)
    assert (code, reason) == (410, "Expired")
    assert message.startswith("The provided continue parameter is too old to display a consistent list result. You can")
    fresh = answer.json()["metadata"]["continue"]
    found, after = page(cluster, pods(three), limit=1, **{"continue": fresh})
    assert found == "c"
    assert int(after["resourceVersion"]) > int(meta["resourceVersion"])
    assert page(cluster, pods(three))[0] == "ac"


@pytest.mark.parametrize("token", ["garbage", "e30", "eyJ2IjoieCIsInJ2IjoxLCJzdGFydCI6ImEifQ"])
def test_wrong_tokens(cluster: Cluster, home: str, token: str) -> None:
    code, reason, message, _ = refusal(cluster.http.get(pods(home), params={"limit": 1, "continue": token}))
    assert (code, reason) == (400, "BadRequest")
    assert "continue key is not valid" in message


def test_wrong_numbers(cluster: Cluster, three: str) -> None:
    text = 'strconv.ParseInt: parsing "x": invalid syntax'
    assert refusal(cluster.http.get(pods(three), params={"limit": "x"})) == (400, "BadRequest", text, None)
    _, meta = page(cluster, pods(three), limit=1)
    both = {"limit": 1, "continue": meta["continue"], "resourceVersion": meta["resourceVersion"]}
    text = "specifying resource version is not allowed when using continue"
    assert refusal(cluster.http.get(pods(three), params=both)) == (400, "BadRequest", text, None)


def test_metadata_only(cluster: Cluster, three: str) -> None:
    params = {"limit": 2, "labelSelector": "i"}
    whole = cluster.http.get(pods(three), params=params).json()
    partial = cluster.http.get(pods(three), params=params, headers=METADATA_ONLY).json()
    assert (partial["kind"], partial["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert partial["metadata"]["continue"] == whole["metadata"]["continue"]
    kind = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    assert partial["items"] == [kind | {"metadata": item["metadata"]} for item in whole["items"]]
    nothing = cluster.http.get(jobs("nowhere"), headers=METADATA_ONLY).json()
    assert not nothing["items"]  # null on 1.20
    one = cluster.http.get(f"{pods(three)}/a").json()
    accept = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
    assert cluster.http.get(path_of(one), headers=accept).json() == kind | {"metadata": one["metadata"]}
