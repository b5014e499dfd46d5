"""The container image: what is in it, and how it behaves as a sidecar of a real engine, with every right taken away."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler import __version__
from tests.conftest import missing
from tests.real.test_acceptance import docker_run, is_crashed_by_us, some_pool
from tests.rigs.engine import Engine
from tests.rigs.image import ImageEngine, build_image, docker, why_no_image
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, state_of
from tests.rigs.reconcile import QUICK, docker_scope
from tests.rigs.server import CHECKOUT, free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]  # building the image is part of the first test
LOCKED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
SOCKET = "/var/run/docker.sock"
CONFIG = "/etc/prefect-reconciler/reconciler.toml"
STOP_WITHIN = 8.0


@pytest.fixture(scope="module")
def image_engine() -> Iterator[Engine]:
    if reason := why_no_image():
        missing(reason)
    with ImageEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def image(image_engine: Engine) -> str:
    began = time.monotonic()
    name = build_image(image_engine)
    size = int(image_engine.docker("image", "inspect", "--format", "{{.Size}}", name))
    print(f"image of {size / 1e6:.0f} MB built in {time.monotonic() - began:.0f} s")
    return name


@pytest.fixture
def engine(image_engine: Engine) -> Iterator[Engine]:
    yield image_engine
    image_engine.reset()


def run(engine: Engine, image: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A container that ends by itself, without a network unless `options` give one."""
    network = () if "--network" in options else ("--network", "none")
    return docker(engine, "run", "--rm", *LOCKED, *network, *options, image, *arguments)


def inside(engine: Engine, image: str, program: str) -> str:
    """What a Python program prints in the image."""
    done = run(engine, image, "-c", program, options=("--entrypoint", "python"))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestWhatItIs:
    @pytest.fixture
    def config(self, engine: Engine, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(engine.docker("image", "inspect", image))[0]["Config"]
        return found

    def test_it_runs_as_a_number_that_is_not_root(self, config: dict[str, Any]) -> None:
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])

    def test_it_says_how_to_start_ask_and_stop_it(self, config: dict[str, Any]) -> None:
        assert config["Entrypoint"] == ["reconciler"]
        assert config["StopSignal"] == "SIGTERM"
        assert config["Healthcheck"]["Test"][:2] == ["CMD", "python"]
        assert list(config["ExposedPorts"]) == ["9464/tcp"]
        assert list(config["Volumes"]) == ["/var/lib/prefect-reconciler"]

    def test_its_labels(self, config: dict[str, Any]) -> None:
        labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
        assert labels.pop("description")
        assert labels == {"title": "prefect-reconciler", "licenses": "Apache-2.0", "version": __version__}

    def test_no_address_and_no_secret_is_left_in_it(self, config: dict[str, Any], engine: Engine, image: str) -> None:
        """A PIP_INDEX_URL may carry a password; the builder's lines are no part of the image."""
        history = engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
        assert "PIP_INDEX_URL" not in history + " ".join(config["Env"])
        assert "://" not in history

    def test_no_tool_that_builds_is_in_it(self, engine: Engine, image: str) -> None:
        program = (
            "import importlib.util as u, shutil as s\n"
            "print([m for m in ('pip', 'setuptools', 'wheel', 'hatchling') if u.find_spec(m)])\n"
            "print([t for t in ('pip', 'pip3', 'gcc', 'cc', 'g++', 'make', 'ld', 'git', 'curl') if s.which(t)])\n"
        )
        assert inside(engine, image, program).split("\n") == ["[]", "[]"]

    def test_every_module_is_compiled_and_nothing_is_writable(self, engine: Engine, image: str) -> None:
        program = (
            "import importlib.util as u, os, pathlib, reconciler, struct\n"
            "def stale(source):\n"
            "    cache = pathlib.Path(u.cache_from_source(str(source)))\n"
            "    made_of = cache.exists() and struct.unpack('<I', cache.read_bytes()[8:12])[0]\n"
            "    return made_of != int(source.stat().st_mtime)\n"
            "package = pathlib.Path(reconciler.__file__).parent\n"
            "print([str(source) for source in package.rglob('*.py') if stale(source)])\n"
            "venv = package.parents[3]\n"
            "print(venv, [str(p) for p in venv.rglob('*') if p.stat().st_uid == os.getuid() or p.stat().st_mode & 2])\n"
        )
        assert inside(engine, image, program).split("\n") == ["[]", "/opt/prefect-reconciler []"]

    def test_its_default_base_is_named_without_a_registry(self) -> None:
        base = re.search(r"^ARG BASE=(\S+)$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
        assert base
        assert re.fullmatch(r"[a-z]+:[a-z0-9.-]+", base[1])


class TestWithoutAnythingToDo:
    @pytest.mark.parametrize("options", [(), ("--entrypoint", "reconcile")], ids=["reconciler", "reconcile"])
    def test_version(self, engine: Engine, image: str, options: tuple[str, ...]) -> None:
        done = run(engine, image, "--version", options=options)
        assert (done.returncode, done.stdout) == (0, f"prefect-reconciler {__version__}\n")

    def test_help_of_the_one_shot(self, engine: Engine, image: str) -> None:
        done = run(engine, image, "--help", options=("--entrypoint", "reconcile"))
        assert done.returncode == 0
        assert "--dry-run" in done.stdout

    def test_no_configuration_at_all(self, engine: Engine, image: str) -> None:
        done = run(engine, image)
        assert done.returncode == 78, done.stderr
        assert "no Prefect API address: set PREFECT_API_URL" in done.stderr

    def test_a_wrong_configuration(self, engine: Engine, image: str, tmp_path: Path) -> None:
        file = tmp_path / "wrong.toml"
        file.write_text('[policy]\ngrace = "soon"\n')
        done = run(engine, image, options=("--volume", f"{file}:{CONFIG}:ro"))
        assert done.returncode == 78, done.stderr
        assert 'policy.grace: "soon" is not a duration' in done.stderr


@pytest.mark.prefect
class TestAsASidecar:
    """Host network, since the engine has no bridge; the socket and one file are all it is given."""

    @pytest.fixture
    def pool(self) -> str:
        return some_pool()

    @pytest.fixture
    def options(self, engine: Engine, prefect_api_url: str, pool: str, tmp_path: Path) -> tuple[str, ...]:
        socket = Path(engine.base_url.removeprefix("unix://"))
        file = tmp_path / "reconciler.toml"
        policy = "\n".join(f'{key} = "{value}"' for key, value in QUICK.items())
        daemon = '[daemon]\ninterval = "1s"\njitter = "0s"\n'
        file.write_text(f"[policy]\n{policy}\n{daemon}{docker_scope(f'unix://{SOCKET}', pool)}")
        volumes = (f"{socket}:{SOCKET}", f"{file}:{CONFIG}:ro", f"{pool}:/var/lib/prefect-reconciler")
        return (
            *(
                "--network",
                "host",
                "--group-add",
                str(socket.stat().st_gid),
                "--env",
                f"PREFECT_API_URL={prefect_api_url}",
            ),
            *(word for volume in volumes for word in ("--volume", volume)),
        )

    def test_one_pass_after_the_other(
        self, engine: Engine, image: str, options: tuple[str, ...], prefect_api_url: str, pool: str
    ) -> None:
        """The volume is the memory: what the first pass saw counts in the second."""
        zombie, made = docker_run(prefect_api_url, engine, pool)
        healthy, _ = docker_run(prefect_api_url, engine, pool)
        options = (*options, "--entrypoint", "reconcile")
        assert self.rows(run(engine, image, "--json", options=options))[str(zombie.id)]["verdict"] == "HEALTHY"
        engine.docker("rm", "--force", made)

        def outcome() -> object:
            return self.rows(run(engine, image, "--json", options=options))[str(zombie.id)]["outcome"]

        assert wait_until(outcome, "settled", 60) == "ACCEPTED"
        is_crashed_by_us(zombie, "Docker container", "was removed", "last seen running")
        assert state_of(healthy) == "RUNNING"

    def rows(self, done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
        assert done.returncode == 0, done.stdout + done.stderr
        return {row["id"]: row for row in json.loads(done.stdout)["runs"]}

    def test_the_daemon(
        self, engine: Engine, image: str, options: tuple[str, ...], prefect_api_url: str, pool: str
    ) -> None:
        zombie, made = docker_run(prefect_api_url, engine, pool)
        healthy, _ = docker_run(prefect_api_url, engine, pool)
        port = free_port()
        listen = ("--env", f"RECONCILER_DAEMON__LISTEN=127.0.0.1:{port}", "--health-interval", "1s")
        daemon = engine.docker("run", "--detach", *LOCKED, *options, *listen, image)
        self.wait_for(engine, daemon, "{{.State.Health.Status}}", "healthy")
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False)
        assert answer.status_code == 200, answer.text
        assert engine.docker("exec", daemon, "id", "-u") == "10001"

        engine.docker("rm", "--force", made)
        wait_until(lambda: state_of(zombie) == "CRASHED", "settled", 60, 0.2)
        is_crashed_by_us(zombie, "Docker container", "was removed", "last seen running")
        self.log_tells(engine, daemon, zombie)
        self.ends_in_time(engine, daemon)
        assert state_of(healthy) == "RUNNING"

    def log_tells(self, engine: Engine, daemon: str, zombie: SeededRun) -> None:
        def lines() -> list[dict[str, Any]]:
            return [json.loads(line) for line in docker(engine, "logs", daemon).stderr.splitlines()]

        def of_the_run() -> list[dict[str, Any]]:
            return [line for line in lines() if line.get("flow_run") == str(zombie.id) and "outcome" in line]

        wait_until(of_the_run, "a line about the settled run", 20)
        assert [line["outcome"] for line in of_the_run()] == ["ACCEPTED"]
        cycles = [line for line in lines() if "counts" in line]
        assert len(cycles) > 1
        assert [line["outcomes"] for line in cycles if "outcomes" in line] == [{"ACCEPTED": 1}]
        assert docker(engine, "logs", daemon).stdout == ""

    def ends_in_time(self, engine: Engine, daemon: str) -> None:
        began = time.monotonic()
        engine.docker("stop", "--time", "30", daemon)
        took = time.monotonic() - began
        print(f"stopped in {took:.1f} s")
        assert took < STOP_WITHIN
        assert engine.docker("inspect", "--format", "{{.State.ExitCode}}", daemon) == "0"

    def test_told_to_listen_nowhere_it_is_not_called_ill(
        self, engine: Engine, image: str, options: tuple[str, ...]
    ) -> None:
        listen = ("--env", "RECONCILER_DAEMON__LISTEN=", "--health-interval", "1s")
        daemon = engine.docker("run", "--detach", *LOCKED, *options, *listen, image)
        self.wait_for(engine, daemon, "{{.State.Health.Status}}", "healthy")

    def test_one_that_hangs_is_called_ill(self, engine: Engine, image: str, options: tuple[str, ...]) -> None:
        listen = ("--env", f"RECONCILER_DAEMON__LISTEN=127.0.0.1:{free_port()}")
        health = ("--health-interval", "1s", "--health-retries", "1")
        daemon = engine.docker("run", "--detach", *LOCKED, *options, *listen, *health, image)
        self.wait_for(engine, daemon, "{{.State.Health.Status}}", "healthy")
        engine.docker("kill", "--signal", "STOP", daemon)
        self.wait_for(engine, daemon, "{{.State.Health.Status}}", "unhealthy")

    def test_a_socket_that_it_may_not_open(self, engine: Engine, image: str, options: tuple[str, ...]) -> None:
        """Without --group-add it lives, and is not ready: it cannot see."""
        port = free_port()
        listen = ("--env", f"RECONCILER_DAEMON__LISTEN=127.0.0.1:{port}", "--health-interval", "1s")
        at = options.index("--group-add")
        daemon = engine.docker("run", "--detach", *LOCKED, *options[:at], *options[at + 2 :], *listen, image)
        self.wait_for(engine, daemon, "{{.State.Health.Status}}", "healthy")
        answer = wait_until(lambda: _blind(port), "not ready, with the reason", 30)
        assert answer is not None
        assert "ermission" in answer.text, answer.text

    def wait_for(self, engine: Engine, container: str, field: str, wanted: str) -> None:
        def is_so() -> bool:
            assert engine.docker("inspect", "--format", "{{.State.Running}}", container) == "true", "\n".join(
                docker(engine, "logs", container).stderr.splitlines()[-10:]
            )
            return engine.docker("inspect", "--format", field, container) == wanted

        wait_until(is_so, f"{field} is {wanted}", 60, 0.3)


def _blind(port: int) -> httpx.Response | None:
    answer = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False)
    return answer if answer.status_code == 503 and "scope" in answer.text else None
