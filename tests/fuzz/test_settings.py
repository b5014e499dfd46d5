"""Whatever stands in the file and the environment: settings, or sentences; and no secret in any of them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.settings import ConfigError, load, setting_paths
from tests.fuzz.effort import fuzz
from tests.fuzz.spoiling import STRINGS

SECRET = "Zq7secretZq7"
KEYS = sorted({path.rpartition(".")[2] for path in setting_paths()} | {"name", "adapter", "work_pools", "options"})
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    STRINGS.map(lambda text: text.encode("utf-8", "replace").decode()),
    st.sampled_from(["30s", "-1s", "9999999999999d", "1e400s", "nans", "127.0.0.1:99999", "[::1", "http://[::1"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
)
TABLES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)
TREES = st.fixed_dictionaries(
    {},
    optional={
        "api": st.one_of(TABLES, VALUES),
        "policy": st.one_of(TABLES, VALUES),
        "daemon": st.one_of(TABLES, VALUES),
        "scopes": st.one_of(st.lists(TABLES, max_size=3), VALUES),
        "state_dir": VALUES,
        "what": VALUES,
    },
)
VARIABLES = [f"RECONCILER_{path.replace('.', '__').upper()}" for path in setting_paths()] + [
    "PREFECT_API_URL",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_CLIENT_CUSTOM_HEADERS",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
    "PREFECT_API_SSL_CERT_FILE",
    "PREFECT_PROFILE",
    "RECONCILER_SCOPES",
    "RECONCILER_API__KEYS",
    "STATE_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
]
TEXTS = st.one_of(
    STRINGS, st.sampled_from(["[", "{", '{"a": 1}', "[[[", "[1,2]", '{"a": {"b": []}}', "a,b,,", "true", "1e999"])
).map(lambda text: text.encode("utf-8", "replace").decode().replace("\0", ""))
ENVIRONMENTS = st.dictionaries(st.sampled_from(VARIABLES), TEXTS, max_size=4)


def toml(value: object) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(f"\\U{ord(sign):08X}" if sign in '"\\' or not sign.isprintable() else sign for sign in value)
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def settle_for(text: bytes | None, environ: dict[str, str]) -> str:
    """Load, and give the sentences if it is refused."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "reconciler.toml"
        if text is not None:
            file.write_bytes(text)
        try:
            load(file, {"HOME": folder} | environ)
            return ""
        except ConfigError as error:
            problems = error.problems
    assert problems
    assert all(problem.strip() and problem.isprintable() and len(problem) < 3000 for problem in problems)
    return "\n".join(problems)


@given(tree=TREES, environ=ENVIRONMENTS)
@fuzz(120)
def test_any_tree(tree: dict[str, object], environ: dict[str, str]) -> None:
    text = "\n".join(f"{key} = {toml(value)}" for key, value in tree.items())
    settle_for(text.encode(), environ)


@given(text=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))))
@fuzz(100)
def test_any_bytes(text: bytes) -> None:
    settle_for(text, {})


def test_nesting_without_end() -> None:
    assert "nested" in settle_for(b"a = " + b"[" * 100_000, {})
    settle_for(b"a." * 5_000 + b"b = 1", {})
    settle_for(b"[api]\nkey = 1", {"PREFECT_CLIENT_CUSTOM_HEADERS": "[" * 100_000})


PLACES = [
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_CLIENT_CUSTOM_HEADERS",
    "RECONCILER_API__KEY",
    "RECONCILER_API__AUTH_STRING",
    "RECONCILER_API__HEADERS",
]
FORMS = ["{}", "{}\n{}", '{{"X-Key": "{}"}}', '{{"{}"', '{{"X": ["{}"]}}', "user:{}", "[{}]", '"{}', "\x1b{}", '["{}"]']


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
def test_no_secret_in_a_sentence(place: str, form: str) -> None:
    environ = {place: form.format(SECRET, SECRET), "PREFECT_API_URL": f"http://u:{SECRET}@h o s t:x/api"}
    assert SECRET not in settle_for(None, environ)
    assert SECRET not in settle_for(b"[api]\nurl = 3", environ)


@given(value=VALUES, key=st.sampled_from(["key", "auth_string", "headers", "url"]))
@fuzz(40)
def test_no_secret_of_the_file_in_a_sentence(value: object, key: str) -> None:
    holder = {"a": [value, SECRET]} if key == "headers" else [value, SECRET, {"x": SECRET}]
    assert SECRET not in settle_for(f"[api]\n{key} = {toml(holder)}".encode(), {})
