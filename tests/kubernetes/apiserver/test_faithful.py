"""Objects, deletions and rights: what the fake and a real API server (1.20.2) answer alike."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from uuid import uuid4

import httpx
import pytest

from tests.kubernetes.apiserver.cluster import Cluster, client
from tests.kubernetes.apiserver.cluster_rest import MERGE, path_of
from tests.kubernetes.apiserver.server import ApiServer

READ_PODS = {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}


def refusal(answer: httpx.Response) -> tuple[int, str, str, object]:
    body = answer.json()
    assert (body["kind"], body["apiVersion"], body["status"], body["code"]) == (
        "Status",
        "v1",
        "Failure",
        answer.status_code,
    )
    return answer.status_code, body.get("reason", ""), body["message"], body.get("details")


def jobs(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def test_created_objects_are_completed(cluster: Cluster, home: str) -> None:
    run = uuid4()
    job = cluster.job(run, namespace=home)
    meta = job["metadata"]
    assert re.fullmatch("wise-otter-[a-z0-9]{5}", meta["name"])
    assert (job["kind"], job["apiVersion"], meta["namespace"]) == ("Job", "batch/v1", home)
    assert meta["labels"]["prefect.io/flow-run-id"] == str(run)
    assert datetime.now(UTC) - datetime.fromisoformat(meta["creationTimestamp"]) < timedelta(minutes=1)
    assert job["spec"]["selector"] == {"matchLabels": {"controller-uid": meta["uid"]}}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert (labels["controller-uid"], labels["job-name"]) == (meta["uid"], meta["name"])
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 1
    assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 30
    assert job["status"] == {}
    pod = cluster.pod(job)
    assert int(pod["metadata"]["resourceVersion"]) > int(meta["resourceVersion"])
    assert pod["metadata"]["ownerReferences"][0]["uid"] == meta["uid"]
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["qosClass"] == "BestEffort"
    assert cluster.get(pod) == pod


def test_what_can_not_be_created(cluster: Cluster, home: str) -> None:
    job = cluster.job(uuid4(), namespace=home, name="one")
    body = {"metadata": {"name": "one"}, "spec": {"template": job["spec"]["template"]}}
    body["spec"]["template"]["metadata"] = {}
    details = {"name": "one", "group": "batch", "kind": "jobs"}
    taken = cluster.http.post(jobs(home), json=body)
    assert refusal(taken) == (409, "AlreadyExists", 'jobs.batch "one" already exists', details)
    homeless = cluster.http.post(jobs("nowhere"), json=body)
    details = {"name": "nowhere", "kind": "namespaces"}
    assert refusal(homeless) == (404, "NotFound", 'namespaces "nowhere" not found', details)
    astray = cluster.http.post(jobs("default"), json=body | {"metadata": {"name": "two", "namespace": home}})
    assert astray.status_code == 400
    always = {"spec": {"restartPolicy": "Always", "containers": job["spec"]["template"]["spec"]["containers"]}}
    assert (
        cluster.http.post(jobs(home), json={"metadata": {"name": "x"}, "spec": {"template": always}}).status_code == 422
    )
    code, reason, message, _ = refusal(cluster.http.post(jobs(home), json=body | {"metadata": {}}))
    problem = "metadata.name: Required value: name or generateName is required"
    assert (code, reason, message) == (422, "Invalid", f'Job.batch "" is invalid: {problem}')
    assert cluster.http.post(jobs(home), content=b"{", headers={"Content-Type": "application/json"}).status_code == 400


def test_not_found(cluster: Cluster, home: str) -> None:
    details = {"name": "x", "group": "batch", "kind": "jobs"}
    expected = (404, "NotFound", 'jobs.batch "x" not found', details)
    assert refusal(cluster.http.get(f"{jobs(home)}/x")) == expected
    assert refusal(cluster.http.get(f"{jobs('nowhere')}/x")) == expected
    assert refusal(cluster.http.delete(f"{jobs(home)}/x")) == expected
    expected = (404, "NotFound", 'pods "x" not found', {"name": "x", "kind": "pods"})
    assert refusal(cluster.http.get(f"{pods(home)}/x")) == expected
    expected = (404, "NotFound", "the server could not find the requested resource", {})
    for path in ("/api/v1/zebras", "/apis/batch/v7/jobs", f"{jobs(home)}/x/zebra", "/apis/zebra/v1/jobs"):
        assert cluster.http.get(path).status_code == 404, path
    assert refusal(cluster.http.get("/api/v1/zebras")) == expected
    assert refusal(cluster.http.put(jobs(home), json={}))[:2] == (405, "MethodNotAllowed")


def test_status_changes_only_through_its_subresource(cluster: Cluster, home: str) -> None:
    job = cluster.job(uuid4(), namespace=home)
    pod = cluster.pod(job, phase="Pending")
    path = path_of(pod)
    assert (
        cluster.http.patch(path, json={"status": {"phase": "Failed"}}, headers=MERGE).json()["status"] == pod["status"]
    )
    changed = (cluster.get(pod) or {}) | {"status": {"phase": "Failed"}}
    left = cluster.http.put(path, json=changed).json()
    assert left["status"] == pod["status"]
    changed["metadata"] = left["metadata"]
    answer = cluster.http.put(f"{path}/status", json=changed | {"spec": pod["spec"] | {"nodeName": "other"}}).json()
    assert (answer["status"]["phase"], answer["spec"]["nodeName"]) == ("Failed", "node-1")
    assert cluster.http.get(f"{path}/status").json() == cluster.get(pod) == answer
    failed = cluster.job_failed(job)
    assert failed["status"]["failed"] == 1
    assert [condition["type"] for condition in failed["status"]["conditions"]] == ["Failed"]
    assert cluster.job_complete(job)["status"]["succeeded"] == 1


def test_changes_of_an_old_version_conflict(cluster: Cluster, home: str) -> None:
    job = cluster.job(uuid4(), namespace=home, name="one")
    labelled = cluster.label(job, colour="blue")
    assert labelled["metadata"]["labels"]["colour"] == "blue"
    assert int(labelled["metadata"]["resourceVersion"]) > int(job["metadata"]["resourceVersion"])
    assert "colour" not in cluster.label(job, colour=None)["metadata"]["labels"]
    message = (
        'Operation cannot be fulfilled on jobs.batch "one": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    details = {"name": "one", "group": "batch", "kind": "jobs"}
    assert refusal(cluster.http.put(path_of(job), json=job)) == (409, "Conflict", message, details)
    json_type = {"Content-Type": "application/json"}
    assert refusal(cluster.http.patch(path_of(job), json={}, headers=json_type))[:2] == (415, "UnsupportedMediaType")


def test_a_job_goes_at_once_and_its_pod_stays(cluster: Cluster, home: str) -> None:
    job = cluster.job(uuid4(), namespace=home, name="one")
    pod = cluster.pod(job)
    answer = cluster.http.delete(path_of(job), params={"propagationPolicy": "Background"}).json()
    details = {"name": "one", "group": "batch", "kind": "jobs", "uid": job["metadata"]["uid"]}
    assert (answer["kind"], answer["status"], answer["details"]) == ("Status", "Success", details)
    assert cluster.get(job) is None
    assert cluster.get(pod) == pod
    again = cluster.job(uuid4(), namespace=home, name="one")
    assert again["metadata"]["uid"] != job["metadata"]["uid"]


def test_a_job_stays_for_its_finalizers(cluster: Cluster, home: str) -> None:
    job = cluster.job(uuid4(), namespace=home, finalizers=["test.example/hold"])
    cluster.delete(job)
    left = cluster.get(job)
    assert left is not None
    assert left["metadata"]["deletionTimestamp"]
    assert left["metadata"]["finalizers"] == ["test.example/hold"]
    twice = cluster.http.post(jobs(home), json={"metadata": {"name": job["metadata"]["name"]}, "spec": job["spec"]})
    assert twice.status_code in {409, 422}
    cluster.finalize(job)
    assert cluster.get(job) is None


def test_a_job_deleted_without_a_policy_orphans_its_pods(cluster: Cluster, home: str) -> None:
    for params, finalizer in (({}, "orphan"), ({"propagationPolicy": "Foreground"}, "foregroundDeletion")):
        job = cluster.job(uuid4(), namespace=home)
        answer = cluster.http.delete(path_of(job), params=params).json()
        assert answer["metadata"]["finalizers"] == [finalizer]  # for the garbage collector
        cluster.finalize(job)
        assert cluster.get(job) is None
    job = cluster.job(uuid4(), namespace=home)
    assert cluster.http.request("DELETE", path_of(job), json={"propagationPolicy": "Background"}).status_code == 200
    assert cluster.get(job) is None


def test_a_bound_pod_is_deleted_with_grace(cluster: Cluster, home: str) -> None:
    pod = cluster.pod(cluster.job(uuid4(), namespace=home))
    cluster.delete(pod)
    left = cluster.get(pod)
    assert left is not None
    ahead = datetime.fromisoformat(left["metadata"]["deletionTimestamp"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < ahead < timedelta(seconds=31)
    assert left["metadata"]["deletionGracePeriodSeconds"] == 30
    assert left["status"] == pod["status"]
    cluster.delete(pod)
    assert cluster.get(pod) == left
    cluster.delete(pod, grace=5)
    shorter = cluster.get(pod)
    assert shorter is not None
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    cluster.delete(pod, grace=0)
    assert cluster.get(pod) is None


def test_pods_without_a_kubelet_go_at_once(cluster: Cluster, home: str) -> None:
    job = cluster.job(uuid4(), namespace=home)
    unbound = cluster.pod(job, node=None, phase="Pending")
    ended = cluster.pod_terminated(cluster.pod(job), 1)
    for pod in (unbound, ended):
        answer = cluster.http.delete(path_of(pod)).json()
        assert (answer["kind"], answer["metadata"]["deletionGracePeriodSeconds"]) == ("Pod", 0)
        assert cluster.get(pod) is None
    held = cluster.pod(job, finalizers=["batch.kubernetes.io/job-tracking"])
    cluster.delete(held, grace=0)
    assert (cluster.get(held) or {})["metadata"]["deletionTimestamp"]
    cluster.finalize(held)
    assert cluster.get(held) is None


def test_deleting_many(cluster: Cluster, home: str) -> None:
    job = cluster.job(uuid4(), namespace=home)
    blue, red = (cluster.pod(job, labels={"colour": colour}) for colour in ("blue", "red"))
    params = {"labelSelector": "colour=blue", "gracePeriodSeconds": 0}
    assert cluster.http.delete(pods(home), params=params).json()["kind"] == "PodList"
    assert cluster.get(blue) is None
    assert cluster.get(red) == red


def test_namespaces(cluster: Cluster) -> None:
    for name in ("default", "kube-system"):
        assert cluster.namespace(name)["metadata"]["uid"]
    made = cluster.create_namespace("short-lived")
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    job = cluster.job(uuid4(), namespace="short-lived")
    cluster.http.delete("/api/v1/namespaces/short-lived")
    left = cluster.namespace("short-lived")
    assert (left["status"]["phase"], bool(left["metadata"]["deletionTimestamp"])) == ("Terminating", True)
    assert cluster.get(job) == job
    late = {"metadata": {"name": "late"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    code, reason, message, _ = refusal(cluster.http.post(pods("short-lived"), json=late))
    end = "unable to create new content in namespace short-lived because it is being terminated"
    assert (code, reason, message) == (403, "Forbidden", f'pods "late" is forbidden: {end}')
    cluster.remove_namespace("short-lived")
    expected = (404, "NotFound", 'namespaces "short-lived" not found', {"name": "short-lived", "kind": "namespaces"})
    assert refusal(cluster.http.get("/api/v1/namespaces/short-lived")) == expected
    assert cluster.get(job) is None
    answer = cluster.http.get(pods("short-lived"))
    assert (answer.status_code, answer.json()["items"]) == (200, [])


def test_only_known_tokens_come_in(api_server: ApiServer) -> None:
    with client(api_server) as http:
        del http.headers["Authorization"]
        for path in ("/api/v1/pods", "/version"):
            answer = http.get(path, headers={"Authorization": "Bearer unknown"})
            assert refusal(answer) == (401, "Unauthorized", "Unauthorized", None)
        anonymous = http.get("/api/v1/pods")
        refused = 'User "system:anonymous" cannot list resource "pods" in API group "" at the cluster scope'
        assert refusal(anonymous) == (403, "Forbidden", f"pods is forbidden: {refused}", {"kind": "pods"})
        assert http.get("/version").status_code == http.get("/readyz").status_code == 200


def test_answers_tell_the_time_and_the_version(api_server: ApiServer, reader: httpx.Client) -> None:
    answer = reader.get("/version")
    assert answer.json()["major"] == "1"
    assert answer.headers["Content-Type"] == "application/json"
    assert abs(parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)) < timedelta(seconds=5)
    assert reader.get("/readyz").text == "ok"


def test_refused_rights_are_named(reader: httpx.Client) -> None:
    may_not = 'is forbidden: User "reader" cannot'
    within = 'in the namespace "x"'
    expected = {
        "/api/v1/pods": f'pods {may_not} list resource "pods" in API group "" at the cluster scope',
        "/api/v1/pods?watch=1": f'pods {may_not} watch resource "pods" in API group "" at the cluster scope',
        pods("x"): f'pods {may_not} list resource "pods" in API group "" {within}',
        f"{pods('x')}/p": f'pods "p" {may_not} get resource "pods" in API group "" {within}',
        jobs("x"): f'jobs.batch {may_not} list resource "jobs" in API group "batch" {within}',
        "/api/v1/namespaces/x": f'namespaces "x" {may_not} get resource "namespaces" in API group "" {within}',
    }
    for path, message in expected.items():
        assert refusal(reader.get(path))[:3] == (403, "Forbidden", message)
    patched = reader.patch(f"{pods('x')}/p/status", json={}, headers=MERGE)
    assert 'cannot patch resource "pods/status"' in refusal(patched)[2]
    assert 'pods is forbidden: User "reader" cannot deletecollection' in refusal(reader.delete(pods("x")))[2]


def test_rights_granted_for_a_namespace(cluster: Cluster, home: str, reader: httpx.Client) -> None:
    namespaces = {"verbs": ["get"], "apiGroups": [""], "resources": ["namespaces"]}
    cluster.grant("reader", [READ_PODS, namespaces], home)
    assert reader.get(pods(home)).status_code == 200
    assert reader.get(f"{pods(home)}/x").status_code == 404
    assert reader.get(f"/api/v1/namespaces/{home}").status_code == 200
    assert reader.get("/api/v1/namespaces/default").status_code == 403
    for refused in ("/api/v1/pods", pods("default"), jobs(home), "/api/v1/namespaces", f"{pods(home)}/x/status"):
        assert reader.get(refused).status_code == 403, refused
    cluster.revoke_all()
    assert reader.get(pods(home)).status_code == 403


def test_rights_granted_for_all(cluster: Cluster, home: str, reader: httpx.Client) -> None:
    named = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"]}
    wild = {"verbs": ["*"], "apiGroups": ["batch"], "resources": ["*"]}
    cluster.grant("reader", [READ_PODS, named, wild])
    for path in ("/api/v1/pods", pods(home), jobs(home), "/apis/batch/v1/jobs", "/api/v1/namespaces/kube-system"):
        assert reader.get(path).status_code == 200, path
    assert reader.get("/api/v1/namespaces/default").status_code == 403
    assert reader.get("/api/v1/namespaces").status_code == 403
    found = reader.get("/api/v1/namespaces", params={"fieldSelector": "metadata.name=kube-system"}).json()["items"]
    assert [item["metadata"]["name"] for item in found] == ["kube-system"]
    assert reader.patch(f"{jobs(home)}/x/status", json={}, headers=MERGE).status_code == 404


@pytest.mark.parametrize(
    ("attributes", "allowed"),
    [
        ({"verb": "list", "resource": "pods", "namespace": "HOME"}, True),
        ({"verb": "list", "resource": "pods"}, False),
        ({"verb": "list", "resource": "pods", "namespace": "default"}, False),
        ({"verb": "delete", "resource": "pods", "namespace": "HOME"}, False),
        ({"verb": "get", "resource": "pods", "subresource": "status", "namespace": "HOME"}, False),
        ({"verb": "list", "resource": "jobs", "group": "batch", "namespace": "HOME"}, False),
        ({"verb": "get", "resource": "jobs", "group": "batch", "namespace": "HOME", "name": "one"}, True),
        ({"verb": "get", "resource": "jobs", "group": "batch", "namespace": "HOME", "name": "two"}, False),
    ],
)
def test_access_reviews(cluster: Cluster, home: str, attributes: dict[str, str], allowed: bool) -> None:
    one = {"verbs": ["get"], "apiGroups": ["batch"], "resources": ["jobs"], "resourceNames": ["one"]}
    cluster.grant("reader", [READ_PODS, one], home)
    asked = {key: value.replace("HOME", home) for key, value in attributes.items()}
    assert cluster.may("reader", asked) is allowed
    assert cluster.may("admin", asked) is True
