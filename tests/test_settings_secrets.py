"""Keys, the files that hold them, and that none is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.settings import ConfigError, Loaded, load
from tests.homes import URL, config, problems, profiles, written


def key_of(loaded: Loaded) -> str:
    assert loaded.settings.api.key is not None
    return loaded.settings.api.key.get_secret_value()


def test_secret_files(tmp_path: Path) -> None:
    written(tmp_path / "key", "pnu_of_file\n")
    written(tmp_path / "auth", "me:hunter22\n")
    text = '[api]\nurl = "http://h/api"\nkey_file = "key"\nauth_string_file = "auth"\n'
    loaded = load(config(tmp_path, text), {"HOME": str(tmp_path)})
    assert key_of(loaded) == "pnu_of_file"
    assert loaded.origins["api.key"] == f"file {tmp_path / 'key'}"
    assert loaded.settings.api.secrets() == ("pnu_of_file", "me:hunter22", "hunter22")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"a\nb", "more than one line"), (b"\xff", "not UTF-8")],
)
def test_a_secret_file_that_cannot_be_used(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "key").write_bytes(content)
    text = problems(tmp_path, config(tmp_path, '[api]\nurl = "http://h/api"\nkey_file = "key"\n'))
    assert text.startswith(f"api.key_file: {tmp_path / 'key'} ")
    assert words in text


def test_a_key_and_its_file_in_one_place_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "key", "pnu_of_file")
    both = '[api]\nurl = "http://h/api"\nkey = "pnu_in_place"\nkey_file = "key"\n'
    text = problems(tmp_path, config(tmp_path, both))
    assert text == "api.key: given together with api.key_file; keep only api.key_file"


def test_a_stronger_key_displaces_a_weaker_file_and_the_reverse(tmp_path: Path) -> None:
    profiles(tmp_path)
    written(tmp_path / "key", "pnu_of_file")
    written(tmp_path / "credentials" / "prefect-api-key", "pnu_credential")
    environ = {"HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert key_of(load(config(tmp_path), environ)) == "pnu_credential"
    with_file = config(tmp_path, '[api]\nkey_file = "key"\n')
    assert key_of(load(with_file, environ)) == "pnu_of_file"
    variable = load(with_file, environ | {"PREFECT_API_KEY": "pnu_variable"})
    assert key_of(variable) == "pnu_variable"
    assert variable.settings.api.key_file is None
    assert key_of(load(config(tmp_path), {"HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": "/no"})) == "pnu_profile"


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    secrets = ("pnu_abcdef", "me:hunter22", "hunter22", "header-value")
    text = '[api]\nkey = "pnu_abcdef"\nauth_string = "me:hunter22"\nheaders = { X-A = "header-value" }\n'
    loaded = load(config(tmp_path, text), {"HOME": str(tmp_path), "PREFECT_API_URL": URL.format("h")})
    shown = f"{loaded!r} {loaded.settings!s} {dict(loaded.origins)} {loaded.settings.model_dump_json()}"
    assert [secret for secret in secrets if secret in shown] == []
    assert loaded.settings.api.secrets() == ("pnu_abcdef", "me:hunter22", "header-value", "hunter22")
    wrong = (
        '[api]\nurl = "http://me:hunter22@h/api"\nkye = "pnu_abcdef"\nkey = ["pnu_abcdef"]\n'
        'headers = "header-value"\nauth_string = { a = "me:hunter22" }\n'
    )
    told = problems(tmp_path, config(tmp_path, wrong))
    assert len(told.splitlines()) == 5
    assert [secret for secret in secrets if secret in told] == []


def test_a_wrong_secret_leaves_no_trace_in_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(config(tmp_path, '[api]\nkey = ["pnu_abcdef"]\n'), {"HOME": str(tmp_path)})
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


def test_a_credential_that_may_not_be_looked_at_is_not_absent(tmp_path: Path) -> None:
    """Seen on systemd 252 with private mounts: the folder was there, and only root's."""
    (tmp_path / "credentials").symlink_to("credentials")  # any error but "not found"; tests may run as root
    file = config(tmp_path, '[api]\nurl = "http://h/api"\n')
    text = problems(tmp_path, file, CREDENTIALS_DIRECTORY=str(tmp_path / "credentials"))
    assert text.startswith("api.key_file: ")
    assert "cannot be read" in text
