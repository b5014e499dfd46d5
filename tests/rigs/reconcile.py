"""Run the real `reconcile` command, as a user does, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rigs.processes import inherited_environment

QUICK = {"grace": "1s", "confirm_after": "1s", "settle_failed": "1s", "settle_zero": "2s", "settle_starting": "2s"}


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass printed, and how it ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.out)
        except ValueError:
            raise AssertionError(f"exit code {self.code}, no JSON:\n{self.out}\n{self.err}") from None
        return found

    def run(self, run_id: object) -> dict[str, Any]:
        return next(row for row in self.document["runs"] if row["id"] == str(run_id))


class Reconcile:
    """`reconcile` with one configuration and a memory of its own: one host's reconciler."""

    def __init__(self, api: str, folder: Path, *scopes: str, **policy: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.api, self.file = api, folder / "reconciler.toml"
        lines = [f'state_dir = "{folder}/state"', "[policy]", *(f'{key} = "{value}"' for key, value in policy.items())]
        self.file.write_text("\n".join([*lines, *scopes]) + "\n")

    def __call__(self, *arguments: str, document: bool = True) -> Pass:
        command = [sys.executable, "-m", "reconciler", "--config", str(self.file), *arguments]
        command += ["--json"] if document else []
        began = time.monotonic()
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
            env=inherited_environment(PREFECT_API_URL=self.api, PREFECT_HOME=str(self.file.parent)),
        )
        return Pass(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def docker_scope(base_url: str, pool: str, name: str = "here", *, exclusive: bool = False) -> str:
    return (
        f'[[scopes]]\nname = "{name}"\nadapter = "docker"\nwork_pools = ["{pool}"]\n'
        f'exclusive = {str(exclusive).lower()}\noptions = {{ base_url = "{base_url}", host_name = "{name}" }}\n'
    )


def process_scope(pool: str, name: str = "this-host") -> str:
    return f'[[scopes]]\nname = "{name}"\nadapter = "process"\nwork_pools = ["{pool}"]\n'
