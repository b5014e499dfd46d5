"""Lines of any kind for the policy of a configuration that was written with texts alone."""

from __future__ import annotations

import json
from pathlib import Path


def add_policy(file: Path, **values: object) -> None:
    """Write lists, numbers and booleans into `[policy]`, instead of what may stand there under the same name."""
    head, _, tail = file.read_text().partition("[policy]\n")
    kept = [line for line in tail.splitlines() if line.partition(" = ")[0] not in values]
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    file.write_text("\n".join([f"{head}[policy]", *lines, *kept]) + "\n")
