"""What the documents promise exists."""

from __future__ import annotations

import ast
import json
import re
import textwrap
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session
from botocore.validate import ParamValidator

from reconciler import report
from reconciler_adapters.ecs.account import Account
from reconciler_adapters.kubernetes.cluster import Cluster
from reconciler_adapters.kubernetes.rights import role

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ECS = (ROOT / "docs" / "ecs.md").read_text()
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 120


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_make_targets_that_are_named_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / document).parent.joinpath(target).exists(), target
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^ *|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_every_exit_code_is_documented() -> None:
    codes = {value for name, value in vars(report).items() if name.startswith("EXIT_")}
    told = README.split("Exit codes:")[1].split("**systemd")[0]
    assert {int(code) for code in re.findall(r"\b(\d+) [a-z]", told)} == codes


def test_the_readme_s_scope_is_one_that_loads() -> None:
    table = re.search(r"    \[\[scopes\]\]\n(?:    .*\n)+", README)
    assert table
    (scope,) = tomllib.loads(table[0].replace("\n    ", "\n").strip())["scopes"]
    assert set(scope) == {"name", "adapter", "work_pools"}


def test_the_role_of_the_kubernetes_page_is_the_one_that_check_prints() -> None:
    printed = role(Cluster(scope="this-cluster", namespaces=("prefect",)))
    assert textwrap.indent(printed, 10 * " ") in (ROOT / "docs" / "kubernetes.md").read_text()


def scope_of(page: str) -> dict[str, Any]:
    """The first scope that it shows."""
    table = re.search(r"    \[\[scopes\]\]\n(?:    .*\n)+", (ROOT / "docs" / page).read_text())
    assert table
    (scope,) = tomllib.loads(textwrap.dedent(table[0]))["scopes"]
    return dict(scope)


def test_the_scope_of_the_kubernetes_page_has_options_that_exist() -> None:
    scope = scope_of("kubernetes.md")
    assert Cluster.of(scope["name"], scope["options"]).namespaces == ("prefect",)


def test_the_scope_of_the_ecs_page_has_options_that_exist_and_all_are_told() -> None:
    scope = scope_of("ecs.md")
    assert Account.of(scope["name"], scope["options"]).clusters == ("prod",)
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", ECS, re.MULTILINE))))
    assert {field.name for field in fields(Account)} - {"scope"} <= told


def test_the_task_definition_of_the_ecs_page_is_one_that_ecs_takes() -> None:
    start = ECS.index('    {\n      "family"')
    definition = json.loads(textwrap.dedent(ECS[start : ECS.index("\n    }\n", start) + 7]))
    model = Session().get_service_model("ecs").operation_model("RegisterTaskDefinition")
    assert not ParamValidator().validate(definition, model.input_shape).has_errors()
    (container,) = definition["containerDefinitions"]
    (mount,) = container["mountPoints"]
    image = (ROOT / "Dockerfile").read_text()
    assert mount == {"sourceVolume": definition["volumes"][0]["name"], "containerPath": "/var/lib/prefect-reconciler"}
    assert f"\nVOLUME {mount['containerPath']}\n" in image  # so it is its user's on ECS as well
    assert f"LISTEN=0.0.0.0:{container['portMappings'][0]['containerPort']}\n" in image
    assert ast.parse(container["healthCheck"]["command"][-1])
    assert container["readonlyRootFilesystem"] is True
    variables = {one["name"] for one in container["environment"] + container["secrets"]}
    assert {"PREFECT_API_URL", "PREFECT_API_KEY"} <= variables


def test_what_check_prints_on_the_ecs_page_is_about_the_rights_of_the_policy() -> None:
    policy = json.loads((ROOT / "config" / "aws" / "iam-policy.json").read_text())
    actions = {
        action for one in policy["Statement"] for action in ([one["Action"]], one["Action"])[one["Sid"] == "Tasks"]
    }
    assert set(re.findall(r"^\| `(ecs:\w+)`", ECS, re.MULTILINE)) == actions


def test_the_version_is_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"[{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_hold_versions_and_nothing_else() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
