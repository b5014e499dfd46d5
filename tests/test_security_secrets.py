"""The key is in a file, so it must be in that file, in the process and in the requests, and nowhere else at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.test_acceptance import docker_run, some_pool
from tests.rigs.daemon import DaemonProcess
from tests.rigs.engine import Engine
from tests.rigs.polling import wait_until
from tests.rigs.prefect import history, logs_of, state_of
from tests.rigs.processes import inherited_environment
from tests.rigs.proxy import FaultProxy
from tests.rigs.reconcile import QUICK, docker_scope

pytestmark = [pytest.mark.prefect, pytest.mark.docker]
SECRET = "pnu_thisKeyMustNeverBeSeen0123456789"
PATHS = ("/", "/status", "/metrics", "/readyz", "/healthz")
COMMANDS = (("check",), ("--dry-run",), ("--dry-run", "--json"))


def of_process(pid: int) -> list[bytes]:
    return [Path("/proc", str(pid), name).read_bytes() for name in ("cmdline", "environ", "comm", "status")]


def printed(daemon: DaemonProcess, *arguments: str) -> bytes:
    """What a person sees who asks the same configuration by hand."""
    environ = inherited_environment(PREFECT_API_URL=daemon.api, PREFECT_HOME=str(daemon.folder)) | daemon.environment
    command = [sys.executable, "-m", "reconciler", "--config", str(daemon.file), "--log-level", "debug", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, env=environ)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout + done.stderr


def test_a_key_in_a_file_is_nowhere_else(empty_api_url: str, engine: Engine, tmp_path: Path) -> None:
    """Not in command line, environment, log, state folder, status, pages, metrics, nor in what it writes or prints."""
    pool = some_pool()
    run, container = docker_run(empty_api_url, engine, pool)
    standing, _ = docker_run(empty_api_url, engine, pool)
    (tmp_path / "key").write_text(SECRET + "\n")
    (tmp_path / "key").chmod(0o600)
    with FaultProxy(empty_api_url) as proxy:
        scope = docker_scope(engine.base_url, pool)
        daemon = DaemonProcess(proxy.url, tmp_path / "d", scope, daemon={"log_level": "debug"}, **QUICK)
        daemon.environment |= {"RECONCILER_API__KEY_FILE": str(tmp_path / "key")}
        with daemon.start().ready():
            seen = of_process(daemon.program.pid)
            for status in (401, 500):
                echo = f'{{"detail":"Authorization: Bearer {SECRET}"}}'.encode()
                proxy.answer("*", "/filter", status, echo, times=1)
                daemon.wait_for_passes(1)
            engine.docker("kill", container)
            wait_until(lambda: state_of(run) == "CRASHED", "the zombie to be settled", 30)
            daemon.send(signal.SIGHUP)
            daemon.wait_for_passes(1)
            seen += [daemon.get(path).content for path in PATHS]
            for command in COMMANDS:
                proxy.answer("*", "/filter", 500, SECRET.encode(), times=1)
                seen.append(printed(daemon, *command))
            seen += of_process(daemon.program.pid)
            assert daemon.notify is not None
            seen += [line.encode() for line in daemon.notify.lines()]
            assert daemon.stop()[0] == 0
    kept = {path.name: path.read_bytes() for path in daemon.folder.rglob("*") if path.is_file()}
    assert {"memory.sqlite3", "evidence.jsonl", "daemon.log"} <= kept.keys()
    assert str(standing.id).encode() in kept["memory.sqlite3"], "it is the memory of this test"
    seen += [*kept.values(), *(str(line).encode() for line in (*logs_of(run), *history(run)))]
    assert [text for text in seen if SECRET.encode() in text] == []
    modes = {path.name: path.stat().st_mode & 0o777 for path in daemon.state.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert daemon.state.stat().st_mode & 0o777 == 0o700
