"""A real Prefect server, a real Kubernetes worker and API server, and flows that really run and are really killed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.kubernetes.apiserver.cluster import Cluster
from tests.kubernetes.apiserver.real import RealApiServer, why_no_apiserver
from tests.kubernetes.world import kubeconfig
from tests.rigs.kubelet import NODE, Kubelet
from tests.rigs.kubernetes_worker import NAMESPACE, KubernetesWorker
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, forget_runs, logs_of, read, state_of, wait_for_state
from tests.rigs.proxy import FaultProxy
from tests.rigs.reconcile import QUICK, Pass, Reconcile
from tests.rigs.server import PrefectServer

pytestmark = [pytest.mark.prefect, pytest.mark.kubernetes]

FLOWS = """
import time
from pathlib import Path
from prefect import flow

@flow
def waits(file):
    while not Path(file).exists():
        time.sleep(0.1)
"""
SCOPE = """[[scopes]]
name = "cluster"
adapter = "kubernetes"
work_pools = ["{pool}"]
options = {{ kubeconfig = "{file}" }}"""
NO_END = "; no final state was reported. Set by prefect-reconciler."


@dataclass
class Site:
    """A worker, a node on which its flows run, and a reconciler whose calls go through `proxy`."""

    worker: KubernetesWorker
    node: Kubelet
    proxy: FaultProxy
    reconcile: Reconcile
    scope: str  # of the reconciler's configuration
    folder: Path

    def submit(self) -> SeededRun:
        """A run that works until `finish`."""
        name = uuid.uuid4().hex
        return self.worker.submit("waits", file=str(self.folder / name))

    def run(self) -> SeededRun:
        return self.running(self.submit())

    def running(self, run: SeededRun) -> SeededRun:
        wait_for_state(run, "RUNNING")
        wait_until(lambda: read(run)["infrastructure_pid"], f"{run.name} has an infrastructure_pid")
        return run

    def finish(self, run: SeededRun) -> None:
        Path(read(run)["parameters"]["file"]).touch()
        wait_for_state(run, "COMPLETED", seconds=60)

    def is_healthy(self, *runs: SeededRun) -> None:
        """One pass says so, and writes nothing."""
        done = self.silent_pass()
        assert done.code == 0, done.out
        assert {done.run(run.id)["verdict"] for run in runs} == {"HEALTHY"}, done.out

    def silent_pass(self) -> Pass:
        self.proxy.reset()
        done = self.reconcile()
        assert self.proxy.writes == [], done.out
        return done

    def settle(self, run: SeededRun) -> str:
        """Passes until it is settled, and one that writes nothing. Gives the message."""
        assert state_of(run) == "RUNNING", "nobody reported its end: a zombie"
        done = wait_until(lambda: self._settled(run), f"{run.name} settled", 60)
        assert done is not None
        assert (done.code, done.run(run.id)["outcome"]) == (0, "ACCEPTED"), done.out
        state = read(run)["state"]
        assert (state["type"], state["name"]) == ("CRASHED", "Crashed")
        assert [line["name"] for line in logs_of(run)].count("prefect.reconciler") == 1
        assert self.silent_pass().code == 0
        print(state["message"])
        return str(state["message"])

    def _settled(self, run: SeededRun) -> Pass | None:
        done = self.reconcile()
        return done if done.run(run.id)["outcome"] else None


@pytest.fixture(scope="module")
def api_server() -> Iterator[RealApiServer]:
    if reason := why_no_apiserver():
        missing(reason)
    with RealApiServer() as server:
        yield server


@pytest.fixture(scope="class")
def site(
    prefect_server: PrefectServer, api_server: RealApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """In an empty cluster, without any other flow run on the server."""
    if not list(prefect_server.venv.glob("lib/python*/site-packages/prefect_kubernetes")):
        missing("The Prefect at hand has no prefect-kubernetes; `make setup` installs it.")
    folder = tmp_path_factory.mktemp("site")
    file, flows = kubeconfig(folder / "kubeconfig.yaml", api_server), folder / "flows.py"
    flows.write_text(FLOWS)
    forget_runs(prefect_server.api_url)
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(api_server))
        stack.callback(cluster.clear)
        cluster.create_namespace(NAMESPACE)
        node = stack.enter_context(Kubelet(api_server, prefect_server.venv, folder / "node"))
        worker = KubernetesWorker(prefect_server, folder, file, flows=flows)
        stack.enter_context(worker)
        proxy = stack.enter_context(FaultProxy(prefect_server.api_url))
        scope = SCOPE.format(pool=worker.pool, file=file)
        reconcile = Reconcile(proxy.url, folder / "quick", scope, **QUICK, scope_deadline="4s")
        yield Site(worker, node, proxy, reconcile, scope, folder)


@pytest.fixture(scope="class")
def runs(site: Site) -> dict[str, SeededRun]:
    """They were healthy when their worker was killed. Only the Job of the last one may make a second pod."""
    site.worker.variables["memory_limit"] = "512Mi"
    runs = {name: site.submit() for name in ("killed", "deleted", "cut off")}
    site.worker.variables["backoff_limit"] = 1
    runs["evicted"] = site.submit()
    for run in runs.values():
        site.running(run)
    site.is_healthy(*runs.values())
    site.worker.kill()
    return runs


class TestWithItsWorker:
    def test_a_running_flow_is_left_alone(self, site: Site, api_server: RealApiServer) -> None:
        run = site.run()
        job = site.node.job_of(run.id)
        assert read(run)["infrastructure_pid"] == f"{NAMESPACE}:{job['metadata']['name']}"
        site.is_healthy(run)
        api_server.freeze()
        try:
            done = site.silent_pass()
        finally:
            api_server.thaw()
        assert (done.code, done.run(run.id)["verdict"]) == (1, "UNKNOWN"), done.out
        (problem,) = done.document["problems"]
        assert re.search("timed out after 4.0 s|did not answer within 4 s", problem), problem
        site.is_healthy(run)
        site.finish(run)

    def test_the_observer_is_first(self, site: Site) -> None:
        """It lives in the worker, and sets a run to Crashed as soon as its Job has failed."""
        by_default = Reconcile(site.proxy.url, site.folder / "default", site.scope)
        site = replace(site, reconcile=by_default)
        run = site.run()
        site.is_healthy(run)
        site.node.kill(run.id)

        def is_crashed() -> bool:
            assert site.silent_pass().code == 0
            return state_of(run) == "CRASHED"

        wait_until(is_crashed, f"{run.name} set to Crashed by the observer", 60)
        assert read(run)["state"]["message"] == "No active or succeeded pods found for any job"


class TestWithoutItsWorker:
    def test_out_of_memory(self, site: Site, runs: dict[str, SeededRun]) -> None:
        run = runs["killed"]
        site.node.kill(run.id)
        message = site.settle(run)
        pod = site.node.pod_of(run.id)["metadata"]["name"]
        assert message.startswith(
            f"Kubernetes Job {_job(run)} on cluster lab failed: BackoffLimitExceeded; pod {pod} on node {NODE} "
            "ended: container prefect-job was OOMKilled over its limit of 512Mi (exit code 137) at "
        )
        assert message.endswith(NO_END)

    def test_job_deleted(self, site: Site, runs: dict[str, SeededRun]) -> None:
        run = runs["deleted"]
        site.node.remove(run.id)
        message = site.settle(run)
        assert message.startswith(f"Kubernetes Job {_job(run)} on cluster lab no longer exists; last seen running ")
        assert message.endswith(NO_END)

    def test_exit_code_0_without_a_final_state(self, site: Site, runs: dict[str, SeededRun]) -> None:
        run = runs["cut off"]
        site.node.kill(run.id, reason=None, exit_code=0)  # as a flow that was cut off from the server ends
        message = site.settle(run)
        pod = site.node.pod_of(run.id)["metadata"]["name"]
        assert message.startswith(
            f"Kubernetes Job {_job(run)} on cluster lab completed; pod {pod} on node {NODE} "
            "ended: container prefect-job exited with code 0 at "
        )
        assert message.endswith(NO_END)

    def test_the_job_has_a_try_left(self, site: Site, runs: dict[str, SeededRun]) -> None:
        run = runs["evicted"]
        first = site.node.pod_of(run.id)
        site.node.evict(run.id)
        assert site.node.pod_of(run.id)["metadata"]["name"] != first["metadata"]["name"]
        site.is_healthy(run)
        site.finish(run)


def test_a_lost_node(site: Site) -> None:
    run = site.run()
    site.worker.kill()
    site.node.stop_reporting()
    pod = site.node.pod_of(run.id)["metadata"]["name"]
    for _ in range(2):
        done = site.silent_pass()
        row = done.run(run.id)
        assert (done.code, row["verdict"]) == (0, "UNKNOWN"), "the cluster did answer"
        assert f"pod {pod} on node {NODE} cannot be seen" in row["reason"]
    site.finish(run)
    assert site.silent_pass().document["runs"] == []
    assert state_of(run) == "COMPLETED"


def _job(run: SeededRun) -> str:
    return str(read(run)["infrastructure_pid"]).replace(":", "/")
