"""`reconcile check`: what is wrong, what is only worth knowing, and a remedy to copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from reconciler import checking
from reconciler.looking import Asker, look
from reconciler.model import RunMapping
from reconciler.ports import BoundScope, Problem
from reconciler.testing import FakeScope

ROLE = "give its account this Role:\n\nkind: Role\nrules:\n  - verbs: [get]"


@dataclass
class Checked(FakeScope):
    found: list[Problem] = field(default_factory=list)

    def check(self) -> Sequence[Problem]:
        return self.found


def told(*found: Problem) -> tuple[list[str], bool]:
    bound = BoundScope(Checked(found=list(found)), "fake", RunMapping(worker_types=frozenset({"fake"})))
    (answer,) = look([Asker(bound)], {}, 5.0).values()
    lines, ok = checking._scope(bound, answer)
    return [line for line in lines[2:] if "identity" not in line and "sees" not in line], ok


def test_a_problem_and_its_remedy() -> None:
    assert told(Problem("no", "do this")) == (["  problem: no (do this)"], False)
    assert told(Problem("no", "")) == (["  problem: no"], False)
    assert told() == ([], True)


def test_what_is_only_worth_knowing_does_not_fail() -> None:
    note = Problem("nodes may not be read", "grant it", optional=True)
    assert told(note) == (["  note: nodes may not be read (grant it)"], True)
    assert told(note, Problem("no", "")) == (["  note: nodes may not be read (grant it)", "  problem: no"], False)


@pytest.mark.parametrize("optional", [False, True])
def test_a_remedy_of_several_lines_stands_by_itself(optional: bool) -> None:
    lines, ok = told(Problem("list of pods is denied", ROLE, optional=optional))
    assert lines == [
        f"  {'note' if optional else 'problem'}: list of pods is denied",
        "      give its account this Role:",
        "",
        "      kind: Role",
        "      rules:",
        "        - verbs: [get]",
    ]
    assert ok is optional
