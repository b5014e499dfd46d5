"""What `reconcile check` and the start of the daemon say of settings that work and are not safe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.settings import load
from reconciler.settings.cautions import cautions
from tests.homes import config

SECRET = "pnu_thisKeyMustNeverBeSeen0123456789"
KEY = f'key = "{SECRET}"'


def told(folder: Path, text: str, mode: int = 0o600) -> list[str]:
    file = config(folder, text)
    file.chmod(mode)
    found = list(cautions(load(file, {"HOME": str(folder)})))
    assert SECRET not in "".join(found)
    return found


def api(url: str, *lines: str) -> str:
    return "\n".join(["[api]", f'url = "{url}"', *lines, ""])


@pytest.mark.parametrize(
    "url",
    [
        "https://prefect.example/api",
        "http://127.0.0.1:4200/api",
        "http://127.8.0.1:4200/api",
        "http://[::1]:4200/api",
        "http://localhost:4200/api",
        "http://prefect.localhost/api",
    ],
)
def test_a_key_over_tls_or_on_this_machine_is_well(tmp_path: Path, url: str) -> None:
    assert told(tmp_path, api(url, KEY)) == []


@pytest.mark.parametrize("host", ["prefect.example", "10.0.0.7", "prefect-server", "127.0.0.1.example"])
def test_a_key_in_the_clear(tmp_path: Path, host: str) -> None:
    assert told(tmp_path, api(f"http://{host}:4200/api")) == [], "nothing secret is sent"
    (sentence,) = told(tmp_path, api(f"http://{host}:4200/api", KEY, 'headers = { X-Token = "x" }'))
    assert sentence.startswith(f"api.url: {host} is sent the API key and headers unencrypted, and ")
    (sentence,) = told(tmp_path, api(f"http://{host}:4200/api", 'auth_string = "me:hunter22"'))
    assert "the API auth string unencrypted" in sentence
    assert "hunter22" not in sentence


def test_any_certificate(tmp_path: Path) -> None:
    (sentence,) = told(tmp_path, api("https://prefect.example/api", "tls_verify = false"))
    assert sentence.startswith("api.tls_verify: any certificate is accepted")
    assert told(tmp_path, api("http://127.0.0.1:4200/api", "tls_verify = false")) == []


def scope(options: str) -> str:
    return f'{api("http://127.0.0.1/api")}[[scopes]]\nname = "a"\nadapter = "docker"\noptions = {{ {options} }}\n'


@pytest.mark.parametrize(
    "options",
    [
        'base_url = "unix:///var/run/docker.sock"',
        'base_url = "tcp://127.0.0.1:2375"',
        'base_url = "tcp://localhost:2375"',
        'base_url = "tcp://engine:2376", tls_ca = "/ca.pem"',
        'base_url = "https://engine:2376"',
        'host_name = "tcp"',
        'namespaces = ["http://a"]',
        'base_url = "tcp://[broken"',
    ],
)
def test_places_that_are_near_or_encrypted_are_well(tmp_path: Path, options: str) -> None:
    assert told(tmp_path, scope(options)) == []


@pytest.mark.parametrize(
    ("options", "name", "host"),
    [
        ('base_url = "tcp://engine:2375"', "base_url", "engine"),
        ('base_url = "http://10.0.0.7:2375"', "base_url", "10.0.0.7"),
        (f'base_url = "http://root:{SECRET}@10.0.0.7:2375"', "base_url", "10.0.0.7"),
        ('endpoint_url = "http://aws.example"', "endpoint_url", "aws.example"),
    ],
)
def test_places_that_anybody_on_the_way_may_speak_for(tmp_path: Path, options: str, name: str, host: str) -> None:
    (sentence,) = told(tmp_path, scope(options))
    assert sentence.startswith(f"scopes[a].options.{name}: {host} is asked without TLS, and ")


@pytest.mark.parametrize("name", ["key", "auth_string"])
def test_files_of_secrets(tmp_path: Path, name: str) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    text = api("https://prefect.example/api", f'{name}_file = "secret"')
    for mode in (0o400, 0o600, 0o440, 0o660):  # our own group counts as us
        path.chmod(mode)
        assert told(tmp_path, text) == [], oct(mode)
    path.chmod(0o604)
    assert told(tmp_path, text) == [f"api.{name}_file: {path} holds a secret and can be read by other users: chmod 600"]
    path.chmod(0o602)
    assert told(tmp_path, text) == [f"api.{name}_file: {path} can be changed by other users: chmod go-w"]


def test_another_group_is_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o640)
    os.chown(path, -1, 4711 if os.geteuid() == 0 else os.getgid())
    monkeypatch.setattr(os, "getegid", lambda: 4713)
    (sentence,) = told(tmp_path, api("https://prefect.example/api", 'key_file = "secret"'))
    assert "can be read by other users" in sentence


def test_the_configuration(tmp_path: Path) -> None:
    plain = api("https://prefect.example/api")
    assert told(tmp_path, plain, 0o644) == []
    (sentence,) = told(tmp_path, plain, 0o646)
    assert sentence == f"the configuration: {tmp_path / 'reconciler.toml'} can be changed by other users: chmod go-w"
    (sentence,) = told(tmp_path, api("https://prefect.example/api", KEY), 0o644)
    assert "holds a secret and can be read by other users" in sentence


def test_a_configuration_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config(tmp_path, api("https://prefect.example/api"))
    if os.geteuid() == 0:
        os.chown(file, 4711, -1)
    loaded = load(file, {"HOME": str(tmp_path)})
    monkeypatch.setattr(os, "geteuid", lambda: 4713)
    (sentence,) = cautions(loaded)
    assert "belongs to another user (uid " in sentence


def test_a_file_that_vanished_meanwhile_is_not_judged(tmp_path: Path) -> None:
    file = config(tmp_path, api("https://prefect.example/api"))
    loaded = load(file, {"HOME": str(tmp_path)})
    file.unlink()
    assert list(cautions(loaded)) == []


def test_no_file_and_no_scope_is_well(tmp_path: Path) -> None:
    assert list(cautions(load(None, {"HOME": str(tmp_path), "PREFECT_API_URL": "http://h/api"}))) == []
