"""The real `reconciler` daemon, on a real Prefect server and a real engine, as a service manager runs it."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.real.test_acceptance import docker_run, is_crashed_by_us, some_pool
from tests.rigs.daemon import DaemonProcess
from tests.rigs.engine import Engine
from tests.rigs.polling import wait_until
from tests.rigs.prefect import history, logs_of, seed_run, state_of
from tests.rigs.proxy import FaultProxy
from tests.rigs.reconcile import QUICK, docker_scope

pytestmark = [pytest.mark.prefect, pytest.mark.docker]
SECRET = "pnu_thisKeyMustNeverBeSeen0123456789"


def test_a_life_in_full(empty_api_url: str, engine: Engine, tmp_path: Path) -> None:
    """READY, passes, a zombie, evidence, status page, STOPPING."""
    pool = some_pool()
    healthy = [docker_run(empty_api_url, engine, pool)[0] for _ in range(4)]
    zombie, container = docker_run(empty_api_url, engine, pool)
    scope = docker_scope(engine.base_url, pool)
    with DaemonProcess(empty_api_url, tmp_path / "d", scope, **QUICK).start().ready() as daemon:
        assert daemon.notify is not None
        assert daemon.notify.statuses()[1].startswith("5 flow runs in flight: 5 healthy; nothing to write")
        assert (daemon.status("/healthz"), daemon.status("/readyz")) == (200, 200)
        engine.docker("rm", "-f", container)
        wait_until(lambda: state_of(zombie) == "CRASHED", "the zombie to be settled", 30)
        is_crashed_by_us(zombie, "was removed; last seen running")
        daemon.wait_for_passes(2)
        assert [state_of(run) for run in healthy] == ["RUNNING"] * 4
        (told,) = [line for line in daemon.of_run(zombie.id) if line["verdict"] == "ZOMBIE"]
        assert (told["outcome"], told["scope"]) == ("ACCEPTED", "here")
        assert str(zombie.id) in (daemon.state / "evidence.jsonl").read_text()
        shown = daemon.get("/status").json()
        assert [row["outcome"] for row in shown["settlements"]] == ["ACCEPTED"]
        page = daemon.get("/").text
        assert f"{empty_api_url.removesuffix('/api')}/runs/flow-run/{zombie.id}" in page
        metrics = daemon.get("/metrics").text
        assert 'prefect_reconciler_settlements_total{outcome="ACCEPTED"} 1.0' in metrics
        assert "prefect_reconciler_death_to_settlement_seconds_count 1.0" in metrics
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        assert daemon.get("/metrics", accept).headers["content-type"].startswith("application/openmetrics-text")
        fed = daemon.notify.lines().count("WATCHDOG=1")
        assert fed >= 2 * (len(daemon.passes()) - 1)
        code, seconds = daemon.stop()
        assert (code, seconds < 3) == (0, True)
        notify = daemon.notify
        wait_until(lambda: notify.last_words() == ["STOPPING=1", "STATUS=stopping"], "the last words", 5)


def test_the_api_is_away_at_the_start_and_comes_back(empty_api_url: str, engine: Engine, tmp_path: Path) -> None:
    """READY all the same: a service that is restarted because the API is away helps nobody."""
    pool = some_pool()
    zombie, container = docker_run(empty_api_url, engine, pool)
    engine.docker("kill", container)
    with FaultProxy(empty_api_url) as proxy:
        proxy.answer("*", ".", 503)
        daemon = DaemonProcess(proxy.url, tmp_path / "d", docker_scope(engine.base_url, pool), **QUICK)
        daemon.environment["RECONCILER_API__RETRY_FOR"] = "500ms"
        with daemon.start().ready():
            assert daemon.notify is not None
            assert daemon.notify.statuses()[1].startswith("Nothing was judged: the flow runs could not be listed")
            assert "the in-flight flow runs could not be listed: the Prefect API" in daemon.notify.statuses()[1]
            assert (daemon.status("/healthz"), daemon.status("/readyz")) == (200, 503)
            assert "could not be listed" in daemon.get("/readyz").text
            assert "prefect_reconciler_api_up 0.0" in daemon.get("/metrics").text
            proxy.reset()
            wait_until(lambda: daemon.status("/readyz") == 200, "readiness", 30)
            wait_until(lambda: state_of(zombie) == "CRASHED", "the zombie to be settled", 30)
            assert daemon.stop()[0] == 0


def test_an_engine_that_hangs(empty_api_url: str, engine: Engine, second_engine: Engine, tmp_path: Path) -> None:
    """SIGSTOP to one engine: red readiness, a fed watchdog, the other scope's zombies settled; no hang at the end."""
    pools = some_pool(), some_pool()
    blind, gone = docker_run(empty_api_url, engine, pools[0])
    zombie, container = docker_run(empty_api_url, second_engine, pools[1])
    scopes = [
        docker_scope(engine.base_url, pools[0]),
        docker_scope(second_engine.base_url, pools[1], name="there"),
    ]
    daemon = DaemonProcess(empty_api_url, tmp_path / "d", *scopes, scope_deadline="2s", **QUICK)
    with daemon.start().ready():
        daemon.wait_for_passes(1)
        engine.docker("kill", gone)
        engine.freeze()
        try:
            wait_until(lambda: daemon.status("/readyz") == 503, "red readiness", 30)
            assert "scope 'here'" in daemon.get("/readyz").text
            assert daemon.notify is not None
            assert "scope 'here' could not be read: " in daemon.notify.statuses()[-1]
            fed = daemon.notify.lines().count("WATCHDOG=1")
            second_engine.docker("kill", container)
            wait_until(lambda: state_of(zombie) == "CRASHED", "the other scope's zombie to be settled", 60)
            assert daemon.notify.lines().count("WATCHDOG=1") > fed
            assert daemon.status("/healthz") == 200
            assert state_of(blind) == "RUNNING", "nobody could look"
            assert 'scope_up{adapter="docker",scope="here"} 0.0' in daemon.get("/metrics").text
        finally:
            engine.thaw()
        wait_until(lambda: daemon.status("/readyz") == 200, "green readiness", 60)
        wait_until(lambda: state_of(blind) == "CRASHED", "the zombie of the engine that is back", 60)
        engine.freeze()
        try:
            daemon.wait_for_passes(1)
            code, seconds = daemon.stop()
        finally:
            engine.thaw()
    assert (code, seconds < 8) == (0, True), seconds


def test_sigterm_finishes_the_write_in_progress(empty_api_url: str, engine: Engine, tmp_path: Path) -> None:
    pool = some_pool()
    zombie, container = docker_run(empty_api_url, engine, pool)
    with FaultProxy(empty_api_url) as proxy:
        daemon = DaemonProcess(proxy.url, tmp_path / "d", docker_scope(engine.base_url, pool), **QUICK)
        with daemon.start().ready():
            proxy.before("POST", "/logs/$", lambda: time.sleep(3.0))
            engine.docker("kill", container)
            wait_until(lambda: state_of(zombie) == "CRASHED", "the proposal to be accepted", 30)
            code, seconds = daemon.stop()
    assert (code, seconds < 8) == (0, True), seconds
    is_crashed_by_us(zombie, "exited with code 137")


def test_the_configuration_is_read_again(empty_api_url: str, engine: Engine, tmp_path: Path) -> None:
    pool = some_pool()
    zombie, container = docker_run(empty_api_url, engine, pool)
    scope = docker_scope(engine.base_url, pool)
    with DaemonProcess(empty_api_url, tmp_path / "d", scope, mode="observe", **QUICK).start().ready() as daemon:
        engine.docker("kill", container)
        wait_until(lambda: any(one.get("guard") == "mode" for one in daemon.of_run(zombie.id)), "it to be held", 30)

        daemon.configure(scope, daemon={"interval": "soon"}, mode="observe", **QUICK)
        daemon.send(signal.SIGHUP)
        wait_until(lambda: daemon.get("/status").json()["configuration_problems"], "the refusal on the page", 10)
        assert "daemon.interval" in daemon.get("/status").json()["configuration_problems"][0]
        assert any("daemon.interval" in str(record.get("problem")) for record in daemon.records())
        daemon.wait_for_passes(2)
        assert state_of(zombie) == "RUNNING", "the old configuration is in force"

        daemon.configure(scope, mode="settle", **QUICK)
        daemon.send(signal.SIGHUP)
        wait_until(lambda: state_of(zombie) == "CRASHED", "the new configuration in force", 30)
        wait_until(lambda: not daemon.get("/status").json()["configuration_problems"], "no refusal any more", 10)
        assert 'configuration_reloads_total{result="refused"} 1.0' in daemon.get("/metrics").text
        assert daemon.stop()[0] == 0


def test_the_web_part_moves_with_a_reload(empty_api_url: str, tmp_path: Path) -> None:
    with DaemonProcess(empty_api_url, tmp_path / "d").start().ready() as daemon:
        assert daemon.status("/healthz") == 200
        daemon.configure(daemon={"listen": ""})
        daemon.send(signal.SIGHUP)
        wait_until(lambda: daemon.status("/healthz") is None, "nothing to listen any more", 10)
        daemon.configure()
        daemon.send(signal.SIGHUP)
        wait_until(lambda: daemon.status("/healthz") == 200, "it to listen again", 10)
        assert daemon.stop()[0] == 0


@pytest.fixture
def faketime(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """Variables that put a program under libfaketime (Debian's `faketime`), and the file that sets its wall clock."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        missing("libfaketime is not installed (Debian package faketime).")
    file = tmp_path / "faketime"
    file.write_text("+0")
    variables = {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": str(found[0]), **variables}, file


@pytest.mark.parametrize("step", ["-3600", "+3600"])
def test_the_wall_clock_is_set(
    empty_api_url: str, engine: Engine, tmp_path: Path, faketime: tuple[dict[str, str], Path], step: str
) -> None:
    """The next pass comes within an interval, and what then vanishes is held until the amnesty is over."""
    variables, file = faketime
    pool = some_pool()
    others = [docker_run(empty_api_url, engine, pool)[0] for _ in range(4)]
    run, container = docker_run(empty_api_url, engine, pool)
    scope = docker_scope(engine.base_url, pool)
    settings = QUICK | {"amnesty": "8s"}
    daemon = DaemonProcess(empty_api_url, tmp_path / "d", scope, daemon={"interval": "3s"}, **settings)
    daemon.environment |= variables
    with daemon.start().ready():
        before = len(daemon.passes())
        file.write_text(step)
        began = time.monotonic()
        wait_until(lambda: len(daemon.passes()) > before + 1, "two more passes", 30)
        assert time.monotonic() - began < 8, "two intervals and the time of a pass"
        engine.docker("rm", "-f", container)
        wait_until(lambda: any(one.get("guard") == "amnesty" for one in daemon.of_run(run.id)), "amnesty", 15)
        assert state_of(run) == "RUNNING"
        wait_until(lambda: state_of(run) == "CRASHED", "settled when the amnesty is over", 40)
        assert [state_of(one) for one in others] == ["RUNNING"] * 4
        assert any(record.get("set_by_seconds") for record in daemon.records())
        assert daemon.stop()[0] == 0
    message = history(run)[-1]["message"]
    said = datetime.strptime(message.split("last seen running ")[1][:8], "%H:%M:%S").replace(tzinfo=UTC)
    now = datetime.now(UTC) + timedelta(seconds=int(step))
    ago = (now - said.replace(year=now.year, month=now.month, day=now.day)) % timedelta(days=1)
    assert ago < timedelta(minutes=2), f"in the clock as it is now: {message}"


def test_two_daemons_settle_each_zombie_once(empty_api_url: str, engine: Engine, tmp_path: Path) -> None:
    pool = some_pool()
    made = [docker_run(empty_api_url, engine, pool) for _ in range(14)]
    zombies, healthy = made[:4], made[4:]
    scope = docker_scope(engine.base_url, pool)
    with FaultProxy(empty_api_url) as proxy:
        daemons = [DaemonProcess(proxy.url, tmp_path / name, scope, **QUICK).start() for name in "ab"]
        try:
            for daemon in daemons:
                daemon.ready()
                daemon.wait_for_passes(1)
            for _, container in zombies:
                engine.docker("kill", container)
            wait_until(lambda: all(state_of(run) == "CRASHED" for run, _ in zombies), "all to be settled", 60)
            for daemon in daemons:
                daemon.wait_for_passes(3)
        finally:
            codes = [daemon.stop()[0] for daemon in daemons]
            for daemon in daemons:
                daemon.__exit__()
    assert codes == [0, 0]
    for run, _ in zombies:
        is_crashed_by_us(run)
        assert [record["type"] for record in history(run)].count("CRASHED") == 1
    assert [state_of(run) for run, _ in healthy] == ["RUNNING"] * 10
    accepted = [
        line
        for daemon in daemons
        for run, _ in zombies
        for line in daemon.of_run(run.id)
        if line.get("outcome") == "ACCEPTED"
    ]
    assert len(accepted) == 4, "each zombie by one of the two"


def test_secrets_are_nowhere(empty_api_url: str, engine: Engine, tmp_path: Path) -> None:
    """At debug level, with an API that refuses now and then, a retry, a zombie, a refused reload, and an end."""
    pool = some_pool()
    run, container = docker_run(empty_api_url, engine, pool)
    scope = docker_scope(engine.base_url, pool)
    with FaultProxy(empty_api_url) as proxy:
        daemon = DaemonProcess(proxy.url, tmp_path / "d", scope, daemon={"log_level": "debug"}, **QUICK)
        daemon.environment |= {"PREFECT_API_KEY": SECRET, "PREFECT_CLIENT_CUSTOM_HEADERS": f'{{"X-Token":"{SECRET}2"}}'}
        with daemon.start().ready():
            for status in (401, 403, 429, 500, 503):
                proxy.answer("*", "/filter", status, f'{{"detail":"Bearer {SECRET}"}}'.encode(), times=1)
                daemon.wait_for_passes(1)
            engine.docker("kill", container)
            wait_until(lambda: state_of(run) == "CRASHED", "the zombie to be settled", 30)
            daemon.configure(scope, daemon={"interval": "soon"}, **QUICK)
            daemon.send(signal.SIGHUP)
            wait_until(lambda: daemon.get("/status").json()["configuration_problems"], "the refusal", 10)
            pages = [daemon.get(path).text for path in ("/", "/status", "/metrics", "/readyz", "/healthz")]
            assert daemon.notify is not None
            told = daemon.notify.lines()
            assert daemon.stop()[0] == 0
    files = [path.read_bytes().decode(errors="replace") for path in daemon.folder.rglob("*") if path.is_file()]
    files = [text for text in files if "state_dir = " not in text]
    assert any("asked the Prefect API" in text for text in files), "the debug level was on"
    for text in (*files, *pages, *told, *(line["message"] for line in logs_of(run))):
        assert SECRET not in text


def test_a_watchdog_that_is_too_short_is_refused(empty_api_url: str, tmp_path: Path) -> None:
    with DaemonProcess(empty_api_url, tmp_path / "d").start(watchdog=30) as daemon:
        assert daemon.program.wait(30) == 78
        text = daemon.log.read_text()
    assert "WatchdogSec of the systemd unit is 30s" in text
    assert "Traceback" not in text


def test_the_port_is_taken(empty_api_url: str, tmp_path: Path) -> None:
    """The runs matter more than the page: it is said, and tried again."""
    first = DaemonProcess(empty_api_url, tmp_path / "a")
    second = DaemonProcess(empty_api_url, tmp_path / "b", daemon={"listen": f"127.0.0.1:{first.port}"})
    with first.start().ready(), second.start().ready():
        assert any("something else listens there" in str(record.get("why")) for record in second.records())
        assert first.stop()[0] == 0
        wait_until(lambda: first.status("/healthz") == 200, "the second to take the port over", 10)
        assert second.stop()[0] == 0


def test_it_runs_without_anything_to_do(empty_api_url: str, tmp_path: Path) -> None:
    """No state folder to write to, no scope, no run, no web part, no service manager."""
    folder = tmp_path / "d"
    daemon = DaemonProcess(empty_api_url, folder, daemon={"listen": ""})
    (folder / "state").write_text("a file, not a folder")
    seed_run(empty_api_url)
    with daemon.start(watchdog=None).ready():
        daemon.wait_for_passes(3)
        assert any("state" in str(record.get("warnings")) for record in daemon.passes())
        assert (folder / "state").is_file()
        assert daemon.stop()[0] == 0
