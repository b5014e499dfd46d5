"""What is installed is what `constraints.txt` names: nothing comes in beside it, and nothing in another version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NAME = "prefect-reconciler"
EXTRAS = ("", "docker", "kubernetes", "aws", "gcp", "azure", "dev")


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def wanted(name: str, extras: tuple[str, ...], seen: set[tuple[str, str]]) -> Iterator[str]:
    """The names of all that a distribution needs here, and of all that those need, if they are installed."""
    try:
        requires = distribution(name).requires or []
    except PackageNotFoundError:  # an extra that is not installed here
        return
    for extra in extras:
        for text in requires:
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": extra}):
                continue
            key = canonicalize_name(need.name)
            yield key
            more = tuple(one for one in ("", *sorted(need.extras)) if (key, one) not in seen)
            seen |= {(key, one) for one in more}
            yield from wanted(key, more, seen)


def test_every_dependency_is_pinned_also_those_of_dependencies() -> None:
    needed = set(wanted(NAME, EXTRAS, set())) - {NAME}
    assert len(needed) > 40
    assert needed - pins().keys() == set()


def test_what_is_installed_is_what_is_pinned() -> None:
    found = {}
    for name, version in pins().items():
        try:
            found[name] = (distribution(name).version, version)
        except PackageNotFoundError:  # for another Python, or of an extra that is not installed here
            continue
    assert len(found) > 40
    assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == {}


def test_the_image_and_the_set_up_use_the_pins() -> None:
    for name in ("Dockerfile", "Makefile"):
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        (install,) = re.findall(r"pip .*install .*(?:\.\[\$|--editable).*", text)
        assert "--constraint constraints.txt" in install, name


def test_the_audit_fails_when_it_could_not_look() -> None:
    """A mirror that knows no advisories answers that nothing is known; without --strict that would be green."""
    (command,) = re.findall(r"^\t\S+/pip-audit .*", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"--strict", "--no-deps", "constraints.txt"} <= set(command.split())
