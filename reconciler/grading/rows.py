"""Cases as rows of `grades.sqlite3`, and back. What somebody else wrote there may be anything."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from reconciler.grading.cases import Case, Grade, Kind
from reconciler.model import Action
from reconciler.rows import moment_of, text_of, time_of
from reconciler.words import legible

COLUMNS = (
    *("run_id", "state_id", "kind", "name", "scope", "rule", "guard", "died", "resource", "run_count"),
    *("judged_at", "died_by", "grade", "why", "graded_at", "others_at", "read_state", "asked_at", "closed_at"),
    *("action", "root"),
)

Row = tuple[str | int | None, ...]


def row_of(case: Case) -> Row:
    return (
        *(str(case.run_id), str(case.state_id), str(case.kind), case.name, case.scope, case.rule, case.guard),
        *(case.died, case.resource, case.run_count, text_of(case.judged_at), text_of(case.died_by)),
        *(str(case.grade), case.why, text_of(case.graded_at), text_of(case.others_at)),
        *(str(case.read_state) if case.read_state else None, text_of(case.asked_at), text_of(case.closed_at)),
        *(str(case.action), str(case.root) if case.root else None),
    )


def case_of(row: tuple[Any, ...]) -> Case:
    """Raises `reconciler.rows.TROUBLE` for a row that is none."""
    run_id, state_id, kind, name, scope, rule, guard, died, resource, run_count, *rest = row
    judged_at, died_by, grade, why, graded_at, others_at, read_state, asked_at, closed_at, action, root = rest
    return Case(
        run_id=UUID(run_id),
        state_id=UUID(state_id),
        kind=Kind(kind),
        name=legible(str(name)),
        scope=legible(str(scope)),
        rule=legible(str(rule)),
        guard=legible(str(guard)),
        died=legible(str(died)),
        resource=legible(str(resource)),
        run_count=int(run_count),
        judged_at=moment_of(judged_at),
        died_by=time_of(died_by),
        grade=Grade(grade),
        why=legible(str(why)),
        graded_at=time_of(graded_at),
        others_at=time_of(others_at),
        read_state=UUID(read_state) if read_state else None,
        asked_at=time_of(asked_at),
        closed_at=time_of(closed_at),
        action=Action(action),
        root=UUID(root) if root else None,
    )
