"""A real Prefect server, a real ECS worker, ministack's ECS, and flows in real containers that are really killed.

All damage is done at once, at the beginning, for it is settled five minutes later: before, ECS may not show yet what
else was made. The tests build on each other, in their order.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
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
from tests.rigs.server import PrefectServer, free_port

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
POLICY = {**QUICK, "quiet": "5s", "scope_deadline": "4s"}
LATE = re.compile(r"; awaited: scope 'cloud' may not show yet what else was made within 5 min, for another \d+ \w+$")
NO_ANSWER = "scope 'cloud' could not be read: "
DAMAGED = ("killed", "cut off", "stopped", "never started")
TIME = r"\d\d:\d\d:\d\d UTC"
EXITED = r"stopped: EssentialContainerExited \(Essential container exited\)"  # "... in task ..." on AWS, and left out
ENDS = {
    "killed": rf"{EXITED}; container prefect exited with code 137 \(SIGKILL\) at {TIME}",
    "cut off": rf"{EXITED}; container prefect exited with code 0 at {TIME}",
    "stopped": rf"was stopped by a user \(by hand\); container prefect exited with code 0 at {TIME}",
    "never started": rf"could not be started: ResourceInitializationError: unable to pull image or .* at {TIME}",
}
NO_END = r"; no final state was reported\. Set by prefect-reconciler\."


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

    def submit_broken(self) -> SeededRun:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(self.worker.variables, "command", "no-such-program")
            return self.submit()

    def has_pid(self, run: SeededRun) -> None:
        pid = wait_until(lambda: read(run)["infrastructure_pid"], f"{run.name} has an infrastructure_pid")
        print(f"{run.name} is {state_of(run)}: {pid}")

    def running(self, run: SeededRun) -> None:
        wait_for_state(run, "RUNNING")
        self.has_pid(run)

    def release(self, run: SeededRun) -> None:
        Path(read(run)["parameters"]["file"]).touch()

    def finish(self, run: SeededRun) -> None:
        self.release(run)
        wait_for_state(run, "COMPLETED", seconds=60)

    def stopped(self, run: SeededRun) -> None:
        task = self.cloud.wait_for(CLUSTER, task_of(run), "STOPPED")
        print(run.name, task["stopCode"], [each.get("exitCode") for each in task["containers"]])

    def is_unknown(self, *runs: SeededRun) -> str:
        """One pass says so because it could not ask, and writes nothing. Gives its words about the scope."""
        done = self.silent_pass()
        assert done.code == 1, done.out
        assert {done.run(run.id)["verdict"] for run in runs} == {"UNKNOWN"}, done.out
        (problem,) = done.document["problems"]
        return str(problem)

    def silent_pass(self) -> Pass:
        """One pass, which writes nothing."""
        self.proxy.reset()
        done = self.told()
        assert self.proxy.writes == [], done.out
        return done

    def told(self) -> Pass:
        done = self.reconcile()
        print(f"{datetime.now(UTC):%H:%M:%S} exit code {done.code} {done.document['problems']}")
        for row in done.document["runs"]:
            print(f"  {row['name']}: {row['verdict']} {row['outcome'] or ''} {row['reason']}")
        return done

    def with_reconciler(self, name: str, scope: str | None = None, **policy: str) -> Site:
        """The same, with one that remembers nothing yet."""
        reconcile = Reconcile(self.proxy.url, self.folder / name, scope or self.scope, **{**POLICY, **policy})
        return replace(self, reconcile=reconcile)


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
        environ = worker.variables["env"]
        assert isinstance(environ, dict)
        environ["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] = "30"  # s, the least: absences wait until they have stopped
        stack.enter_context(worker)
        proxy = stack.enter_context(FaultProxy(prefect_server.api_url))
        scope = SCOPE.format(pool=worker.pool, cluster=CLUSTER, region=cloud.region, url=cloud.url)
        reconcile = Reconcile(proxy.url, folder / "quick", scope, **POLICY)
        print(f"\nworker {worker.pid}, ministack {cloud.pid}")
        yield Site(worker, cloud, proxy, reconcile, scope, folder)


@pytest.fixture(scope="module")
def runs(site: Site) -> dict[str, SeededRun]:
    """All were healthy, but for one that never started; then four were damaged, the last one with the worker."""
    runs = {"never started": site.submit_broken(), "cut off": site.submit("leaves")}
    runs |= {name: site.submit() for name in ("killed", "stopped", "living", "forgotten")}
    print({name: run.name for name, run in runs.items()})
    site.has_pid(runs["never started"])
    well = [run for name, run in runs.items() if name != "never started"]
    for run in well:
        site.running(run)
    done = site.silent_pass()
    assert (done.code, {done.run(run.id)["verdict"] for run in well}) == (0, {"HEALTHY"}), done.out
    site.release(runs["cut off"])
    site.cloud.stop_task(CLUSTER, task_of(runs["stopped"]), "by hand")
    site.cloud.engine.docker("kill", site.worker.container_of(runs["killed"]))
    site.worker.kill()
    for name in DAMAGED:
        site.stopped(runs[name])
    return runs


class TestWithinFiveMinutes:
    def test_ends_wait(self, site: Site, runs: dict[str, SeededRun]) -> None:
        by_default = site.with_reconciler("default", quiet="200s")
        for each in (site, site, by_default):
            done = each.silent_pass()
            rows = [done.run(runs[name].id) for name in DAMAGED]
            assert (done.code, {row["verdict"] for row in rows}) == (0, {"WAITING"})
            assert all(LATE.search(row["reason"]) for row in rows)
            assert {done.run(runs[name].id)["verdict"] for name in ("living", "forgotten")} == {"HEALTHY"}
        assert [state_of(runs[name]) for name in DAMAGED] == ["RUNNING", "RUNNING", "RUNNING", "PENDING"]

    def test_a_new_worker_changes_nothing(self, site: Site, runs: dict[str, SeededRun]) -> None:
        site.worker.start()
        print(f"worker {site.worker.pid}")
        newcomer = site.submit()
        site.running(newcomer)
        assert read(newcomer)["infrastructure_pid"].startswith(f"{CLUSTER}::arn:aws:ecs:{site.cloud.region}:")
        done = site.silent_pass()
        assert (done.code, done.run(newcomer.id)["verdict"]) == (0, "HEALTHY")
        assert {done.run(runs[name].id)["verdict"] for name in DAMAGED} == {"WAITING"}
        site.finish(newcomer)
        left = {row["id"] for row in site.silent_pass().document["runs"]}
        assert left == {str(run.id) for run in runs.values()}

    def test_ecs_does_not_answer(self, site: Site, runs: dict[str, SeededRun]) -> None:
        with site.cloud.frozen():
            assert site.is_unknown(*runs.values()).startswith(NO_ANSWER)
        nowhere = site.scope.replace(site.cloud.url, f"http://127.0.0.1:{free_port()}")
        assert site.with_reconciler("refused", nowhere).is_unknown(*runs.values()).startswith(NO_ANSWER)
        done = site.silent_pass()
        assert (done.code, done.run(runs["living"].id)["verdict"]) == (0, "HEALTHY")


@pytest.fixture(scope="module")
def due(site: Site, runs: dict[str, SeededRun]) -> Pass:
    """The first pass in which an onlooker has nothing but its mode to wait for; exit code 0 it gives an hour."""
    onlooker = site.with_reconciler("onlooker", mode="observe", settle_zero="1h")

    def over() -> Pass | None:
        done = onlooker.silent_pass()
        assert done.code == 0
        return None if any(LATE.search(row["reason"]) for row in done.document["runs"]) else done

    done = wait_until(over, "five minutes are over", 360, every=10)
    assert done is not None
    return done


@pytest.mark.timeout(480)
class TestAfterFiveMinutes:
    def test_exit_code_0_may_be_given_longer(self, runs: dict[str, SeededRun], due: Pass) -> None:
        for name in ("cut off", "stopped"):
            row = due.run(runs[name].id)
            assert (row["verdict"], "settle_zero of 60 min has not passed" in row["reason"]) == ("WAITING", True), row
        for name in ("killed", "never started"):
            row = due.run(runs[name].id)
            assert (row["verdict"], 'mode is "observe"' in row["reason"]) == ("HELD", True), row

    def test_ecs_does_not_answer(self, site: Site, runs: dict[str, SeededRun], due: Pass) -> None:
        with site.cloud.frozen():
            assert site.is_unknown(*runs.values()).startswith(NO_ANSWER)
        assert [state_of(runs[name]) for name in DAMAGED] == ["RUNNING", "RUNNING", "RUNNING", "PENDING"]

    def test_one_pass_settles_them(self, site: Site, runs: dict[str, SeededRun], due: Pass) -> None:
        done = site.told()
        assert done.code == 0
        for name in DAMAGED:
            run = runs[name]
            row, state = done.run(run.id), read(run)["state"]
            print(f"{name}: {row['verdict']} {row['outcome']} {state['message']}")
            assert (row["verdict"], row["outcome"]) == ("ZOMBIE", "ACCEPTED")
            assert (state["type"], state["name"]) == ("CRASHED", "Crashed")
            assert re.fullmatch(f"{_title(run)} {ENDS[name]}{NO_END}", state["message"])
            assert [line["name"] for line in logs_of(run)].count("prefect.reconciler") == 1
        for run in (runs["living"], runs["forgotten"]):
            assert (done.run(run.id)["verdict"], done.run(run.id)["outcome"]) == ("HEALTHY", None)
        again = site.silent_pass()
        assert again.code == 0
        assert {row["verdict"] for row in again.document["runs"]} == {"HEALTHY"}


@pytest.mark.timeout(480)
class TestAnEcsThatForgot:
    def test_what_was_seen_is_missed(self, site: Site, runs: dict[str, SeededRun], due: Pass) -> None:
        living, forgotten, young = runs["living"], runs["forgotten"], site.submit()
        site.running(young)
        assert site.silent_pass().code == 0
        site.cloud.kill()
        assert site.is_unknown(living, forgotten, young).startswith(NO_ANSWER)
        site.finish(living)
        site.cloud.start()  # has no cluster, and has removed the containers of before
        print(f"ministack {site.cloud.pid}")
        assert CLUSTER in site.is_unknown(forgotten, young)
        site.cloud.create_cluster(CLUSTER)
        message = self.settled(site, forgotten)
        gone = r"is not known to ECS \(any more\): it keeps stopped tasks for about an hour; last seen running"
        assert re.fullmatch(f"{_title(forgotten)} {gone} {TIME}{NO_END}", message)
        row = site.silent_pass().run(young.id)
        assert row["verdict"] == "WAITING", "ECS says MISSING of a task that is younger than 5 min"
        assert "may not show yet what was made within 5 min" in row["reason"]

    def settled(self, site: Site, run: SeededRun) -> str:
        """When its heartbeats have stopped long enough ago. Gives the message."""
        done = wait_until(lambda: self.tried(site, run), f"{run.name} settled", 90, every=1)
        assert done is not None
        assert (done.code, done.run(run.id)["outcome"]) == (0, "ACCEPTED")
        message = str(read(run)["state"]["message"])
        print(f"forgotten: {message}")
        return message

    def tried(self, site: Site, run: SeededRun) -> Pass | None:
        done = site.told()
        return done if done.run(run.id)["outcome"] else None


def _title(run: SeededRun) -> str:
    return re.escape(f"ECS task {task_of(run).rsplit('/', 1)[1]} on cluster {CLUSTER} in {Ministack.region}")
