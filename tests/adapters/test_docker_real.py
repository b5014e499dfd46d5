"""The Docker adapter against a real engine. Scenarios D01 to D04, D07 to D09."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import docker
import pytest
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from reconciler.model import Cause, Condition, FlowRun, Observation
from reconciler.testing import AdapterContract, Fault, conditions, flow_run
from reconciler_adapters.docker import DockerScope
from tests.rigs.engine import SYSTEM_FOLDERS, Engine, busybox_root
from tests.rigs.polling import wait_until

pytestmark = pytest.mark.docker

RUN_LABEL = "io.prefect.flow-run-id"
OURS = "reconciler-test"  # label of every container made here
FOREVER = ["sleep", "3600"]


@pytest.fixture(scope="session")
def base_url(session_engine: Engine) -> str:
    return session_engine.base_url


@pytest.fixture(scope="session")
def client(base_url: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url)
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(client: docker.DockerClient) -> Iterator[str]:
    name = f"{OURS}-{uuid4().hex[:8]}:1"
    client.api.import_image_from_data(busybox_root(), *name.split(":"))
    yield name
    client.images.remove(name, force=True)


class Bench:
    """Makes containers the way the Docker worker does."""

    def __init__(self, client: docker.DockerClient, image: str) -> None:
        self.client = client
        self.image = image

    def create(self, run_id: UUID | None, command: list[str], **options: object) -> Container:
        labels = {OURS: "1"} | ({RUN_LABEL: str(run_id)} if run_id else {})
        return self.client.containers.create(self.image, command, labels=labels, network_mode="none", **options)

    def start(self, command: list[str], **options: object) -> tuple[FlowRun, Container]:
        run_id = uuid4()
        container = self.create(run_id, command, **options)
        container.start()
        return self.run_of(run_id, container), container

    def run_of(self, run_id: UUID, container: Container) -> FlowRun:
        return flow_run(f"{self.client.api.base_url}:{container.id}", id=run_id)

    def clean(self) -> None:
        for container in self.client.containers.list(all=True, filters={"label": OURS}, ignore_removed=True):
            remove(container)


def remove(container: Container) -> None:
    try:
        container.remove(force=True)
    except NotFound:
        pass
    except APIError as error:  # --rm is at it already
        if "is already in progress" not in str(error):
            raise
    wait_until(lambda: is_gone(container), "the container is removed")


def is_gone(container: Container) -> bool:
    try:
        container.reload()
    except NotFound:
        return True
    return False


@pytest.fixture
def bench(client: docker.DockerClient, image: str) -> Iterator[Bench]:
    bench = Bench(client, image)
    yield bench
    bench.clean()


@pytest.fixture
def scope(base_url: str) -> DockerScope:
    return DockerScope("engine-a", {"base_url": base_url})


def soon() -> float:
    return time.monotonic() + 20


def look_once(scope: DockerScope, run: FlowRun) -> Observation:
    (observation,) = scope.observe([run], soon()).observations[run.id]
    return observation


class RealWorld:
    has_exited = True

    def __init__(self, scope: DockerScope, bench: Bench) -> None:
        self.scope = scope
        self.bench = bench

    def place(self, condition: Condition) -> FlowRun:
        run, container = self.bench.start(FOREVER if condition is Condition.ALIVE else ["false"])
        if condition is not Condition.ALIVE:
            container.wait()
        if condition is Condition.GONE:
            remove(container)
        return run

    def replace_resource(self, run: FlowRun) -> None:
        old = self.bench.client.containers.get((run.pid or "").rpartition(":")[2])
        remove(old)
        self.bench.create(uuid4(), FOREVER, name=old.name).start()

    def unlabel(self, run: FlowRun) -> bool:
        return False  # labels of a container cannot be changed; see test_a_pid_s_container_without_the_label

    def inject(self, fault: Fault) -> bool:
        return False

    def heal(self) -> None: ...

    def slow_down(self, seconds: float) -> bool:
        return False

    def replace_identity(self) -> None: ...


class TestRealDockerConformance(AdapterContract):
    @pytest.fixture
    def world(self, scope: DockerScope, bench: Bench) -> RealWorld:
        return RealWorld(scope, bench)

    # A real engine cannot be made to fail or to be another one; the fake does these.
    test_a_fault_is_never_an_answer = None  # type: ignore[assignment]
    test_gives_up_by_its_deadline = None  # type: ignore[assignment]
    test_another_place_has_another_identity = None  # type: ignore[assignment]
    test_a_removed_label_is_not_absence = None  # type: ignore[assignment]


class TestEnds:
    def test_d01_killed(self, bench: Bench, scope: DockerScope) -> None:
        run, container = bench.start(FOREVER)
        container.kill()
        container.wait()
        seen = look_once(scope, run)
        assert (seen.condition, seen.exit_code) == (Condition.EXITED, 137)
        assert seen.reason == "exited with code 137 (SIGKILL; Docker recorded no out-of-memory)"
        assert (seen.cause, seen.why) == (None, Cause.KILLED)
        assert seen.ended_at is not None
        assert abs(seen.ended_at - datetime.now(UTC)) < timedelta(minutes=5)
        assert seen.resource is not None
        assert seen.resource.created_at is not None
        assert seen.resource.created_at <= seen.ended_at
        assert container.name in seen.resource.title

    def test_d01_stopped(self, bench: Bench, scope: DockerScope) -> None:
        run, container = bench.start(["sh", "-c", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.1; done"])
        wait_until(lambda: b"ready" in container.logs(), "the trap is set")
        container.stop(timeout=20)
        seen = look_once(scope, run)
        assert (seen.reason, seen.why) == ("exited with code 143 (SIGTERM)", Cause.KILLED)

    def test_d02_out_of_memory(self, bench: Bench, scope: DockerScope) -> None:
        run, container = bench.start(["tail", "/dev/zero"], mem_limit="16m")
        container.wait(timeout=60)
        seen = look_once(scope, run)
        assert (seen.condition, seen.exit_code) == (Condition.EXITED, 137)
        assert seen.reason == "was killed: out of memory (limit 16 MiB), exit code 137"
        assert seen.cause is Cause.OOM_KILLED

    def test_d02_a_child_out_of_memory(self, bench: Bench, scope: DockerScope) -> None:
        """The flag of a child's death depends on the cgroup version; the verdict must not."""
        script = "tail /dev/zero; echo survived; while [ ! -e /go ]; do sleep 0.1; done"
        run, container = bench.start(["sh", "-c", script], mem_limit="16m")
        wait_until(lambda: b"survived" in container.logs(), "the child is killed")
        assert look_once(scope, run).condition is Condition.ALIVE
        container.exec_run(["touch", "/go"])
        container.wait(timeout=60)
        seen = look_once(scope, run)
        assert (seen.condition, seen.exit_code) == (Condition.EXITED, 0)
        assert seen.reason.startswith("exited with code 0")
        assert (seen.cause, seen.why) == (None, Cause.NOT_REPORTED)

    def test_d03_removed(self, bench: Bench, scope: DockerScope) -> None:
        run, container = bench.start(FOREVER)
        remove(container)
        seen = look_once(scope, run)
        assert (seen.condition, seen.reason) == (Condition.GONE, "was removed")
        assert (seen.cause, seen.why) == (None, Cause.REMOVED)
        assert seen.resource is not None
        assert seen.resource.id == container.id

    def test_d03_auto_remove(self, bench: Bench, scope: DockerScope) -> None:
        run, container = bench.start(FOREVER, auto_remove=True)
        assert look_once(scope, run).condition is Condition.ALIVE
        container.kill()
        wait_until(lambda: is_gone(container), "the container is removed")
        assert look_once(scope, run).condition is Condition.GONE

    def test_d03_removed_by_the_command_that_is_told(self, bench: Bench, scope: DockerScope) -> None:
        run, container = bench.start(FOREVER)
        (stranger,) = scope.observe([], soon()).strangers
        path = os.pathsep.join([SYSTEM_FOLDERS, os.environ["PATH"]])
        subprocess.run(stranger.removal, shell=True, check=True, timeout=60, env=os.environ | {"PATH": path})
        assert is_gone(container)
        assert look_once(scope, run).why is Cause.REMOVED

    def test_d04_the_host_crashes(self, session_engine: Engine, bench: Bench, scope: DockerScope) -> None:
        """One whose child ran out of memory before is told alike: only an end that Docker saw gets the flag."""
        plain, _ = bench.start(FOREVER)
        script = "tail /dev/zero; echo survived; while :; do sleep 0.1; done"
        flagged, container = bench.start(["sh", "-c", script], mem_limit="16m")
        wait_until(lambda: b"survived" in container.logs(), "the child is killed")
        session_engine.crash_host()
        session_engine.start()
        for run in (plain, flagged):
            seen = look_once(scope, run)
            assert (seen.condition, seen.exit_code, seen.cause) == (Condition.EXITED, 255, Cause.HOST_RESTART)

    def test_d07_exit_0(self, bench: Bench, scope: DockerScope) -> None:
        run, container = bench.start(["true"])
        container.wait()
        seen = look_once(scope, run)
        assert (seen.condition, seen.exit_code, seen.reason) == (Condition.EXITED, 0, "exited with code 0")


class TestBetweenLifeAndDeath:
    def test_d08_paused(self, bench: Bench, scope: DockerScope) -> None:
        run, container = bench.start(FOREVER)
        container.pause()
        assert (look_once(scope, run).condition, look_once(scope, run).reason) == (Condition.ALIVE, "is paused")
        container.unpause()

    def test_d08_restarting(self, bench: Bench, scope: DockerScope) -> None:
        run, _ = bench.start(["sh", "-c", "sleep 0.1; exit 3"], restart_policy={"Name": "always"})
        looks: list[Observation] = []

        def is_restarting() -> bool:
            looks.append(look_once(scope, run))
            return looks[-1].reason == "is restarting"

        wait_until(is_restarting, "a look at the container while it is restarting")
        assert {look.condition for look in looks} == {Condition.ALIVE}

    def test_d08_created(self, bench: Bench, scope: DockerScope) -> None:
        run_id = uuid4()
        run = bench.run_of(run_id, bench.create(run_id, FOREVER))
        assert look_once(scope, run).condition is Condition.STARTING
        assert not scope.observe([], soon()).strangers

    def test_d08_failed_to_start(self, bench: Bench, scope: DockerScope) -> None:
        run_id = uuid4()
        container = bench.create(run_id, ["/no/such/program"])
        with pytest.raises(APIError):
            container.start()
        seen = look_once(scope, bench.run_of(run_id, container))
        assert (seen.condition, seen.exit_code) == (Condition.EXITED, 127)
        assert seen.reason.startswith("failed to start: ")
        assert "no such file or directory" in seen.reason
        assert seen.cause is Cause.FAILED_TO_START

    def test_a_pid_s_container_without_the_label(self, bench: Bench, scope: DockerScope) -> None:
        container = bench.create(None, FOREVER)
        container.start()
        assert look_once(scope, bench.run_of(uuid4(), container)).condition is Condition.UNKNOWN

    def test_d09_containers_that_come_and_go(self, bench: Bench, scope: DockerScope) -> None:
        """Containers vanish all the time, some between our list and our inspection: never an adapter failure."""
        steady, _ = bench.start(FOREVER)
        brief: list[FlowRun] = []
        stop = threading.Event()

        def come_and_go() -> None:
            while not stop.is_set():
                brief.append(bench.start(["true"], auto_remove=True)[0])

        thread = threading.Thread(target=come_and_go)
        thread.start()
        try:
            said: set[Condition] = set()
            for _ in range(100):
                asked = brief[-5:]
                seen = scope.observe([steady, *asked], soon())
                assert conditions(seen, steady) == {Condition.ALIVE}
                said = said.union(*(conditions(seen, run) for run in asked))
        finally:
            stop.set()
            thread.join()
        assert Condition.GONE in said


class TestPlace:
    def test_identity_is_the_engine_s(self, client: docker.DockerClient, scope: DockerScope) -> None:
        assert scope.identity(soon()) == client.info()["ID"]
        assert list(scope.check()) == []

    def test_its_clock_is_ours(self, scope: DockerScope) -> None:
        place_time = scope.observe([], soon()).place_time
        assert place_time is not None
        assert abs(place_time - datetime.now(UTC)) < timedelta(minutes=5)

    def test_discover(self, base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", base_url)
        assert DockerScope.discover() == {"base_url": base_url}
