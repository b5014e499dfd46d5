"""Where values come from: the order of the sources, their origins, and files that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.plan import Mode
from reconciler.settings import load, setting_paths, sources
from tests.homes import URL, config, problems, profiles, written


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home on a machine without a configuration file in the usual place."""
    monkeypatch.setattr(sources, "DEFAULT_FILE", tmp_path / "etc" / "reconciler.toml")
    return tmp_path


def test_each_source_gives_way_to_a_stronger_one(home: Path) -> None:
    def loaded(
        *, flags: bool = False, ours: bool = False, prefect: bool = False, file: bool = False
    ) -> tuple[str, str]:
        environ = {"HOME": str(home)}
        environ |= {"RECONCILER_API__URL": URL.format("ours")} if ours else {}
        environ |= {"PREFECT_API_URL": URL.format("prefect")} if prefect else {}
        path = config(home, f'[api]\nurl = "{URL.format("file")}"\n' if file else "")
        result = load(path, environ, {"api.url": URL.format("flag")} if flags else {})
        return result.settings.api.url.split(":")[1][2:], result.origins["api.url"]

    profiles(home)
    assert loaded() == ("profile", "Prefect profile 'local'")
    assert loaded(file=True) == ("file", f"file {home / 'reconciler.toml'}")
    assert loaded(file=True, prefect=True) == ("prefect", "environment PREFECT_API_URL")
    assert loaded(file=True, prefect=True, ours=True) == ("ours", "environment RECONCILER_API__URL")
    assert loaded(file=True, prefect=True, ours=True, flags=True) == ("flag", "flag --url")


def test_every_setting_has_an_origin(home: Path) -> None:
    result = load(config(home), {"HOME": str(home), "PREFECT_API_URL": URL.format("h")}, {"policy.mode": None})
    assert set(result.origins) == {*setting_paths(), "scopes", "config"}
    assert result.origins["policy.grace"] == "default"
    assert result.origins["policy.mode"] == "default"
    assert result.origins["config"] == "flag --config"
    assert result.file == home / "reconciler.toml"


def test_variables_of_ours(home: Path) -> None:
    settings = load(
        config(home, '[policy]\nexclude_work_pools = ["file"]\n'),
        {
            "HOME": str(home),
            "RECONCILER_API__URL": URL.format("h"),
            "RECONCILER_API__HEADERS": '{"X-A": "1"}',
            "RECONCILER_API__TLS_VERIFY": "false",
            "RECONCILER_POLICY__GRACE": "45s",
            "RECONCILER_POLICY__MAX_SETTLEMENTS": "7",
            "RECONCILER_POLICY__EXCLUDE_TAGS": "a, b",
            "RECONCILER_POLICY__EXCLUDE_WORK_QUEUES": '["x,y"]',
            "RECONCILER_POLICY__EXCLUDE_WORK_POOLS": "",  # empty counts as not set
        },
    ).settings
    assert settings.api.plain_headers() == {"X-A": "1"}
    assert not settings.api.tls_verify
    assert settings.policy.grace.total_seconds() == 45
    assert settings.policy.max_settlements == 7
    assert settings.policy.exclude_tags == {"a", "b"}
    assert settings.policy.exclude_work_queues == {"x,y"}
    assert settings.policy.exclude_work_pools == {"file"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RECONCILER_GRACE", "did you mean 'RECONCILER_POLICY__GRACE'?"),
        ("RECONCILER_POLICY__GRASE", "did you mean 'RECONCILER_POLICY__GRACE'?"),
        ("RECONCILER_CONFG", "did you mean 'RECONCILER_CONFIG'?"),
        ("RECONCILER_API__HEADERS__X", "did you mean 'RECONCILER_API__HEADERS'?"),
        ("RECONCILER_SCOPES", "scopes come from the file only"),
        ("RECONCILER_SCOPES__0__NAME", "scopes come from the file only"),
    ],
)
def test_an_unknown_variable_is_refused(home: Path, name: str, words: str) -> None:
    text = problems(home, config(home), PREFECT_API_URL=URL.format("h"), **{name: "pnu_secret"})
    assert text.startswith(f"{name}: ")
    assert words in text
    assert "pnu_secret" not in text


@pytest.mark.parametrize(
    "name", ["SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_9464_TCP_ADDR", "METRICS_SERVICE_PORT", "METRICS_PORT"]
)
def test_what_kubernetes_sets_for_a_service_is_not_ours(home: Path, name: str) -> None:
    environ = {"HOME": str(home), "PREFECT_API_URL": URL.format("h"), f"RECONCILER_{name}": "tcp://10.0.0.1:9464"}
    assert load(config(home), environ).settings.api.url


def test_without_a_file_nothing_is_written(home: Path) -> None:
    environ = {"HOME": str(home), "PREFECT_API_URL": URL.format("h"), "RECONCILER_POLICY__MODE": "settle"}
    loaded = load(None, environ, {"policy.mode": "settle"})
    assert loaded.file is None
    assert loaded.settings.policy.mode is Mode.OBSERVE
    assert loaded.origins["policy.mode"] == "no configuration file: observe"
    assert loaded.origins["config"] == "none"


def test_which_file(home: Path) -> None:
    environ = {"HOME": str(home), "PREFECT_API_URL": URL.format("h")}
    usual = written(sources.DEFAULT_FILE, "")
    assert load(None, environ).origins["config"] == "default"
    assert load(None, environ).file == usual
    named = config(home)
    loaded = load(None, {**environ, "RECONCILER_CONFIG": str(named)})
    assert (loaded.file, loaded.origins["config"]) == (named, "environment RECONCILER_CONFIG")
    assert load(usual, {**environ, "RECONCILER_CONFIG": str(named)}).file == usual
    assert loaded.settings.policy.mode is Mode.SETTLE


def test_a_file_that_cannot_be_read(home: Path) -> None:
    missing, folder = home / "no.toml", home
    assert problems(home, missing) == f"the configuration file {missing} does not exist (flag --config)"
    assert "(environment RECONCILER_CONFIG)" in problems(home, None, RECONCILER_CONFIG=str(missing))
    assert f"the configuration file {folder} cannot be read: Is a directory" in problems(home, folder)
    syntax = config(home, "[api]\nurl = http://h/api\n")
    told = f"the configuration file {syntax} is not valid TOML: line 2, column 7: Invalid value"
    assert problems(home, syntax) == told
    syntax.write_bytes(b"[api]\n\xff")
    assert f"{syntax} is not UTF-8 text, at byte 6" in problems(home, syntax)


def test_a_broken_file_does_not_hide_the_variables_problems(home: Path) -> None:
    text = problems(home, config(home, "="), RECONCILER_GRACE="1s", RECONCILER_POLICY__QUIET="soon")
    assert "is not valid TOML" in text
    assert "RECONCILER_GRACE: no such variable" in text
    assert "policy.quiet: " in text
    assert "no Prefect API address" not in text


def test_the_state_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder(uid: int, text: str = "", **environ: str) -> tuple[Path, str]:
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        given = {"HOME": str(home), "PREFECT_API_URL": URL.format("h"), **environ}
        loaded = load(config(home, text), given)
        return loaded.settings.state_dir, loaded.origins["state_dir"]

    assert folder(0) == (Path("/var/lib/prefect-reconciler"), "default")
    assert folder(1000) == (home / ".local" / "state" / "prefect-reconciler", "default")
    assert folder(1000, XDG_STATE_HOME="/xdg")[0] == Path("/xdg/prefect-reconciler")
    assert folder(0, STATE_DIRECTORY="/s:/t") == (Path("/s"), "environment STATE_DIRECTORY")
    assert folder(0, 'state_dir = "/f"', STATE_DIRECTORY="/s") == (Path("/f"), f"file {home / 'reconciler.toml'}")
    assert folder(0, 'state_dir = "state"')[0] == home / "state"  # relative to the file
