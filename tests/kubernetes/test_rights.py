"""The files of config/kubernetes are enough to see everything, with nothing to spare; and an example's selector."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml

from reconciler.model import Condition, Observation
from reconciler.ports import AdapterError, Problem
from reconciler.testing import flow_run
from reconciler_adapters.kubernetes import KubernetesScope
from tests.kubernetes.apiserver.cluster import Cluster
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.apiserver.cluster_rights import OWN, SOON, attributes
from tests.kubernetes.apiserver.fake_resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, RBAC, ROLE_BINDINGS, ROLES
from tests.kubernetes.world import HOME, KubernetesWorld, pid_of
from tests.rigs.polling import wait_until

CONFIG = Path(__file__).parents[2] / "config"
FILES = CONFIG / "kubernetes"
MANIFEST = CONFIG / "examples" / "kubernetes" / "reconciler.yaml"
RESOURCES = {it.kind: it for it in (ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS)}
REAL = pytest.mark.parametrize("api_server", [pytest.param("real", marks=pytest.mark.kubernetes)], indirect=True)
SCOPES: dict[str, dict[str, object]] = {"namespaced.yaml": {"namespaces": [HOME]}, "cluster-wide.yaml": {}}
NEEDED = [("list", "jobs"), ("get", "jobs"), ("list", "pods"), ("get", "namespaces")]


def documents(name: str) -> list[Object]:
    return list(yaml.safe_load_all((FILES / name).read_text(encoding="utf-8")))


def without(documents: Iterable[Object], verb: str, resource: str) -> Iterator[Object]:
    """The same, less one right."""
    for document in documents:
        if "rules" not in document or document["metadata"].get("namespace") == "kube-system":
            yield document
            continue
        single = [rule | {"resources": [one]} for rule in document["rules"] for one in rule["resources"]]
        left = [rule | {"verbs": [it for it in rule["verbs"] if [it, *rule["resources"]] != [verb, resource]]}
                for rule in single]  # fmt: skip
        yield document | {"rules": [rule for rule in left if rule["verbs"]]}


class Administrator:
    """`kubectl apply`, with `user` for the account of the files; None: the account itself."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._granted: list[Object] = []
        self.user: str | None = "reader"

    def apply(self, documents: Iterable[Object]) -> list[Object]:
        """Give what is granted, as questions. Returns once it counts for `user`."""
        granted: list[Object] = []
        for document in documents:
            if document["kind"] == "ServiceAccount":
                continue
            subjects = {"subjects": [{"kind": "User", "apiGroup": RBAC, "name": self.user}]}
            self._put(document | (subjects if self.user and "subjects" in document else {}))
            granted += attributes(document.get("rules", []), document["metadata"].get("namespace"))
        if self.user:
            wait_until(lambda: all(map(self._may, granted)), f"{self.user} has the rights", SOON)
        self._granted += granted
        return granted

    def close(self) -> None:
        self._cluster.revoke_all()
        wait_until(lambda: not any(map(self._may, self._granted)), "no rights are left", SOON)

    def _may(self, attributes: Object) -> bool:
        return self._cluster.may(self.user or "reader", attributes)

    def _put(self, document: Object) -> None:
        body = document | {"metadata": document["metadata"] | {"labels": OWN}}
        resource, meta = RESOURCES[document["kind"]], body["metadata"]
        answer = self._cluster.http.post(resource.path(meta.get("namespace")), json=body)
        if answer.status_code == 409:
            answer = self._cluster.http.put(resource.path(meta.get("namespace"), meta["name"]), json=body)
        assert answer.is_success, answer.text


@pytest.fixture
def admin(world: KubernetesWorld) -> Iterator[Administrator]:
    admin = Administrator(world.cluster)
    yield admin
    admin.close()


@pytest.fixture
def bind(world: KubernetesWorld) -> Iterator[Callable[..., KubernetesScope]]:
    """Scopes of the user "reader"."""
    bound: list[KubernetesScope] = []

    def bind(**options: object) -> KubernetesScope:
        bound.append(world.bind("reader", **options))
        return bound[-1]

    yield bind
    for scope in bound:
        scope.close()


def soon() -> float:
    return time.monotonic() + 20


def wrong(scope: KubernetesScope) -> list[Problem]:
    return [problem for problem in scope.check() if not problem.optional]


def noted(scope: KubernetesScope) -> str:
    return "; ".join(problem.text for problem in scope.check() if problem.optional)


def uid(world: KubernetesWorld, namespace: str) -> str:
    return str(world.cluster.namespace(namespace)["metadata"]["uid"])


@pytest.mark.parametrize("file", SCOPES)
def test_a_file_is_enough(world: KubernetesWorld, admin: Administrator, bind: Any, file: str) -> None:
    admin.apply(documents(file))
    scope: KubernetesScope = bind(**SCOPES[file])
    here = "" if file == "cluster-wide.yaml" else f",{HOME}:{uid(world, HOME)}"
    assert scope.identity(soon()) == uid(world, "kube-system") + here
    placed = [(world.place(condition), condition) for condition in (Condition.ALIVE, Condition.EXITED, Condition.GONE)]
    seen = scope.observe([run for run, _ in placed], soon())
    for run, condition in placed:
        assert [one.condition for one in seen.observations[run.id]] == [condition]
    assert wrong(scope) == []


def test_without_its_optional_half_a_namespace_is_known_by_itself(
    world: KubernetesWorld, admin: Administrator, bind: Any
) -> None:
    admin.apply(one for one in documents("namespaced.yaml") if one["metadata"].get("namespace") != "kube-system")
    scope: KubernetesScope = bind(namespaces=[HOME])
    assert scope.identity(soon()) == f"{HOME}:{uid(world, HOME)}"
    assert wrong(scope) == []


@pytest.mark.parametrize(("verb", "resource"), NEEDED)
@pytest.mark.parametrize("file", SCOPES)
def test_a_right_that_is_missing_is_named_and_mended(
    world: KubernetesWorld, admin: Administrator, bind: Any, file: str, verb: str, resource: str
) -> None:
    admin.apply(without(documents(file), verb, resource))
    scope: KubernetesScope = bind(**SCOPES[file])
    (problem,) = wrong(scope)
    group = ".batch" if resource == "jobs" else ""
    place = f" in namespace {HOME}" if SCOPES[file] else " in all namespaces"
    if resource == "namespaces" and SCOPES[file]:
        place = f" {HOME}"
    assert problem.text == f"missing rights: {verb} {resource}{group}{place}"

    admin.apply(yaml.safe_load_all(problem.remedy))
    assert wrong(scope) == []
    assert scope.identity(soon())


@pytest.mark.parametrize(("verb", "resource"), NEEDED)
@pytest.mark.parametrize("file", SCOPES)
def test_without_a_right_nothing_is_gone(
    world: KubernetesWorld, admin: Administrator, bind: Any, file: str, verb: str, resource: str
) -> None:
    admin.apply(without(documents(file), verb, resource))
    scope: KubernetesScope = bind(**SCOPES[file])
    runs = [world.place(Condition.ALIVE), world.place(Condition.GONE)]
    with pytest.raises(AdapterError, match=rf'403 .*cannot {verb} resource \\?"{resource}\\?"'):
        scope.observe(runs, soon())


def test_a_further_namespace_takes_a_role_of_its_own(world: KubernetesWorld, admin: Administrator, bind: Any) -> None:
    further = "prefect-batch"
    world.cluster.create_namespace(further)
    admin.apply(documents("namespaced.yaml"))
    scope: KubernetesScope = bind(namespaces=[HOME, further])
    (problem,) = wrong(scope)
    in_it = f"in namespace {further}"
    assert problem.text == (
        f"missing rights: list jobs.batch {in_it}, get jobs.batch {in_it}, list pods {in_it}, get namespaces {further}"
    )
    (binding,) = [one for one in documents("namespaced.yaml") if one["kind"] == "RoleBinding"][:1]
    printed = list(yaml.safe_load_all(problem.remedy))
    assert {one["metadata"]["namespace"] for one in printed} == {HOME, further}
    admin.apply([binding | {"metadata": binding["metadata"] | {"namespace": further}}, *printed])
    assert wrong(scope) == []


@pytest.mark.parametrize("may_get_nodes", [False, True])
def test_the_right_to_nodes_tells_a_vanished_job_from_a_lost_node(
    world: KubernetesWorld, admin: Administrator, bind: Any, may_get_nodes: bool
) -> None:
    admin.apply([*documents("namespaced.yaml"), *(documents("nodes.yaml") if may_get_nodes else [])])
    scope: KubernetesScope = bind(namespaces=[HOME])
    assert ("may not get nodes" in noted(scope)) is not may_get_nodes
    world.cluster.node("node-1")
    run = world.place(Condition.ALIVE)
    scope.observe([run], soon())
    for one in (*world.pods(world.jobs[run]), world.jobs[run]):
        world.cluster.delete(one, grace=0)

    def gone() -> Observation | None:
        (one,) = scope.observe([run], soon()).observations[run.id]
        return one if one.condition is Condition.GONE else None

    assert wait_until(gone, "the Job is gone", SOON).unseen_end is not may_get_nodes


def test_nodes_are_missed_but_not_needed_cluster_wide(world: KubernetesWorld, admin: Administrator, bind: Any) -> None:
    admin.apply(without(documents("cluster-wide.yaml"), "get", "nodes"))
    scope: KubernetesScope = bind()
    assert wrong(scope) == []
    assert "may not get nodes" in noted(scope)
    admin.apply(documents("nodes.yaml"))
    assert noted(scope) == ""


def test_the_selector_of_the_shared_cluster_s_example(world: KubernetesWorld) -> None:
    """It keeps the Jobs of others from being read, and hides no run that is asked for."""
    example = tomllib.loads((CONFIG / "examples" / "kubernetes-shared-cluster.toml").read_text(encoding="utf-8"))
    scope = world.bind(label_selector=example["scopes"][0]["options"]["label_selector"])
    pools = ["team-a-pool", "team-a-large", "team-b-pool"]
    jobs = {pool: world.cluster.job(uuid4(), labels={"prefect.io/work-pool-name": pool}) for pool in pools}
    assert {it.id for it in scope.observe([], soon()).strangers} == {
        jobs[pool]["metadata"]["uid"] for pool in ("team-a-pool", "team-a-large")
    }
    for job in jobs.values():
        run = flow_run(pid_of(job), id=UUID(job["metadata"]["labels"]["prefect.io/flow-run-id"]))
        assert [it.condition for it in scope.observe([run], soon()).observations[run.id]] == [Condition.STARTING]
    scope.close()


@REAL
@pytest.mark.parametrize("path", [MANIFEST, *sorted(FILES.glob("*.yaml"))], ids=lambda path: path.name)
def test_a_real_server_accepts_every_object(world: KubernetesWorld, path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        version, home = document["apiVersion"], document["metadata"].get("namespace")
        place = f"/apis/{version}" if "/" in version else f"/api/{version}"
        place += f"/namespaces/{home}" if home else ""
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        answer = world.cluster.http.post(f"{place}/{document['kind'].lower()}s", json=document, params=query)
        assert answer.status_code == 201, answer.text
        assert document["kind"] != "Deployment" or _holds(answer.json(), document)


@REAL
@pytest.mark.parametrize("files", [["namespaced.yaml", "nodes.yaml"], ["cluster-wide.yaml"]], ids=str)
def test_the_account_of_the_files_has_the_rights(
    world: KubernetesWorld, admin: Administrator, files: list[str]
) -> None:
    admin.user = None
    account = {"Impersonate-User": f"system:serviceaccount:{HOME}:prefect-reconciler"}
    granted = admin.apply(one for file in files for one in documents(file))
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

    def may(attributes: Object) -> bool:
        body = {"spec": {"resourceAttributes": attributes}}
        answer = world.cluster.http.post(reviews, json=body, headers=account).raise_for_status()
        return bool(answer.json()["status"]["allowed"])

    wait_until(lambda: all(map(may, granted)), "the account has the rights", SOON)
    assert not may({"verb": "watch", "group": "batch", "resource": "jobs", "namespace": HOME})
    assert not may({"verb": "get", "resource": "secrets", "namespace": HOME})
    assert not may({"verb": "delete", "group": "batch", "resource": "jobs", "namespace": HOME})


def _holds(given: Any, asked: Any) -> bool:
    """Whether the server kept all that was asked: it drops a field that it does not know."""
    if isinstance(asked, dict):
        return all(key in given and _holds(given[key], value) for key, value in asked.items())
    if isinstance(asked, list):
        return len(given) == len(asked) and all(map(_holds, given, asked))
    return bool(given == asked)
