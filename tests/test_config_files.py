"""The files under config/: the reference shows every key with its default, and the examples load."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from reconciler import registry
from reconciler.settings import ScopeSettings, Settings, load, setting_paths, worst_case_detection
from reconciler_adapters.ecs.account import Account
from reconciler_adapters.kubernetes.cluster import Cluster

CONFIG = Path(__file__).parent.parent / "config"
REFERENCE = CONFIG / "reconciler.toml"
EXAMPLES = sorted((CONFIG / "examples").glob("*.toml"))
COMMENTED = re.compile(r"^# (?=\[\[|[a-z_]+ = )", re.MULTILINE)


def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PREFECT_API_URL": "http://127.0.0.1:4200/api"}


def test_the_reference_loads_to_the_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.touch()
    assert load(REFERENCE, environ(tmp_path)).settings == load(empty, environ(tmp_path)).settings


def test_the_reference_shows_every_setting(tmp_path: Path) -> None:
    tree = tomllib.loads(COMMENTED.sub("", REFERENCE.read_text(encoding="utf-8")))
    shown = {"state_dir"} & tree.keys() | {
        f"{table}.{key}" for table in ("api", "policy", "daemon") for key in tree[table]
    }
    assert shown == set(setting_paths())
    assert set(tree["scopes"][0]) == set(ScopeSettings.model_fields)
    assert set(tree) == set(Settings.model_fields)


def test_the_reference_shows_defaults_of_keys_that_have_one() -> None:
    origins = load(REFERENCE, {"HOME": "/nowhere", "PREFECT_API_URL": "http://h/api"}).origins
    left_out = {path for path, origin in origins.items() if origin == "default"}
    optional = {"key_file", "key", "auth_string_file", "auth_string", "headers", "ca_file"}
    assert left_out == {"state_dir", "scopes", "daemon.ui_url", *(f"api.{key}" for key in optional)}


def test_every_key_of_the_reference_has_a_reason() -> None:
    lines = REFERENCE.read_text(encoding="utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"(# )?[a-z_]+ = ", line)]
    above = [lines[number - 1] for number in keys]
    bare = [line for line in above if not line.startswith("# ") or re.match(r"# [a-z_]+ = ", line)]
    # the two pairs that share the comment of the first
    assert bare == ['# work_pools = ["docker-pool"]', '# workers = ["docker-host-1"]']


def test_the_scopes_of_the_reference_load_once_uncommented(tmp_path: Path) -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    start = text.index("# [[scopes]]")
    path = tmp_path / "reconciler.toml"
    path.write_text(text[:start] + COMMENTED.sub("", text[start:]), encoding="utf-8")
    (scope,) = load(path, environ(tmp_path)).settings.scopes
    assert (scope.name, scope.adapter) == ("docker-host", "docker")
    assert scope.mapping({"docker"}).is_explicit


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load(example: Path, tmp_path: Path) -> None:
    settings = load(example, {"HOME": str(tmp_path)}).settings
    assert settings.scopes
    assert all(scope.exclusive or scope.adapter == "ecs" for scope in settings.scopes), "ECS's pids name their place"
    assert worst_case_detection(settings)


def test_all_examples_are_tested() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "docker-host",
        "ecs",
        "kubernetes-clusters",
        "kubernetes-shared-cluster",
        "process-host",
        "two-docker-hosts",
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_options_of_examples_are_those_of_their_adapters(example: Path, tmp_path: Path) -> None:
    scopes = load(example, {"HOME": str(tmp_path)}).settings.scopes
    for bound in registry.bind(scopes):
        bound.scope.close()


@pytest.mark.parametrize(("adapter", "options"), [("kubernetes", Cluster), ("ecs", Account)])
def test_the_reference_names_every_option(adapter: str, options: type[Cluster | Account]) -> None:
    text = REFERENCE.read_text(encoding="utf-8").replace("\n# ", " ")
    told = text[text.index(f" {adapter}: ") :].partition("}")[0]
    assert [field.name for field in fields(options) if field.name not in told] == ["scope"]
