"""The contract of the command: exit codes, stdout, stderr. Run as a process, as scripts do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest
import typer
from typer.testing import CliRunner

from reconciler import cli
from reconciler.grading.casebook import GRADES_FILE, Casebook
from tests.rigs.processes import inherited_environment

NOWHERE = "http://127.0.0.1:9/api"
SECRET = "pnu_a-very-secret-key"


def reconcile(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = inherited_environment(STATE_DIRECTORY=str(home / "state"), PREFECT_HOME=str(home), **variables)
    command = [sys.executable, "-m", "reconciler", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "empty.toml").write_text("[api]\nretry_for = '0s'\n")
    return tmp_path


class _Empty(BaseHTTPRequestHandler):
    """A Prefect server without any flow run."""

    def do_GET(self) -> None:
        self._say("3.8.8")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._say(0 if self.path.endswith("/count") else [])

    def _say(self, what: object) -> None:
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def empty_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Empty)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/api"
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_in_flight_is_0(home: Path, empty_server: str) -> None:
    done = reconcile("--config", str(home / "empty.toml"), home=home, PREFECT_API_URL=empty_server)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 flow runs in flight; nothing to write")


def test_json_is_one_document_with_the_promised_keys(home: Path, empty_server: str) -> None:
    done = reconcile(
        "--json", "--dry-run", "--config", str(home / "empty.toml"), home=home, PREFECT_API_URL=empty_server
    )
    document = json.loads(done.stdout)
    assert list(document) == [
        *(
            "version",
            "dry_run",
            "taken_at",
            "duration_seconds",
            "api",
            "problems",
            "scopes",
            "counts",
            "silent",
            "runs",
        ),
        "settled_children",
        "orphans",
    ]
    assert document["api"] | {"calls": 0} == {"url": empty_server, "server_version": "3.8.8", "calls": 0}


def test_an_api_that_cannot_be_reached_is_1(home: Path) -> None:
    done = reconcile("--config", str(home / "empty.toml"), home=home, PREFECT_API_URL=NOWHERE, PREFECT_API_KEY=SECRET)
    assert done.returncode == 1
    assert f"the Prefect API at {NOWHERE} cannot be reached" in done.stdout
    assert "Nothing was judged" in done.stdout
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_secret_at_any_level(home: Path, empty_server: str, level: str) -> None:
    for arguments in (["--json"], ["check"]):
        done = reconcile(
            "--log-level", level, "--config", str(home / "empty.toml"), *arguments,
            home=home, PREFECT_API_URL=empty_server, PREFECT_API_KEY=SECRET,
        )  # fmt: skip
        assert SECRET not in done.stdout + done.stderr
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [["--no-such-option"], ["nonsense"], ["--run", "no-uuid"], ["--log-level", "loud"]]
)
def test_usage_is_2(home: Path, arguments: list[str]) -> None:
    done = reconcile(*arguments, home=home, PREFECT_API_URL=NOWHERE)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_configuration_is_78_with_every_problem_at_once(home: Path) -> None:
    (home / "bad.toml").write_text(
        '[policy]\ngrase = "30s"\nconfirm_after = 10\n[[scopes]]\nname = "a"\nadapter = "dokcer"\n'
        '[[scopes]]\nname = "b"\nadapter = "docker"\noptions = { base_ulr = "unix:///x" }\n'
    )
    done = reconcile("--config", str(home / "bad.toml"), home=home)
    assert (done.returncode, done.stdout) == (78, "")
    for words in ("did you mean 'grace'?", 'write "10s"', "no Prefect API address"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    (home / "bad.toml").write_text((home / "bad.toml").read_text().split("[[scopes]]", 1)[1].join(["[[scopes]]", ""]))
    done = reconcile("--config", str(home / "bad.toml"), home=home, PREFECT_API_URL=NOWHERE)
    assert done.returncode == 78
    for words in ("there is no adapter 'dokcer'", "did you mean 'docker'?", "no option 'base_ulr'"):
        assert words in done.stderr


def test_no_api_address_is_78(home: Path) -> None:
    done = reconcile(home=home)
    assert done.returncode == 78
    assert "set PREFECT_API_URL" in done.stderr


def test_a_bug_is_70_and_says_so(home: Path, empty_server: str) -> None:
    (home / "sitecustomize.py").write_text(
        "import reconciler.cycle\n\ndef broken(*_):\n    raise KeyError\n\nreconciler.cycle.Cycle.plan = broken\n"
    )
    done = reconcile(
        "--config", str(home / "empty.toml"), home=home, PREFECT_API_URL=empty_server, PYTHONPATH=str(home)
    )
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert "bug of prefect-reconciler" in done.stderr


def test_common_options_are_taken_before_and_after_a_subcommand(home: Path, empty_server: str) -> None:
    config = ["--config", str(home / "empty.toml")]
    for arguments in ([*config, "check"], ["check", *config]):
        done = reconcile(*arguments, home=home, PREFECT_API_URL=empty_server)
        assert done.returncode == 0, done.stderr
        assert f"api.url = {empty_server}  (environment PREFECT_API_URL)" in done.stdout
        assert "server version 3.8.8" in done.stdout


def test_check_names_what_is_wrong_with_a_scope(home: Path, empty_server: str) -> None:
    (home / "s.toml").write_text(
        '[[scopes]]\nname = "off"\nadapter = "docker"\noptions = { base_url = "unix:///nowhere/docker.sock" }\n'
        '[[scopes]]\nname = "this-host"\nadapter = "process"\n'
    )
    done = reconcile("check", "--config", str(home / "s.toml"), home=home, PREFECT_API_URL=empty_server)
    assert done.returncode == 1
    assert "unix:///nowhere/docker.sock" in done.stdout
    assert 'pin it with  identity = "' in done.stdout


def test_version() -> None:
    done = reconcile("--version", home=Path("/nonexistent"))
    assert (done.returncode, done.stdout) == (0, "prefect-reconciler 0.1.0\n")


@pytest.mark.parametrize("application", [cli.app, cli.daemon_app], ids=["reconcile", "reconciler"])
def test_a_file_that_may_not_be_read_is_a_matter_of_configuration(
    application: typer.Typer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """78, and not typer's own 2, with which systemd would start a daemon again for ever."""
    (home / "reconciler.toml").write_text("[daemon]\ninterval = 'soon'\n")
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    monkeypatch.setattr("signal.pthread_sigmask", lambda *_: None)  # this process still wants its signals
    done = CliRunner().invoke(application, ["--config", str(home / "reconciler.toml")])
    assert done.exit_code == 78, done.output
    assert "daemon.interval" in done.stderr


@pytest.fixture
def box(home: Path) -> list[str]:
    """A configuration with one scope, which grades something of a scope that it no longer has."""
    (home / "s.toml").write_text("[api]\nretry_for = '0s'\n[[scopes]]\nname = 'box'\nadapter = 'process'\n")
    casebook = Casebook(home / "state" / GRADES_FILE)
    casebook.trust("old-box", datetime(2026, 11, 22, tzinfo=UTC))
    casebook.close()
    return ["--config", str(home / "s.toml")]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--trust", "box", "report"], "--trust"),
        (["--dry-run", "explain", str(UUID(int=1))], "--dry-run"),
        (["--exit-code", "report"], "--exit-code"),
        (["--pool", "a", "replay", "nowhere"], "--pool"),
        (["--run", str(UUID(int=1)), "check"], "--run"),
        (["--accept-scope-loss", "box", "check"], "--accept-scope-loss"),
        (["--json", "check"], "--json"),
        (["--json", "replay", "nowhere"], "--json"),
    ],
)
def test_what_a_subcommand_does_not_heed_is_refused(box: list[str], arguments: list[str], option: str) -> None:
    done = CliRunner().invoke(cli.app, [*box, *arguments], env={"PREFECT_API_URL": NOWHERE, "COLUMNS": "200"})
    assert done.exit_code == 2, done.output
    subcommand = next(word for word in arguments if word in ("report", "explain", "replay", "check"))
    assert f"'{option}' has no meaning with '{subcommand}': leave one of them out" in done.stderr


def test_json_may_stand_before_a_subcommand(home: Path, box: list[str]) -> None:
    for arguments in (["--json", *box, "report"], [*box, "report", "--json"]):
        done = reconcile(*arguments, home=home, PREFECT_API_URL=NOWHERE)
        assert json.loads(done.stdout)["problems"] == [], done.stderr


def test_an_explanation_of_what_could_not_be_read_is_json(home: Path, box: list[str]) -> None:
    done = reconcile("explain", str(UUID(int=1)), "--json", *box, home=home, PREFECT_API_URL=NOWHERE)
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert "cannot be reached" in document["problems"][0]
    done = reconcile("explain", str(UUID(int=1)), *box, home=home, PREFECT_API_URL=NOWHERE)
    assert "cannot be reached" in " ".join(done.stdout.split())


def test_replay_takes_the_common_options(home: Path, box: list[str]) -> None:
    (home / "evidence.jsonl").touch()
    for arguments in ([*box, "replay", str(home)], ["replay", str(home), *box]):
        done = reconcile(*arguments, home=home)
        assert (done.returncode, done.stdout) == (0, "0 lines of 0 runs: nothing to decide.\n"), done.stderr
    for arguments in (["--log-level", "loud", "replay", str(home)], ["replay", str(home), "--log-level", "loud"]):
        assert reconcile(*arguments, home=home).returncode == 2


class TestTrust:
    def test_in_a_scope_that_is_no_longer_configured(self, home: Path, box: list[str], empty_server: str) -> None:
        done = reconcile("--trust", "old-box", *box, home=home, PREFECT_API_URL=empty_server)
        assert (done.returncode, done.stderr) == (0, "scope 'old-box' was trusted\n")

    def test_in_one_that_nobody_knows(self, home: Path, box: list[str], empty_server: str) -> None:
        done = reconcile("--trust", "other", *box, home=home, PREFECT_API_URL=empty_server, COLUMNS="200")
        assert done.returncode == 2
        assert "no scope is called 'other': there are box; known from earlier are old-box" in done.stderr

    def test_that_could_not_be_kept(self, home: Path, box: list[str], empty_server: str) -> None:
        (home / "state" / GRADES_FILE).write_bytes(b"this is no database" * 1000)
        done = reconcile("--trust", "box", *box, home=home, PREFECT_API_URL=empty_server)
        assert done.returncode == 1
        assert "scope 'box' could not be trusted: " in done.stderr
