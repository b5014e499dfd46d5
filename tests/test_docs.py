"""What the documents promise exists."""

from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path

import pytest

from reconciler import report
from reconciler_adapters.kubernetes.cluster import Cluster
from reconciler_adapters.kubernetes.rights import role

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
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


def test_the_scope_of_the_kubernetes_page_has_options_that_exist() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    table = re.search(r"    \[\[scopes\]\]\n(?:    .*\n)+", text)
    assert table
    (scope,) = tomllib.loads(textwrap.dedent(table[0]))["scopes"]
    assert Cluster.of(scope["name"], scope["options"]).namespaces == ("prefect",)


def test_the_version_is_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"[{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_hold_versions_and_nothing_else() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
