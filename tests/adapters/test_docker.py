"""The Docker adapter over a fake engine: the conformance tests, then what is Docker's own."""

from __future__ import annotations

import builtins
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from reconciler.model import Cause, Condition, FlowRun, Observation, Place
from reconciler.ports import AdapterError, Misconfigured
from reconciler.testing import AdapterContract, Fault, conditions, flow_run
from reconciler_adapters.docker import DockerScope
from reconciler_adapters.docker_engine import Address
from reconciler_adapters.docker_meaning import Container, Wording, container_id_in, instant, read_inspection, read_list
from tests.adapters.fake_docker import RUN_LABEL, FakeContainer, FakeDocker
from tests.rigs.polling import wait_until

BASE = "http+docker://localhost"
LIMIT = 16 * 2**20
GHOST = "f" * 64


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def pid_of(container: FakeContainer) -> str:
    return f"{BASE}:{container.id}"


class FakeWorld:
    """The conformance tests' view of the fake engine."""

    has_exited = True

    def __init__(self, engine: FakeDocker) -> None:
        self.engine = engine
        self.scope = DockerScope("engine-a", {"base_url": engine.base_url})

    def place(self, condition: Condition) -> FlowRun:
        run = flow_run()
        container = self.engine.add(run.id, "running" if condition is Condition.ALIVE else "exited")
        if condition is Condition.GONE:
            self.engine.remove(container)
        return flow_run(pid_of(container), id=run.id)

    def inject(self, fault: Fault) -> bool:
        self.engine.inject(fault)
        return True

    def heal(self) -> None:
        self.engine.heal()

    def slow_down(self, seconds: float) -> bool:
        self.engine.before = lambda _: time.sleep(seconds)
        return True

    def replace_identity(self) -> None:
        self.engine.info["ID"] = "ANOTHER"

    def _container(self, run: FlowRun) -> FakeContainer:
        return self.engine.containers[run.pid.rpartition(":")[2]]  # type: ignore[union-attr]

    def replace_resource(self, run: FlowRun) -> None:
        old = self._container(run)
        self.engine.remove(old)
        self.engine.add(uuid4()).name = old.name

    def unlabel(self, run: FlowRun) -> bool:
        return False  # Docker gives a container its labels when it makes it, and never changes them


@pytest.fixture
def engine() -> Iterator[FakeDocker]:
    with FakeDocker() as fake:
        yield fake


@pytest.fixture
def scope(engine: FakeDocker) -> DockerScope:
    return DockerScope("engine-a", {"base_url": engine.base_url})


@pytest.fixture
def world(engine: FakeDocker) -> FakeWorld:
    return FakeWorld(engine)


class TestDockerConformance(AdapterContract):
    """Over TCP."""


class TestDockerConformanceOnUnixSocket(AdapterContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[FakeDocker]:
        with FakeDocker(tmp_path / "d.sock") as fake:
            yield fake


def look(scope: DockerScope, run: FlowRun) -> list[Observation]:
    return list(scope.observe([run], soon()).observations[run.id])


def look_once(scope: DockerScope, run: FlowRun) -> Observation:
    (observation,) = look(scope, run)
    return observation


def run_in(engine: FakeDocker, status: str, **state: Any) -> tuple[FlowRun, FakeContainer]:
    run = flow_run()
    container = engine.add(run.id, status, **state)
    return flow_run(pid_of(container), id=run.id), container


class TestMeaning:
    """What each state of a container says of its run."""

    @pytest.mark.parametrize(
        ("status", "state", "condition", "reason"),
        [
            ("running", {}, Condition.ALIVE, "is running"),
            ("running", {"OOMKilled": True}, Condition.ALIVE, "is running"),
            ("paused", {}, Condition.ALIVE, "is paused"),
            ("restarting", {"ExitCode": 1}, Condition.ALIVE, "is restarting"),
            ("created", {}, Condition.STARTING, "was created and has not started yet"),
            (
                "created",
                {"ExitCode": 127, "Error": 'exec: "nope":\n not found'},
                Condition.EXITED,
                'failed to start: exec: "nope": not found',
            ),
            ("created", {"ExitCode": 127}, Condition.EXITED, "failed to start: exit code 127"),
            ("removing", {"Running": True}, Condition.STOPPING, "is being removed"),
            ("removing", {"ExitCode": 1}, Condition.EXITED, "exited with code 1"),
            ("dead", {"ExitCode": 2}, Condition.EXITED, "exited with code 2"),
            ("exited", {"ExitCode": 0}, Condition.EXITED, "exited with code 0"),
            (
                "exited",
                {"ExitCode": 0, "OOMKilled": True},
                Condition.EXITED,
                "exited with code 0, although a child ran out of memory",
            ),
            (
                "exited",
                {"ExitCode": 137, "OOMKilled": True},
                Condition.EXITED,
                "was killed: out of memory (limit 16 MiB), exit code 137",
            ),
            (
                "exited",
                {"ExitCode": 137},
                Condition.EXITED,
                "exited with code 137 (SIGKILL; Docker recorded no out-of-memory)",
            ),
            ("exited", {"ExitCode": 143}, Condition.EXITED, "exited with code 143 (SIGTERM)"),
            ("exited", {"ExitCode": 139}, Condition.EXITED, "exited with code 139 (SIGSEGV)"),
            ("exited", {"ExitCode": 128}, Condition.EXITED, "exited with code 128"),
            (
                "exited",
                {"ExitCode": 255},
                Condition.EXITED,
                "exited with code 255 (stopped by a restart of the engine or the host)",
            ),
            ("exited", {"ExitCode": None}, Condition.EXITED, "has ended, with no exit code known"),
            (
                "stopping",
                {},
                Condition.UNKNOWN,
                "is in the state 'stopping', which this version does not know",
            ),
        ],
    )
    def test_state(
        self,
        engine: FakeDocker,
        scope: DockerScope,
        status: str,
        state: dict[str, Any],
        condition: Condition,
        reason: str,
    ) -> None:
        run, container = run_in(engine, status, **state)
        container.memory = LIMIT
        seen = look_once(scope, run)
        assert (seen.condition, seen.reason) == (condition, reason)
        assert seen.resource is not None
        assert seen.resource.id == container.id

    @pytest.mark.parametrize(
        ("status", "state", "said", "why"),
        [
            ("exited", {"ExitCode": 137, "OOMKilled": True}, Cause.OOM_KILLED, Cause.OOM_KILLED),
            ("exited", {"ExitCode": 1, "OOMKilled": True}, Cause.OOM_KILLED, Cause.OOM_KILLED),
            ("exited", {"ExitCode": 255, "OOMKilled": True}, Cause.OOM_KILLED, Cause.OOM_KILLED),
            ("exited", {"ExitCode": 0, "OOMKilled": True}, None, Cause.NOT_REPORTED),
            ("exited", {"ExitCode": None, "OOMKilled": True}, None, Cause.EXITED),
            ("exited", {"ExitCode": 1, "OOMKilled": "true"}, None, Cause.EXITED),
            ("exited", {"ExitCode": 255}, Cause.HOST_RESTART, Cause.HOST_RESTART),
            ("dead", {"ExitCode": 255}, Cause.HOST_RESTART, Cause.HOST_RESTART),
            ("created", {"ExitCode": 127, "Error": "no such file"}, Cause.FAILED_TO_START, Cause.FAILED_TO_START),
            ("created", {"ExitCode": 127}, Cause.FAILED_TO_START, Cause.FAILED_TO_START),
            ("created", {"Error": "no such device"}, Cause.FAILED_TO_START, Cause.FAILED_TO_START),
            ("exited", {"ExitCode": 0}, None, Cause.NOT_REPORTED),
            ("exited", {"ExitCode": 1}, None, Cause.EXITED),
            ("exited", {"ExitCode": 137}, None, Cause.KILLED),
            ("exited", {"ExitCode": 143}, None, Cause.KILLED),
            ("removing", {"ExitCode": 137}, None, Cause.KILLED),
            ("removing", {"Running": True, "OOMKilled": True, "ExitCode": 255}, None, None),
            ("created", {"OOMKilled": True}, None, None),
            ("running", {"OOMKilled": True}, None, None),
            ("restarting", {"ExitCode": 255}, None, None),
            ("stopping", {"ExitCode": 255}, None, None),
        ],
    )
    def test_why_it_ended(
        self,
        engine: FakeDocker,
        scope: DockerScope,
        status: str,
        state: dict[str, Any],
        said: Cause | None,
        why: Cause | None,
    ) -> None:
        """Docker's own word, and what is known with the exit code."""
        run, _ = run_in(engine, status, **state)
        seen = look_once(scope, run)
        assert (seen.cause, seen.why) == (said, why)

    def test_one_that_is_gone_was_removed(self, scope: DockerScope) -> None:
        for run in (flow_run(), flow_run(f"{BASE}:{GHOST}")):
            seen = look_once(scope, run)
            assert (seen.condition, seen.cause, seen.why) == (Condition.GONE, None, Cause.REMOVED)

    def test_an_end_has_code_and_times_of_the_engine(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, container = run_in(engine, "exited", ExitCode=3, FinishedAt="2026-11-22T02:53:51.354695416Z")
        container.created = datetime(2026, 11, 22, 2, 50, tzinfo=UTC)
        seen = look_once(scope, run)
        assert seen.exit_code == 3
        assert seen.ended_at == datetime(2026, 11, 22, 2, 53, 51, 354695, tzinfo=UTC)
        assert seen.resource is not None
        assert seen.resource.created_at == container.created

    def test_an_end_may_have_no_time(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, _ = run_in(engine, "created", ExitCode=127, Error="no such file")
        assert look_once(scope, run).ended_at is None

    def test_title_names_container_and_engine(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, container = run_in(engine, "running")
        container.name = "stereotyped-otter"
        resource = look_once(scope, run).resource
        assert resource is not None
        assert resource.title == f"Docker container {container.id[:12]} (stereotyped-otter) on engine prod-7"

    def test_title_may_name_the_host_instead(self, engine: FakeDocker) -> None:
        scope = DockerScope("a", {"base_url": engine.base_url, "host_name": "builder"})
        run, container = run_in(engine, "exited")
        engine.remove(container)
        resource = look_once(scope, run).resource
        assert resource is not None
        assert resource.title == f"Docker container {container.id[:12]} on engine builder"

    def test_the_removal_is_of_that_container_whatever_its_name(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, container = run_in(engine, "running")
        container.name = "; reboot"
        expected = f"docker -H {engine.base_url} rm -f {container.id[:12]}"
        (stranger,) = scope.observe([], soon()).strangers
        assert stranger.removal == expected
        for status in ("running", "created", "exited"):
            container.state["Status"] = status
            resource = look_once(scope, run).resource
            assert resource is not None
            assert resource.removal == expected

    def test_what_is_gone_has_no_removal(self, scope: DockerScope) -> None:
        resource = look_once(scope, flow_run(f"{BASE}:{GHOST}")).resource
        assert resource is not None
        assert resource.removal == ""

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, "docker"),
            ({"base_url": "unix:///var/run/docker.sock"}, "docker"),
            ({"base_url": "unix:///run/user/1000/docker.sock"}, "docker -H unix:///run/user/1000/docker.sock"),
            ({"base_url": "unix:///a b;c$(d)"}, "docker -H 'unix:///a b;c$(d)'"),
            ({"base_url": "tcp://h:2375"}, "docker -H tcp://h:2375"),
            ({"base_url": "tcp://[::1]:2375"}, "docker -H 'tcp://[::1]:2375'"),
            ({"base_url": "http://h:2375"}, "docker -H tcp://h:2375"),
            ({"base_url": "https://h:2376"}, "docker -H tcp://h:2376 --tlsverify"),
            ({"base_url": "tcp://h:2376", "tls_ca": "/ca"}, "docker -H tcp://h:2376 --tlsverify"),
            ({"base_url": "tcp://h:2376", "tls_cert": "/c", "tls_key": "/k"}, "docker -H tcp://h:2376 --tlsverify"),
        ],
    )
    def test_the_removal_reaches_the_engine(
        self, options: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        wording = Wording("prod-7", Address.of("engine-a", options).client)
        assert wording.removal(Container(id=GHOST, status="running")) == f"{words} rm -f ffffffffffff"

    def test_no_removal_for_an_address_that_is_no_line(self) -> None:
        wording = Wording("prod-7", Address.of("engine-a", {"base_url": "unix:///a\nb"}).client)
        assert wording.removal(Container(id=GHOST, status="running")) == ""

    @pytest.mark.parametrize("text", ["", "now", "0001-01-01T00:00:00Z", "2026-11-22T02:53:51", None, 5])
    def test_what_is_no_time(self, text: object) -> None:
        assert instant(text) is None


class TestLookUps:
    def test_gone_is_stated_by_both_look_ups(self, engine: FakeDocker, scope: DockerScope) -> None:
        run = flow_run(f"{BASE}:{GHOST}")
        seen = look_once(scope, run)
        assert (seen.condition, seen.reason) == (Condition.GONE, "was removed")
        assert seen.resource is not None
        assert seen.resource.id == GHOST
        assert engine.asked == [
            "/version",
            "/info",
            "/containers/json",
            f"/containers/{GHOST}/json",
            "/containers/json",
        ]

    @pytest.mark.parametrize("pid", [None, "ns:job", "host:1234"])
    def test_gone_without_a_pid_names_no_resource(self, scope: DockerScope, pid: str | None) -> None:
        seen = look_once(scope, flow_run(pid))
        assert (seen.condition, seen.resource) == (Condition.GONE, None)

    def test_found_by_label_without_a_pid(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, _ = run_in(engine, "exited", ExitCode=1)
        assert look_once(scope, flow_run(id=run.id)).condition is Condition.EXITED

    def test_found_by_label_and_by_pid_is_one(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, container = run_in(engine, "exited")
        look_once(scope, run)
        assert engine.asked.count(f"/containers/{container.id}/json") == 1

    def test_every_ended_container_of_a_run_is_told(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, first = run_in(engine, "exited", ExitCode=1)
        second = engine.add(run.id, "exited", ExitCode=2)
        seen = look(scope, run)
        assert {(each.resource.id, each.exit_code) for each in seen if each.resource} == {(first.id, 1), (second.id, 2)}

    def test_the_pid_s_container_gone_and_another_ended(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, container = run_in(engine, "exited")
        run = flow_run(f"{BASE}:{GHOST}", id=run.id)
        seen = {each.resource.id: each.condition for each in look(scope, run) if each.resource}
        assert seen == {container.id: Condition.EXITED, GHOST: Condition.GONE}

    def test_a_live_container_of_a_later_attempt_counts(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, old = run_in(engine, "exited", ExitCode=1)
        new = engine.add(run.id)
        seen = look_once(scope, run)
        assert seen.condition is Condition.ALIVE
        assert seen.resource is not None
        assert seen.resource.id == new.id != old.id

    @pytest.mark.parametrize("status", ["running", "exited"])
    @pytest.mark.parametrize("label", [None, "", "no uuid", "'; drop", str(uuid4())])
    def test_a_pid_s_container_without_the_run_s_id_says_nothing(
        self, engine: FakeDocker, scope: DockerScope, status: str, label: str | None
    ) -> None:
        run, container = run_in(engine, status)
        container.labels = {} if label is None else {RUN_LABEL: label}
        seen = look_once(scope, run)
        assert seen.condition is Condition.UNKNOWN
        assert container.id[:12] in seen.reason

    def test_labels_may_be_null(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, container = run_in(engine, "running")
        container.labels = None  # type: ignore[assignment]
        engine.inject(b"[]", "/containers/json")
        assert look_once(scope, run).condition is Condition.UNKNOWN

    def test_a_container_may_vanish_between_list_and_inspection(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, container = run_in(engine, "exited")
        run = flow_run(id=run.id)
        engine.before = lambda path: engine.containers.clear() if container.id in path else None
        assert look_once(scope, run).condition is Condition.GONE

    def test_a_container_that_comes_and_goes_is_unknown(self, engine: FakeDocker, scope: DockerScope) -> None:
        run = flow_run()

        def flap(path: str) -> None:
            engine.containers.clear()
            if path == "/containers/json":
                engine.add(run.id, "exited")

        engine.before = flap
        assert look_once(scope, run).condition is Condition.UNKNOWN

    def test_a_container_that_started_after_the_first_list(self, engine: FakeDocker, scope: DockerScope) -> None:
        run = flow_run()

        def start_late(path: str) -> None:
            if engine.asked.count("/containers/json") == 2 and not engine.containers:
                engine.add(run.id)

        engine.before = start_late
        assert look_once(scope, run).condition is Condition.ALIVE

    @pytest.mark.parametrize(
        "body",
        [{"message": "page not found"}, {"message": f"/containers/{GHOST}/json"}, {}, {"message": None}, [], "x", None],
    )
    def test_only_the_404_that_names_the_container_is_absence(
        self, engine: FakeDocker, scope: DockerScope, body: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = engine.answer
        monkeypatch.setattr(engine, "answer", lambda path, query: (404, body) if GHOST in path else answer(path, query))
        with pytest.raises(AdapterError, match="Docker engine at"):
            scope.observe([flow_run(f"{BASE}:{GHOST}")], soon())

    def test_another_container_than_asked_for_is_no_answer(
        self, engine: FakeDocker, scope: DockerScope, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other, answer = engine.add(), engine.answer
        monkeypatch.setattr(
            engine, "answer", lambda path, query: (200, other.inspected()) if GHOST in path else answer(path, query)
        )
        with pytest.raises(AdapterError, match="another container"):
            scope.observe([flow_run(f"{BASE}:{GHOST}")], soon())

    def test_one_list_serves_many_suspects(self, engine: FakeDocker, scope: DockerScope) -> None:
        ended = engine.fill(40, "exited")
        runs = [flow_run(pid_of(container), id=run_id) for run_id, container in ended]
        runs += [flow_run(f"{BASE}:{number:064x}") for number in range(40)]
        seen = scope.observe(runs, soon(20))
        assert [conditions(seen, run) for run in runs] == [{Condition.EXITED}] * 40 + [{Condition.GONE}] * 40
        assert engine.asked.count("/containers/json") == 2
        assert len(engine.asked) == len(set(engine.asked)) + 1  # no container is inspected twice

    def test_a_container_that_vanished_since_the_one_list(self, engine: FakeDocker, scope: DockerScope) -> None:
        ended = engine.fill(60, "exited")
        victim = ended[-1][1]
        engine.before = lambda path: engine.containers.pop(victim.id, None) if ended[0][1].id in path else None
        runs = [flow_run(pid_of(container), id=run_id) for run_id, container in ended]
        seen = scope.observe(runs, soon(20))
        assert conditions(seen, runs[-1]) == {Condition.GONE}
        assert conditions(seen, runs[0]) == {Condition.EXITED}

    def test_a_proxy_that_drops_filters_cannot_mislead(
        self, engine: FakeDocker, scope: DockerScope, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, _ = run_in(engine, "exited", ExitCode=1)
        engine.fill(3, "exited")
        listing = engine._list
        monkeypatch.setattr(engine, "_list", lambda query: listing({"all": "1"}))
        seen = scope.observe([run], soon())
        assert conditions(seen, run) == {Condition.EXITED}
        assert len(seen.observations[run.id]) == 1
        assert not seen.strangers


class TestCost:
    def test_calls_do_not_grow_with_healthy_runs(self, engine: FakeDocker, scope: DockerScope) -> None:
        runs = [flow_run(pid_of(container), id=run_id) for run_id, container in engine.fill(1000)]
        engine.fill(100, "exited")
        seen = scope.observe(runs, soon(30))
        assert {each.condition for observations in seen.observations.values() for each in observations} == {
            Condition.ALIVE
        }
        assert len(seen.observations) == 1000
        assert engine.asked == ["/version", "/info", "/containers/json"]

    def test_strangers_are_live_and_bounded(
        self, engine: FakeDocker, scope: DockerScope, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine.fill(2, "exited")
        live = {
            container.id for status in ("running", "paused", "restarting") for _, container in engine.fill(2, status)
        }
        engine.add(uuid4(), "created", ExitCode=127, Error="no such file")  # a leftover, not an orphan
        engine.add().labels = {RUN_LABEL: "no uuid"}
        seen = scope.observe([], soon())
        assert {stranger.id for stranger in seen.strangers} == live
        monkeypatch.setattr("reconciler_adapters.docker._MAX_STRANGERS", 3)
        seen = scope.observe([], soon())
        assert len(seen.strangers) == 3
        assert seen.incomplete is None


class TestFaults:
    @pytest.mark.parametrize("path", ["/version", "/info", "/containers/json", "/containers/.*/json"])
    @pytest.mark.parametrize("fault", list(Fault))
    def test_a_fault_of_any_call_fails_the_whole_answer(
        self, engine: FakeDocker, scope: DockerScope, fault: Fault, path: str
    ) -> None:
        run, _ = run_in(engine, "exited")
        engine.inject(fault, path)
        kind = Misconfigured if fault in {Fault.UNAUTHORIZED, Fault.FORBIDDEN} else AdapterError
        with pytest.raises(AdapterError) as caught:
            scope.observe([run], soon(0.5))
        assert type(caught.value) is kind
        assert str(caught.value).startswith(f"Docker engine at {engine.base_url}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "body",
        [
            b"null", b"{}", b"[null]", b"[{}]", b"0", b'""', b"[", b"\xff", b"[" * 100_000,
            b'[{"Id": "short", "State": "running", "Labels": {}}]',
            b'[{"Id": "' + b"a" * 64 + b'", "State": null, "Labels": {}}]',
            b'[{"Id": "' + b"a" * 64 + b'", "State": "running"}]',
            b'[{"Id": "' + b"a" * 64 + b'", "State": "running", "Labels": []}]'[:-3] + b"[1]}]",
        ],
    )  # fmt: skip
    def test_what_is_no_list_of_containers_is_not_an_empty_one(
        self, engine: FakeDocker, scope: DockerScope, body: bytes
    ) -> None:
        engine.inject(body, "/containers/json")
        with pytest.raises(AdapterError, match="cannot be read"):
            scope.observe([flow_run()], soon())

    @pytest.mark.parametrize("body", [b"{}", b'{"ID": ""}', b'{"ID": 5, "Name": "x"}', b"[]"])
    def test_an_engine_without_id_has_no_identity(self, engine: FakeDocker, scope: DockerScope, body: bytes) -> None:
        engine.inject(body, "/info")
        with pytest.raises(AdapterError):
            scope.identity(soon())

    def test_says_how_long_it_waited(self, engine: FakeDocker, scope: DockerScope) -> None:
        engine.inject(Fault.TIMEOUT)
        with pytest.raises(AdapterError, match=r"timed out after 0\.3 s"):
            scope.identity(soon(0.3))

    def test_the_calls_share_one_deadline(self, engine: FakeDocker, scope: DockerScope) -> None:
        engine.fill(1, "exited")
        runs = [flow_run(f"{BASE}:{number:064x}") for number in range(40)]
        engine.before = lambda path: time.sleep(0.05)
        began = time.monotonic()
        with pytest.raises(AdapterError, match="timed out"):
            scope.observe(runs, soon(0.5))
        assert time.monotonic() - began < 2

    def test_a_deadline_in_the_past_asks_nothing(self, engine: FakeDocker, scope: DockerScope) -> None:
        with pytest.raises(AdapterError, match="timed out"):
            scope.identity(soon(-1))
        assert not engine.asked

    def test_a_late_call_does_not_disturb_the_next(self, engine: FakeDocker, scope: DockerScope) -> None:
        run, _ = run_in(engine, "running")
        engine.inject(Fault.TIMEOUT)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(scope.observe, [run], soon(20))
            wait_until(lambda: engine.asked, "the late call has asked", every=0.01)
            engine.faults.clear()
            assert look_once(scope, run).condition is Condition.ALIVE
            assert not late.done()
            engine.heal()
            with pytest.raises(AdapterError, match="the connection broke off"):
                late.result(10)
        assert look_once(scope, run).condition is Condition.ALIVE

    def test_no_such_socket(self, tmp_path: Path) -> None:
        scope = DockerScope("a", {"base_url": f"unix://{tmp_path}/none.sock"})
        with pytest.raises(AdapterError, match="there is no such socket; start the engine, or mount its socket here"):
            scope.identity(soon())

    def test_refused(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        scope = DockerScope("a", {"base_url": f"tcp://127.0.0.1:{port}"})
        with pytest.raises(AdapterError, match="the connection was refused"):
            scope.identity(soon())

    def test_permission_denied_is_the_operator_s(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(socket.socket, "connect", denied)  # root, who may run the tests, is denied nothing
        with pytest.raises(Misconfigured, match=r"permission denied on the socket; .*group 'docker'"):
            DockerScope("a", {"base_url": f"unix://{tmp_path}/d.sock"}).identity(soon())

    def test_check_gives_problem_and_remedy(self, engine: FakeDocker, scope: DockerScope) -> None:
        assert list(scope.check()) == []
        engine.inject(Fault.FORBIDDEN, "/containers/json")
        (problem,) = scope.check()
        assert "it answered 403 (scripted: 403)" in problem.text
        assert "CONTAINERS=1" in problem.remedy


class TestPlace:
    @pytest.mark.parametrize(
        ("pid", "place"),
        [
            (None, Place.UNSAID),
            (f"{BASE}:{GHOST}", Place.UNSAID),
            (f"http://10.0.0.5:2375:{GHOST}", Place.UNSAID),
            (f"{BASE}:{GHOST[:12]}", Place.ELSEWHERE),
            (f"{BASE}:{GHOST}\n", Place.ELSEWHERE),
            (GHOST, Place.ELSEWHERE),
            (f"namespace:{GHOST}", Place.ELSEWHERE),
            ("host:1234", Place.ELSEWHERE),
        ],
    )
    def test_locate(self, scope: DockerScope, pid: str | None, place: Place) -> None:
        assert scope.locate(flow_run(pid)) is place

    def test_the_id_follows_the_last_colon(self) -> None:
        assert container_id_in(f"http://h:2375:{GHOST}") == GHOST

    def test_place_time_is_the_engine_s(self, engine: FakeDocker, scope: DockerScope) -> None:
        engine.info["SystemTime"] = "2026-11-22T04:58:03.384356756+02:00"
        assert scope.observe([], soon()).place_time == datetime(2026, 11, 22, 2, 58, 3, 384356, tzinfo=UTC)
        assert scope.identity(soon()) == "C7G5:Y4MS:XISN"


class TestOptions:
    def test_the_constructor_asks_nothing(self, engine: FakeDocker, scope: DockerScope) -> None:
        scope.close()
        assert not engine.asked

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"base_ur": "x"}, "adapter 'docker' has no option 'base_ur'; the nearest is 'base_url'"),
            ({"hostname": "x"}, "the nearest is 'host_name'"),
            ({"base_url": 5}, "option 'base_url' must be a text"),
            ({"base_url": ""}, "option 'base_url' must be a text"),
            ({"base_url": "ssh://root@host"}, "option 'base_url' is 'ssh://root@host'; write it like"),
            ({"base_url": "tcp://host"}, "option 'base_url' is 'tcp://host'; write it like"),
            ({"base_url": "tcp://host:port"}, "write it like"),
            ({"tls_cert": "/a"}, "'tls_cert' and 'tls_key' must be given together"),
        ],
    )
    def test_a_bad_option(self, options: dict[str, object], words: str) -> None:
        with pytest.raises(Misconfigured) as caught:
            DockerScope("engine-a", options)
        assert str(caught.value).startswith("scope 'engine-a': ")
        assert words in str(caught.value)

    def test_tls_files_must_be_there(self, tmp_path: Path) -> None:
        options = {"base_url": "tcp://127.0.0.1:1", "tls_ca": f"{tmp_path}/ca.pem"}
        with pytest.raises(Misconfigured, match="tls_ca"):
            DockerScope("a", options).identity(soon())

    def test_docker_host_is_the_default(self, engine: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", engine.base_url)
        assert DockerScope("a", {}).identity(soon()) == engine.info["ID"]
        assert DockerScope.discover() == {"base_url": engine.base_url}

    @pytest.mark.parametrize("host", ["unix:///nowhere/d.sock", "nonsense", "ssh://x"])
    def test_discover_finds_nothing(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", host)
        assert DockerScope.discover() is None

    def test_discover_is_quick(self, engine: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", engine.base_url)
        engine.inject(Fault.TIMEOUT)
        began = time.monotonic()
        assert DockerScope.discover() is None
        assert time.monotonic() - began < 3

    def test_a_missing_sdk_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without_docker(name: str, *rest: Any) -> Any:
            if name.partition(".")[0] == "docker":
                raise ImportError(name)
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without_docker)
        words = r"^scope 'a': adapter 'docker' needs its SDK: pip install 'prefect-reconciler\[docker\]'$"
        with pytest.raises(Misconfigured, match=words):
            DockerScope("a", {})
        assert DockerScope.discover() is None

    def test_the_sdk_is_imported_late(self) -> None:
        code = "import sys, reconciler_adapters.docker; sys.exit('docker' in sys.modules or 'requests' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_worker_types(self) -> None:
        assert DockerScope.worker_types == {"docker"}


def test_read_functions_take_real_shapes() -> None:
    """Podman and old engines leave fields out that are not needed."""
    entry = {"Id": GHOST, "State": "running", "Labels": None, "Created": 10**30, "Names": ["/a/b", "/own"]}
    (container,) = read_list([entry])
    assert (container.name, container.created_at, container.run_id) == ("own", None, None)
    body = {"Id": GHOST, "State": {"Status": "exited"}, "Config": {"Labels": {}}}
    assert read_inspection(body).memory_limit == 0


@pytest.mark.parametrize("url", ["ssh://root:sesame@host", "tcp://root:sesame@127.0.0.1:9"])
def test_a_password_in_the_address_is_in_no_sentence(url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        DockerScope("engine-a", {"base_url": url})
    assert "***@" in str(caught.value)
    assert "sesame" not in str(caught.value)
