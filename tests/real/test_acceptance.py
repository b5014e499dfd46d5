"""The promises, with the real parts: a real Prefect server, real engines, real workers, and things really killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.rigs.engine import Engine
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, history, logs_of, read, seed_run, set_state, state_of
from tests.rigs.processes import inherited_environment
from tests.rigs.proxy import FaultProxy
from tests.rigs.reconcile import QUICK, Pass, Reconcile, docker_scope, process_scope
from tests.rigs.worker import Worker, container_of, kill_flow

pytestmark = [pytest.mark.prefect]
PASSES = 20


def pid_of(container: str) -> str:
    """What a docker worker writes; it names no host (prefect-docker 0.7.4 on a unix socket)."""
    return f"http+docker://localhost:{container}"


def container(engine: Engine, run_id: object, *options: str, command: tuple[str, ...] = ("sleep", "3600")) -> str:
    return engine.run("--label", f"io.prefect.flow-run-id={run_id}", *options, command=command)


def docker_run(api: str, engine: Engine, pool: str, *options: str, **kw: object) -> tuple[SeededRun, str]:
    """A RUNNING run of a docker pool, and a real container that carries its label."""
    run = seed_run(api, work_pool=pool, worker_type="docker")
    made = container(engine, run.id, *options, **kw)  # type: ignore[arg-type]
    set_pid(run, pid_of(made))
    return run, made


def set_pid(run: SeededRun, pid: str) -> None:
    call(run.api, "PATCH", f"/flow_runs/{run.id}", {"infrastructure_pid": pid})


def some_pool() -> str:
    return f"pool-{uuid.uuid4().hex[:8]}"


def is_crashed_by_us(run: SeededRun, *words: str) -> None:
    state = read(run)["state"]
    assert (state["type"], state["name"]) == ("CRASHED", "Crashed")
    assert state["message"].endswith("no final state was reported. Set by prefect-reconciler.")
    assert all(word in state["message"] for word in words), state["message"]
    lines = [line["message"] for line in logs_of(run) if line["name"] == "prefect.reconciler"]
    assert len(lines) == 1, lines


@pytest.mark.docker
class TestRealWorkers:
    """With the default policy: a worker and its flow, killed for real."""

    def settle(self, worker: Worker, scope: str, tmp_path: Path, die: object) -> tuple[SeededRun, Pass]:
        run = worker.run()
        reconcile = Reconcile(worker.server.api_url, tmp_path / "r", scope)
        healthy = reconcile("--dry-run")
        assert healthy.run(run.id)["verdict"] == "HEALTHY", healthy.out
        worker.kill()
        die(run)  # type: ignore[operator]
        assert state_of(run) == "RUNNING", "nobody reported it: a zombie"

        def settled() -> Pass | None:
            done = reconcile()
            return done if done.run(run.id)["outcome"] else None

        done = wait_until(settled, f"{run.name} settled", 120, 1)
        assert done is not None
        assert done.run(run.id)["outcome"] == "ACCEPTED", done.out
        print(f"{done.seconds:.1f} s: {read(run)['state']['message']}")
        return run, done

    def test_container_removed(self, docker_worker: Worker, engine: Engine, tmp_path: Path) -> None:
        scope = docker_scope(engine.base_url, docker_worker.pool)
        run, done = self.settle(
            docker_worker, scope, tmp_path, lambda run: engine.docker("rm", "-f", container_of(run))
        )
        is_crashed_by_us(run, "Docker container", "was removed", "last seen running")
        assert done.code == 0

    def test_container_killed(self, docker_worker: Worker, engine: Engine, tmp_path: Path) -> None:
        scope = docker_scope(engine.base_url, docker_worker.pool)
        run, _ = self.settle(docker_worker, scope, tmp_path, lambda run: engine.docker("kill", container_of(run)))
        is_crashed_by_us(run, "exited with code 137 (SIGKILL")

    def test_process_and_worker_killed(self, process_worker: Worker, tmp_path: Path) -> None:
        run, _ = self.settle(process_worker, process_scope(process_worker.pool), tmp_path, kill_flow)
        is_crashed_by_us(run, "process ", "no longer exists", "last seen running")


@pytest.mark.docker
def test_a_container_that_exited_0_without_reporting(prefect_api_url: str, engine: Engine, tmp_path: Path) -> None:
    pool = some_pool()
    run, made = docker_run(prefect_api_url, engine, pool, command=("true",))
    wait_until(lambda: engine.docker("inspect", "-f", "{{.State.Status}}", made) == "exited", "it exited", 30)
    reconcile = Reconcile(prefect_api_url, tmp_path, docker_scope(engine.base_url, pool), **QUICK)
    wait_until(lambda: reconcile().run(run.id)["outcome"] == "ACCEPTED", "settled", 60, 0.5)
    is_crashed_by_us(run, "exited with code 0")


@pytest.mark.docker
def test_twenty_healthy_runs_and_not_one_write(
    prefect_api_url: str, engine: Engine, process_worker: Worker, tmp_path: Path
) -> None:
    pool, api, runs = some_pool(), prefect_api_url, dict[str, SeededRun]()
    for number in range(6):
        runs[f"running {number}"], _ = docker_run(api, engine, pool)
    for number in range(2):
        runs[f"paused container {number}"], made = docker_run(api, engine, pool)
        engine.docker("pause", made)
    for number in range(2):
        runs[f"restarting {number}"], _ = docker_run(
            api, engine, pool, "--restart", "always", command=("sh", "-c", "exit 1")
        )
    runs["orphaned but living process"] = process_worker.run()
    process_worker.kill()
    with hanging_pull(engine) as pull:
        for number in range(2):
            runs[f"pending during an image pull {number}"] = pull(seed_run(api, state="PENDING", work_pool=pool))
        for number in range(2):
            runs[f"Paused {number}"] = seed_run(api, state="PAUSED", work_pool=pool, pid=pid_of("a" * 64))
            runs[f"Suspended {number}"] = seed_run(
                api, state="PAUSED", state_name="Suspended", work_pool=pool, pid=pid_of("b" * 64)
            )
            runs[f"AwaitingRetry {number}"] = seed_run(
                api, state="SCHEDULED", state_name="AwaitingRetry", work_pool=pool, pid=pid_of("c" * 64)
            )
        runs["script"] = seed_run(api)
        assert len(runs) >= 20
        before = {name: read(run)["state_id"] for name, run in runs.items()}
        scopes = docker_scope(engine.base_url, pool), process_scope(process_worker.pool)
        with FaultProxy(api) as proxy:
            reconcile = Reconcile(proxy.url, tmp_path, *scopes, **QUICK)
            for _ in range(PASSES):
                assert reconcile().code == 0
            assert proxy.writes == []
        assert {name: read(run)["state_id"] for name, run in runs.items()} == before


@contextmanager
def hanging_pull(engine: Engine) -> Iterator[object]:
    """Pull from a registry on loopback that accepts and never answers, as a slow image does."""
    with socket.create_server(("127.0.0.1", 0)) as registry, ExitStack() as pulls:
        image = f"127.0.0.1:{registry.getsockname()[1]}/slow:1"
        threading.Thread(target=_accept, args=(registry,), daemon=True).start()

        def pull(run: SeededRun) -> SeededRun:
            puller = subprocess.Popen(
                ["/usr/bin/docker", "-H", engine.base_url, "pull", image],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            pulls.callback(puller.wait)
            pulls.callback(puller.send_signal, signal.SIGKILL)
            return run

        yield pull
        registry.shutdown(socket.SHUT_RDWR)


def _accept(registry: socket.socket) -> None:
    held = []
    try:
        while True:
            held.append(registry.accept()[0])
    except OSError:
        for connection in held:
            connection.close()


@pytest.mark.docker
def test_two_hosts_serve_one_pool(prefect_api_url: str, engine: Engine, second_engine: Engine, tmp_path: Path) -> None:
    pool = some_pool()
    hosts = {"a": engine, "b": second_engine}
    runs = {host: [docker_run(prefect_api_url, hosts[host], pool) for _ in range(4)] for host in hosts}
    with FaultProxy(prefect_api_url) as proxy:
        sides = {
            host: Reconcile(proxy.url, tmp_path / host, docker_scope(hosts[host].base_url, pool, host), **QUICK)
            for host in hosts
        }
        for _ in range(PASSES):
            assert [side().code for side in sides.values()] == [0, 0]
        assert proxy.writes == []
        lost = {host: runs[host][0] for host in hosts}
        for host, (_, made) in lost.items():
            hosts[host].docker("rm", "-f", made)
        for host, other in (("a", "b"), ("b", "a")):
            (mine, _), (theirs, _) = lost[host], lost[other]
            before = state_of(theirs)
            done = sides[host]()
            assert done.run(mine.id)["outcome"] == "ACCEPTED"
            assert state_of(theirs) == before, "the other side's run is the other side's to settle"
        for host in hosts:
            is_crashed_by_us(lost[host][0], f"on engine {host} was removed")
        assert proxy.count("POST", r"/set_state$") == 2
        assert {state_of(run) for host in hosts for run, _ in runs[host][1:]} == {"RUNNING"}


@pytest.mark.docker
def test_an_earlier_attempt_s_container_condemns_nobody(prefect_api_url: str, engine: Engine, tmp_path: Path) -> None:
    pool = some_pool()
    here, made_here = docker_run(prefect_api_url, engine, pool)
    elsewhere, made_elsewhere = docker_run(prefect_api_url, engine, pool)
    reconcile = Reconcile(prefect_api_url, tmp_path, docker_scope(engine.base_url, pool), **QUICK)
    assert {reconcile("--dry-run").run(run.id)["verdict"] for run in (here, elsewhere)} == {"HEALTHY"}
    engine.docker("kill", made_here, made_elsewhere)
    for run in (here, elsewhere):
        for state in ("CRASHED", "SCHEDULED"):
            set_state(run, state)
    waiting = {row["id"] for row in reconcile().document["runs"]}  # a worker takes its time, too
    assert not waiting & {str(here.id), str(elsewhere.id)}
    for run in (here, elsewhere):
        for state in ("PENDING", "RUNNING"):
            set_state(run, state)
    second = container(engine, here.id)  # at once, as a quick worker does; the pid is still the first attempt's
    for _ in range(3):
        done = reconcile()
        assert done.run(here.id)["verdict"] == "HEALTHY"
        assert done.run(elsewhere.id)["verdict"] == "UNMANAGED", done.run(elsewhere.id)["reason"]
    engine.docker("rm", "-f", second)  # while the first attempt's is still there, and the pid still names it
    wait_until(lambda: reconcile().run(here.id)["outcome"] == "ACCEPTED", "the second attempt settled", 60, 0.5)
    is_crashed_by_us(here, second[:12], "is no longer there; last seen running")
    assert state_of(elsewhere) == "RUNNING"


@pytest.mark.docker
def test_the_host_loses_power_and_comes_back(prefect_api_url: str, engine: Engine, tmp_path: Path) -> None:
    pool = some_pool()
    plain, _ = docker_run(prefect_api_url, engine, pool)
    removed, _ = docker_run(prefect_api_url, engine, pool, "--rm")
    again, _ = docker_run(prefect_api_url, engine, pool, "--restart", "always")
    reconcile = Reconcile(prefect_api_url, tmp_path, docker_scope(engine.base_url, pool), **QUICK, amnesty="2s")
    assert {reconcile("--dry-run").run(run.id)["verdict"] for run in (plain, removed, again)} == {"HEALTHY"}
    engine.crash_host()
    assert {reconcile().run(run.id)["verdict"] for run in (plain, removed, again)} == {"UNKNOWN"}
    engine.start()
    wait_until(lambda: reconcile().run(plain.id)["outcome"] == "ACCEPTED", "settled", 60, 0.5)
    is_crashed_by_us(plain, "exited with code 255", "restart of the engine or the host")
    wait_until(lambda: state_of(removed) == "CRASHED" or (reconcile() and None), "settled", 60, 0.5)
    is_crashed_by_us(removed, "was removed")
    assert state_of(again) == "RUNNING", "it runs again by itself"


@pytest.mark.docker
class TestNothingIsWrittenWhen:
    @pytest.fixture
    def zombie(self, prefect_api_url: str, engine: Engine, tmp_path: Path) -> tuple[FaultProxy, Reconcile, str, Path]:
        """Four sighted runs, one of whose containers is removed; the next pass would settle it."""
        pool = some_pool()
        runs = [docker_run(prefect_api_url, engine, pool) for _ in range(4)]
        with FaultProxy(prefect_api_url) as proxy:
            reconcile = Reconcile(proxy.url, tmp_path, docker_scope(engine.base_url, pool), **QUICK)
            assert reconcile("--dry-run").document["counts"]["HEALTHY"] >= 4
            engine.docker("rm", "-f", runs[0][1])
            assert len(reconcile("--dry-run").document["runs"]) >= 4
            yield proxy, reconcile, str(runs[0][0].id), tmp_path  # type: ignore[misc]

    def refuses(self, proxy: FaultProxy, reconcile: Reconcile, *words: str) -> Pass:
        done = reconcile()
        assert done.code == 1, done.out + done.err
        assert not [call for call in proxy.writes if "set_state" in call.path]
        problems = " ".join(done.document["problems"])
        print(problems)
        assert all(word in problems for word in words), problems
        return done

    def test_the_engine_is_stopped(self, zombie: tuple[FaultProxy, Reconcile, str, Path], engine: Engine) -> None:
        proxy, reconcile, run_id, _ = zombie
        engine.kill()
        done = self.refuses(proxy, reconcile, "scope 'here'", engine.base_url.removeprefix("unix://"))
        assert done.run(run_id)["verdict"] == "UNKNOWN"
        engine.start()
        back = reconcile().run(run_id)
        assert (back["verdict"], back["guard"]) == ("HELD", "amnesty"), back["reason"]
        reconcile.file.write_text(reconcile.file.read_text().replace("[policy]", '[policy]\namnesty = "1s"'))
        wait_until(lambda: reconcile().run(run_id)["outcome"] == "ACCEPTED", "settled", 60, 0.5)

    def test_the_engine_is_another_one(
        self, zombie: tuple[FaultProxy, Reconcile, str, Path], engine: Engine, second_engine: Engine
    ) -> None:
        proxy, reconcile, run_id, _ = zombie
        text = reconcile.file.read_text()
        reconcile.file.write_text(text.replace(engine.base_url, second_engine.base_url))
        done = self.refuses(proxy, reconcile, "another place than before")
        assert done.run(run_id)["verdict"] == "UNMANAGED"
        reconcile.file.write_text(text)
        self.refuses(proxy, reconcile, "another place than before")

    def test_the_engine_is_not_the_pinned_one(
        self, zombie: tuple[FaultProxy, Reconcile, str, Path], engine: Engine
    ) -> None:
        proxy, reconcile, run_id, _ = zombie
        reconcile.file.write_text(
            reconcile.file.read_text().replace("exclusive = false", 'exclusive = true\nidentity = "ANOTHER:ENGINE"')
        )
        done = self.refuses(proxy, reconcile, "pins 'ANOTHER:ENGINE'")
        assert done.run(run_id)["verdict"] == "UNKNOWN"

    def test_the_api_answers_503(self, zombie: tuple[FaultProxy, Reconcile, str, Path]) -> None:
        proxy, reconcile, _, _ = zombie
        reconcile.file.write_text(reconcile.file.read_text() + '[api]\nretry_for = "2s"\n')
        proxy.answer("*", "/flow_runs/", 503)
        self.refuses(proxy, reconcile, "503")

    def test_it_completes_between_list_and_settle(self, zombie: tuple[FaultProxy, Reconcile, str, Path]) -> None:
        proxy, reconcile, run_id, _ = zombie
        run = SeededRun(proxy.url, uuid.UUID(run_id), "")
        proxy.before("GET", f"/flow_runs/{run_id}$", lambda: set_state(run, "COMPLETED"))
        done = reconcile()
        assert (done.code, done.run(run_id)["outcome"]) == (0, "SETTLED_ELSEWHERE")
        assert [row["type"] for row in history(run)] == ["PENDING", "RUNNING", "COMPLETED"]

    def test_it_completes_after_the_re_read(
        self, zombie: tuple[FaultProxy, Reconcile, str, Path], prefect_api_url: str
    ) -> None:
        proxy, reconcile, run_id, _ = zombie
        run = SeededRun(prefect_api_url, uuid.UUID(run_id), "")
        proxy.before("POST", f"/flow_runs/{run_id}/set_state$", lambda: set_state(run, "COMPLETED"))
        assert reconcile().run(run_id)["outcome"] == "SETTLED_ELSEWHERE"
        assert state_of(run) == "COMPLETED"

    def test_it_is_rescheduled_between_list_and_settle(
        self, zombie: tuple[FaultProxy, Reconcile, str, Path], prefect_api_url: str
    ) -> None:
        proxy, reconcile, run_id, _ = zombie
        run = SeededRun(prefect_api_url, uuid.UUID(run_id), "")
        proxy.before("GET", f"/flow_runs/{run_id}$", lambda: set_state(run, "SCHEDULED", "AwaitingRetry"))
        done = reconcile()
        assert (done.code, done.run(run_id)["outcome"]) == (0, "STATE_CHANGED")
        assert state_of(run) == "SCHEDULED"

    def test_two_reconcilers_settle_once(self, zombie: tuple[FaultProxy, Reconcile, str, Path]) -> None:
        proxy, reconcile, run_id, _ = zombie
        results: list[Pass] = []
        threads = [threading.Thread(target=lambda: results.append(reconcile())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(done.code == 0 for done in results), [done.out for done in results]
        is_crashed_by_us(SeededRun(proxy.url, uuid.UUID(run_id), ""), "was removed")


def test_everything_else_on_this_machine_is_left_alone(prefect_api_url: str, tmp_path: Path) -> None:
    """Without a configuration file it observes, and prints what would make it act."""
    run = seed_run(prefect_api_url, work_pool=some_pool(), worker_type="process", pid=str(os.getpid()))
    environment = inherited_environment(PREFECT_API_URL=prefect_api_url, STATE_DIRECTORY=str(tmp_path / "state"))
    command = [sys.executable, "-m", "reconciler"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode in (0, 1), done.stderr
    assert "[[scopes]]" in done.stdout
    assert state_of(run) == "RUNNING"
