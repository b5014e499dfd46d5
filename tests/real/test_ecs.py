"""A real Prefect server, a real ECS worker, ministack's ECS, and flows in real containers that are really killed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.rigs.ecs_worker import EcsWorker, task_of
from tests.rigs.engine import Engine
from tests.rigs.ministack import NO_MINISTACK, Ministack, ministack_venv
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, forget_runs, logs_of, read, state_of, wait_for_state
from tests.rigs.proxy import FaultProxy
from tests.rigs.reconcile import QUICK, Pass, Reconcile
from tests.rigs.server import PrefectServer

pytestmark = [pytest.mark.prefect, pytest.mark.docker]

CLUSTER = "lab"
FLOWS = """
import os
import time
from pathlib import Path
from prefect import flow

@flow
def waits(file):
    while not Path(file).exists():
        time.sleep(0.1)

@flow
def leaves(file):
    waits.fn(file)
    os._exit(0)
"""
SCOPE = """[[scopes]]
name = "cloud"
adapter = "ecs"
work_pools = ["{pool}"]
options = {{ clusters = ["{cluster}"], region = "{region}", endpoint_url = "{url}" }}"""
# A task that is younger than 5 min may have a twin that ECS does not show yet, so its run's heartbeats are heard too.
POLICY = {**QUICK, "quiet": "5s", "scope_deadline": "4s"}
EXITED = "stopped: EssentialContainerExited (Essential container exited)"  # "... in task ..." on AWS, and left out
NO_END = "; no final state was reported. Set by prefect-reconciler."


@dataclass
class Site:
    """A worker, the cluster in which its flows run, and a reconciler whose calls to Prefect go through `proxy`."""

    worker: EcsWorker
    cloud: Ministack
    proxy: FaultProxy
    reconcile: Reconcile
    scope: str  # of the reconciler's configuration
    folder: Path

    def submit(self, flow: str = "waits") -> SeededRun:
        """A run that works until `release`."""
        return self.worker.submit(flow, file=str(self.folder / uuid.uuid4().hex))

    def run(self) -> SeededRun:
        return self.running(self.submit())

    def running(self, run: SeededRun) -> SeededRun:
        wait_for_state(run, "RUNNING")
        self.has_pid(run)
        return run

    def has_pid(self, run: SeededRun) -> None:
        pid = wait_until(lambda: read(run)["infrastructure_pid"], f"{run.name} has an infrastructure_pid")
        print(f"{run.name} is {state_of(run)}: {pid}")

    def release(self, run: SeededRun) -> None:
        Path(read(run)["parameters"]["file"]).touch()

    def finish(self, run: SeededRun) -> None:
        self.release(run)
        wait_for_state(run, "COMPLETED", seconds=60)

    def stopped(self, run: SeededRun) -> None:
        task = self.cloud.wait_for(CLUSTER, task_of(run), "STOPPED")
        print(task["stopCode"], [each.get("exitCode") for each in task["containers"]])

    def is_healthy(self, *runs: SeededRun) -> None:
        """One pass says so, and writes nothing."""
        done = self.silent_pass()
        assert done.code == 0, done.out
        assert {done.run(run.id)["verdict"] for run in runs} == {"HEALTHY"}, done.out

    def is_unknown(self, *runs: SeededRun) -> str:
        """One pass says so because it could not ask, and writes nothing. Gives its words about the scope."""
        done = self.silent_pass()
        assert done.code == 1, done.out
        assert {done.run(run.id)["verdict"] for run in runs} == {"UNKNOWN"}, done.out
        (problem,) = done.document["problems"]
        return str(problem)

    def silent_pass(self) -> Pass:
        self.proxy.reset()
        done = self.reconcile()
        print(done.code, [(row["name"], row["verdict"], row["reason"]) for row in done.document["runs"]])
        print(done.document["problems"])
        assert self.proxy.writes == [], done.out
        return done

    def settle(self, run: SeededRun, state: str = "RUNNING") -> str:
        """Passes until it is settled, and one that writes nothing. Gives the message."""
        assert state_of(run) == state, "nobody reported its end: a zombie"
        done = wait_until(lambda: self._settled(run), f"{run.name} settled", 60)
        assert done is not None
        assert (done.code, done.run(run.id)["outcome"]) == (0, "ACCEPTED"), done.out
        settled = read(run)["state"]
        assert (settled["type"], settled["name"]) == ("CRASHED", "Crashed")
        assert [line["name"] for line in logs_of(run)].count("prefect.reconciler") == 1
        assert self.silent_pass().code == 0
        print(done.run(run.id)["verdict"], settled["message"])
        return str(settled["message"])

    def reconciler(self, name: str, **policy: str) -> Reconcile:
        """One that remembers nothing yet, with another policy."""
        return Reconcile(self.proxy.url, self.folder / name, self.scope, **{**POLICY, **policy})

    def _settled(self, run: SeededRun) -> Pass | None:
        done = self.reconcile()
        row = done.run(run.id)
        print(done.code, row["verdict"], row["reason"])
        return done if row["outcome"] else None


@pytest.fixture(scope="module")
def site(
    prefect_server: PrefectServer, session_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """In an empty cluster, without any other flow run on the server."""
    if not list(prefect_server.venv.glob("lib/python*/site-packages/prefect_aws")):
        missing("The Prefect at hand has no prefect-aws; `make setup` installs it.")
    venv = ministack_venv() or missing(NO_MINISTACK)
    folder = tmp_path_factory.mktemp("site")
    flows = folder / "flows.py"
    flows.write_text(FLOWS)
    forget_runs(prefect_server.api_url)
    session_engine.reset()
    with ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        stack.callback(session_engine.reset)
        cloud = stack.enter_context(Ministack(venv, folder / "ministack", session_engine))
        cloud.create_cluster(CLUSTER)
        for name, value in cloud.credentials().items():
            environment.setenv(name, value)
        worker = EcsWorker(prefect_server, folder, cloud, CLUSTER, flows=flows)
        stack.enter_context(worker)
        proxy = stack.enter_context(FaultProxy(prefect_server.api_url))
        scope = SCOPE.format(pool=worker.pool, cluster=CLUSTER, region=cloud.region, url=cloud.url)
        reconcile = Reconcile(proxy.url, folder / "quick", scope, **POLICY)
        yield Site(worker, cloud, proxy, reconcile, scope, folder)


@pytest.fixture(scope="module")
def runs(site: Site) -> dict[str, SeededRun]:
    """They were healthy when their worker was killed, which is for good."""
    runs = {name: site.submit() for name in ("killed", "stopped", "finished", "forgotten")}
    runs["cut off"] = site.submit("leaves")
    for run in runs.values():
        site.running(run)
    site.is_healthy(*runs.values())
    site.worker.kill()
    return runs


class TestWithItsWorker:
    """Which watches nothing once RunTask has answered."""

    def test_a_running_flow_is_left_alone(self, site: Site) -> None:
        run = site.run()
        assert read(run)["infrastructure_pid"].startswith(f"{CLUSTER}::arn:aws:ecs:{site.cloud.region}:")
        site.is_healthy(run)
        with site.cloud.frozen():
            assert site.is_unknown(run).startswith("scope 'cloud' could not be read: ")
        site.is_healthy(run)
        site.finish(run)
        assert site.silent_pass().document["runs"] == []

    def test_its_task_never_starts(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(site.worker.variables, "command", "no-such-program")
        run = site.submit()
        site.has_pid(run)
        site.stopped(run)
        message = site.settle(run, "PENDING")
        assert message.startswith(
            f"{_title(run)} could not be started: ResourceInitializationError: unable to pull image or "
        )
        assert message.endswith(NO_END)


class TestWithoutItsWorker:
    def test_killed(self, site: Site, runs: dict[str, SeededRun]) -> None:
        run = runs["killed"]
        site.cloud.engine.docker("kill", site.worker.container_of(run))
        site.stopped(run)
        by_default = replace(site, reconcile=site.reconciler("default", quiet="200s"))
        held = by_default.silent_pass().run(run.id)
        assert (held["verdict"], held["reason"].endswith("held until 3 min")) == ("HELD", True), held
        message = site.settle(run)
        assert message.startswith(f"{_title(run)} {EXITED}; container prefect exited with code 137 (SIGKILL) at ")
        assert message.endswith(NO_END)

    def test_exit_code_0_without_a_final_state(self, site: Site, runs: dict[str, SeededRun]) -> None:
        run = runs["cut off"]
        site.release(run)
        site.stopped(run)
        patient = replace(site, reconcile=site.reconciler("patient", settle_zero="1h"))
        for _ in range(2):
            assert patient.silent_pass().code == 0
        message = site.settle(run)
        assert message.startswith(f"{_title(run)} {EXITED}; container prefect exited with code 0 at ")
        assert message.endswith(NO_END)

    def test_stopped_by_a_user(self, site: Site, runs: dict[str, SeededRun]) -> None:
        run = runs["stopped"]
        site.cloud.stop_task(CLUSTER, task_of(run), "by hand")
        site.stopped(run)
        message = site.settle(run)
        assert message.startswith(
            f"{_title(run)} was stopped by a user (by hand); container prefect exited with code 0 at "
        )
        assert message.endswith(NO_END)

    def test_nobody_answers(self, site: Site, runs: dict[str, SeededRun]) -> None:
        finished, forgotten = runs["finished"], runs["forgotten"]
        site.cloud.kill()
        assert site.is_unknown(finished, forgotten).startswith("scope 'cloud' could not be read: ")
        site.finish(finished)
        site.cloud.start()  # has no cluster, and has removed the containers of before
        assert CLUSTER in site.is_unknown(forgotten)
        site.cloud.create_cluster(CLUSTER)
        for _ in range(3):
            row = site.silent_pass().run(forgotten.id)
            assert row["verdict"] == "WAITING", "ECS says MISSING of a task that is younger than 5 min"


def _title(run: SeededRun) -> str:
    return f"ECS task {task_of(run).rsplit('/', 1)[1]} on cluster {CLUSTER} in {Ministack.region}"
