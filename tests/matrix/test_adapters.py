"""Each adapter under each fault, in whole passes: nobody who lives is crashed, and once it ends no zombie is left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path

import pytest
from botocore.retries.standard import ExponentialBackoff

from reconciler.model import RunId, Verdict
from reconciler.testing import Fault
from tests.ecs.conftest import credentials, models_that_are_read_once  # noqa: F401 - used by being here
from tests.matrix.docker_lab import docker_lab
from tests.matrix.ecs_lab import ecs_lab
from tests.matrix.kubernetes_lab import kubernetes_lab
from tests.matrix.lab import ENDED, GONE, LIVING, Bounds, Lab
from tests.matrix.process_lab import process_lab
from tests.matrix.table import PLACE_FAULTS, PLACES, Matrix

LABS: dict[str, Callable[[Path, Bounds], AbstractContextManager[Lab]]] = {
    "docker": docker_lab,
    "process": process_lab,
    "kubernetes": kubernetes_lab,
    "ecs": ecs_lab,
}
FAULTS = {
    "timeout": Fault.TIMEOUT,
    "reset": Fault.RESET,
    "401": Fault.UNAUTHORIZED,
    "403": Fault.FORBIDDEN,
    "404 of the parent": Fault.PARENT_NOT_FOUND,
    "410": Fault.EXPIRED,
    "429": Fault.THROTTLED,
    "500": Fault.SERVER_ERROR,
    "503": Fault.UNAVAILABLE,
    "truncated page": Fault.TRUNCATED,
    "empty 200": Fault.EMPTY,
}
IMPOSSIBLE = {
    ("process", "410"): "/proc is read from files: no list has pages, so none expires between two",
    ("process", "503"): "/proc is read from files: nothing stands between that could be unavailable",
}
HEALING = 9  # passes of a minute: more than `amnesty` and `quiet` take together, and a first look for each


@dataclass(frozen=True, slots=True)
class Case:
    """One way for a fault to come. `spoil` gives False if the platform cannot have it.

    `known` are those whose end it does not hide, so that they may be settled while it lasts; `hides` is what the gone
    ones may be called then.
    """

    name: str
    spoil: Callable[[Lab], bool | None]
    known: tuple[range, ...] = ()
    hides: frozenset[Verdict] = frozenset({Verdict.UNKNOWN})
    bounds: Bounds = field(default_factory=Bounds)


ANY = frozenset(Verdict)
VOID = frozenset({Verdict.UNMANAGED})  # rule 5: what was seen under another identity counts for nothing
PINNED = Bounds(is_pinned=True)
CHANGES = {
    "slow": [Case("all answers", methodcaller("slow_down"), (GONE, ENDED), ANY)],
    "changed identity": [
        Case("another place", methodcaller("swap"), (), VOID),
        Case("another place, pinned", methodcaller("swap"), bounds=PINNED),
        # The same remains are seen there as before: an end is positive evidence, and needs no identity.
        Case("renamed", methodcaller("rename"), (ENDED,), VOID),
        Case("renamed, pinned", methodcaller("rename"), bounds=PINNED),
    ],
    # Who is gone is gone by his UID, whoever has the name now.
    "replaced UID": [Case("of a living one and of a gone one", methodcaller("replace"), (GONE, ENDED), ANY)],
    # What a pid or a memory names is looked up by its name, and an end is told by the UID that was seen.
    "label removed": [Case("from all that is there", methodcaller("unlabel"), (GONE, ENDED), ANY)],
}


def cases(fault: str) -> list[Case]:
    if fault in CHANGES:
        return CHANGES[fault]
    kind = FAULTS[fault]
    bounds = Bounds(deadline=1.0) if kind is Fault.TIMEOUT else Bounds()
    found = [Case("every call", lambda lab: lab.inject(kind), bounds=bounds)]
    if kind is not Fault.TIMEOUT:  # the lists show who lives; what fails is only the look at who does not
        found.append(Case("look-ups", lambda lab: lab.inject_into_look_ups(kind)))
    return found


@dataclass(frozen=True, slots=True)
class Result:
    """Who was settled and lives, who was when nobody could know it, and who was not in the end."""

    false: set[RunId]
    untimely: set[RunId]
    left: set[RunId]
    unhidden: set[Verdict]  # what the gone ones were called that they may not be, while the fault lasted


def result_of(lab: Lab, case: Case) -> Result | None:
    """They die, the fault comes, time goes by, the fault ends, time goes by. None: this place cannot have it."""
    lab.die()
    if case.spoil(lab) is False:
        return None
    called = lab.passes(4, apart=120)  # longer than the breaker holds
    known = lab.ids(*case.known) if lab.leaves_remains or GONE in case.known else set()
    untimely = lab.written - known
    lab.heal()
    lab.wait_for_answers()
    for _ in range(HEALING):
        if not lab.ids(GONE, ENDED) - lab.written:
            break
        lab.passes(1, apart=60)
    lab.passes(2, apart=300)  # those that live on still do
    return Result(lab.written & lab.ids(LIVING), untimely, lab.ids(GONE, ENDED) - lab.written, called - case.hides)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's retries without its pauses of up to 20 s."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.01)


@pytest.mark.parametrize("fault", PLACE_FAULTS)
@pytest.mark.parametrize("column", PLACES)
def test_cell(matrix: Matrix, tmp_path: Path, column: str, fault: str) -> None:
    cell = matrix.cell(column, fault)
    if (column, fault) in IMPOSSIBLE:
        cell.impossible = IMPOSSIBLE[column, fault]
        return
    results: dict[str, Result] = {}
    for number, case in enumerate(cases(fault)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with LABS[column](folder, case.bounds) as lab:
            result = result_of(lab, case)
        if result is not None:
            results[case.name] = result
            cell.false_crashes = sum(len(each.false | each.untimely) for each in results.values())
    cell.settled = bool(results) and not any(each.left for each in results.values())
    assert cell.is_right, results
    assert not any(each.unhidden for each in results.values()), results
