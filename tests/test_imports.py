"""Who pays for what: heavy libraries are imported by one module each, and only when that is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).parents[1] / "reconciler"
ONLY_IN = {
    "apscheduler": {"rounds.py"},
    "starlette": {"web.py"},
    "uvicorn": {"serving.py"},
    "jinja2": {"pages/__init__.py"},
    "prometheus_client": {"gauges.py", "metrics.py"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("library", ONLY_IN)
def test_one_module_imports_it(library: str) -> None:
    users = {str(path.relative_to(CORE)) for path in CORE.rglob("*.py") if library in imports(path)}
    assert users == ONLY_IN[library]


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("reconciler.cli", {*ONLY_IN, "docker", "kubernetes", "boto3", "psutil"}),
        ("reconciler.station", {*ONLY_IN, "docker", "kubernetes", "boto3", "psutil"} - {"apscheduler"}),
    ],
    ids=["a one-shot pass", "a daemon that does not listen"],
)
def test_it_is_imported_only_when_needed(module: str, unneeded: set[str]) -> None:
    script = f"import sys, {module}; print(*sorted(set(sys.modules) & {unneeded!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_adapters_import_their_sdks_late() -> None:
    """The registry imports every adapter to discover what is on this machine, whether its SDK is installed or not."""
    sdks = {"docker", "kubernetes", "urllib3", "yaml", "requests", "boto3", "botocore"}
    names = "docker, reconciler_adapters.ecs, reconciler_adapters.kubernetes, reconciler_adapters.process"
    script = f"import sys, reconciler_adapters.{names}; print(*sorted(set(sys.modules) & {sdks!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_a_pass_without_ecs_scopes_never_imports_boto3() -> None:
    """Nor does looking for what is on this machine: an account has no usual cluster."""
    script = """
import sys
from reconciler import registry
from reconciler_adapters.docker import DockerScope
DockerScope("engine", {"base_url": "unix:///nowhere"}).close()
for bound in registry.discover().scopes:
    bound.scope.close()
print(*sorted(set(sys.modules) & {"boto3", "botocore"}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
