"""The fault matrix: what each fault did to each part, one cell per test, laid out as one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest

PLACES = ("docker", "process", "kubernetes", "ecs")
API = "prefect api"
COLUMNS = (*PLACES, API)

PLACE_FAULTS = (
    "timeout",
    "reset",
    "401",
    "403",
    "404 of the parent",
    "410",
    "429",
    "500",
    "503",
    "truncated page",
    "empty 200",
    "slow",
    "changed identity",
    "replaced UID",
    "label removed",
)
API_FAULTS = ("503", "429", "401", "403", "cut connection", "half a page", "stale list", "ABORT", "REJECT")
FAULTS = tuple(dict.fromkeys(PLACE_FAULTS + API_FAULTS))


@dataclass
class Cell:
    """What whole passes did under one fault. A value that a test never came to set shows as "?"."""

    # Runs that were settled, during the fault or after it, and live; or before anybody could know that they do not.
    false_crashes: int | None = None
    settled: bool | None = None  # every zombie, once the fault had ended
    impossible: str = ""  # why this part cannot have this fault

    def __str__(self) -> str:
        if self.impossible:
            return "n/a"
        wrong = "?" if self.false_crashes is None else str(self.false_crashes)
        return f"{wrong} / { {None: '?', True: 'settled', False: 'NOT SETTLED'}[self.settled] }"

    @property
    def is_right(self) -> bool:
        return bool(self.impossible) or (self.false_crashes == 0 and self.settled is True)


@dataclass
class Matrix:
    """The cells that the tests of this session filled; part of them if part of the tests was run."""

    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)

    def cell(self, column: str, fault: str) -> Cell:
        """Give the recorder of this cell, empty if it is new: set `false_crashes` and `settled`, or `impossible`."""
        if column not in COLUMNS or fault not in FAULTS:
            raise KeyError(f"the matrix has no cell for {column!r} and {fault!r}: add it to COLUMNS or FAULTS")
        return self.cells.setdefault((column, fault), Cell())

    def lines(self) -> list[str]:
        """Lay out rows of faults and columns of parts, and below them why some cells cannot be."""
        columns = [each for each in COLUMNS if any(column == each for column, _ in self.cells)]
        faults = [each for each in FAULTS if any(fault == each for _, fault in self.cells)]
        rows = [["fault", *columns]]
        rows += [[fault, *(str(self.cells.get((column, fault), "")) for column in columns)] for fault in faults]
        widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
        rows.insert(1, ["-" * width for width in widths])
        table = [
            " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return [*table, *self._notes(), self._sum()]

    def _notes(self) -> list[str]:
        reasons = {key: cell.impossible for key, cell in self.cells.items() if cell.impossible}
        return [f"n/a: {column}, {fault}: {why}" for (column, fault), why in reasons.items()]

    def _sum(self) -> str:
        asked = [cell for cell in self.cells.values() if not cell.impossible]
        wrong = sum(not cell.is_right for cell in asked)
        false = sum(cell.false_crashes or 0 for cell in asked)
        return f"{len(asked)} cells, {false} false crashes, {wrong} cells that are not as they must be"
