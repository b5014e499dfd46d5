"""What our evidence has of one run: its last lines, and its settlements. Reads files."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

from reconciler.account.explained import LineTold
from reconciler.account.forms import Form
from reconciler.account.replay import NoEvidence, files, records
from reconciler.aftermath import written
from reconciler.evidence import Line
from reconciler.model import RunId

_LINES, _SETTLEMENTS = 3, 5  # the last ones


@dataclass(frozen=True, slots=True)
class Recorded:
    """Oldest first."""

    last: tuple[LineTold, ...]
    settlements: tuple[LineTold, ...]  # the last among all of its lines
    note: str  # why there are none


def recorded_of(run_id: RunId, folder: Path | None, form: Form) -> Recorded:
    """Read all files of the folder. Raises nothing."""
    last, settled = deque[Line](maxlen=_LINES), deque[Line](maxlen=_SETTLEMENTS)
    mark, note = str(run_id).encode(), ""
    try:
        for record in records(files(folder)) if folder else ():
            line = record.line() if mark in record.text else None
            if line is not None and line.run_id == run_id:
                last.append(line)
                settled += [line] if line.outcome else []
    except NoEvidence:
        pass
    except OSError as error:
        note = f"our evidence could not be read ({error}): run this as the service's user"
    return Recorded(
        last=tuple(_told(one, form) for one in last),
        settlements=tuple(_told(one, form) for one in settled),
        note=form.text(note),
    )


def _told(line: Line, form: Form) -> LineTold:
    return LineTold(
        written_at=form.time(line.written_at),
        verdict=line.verdict,
        rule=line.rule,
        guard=line.guard,
        reason=form.text(line.reason),
        dry_run=line.dry_run,
        written=written(line.action),
        outcome=line.outcome.kind if line.outcome else None,
        detail=form.text(line.outcome.detail) if line.outcome else "",
    )
