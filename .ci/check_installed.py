"""Look at the installed distribution: what it put at the top level, and whether every adapter loads."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import distribution, entry_points

DISTRIBUTION = "prefect-reconciler"
PACKAGES = {"reconciler", "reconciler_adapters"}
HINT = "pip install 'prefect-reconciler["


def top_level() -> set[str]:
    """Names that the wheel put into site-packages, its own metadata and the commands aside."""
    files = distribution(DISTRIBUTION).files or []
    return {file.parts[0] for file in files if file.parts[0] != ".." and not file.parts[0].endswith(".dist-info")}


def unloadable() -> list[str]:
    """Adapters that neither load nor say which extra they need."""
    bad = []
    for entry in entry_points(group="reconciler.adapters"):
        try:
            entry.load()
        except ImportError as missing:
            if HINT not in str(missing):
                bad.append(f"{entry.name}: {missing}")
    return bad


def main() -> int:
    names, bad = top_level(), unloadable()
    adapters = sorted(entry.name for entry in entry_points(group="reconciler.adapters"))
    sys.stdout.write(f"top-level names: {sorted(names)}; adapters: {', '.join(adapters)}\n")
    problems = [f"does not load: {text}" for text in bad]
    if names != PACKAGES:
        problems.append(f"expected the top-level names {sorted(PACKAGES)}")
    try:
        importlib.import_module("reconciler.pages")  # reads its template and style
        importlib.import_module("reconciler.front")
    except Exception as error:  # noqa: BLE001
        problems.append(f"the web part does not load: {type(error).__name__}: {error}")
    if not adapters:
        problems.append("no adapter is registered")
    sys.stdout.writelines(f"problem: {text}\n" for text in problems)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
