"""The real API server does what the adapter's tests ask of it."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import missing
from tests.kubernetes.apiserver.front import FaultFront
from tests.kubernetes.apiserver.real import BUILD, RealApiServer, apiserver_binary, why_no_apiserver
from tests.kubernetes.apiserver.server import ApiServer

NAMESPACES = "/api/v1/namespaces"
PODS = f"{NAMESPACES}/default/pods"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
needs_apiserver = pytest.mark.kubernetes


def client(server: ApiServer, user: str = "admin") -> httpx.Client:
    verify = ssl.create_default_context(cafile=server.ca_file)
    verify.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 does on its own
    headers = {"Authorization": f"Bearer {server.token(user)}"}
    return httpx.Client(base_url=server.url, headers=headers, verify=verify, trust_env=False, timeout=20)


def pod_template(**more: Any) -> dict[str, Any]:
    return {"spec": {"restartPolicy": "Never", "containers": [{"name": "prefect-job", "image": "none"}]} | more}


@pytest.fixture(scope="module")
def server() -> Iterator[RealApiServer]:
    if reason := why_no_apiserver():
        missing(reason)
    with RealApiServer() as server:
        yield server


@pytest.fixture
def admin(server: RealApiServer) -> Iterator[httpx.Client]:
    with client(server) as admin:
        yield admin


@pytest.fixture
def three_jobs(admin: httpx.Client) -> Iterator[list[str]]:
    names = [f"otter-{number}" for number in range(3)]
    for name in names:
        made = admin.post(JOBS, json={"metadata": {"name": name}, "spec": {"template": pod_template()}})
        assert made.status_code == 201, made.text
    yield names
    admin.delete(JOBS, params={"propagationPolicy": "Background"})


@needs_apiserver
def test_admin_sees_the_namespaces(admin: httpx.Client) -> None:
    names = {one["metadata"]["name"] for one in admin.get(NAMESPACES).json()["items"]}
    assert {"kube-system", "default"} <= names
    assert admin.get("/version").json()["gitVersion"] == "v1.20.2"


@needs_apiserver
def test_reader_may_what_a_role_grants(server: RealApiServer, admin: httpx.Client) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    with client(server, "reader") as reader:
        refused = reader.get(PODS)
        assert (refused.status_code, refused.json()["reason"]) == (403, "Forbidden")
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
        admin.post(f"{rbac}/roles", json={"metadata": {"name": "look"}, "rules": rules}).raise_for_status()
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"}
        binding = {"metadata": {"name": "look"}, "roleRef": role, "subjects": [{"kind": "User", "name": "reader"}]}
        admin.post(f"{rbac}/rolebindings", json=binding).raise_for_status()
        assert reader.get(PODS).status_code == 200
        assert reader.get(f"{PODS}/any").status_code == 403


@needs_apiserver
def test_a_stranger_is_401(server: RealApiServer, admin: httpx.Client) -> None:
    assert admin.get(NAMESPACES, headers={"Authorization": "Bearer other"}).status_code == 401


@needs_apiserver
def test_jobs_and_pods_are_as_the_test_says(admin: httpx.Client, three_jobs: list[str]) -> None:
    merge = {"Content-Type": "application/merge-patch+json"}
    failed = {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}}
    path = f"{JOBS}/{three_jobs[0]}"
    admin.patch(f"{path}/status", content=json.dumps(failed), headers=merge).raise_for_status()
    assert admin.get(path).json()["status"]["conditions"][0]["reason"] == "BackoffLimitExceeded"

    pod = {"metadata": {"name": "bare"}, **pod_template(nodeName="node-7")}
    admin.post(PODS, json=pod).raise_for_status()
    running = json.dumps({"status": {"phase": "Running"}})
    admin.patch(f"{PODS}/bare/status", content=running, headers=merge).raise_for_status()
    listed = admin.get(PODS, params={"fieldSelector": "status.phase=Running"}).json()["items"]
    assert [one["spec"]["nodeName"] for one in listed] == ["node-7"]
    admin.delete(f"{PODS}/bare", params={"gracePeriodSeconds": "0"}).raise_for_status()
    assert admin.get(f"{PODS}/bare").status_code == 404


@needs_apiserver
def test_compaction_expires_continue_tokens(server: RealApiServer, admin: httpx.Client, three_jobs: list[str]) -> None:
    page = {"limit": "2", "continue": admin.get(JOBS, params={"limit": "2"}).json()["metadata"]["continue"]}
    assert [one["metadata"]["name"] for one in admin.get(JOBS, params=page).json()["items"]] == three_jobs[2:]
    server.compact()
    expired = admin.get(JOBS, params=page)
    assert (expired.status_code, expired.json()["reason"]) == (410, "Expired")
    assert admin.get(JOBS).status_code == 200


@needs_apiserver
def test_another_cluster(server: RealApiServer, admin: httpx.Client) -> None:
    """Over the same etcd; without a watch cache, so that old watches expire as well."""
    with RealApiServer(server.etcd, "/second", watch_cache=False) as second, client(second) as other:
        uids = {one.get(f"{NAMESPACES}/kube-system").json()["metadata"]["uid"] for one in (admin, other)}
        assert len(uids) == 2
        version = other.get(NAMESPACES).json()["metadata"]["resourceVersion"]
        second.compact()
        watch = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "5"}
        assert other.get(NAMESPACES, params=watch).json()["object"]["code"] == 410
    assert not second.folder.exists()
    assert admin.get("/readyz").text == "ok"


@needs_apiserver
def test_frozen_and_thawed(server: RealApiServer, admin: httpx.Client) -> None:
    server.freeze()
    try:
        with pytest.raises(httpx.TimeoutException):
            admin.get("/readyz", timeout=0.5)
    finally:
        server.thaw()
    assert admin.get("/readyz").text == "ok"


@needs_apiserver
def test_the_front_reaches_it(server: RealApiServer) -> None:
    with FaultFront(server) as front, client(front) as admin:
        names = {one["metadata"]["name"] for one in admin.get(NAMESPACES).json()["items"]}
        assert "kube-system" in names
        with admin.stream("GET", NAMESPACES, params={"watch": "1", "timeoutSeconds": "10"}) as events:
            assert json.loads(next(events.iter_lines()))["type"] == "ADDED"


@needs_apiserver
def test_ends_with_certainty() -> None:
    if reason := why_no_apiserver():
        missing(reason)
    with RealApiServer() as server:
        pids = server.pid, server.etcd.pid
        server.freeze()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not server.folder.exists()
    server.close()


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_no_apiserver() == "A real Kubernetes API needs etcd and openssl (Debian: etcd-server openssl)."
    for name in ("etcd", "openssl"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("RECONCILER_TEST_APISERVER", str(tmp_path / "none"))
    assert "tests/kubernetes/apiserver/build.sh builds it" in (why_no_apiserver() or "")
    monkeypatch.setenv("RECONCILER_TEST_APISERVER", str(tmp_path / "etcd"))
    assert why_no_apiserver() is None


def test_the_cached_binary_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RECONCILER_TEST_APISERVER", raising=False)
    monkeypatch.setenv("RECONCILER_TEST_CACHE", str(tmp_path))
    path = apiserver_binary()
    assert path.parent == tmp_path
    assert path.name.startswith("kube-apiserver-")
    assert not list(tmp_path.iterdir()), "asking for the path builds nothing"
    assert os.access(BUILD, os.X_OK)
