"""The PREFECT_* variables and the active profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.settings import Loaded, load
from tests.homes import PROFILES, URL, config, problems, profiles, written


def test_variables_of_prefect(tmp_path: Path) -> None:
    ca_file = written(tmp_path / "ca.pem", "certificate")
    loaded = load(
        config(tmp_path, '[api]\nurl = "http://file:4200/api"\ntls_verify = true\n'),
        {
            "HOME": str(tmp_path),
            "PREFECT_API_URL": URL.format("prefect"),
            "PREFECT_API_KEY": "pnu_variable",
            "PREFECT_API_AUTH_STRING": "me:hunter22",
            "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-A": "value-a"}',
            "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "1",
            "PREFECT_API_SSL_CERT_FILE": str(ca_file),
            "SSL_CERT_FILE": "/somewhere/else.pem",
        },
    )
    api = loaded.settings.api
    assert api.key is not None
    assert api.key.get_secret_value() == "pnu_variable"
    assert api.ca_file == ca_file
    assert not api.tls_verify
    assert api.secrets() == ("pnu_variable", "me:hunter22", "value-a", "hunter22")
    assert loaded.origins["api.tls_verify"] == "environment PREFECT_API_TLS_INSECURE_SKIP_VERIFY"
    assert loaded.origins["api.ca_file"] == "environment PREFECT_API_SSL_CERT_FILE"


def test_ssl_cert_file_comes_last(tmp_path: Path) -> None:
    ca_file = written(tmp_path / "ca.pem", "certificate")
    environ = {"HOME": str(tmp_path), "PREFECT_API_URL": URL.format("h"), "SSL_CERT_FILE": str(ca_file)}
    loaded = load(config(tmp_path), environ)
    assert (loaded.settings.api.ca_file, loaded.origins["api.ca_file"]) == (ca_file, "environment SSL_CERT_FILE")
    text = problems(tmp_path, config(tmp_path), **{**environ, "SSL_CERT_FILE": "/no/such.pem"})
    assert text == "api.ca_file: there is no file /no/such.pem (environment SSL_CERT_FILE)"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PREFECT_CLIENT_CUSTOM_HEADERS", "not json", "a JSON object such as"),
        ("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "maybe", "true or false"),
        ("PREFECT_API_URL", "prefect:4200", "must begin with http://"),
    ],
)
def test_a_wrong_variable_of_prefect(tmp_path: Path, name: str, value: str, words: str) -> None:
    text = problems(tmp_path, config(tmp_path), **{"PREFECT_API_URL": URL.format("h"), name: value})
    assert words in text
    assert f"(environment {name})" in text


def load_profile(tmp_path: Path, **environ: str) -> Loaded:
    return load(config(tmp_path), {"HOME": str(tmp_path), **environ})


def test_the_active_profile(tmp_path: Path) -> None:
    profiles(tmp_path)
    loaded = load_profile(tmp_path)
    assert loaded.settings.api.url == URL.format("profile")
    assert loaded.settings.api.plain_headers() == {"X-From": "profile"}
    assert loaded.origins["api.key"] == "Prefect profile 'local'"
    other = load_profile(tmp_path, PREFECT_PROFILE="other")
    assert (other.settings.api.url, other.settings.api.tls_verify) == (URL.format("other"), False)


def test_where_profiles_are(tmp_path: Path) -> None:
    elsewhere = written(tmp_path / "elsewhere" / "profiles.toml", PROFILES)
    assert load_profile(tmp_path, PREFECT_HOME=str(elsewhere.parent)).settings.api.url == URL.format("profile")
    renamed = elsewhere.rename(tmp_path / "p.toml")
    assert load_profile(tmp_path, PREFECT_PROFILES_PATH=str(renamed)).settings.api.url == URL.format("profile")


def test_a_broken_profile_matters_only_if_it_is_needed(tmp_path: Path) -> None:
    path = profiles(tmp_path, "active = \n")
    assert load_profile(tmp_path, PREFECT_API_URL=URL.format("h")).settings.api.url == URL.format("h")
    text = problems(tmp_path, config(tmp_path))
    assert "no Prefect API address: set PREFECT_API_URL or [api] url" in text
    assert f"the Prefect profiles file {path} is not valid TOML: line 1" in text


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    path = profiles(tmp_path)
    assert f"{path} has no profile 'gone'" in problems(tmp_path, config(tmp_path), PREFECT_PROFILE="gone")
    assert "no.toml does not exist" in problems(tmp_path, config(tmp_path), PREFECT_PROFILES_PATH="/no.toml")
    assert problems(tmp_path, config(tmp_path), PREFECT_PROFILE="empty").startswith("api.url: no Prefect API address")
