"""The scorecard as lines for a pipe, as a layout for a terminal, and as one JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reconciler.grading.cases import Case, Grade, Kind
from reconciler.grading.scorecard import ScopeScore, Scorecard, Spread
from reconciler.words import clipped, dated, legible, rfc3339, span

_STYLES = {Grade.FALSE: "bold red", Grade.UNCLEAR: "yellow", Grade.RIGHT: "green", Grade.OPEN: "cyan"}


def lines(card: Scorecard) -> Iterator[str]:
    """Write plain lines; the last one says what to do."""
    yield _period(card)
    yield from (_scope(one) for one in card.scopes)
    yield from _times(card)
    for case in card.cases:
        what = f"{_grade(case):<9} {_what(case):<16} {dated(case.judged_at)}"
        yield f"{what}  {case.run_id}  {case.name}  {_story(case)}"
    yield from _ending(card)


def table(card: Scorecard) -> RenderableType:
    """Lay the same out for a terminal."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("grade", "flow run", "judged at"):
        rows.add_column(heading, no_wrap=True)
    rows.add_column("what died, and what became of it", overflow="fold", ratio=1)
    for case in card.cases:
        rows.add_row(
            Text(_grade(case), style=_STYLES.get(case.grade, "")),
            Text(f"{clipped(case.name, 40)}\n{case.run_id}"),
            Text(f"{dated(case.judged_at)}\n{_what(case)}"),
            Text(_story(case)),
        )
    head = [Text(text) for text in (_period(card), *(_scope(one) for one in card.scopes), *_times(card))]
    *rest, advice = _ending(card)
    return Group(*head, *([rows] if rows.row_count else []), *(Text(text) for text in rest), Text(advice, style="bold"))


def as_json(card: Scorecard) -> dict[str, object]:
    """Build the document of --json; times are RFC 3339 in UTC, lengths are seconds."""
    return {
        "version": 1,
        "since": _time(card.since),
        "until": _time(card.until),
        "scopes": [_scope_json(one) for one in card.scopes],
        "detection_seconds": _spread_json(card.detection),
        "dead_before": card.dead_before,
        "earlier_than_others_seconds": _spread_json(card.earlier),
        "cases": [_case_json(case) for case in card.cases],
        "more_cases": card.more,
        "problems": [legible(text) for text in card.problems],
        "advice": card.advice,
    }


def _period(card: Scorecard) -> str:
    if card.since is None:
        return "Nothing was settled so far, and nothing would have been."
    return f"From {dated(card.since)} to {dated(card.until)} ({span(card.until - card.since)}):"


def _scope(one: ScopeScore) -> str:
    parts = list[str]()
    if one.shadows:
        precision = f"precision {one.right} of {one.graded}" if one.graded else "precision not known, none was graded"
        counts = f"{one.right} right, {one.false} false, {one.open} open, {one.ungraded} ungraded"
        parts.append(f"{one.shadows} would-be settlements ({counts}; {precision})")
    if one.settlements:
        unclear = f", {one.unclear} unclear" if one.unclear else ""
        counts = f"{one.false_crashes} false crashes{unclear}, {one.watched} still watched"
        parts.append(f"{one.settlements} settlements ({counts})")
    if one.distrusted_since is not None:
        parts.append(f"NOT TRUSTED since {dated(one.distrusted_since)}")
    return f"{legible(one.title)}: {'; '.join(parts)}"


def _times(card: Scorecard) -> Iterator[str]:
    if card.detection is not None:
        yield f"from death to verdict: {_spread(card.detection)}"
    if card.dead_before:
        yield f"{card.dead_before} had died before anybody looked, and are not in that time"
    if card.earlier is not None:
        yield f"earlier than those who settled instead: {_spread(card.earlier)}"


def _ending(card: Scorecard) -> list[str]:
    more = [f"and {card.more} older ones"] if card.more else []
    return [*more, *(f"problem: {legible(text)}" for text in card.problems), f"What to do: {card.advice}."]


def _grade(case: Case) -> str:
    return str(case.grade).upper() if case.grade in (Grade.FALSE, Grade.UNCLEAR) else str(case.grade)


def _what(case: Case) -> str:
    return "settled" if case.kind is Kind.SETTLED else "would be settled"


def _story(case: Case) -> str:
    became = f"; it {case.why}" if case.why else ""
    return f"{case.died}{became}"


def _spread(spread: Spread) -> str:
    lengths = f"p50 {span(spread.p50)}, p90 {span(spread.p90)}, at most {span(spread.longest)}"
    return f"{lengths} ({spread.count} counted)"


def _scope_json(one: ScopeScore) -> dict[str, object]:
    return {
        "name": one.scope or None,
        "shadows": one.shadows,
        "right": one.right,
        "false": one.false,
        "open": one.open,
        "ungraded": one.ungraded,
        "precision": None if one.precision is None else round(one.precision, 4),
        "settlements": one.settlements,
        "false_crashes": one.false_crashes,
        "unclear": one.unclear,
        "watched": one.watched,
        "distrusted_since": _time(one.distrusted_since),
    }


def _case_json(case: Case) -> dict[str, object]:
    return {
        "run_id": str(case.run_id),
        "state_id": str(case.state_id),
        "name": case.name,
        "kind": str(case.kind),
        "scope": case.scope or None,
        "action": str(case.action),
        "root": str(case.root) if case.root else None,
        "rule": case.rule,
        "guard": case.guard or None,
        "died": case.died,
        "resource": case.resource or None,
        "judged_at": _time(case.judged_at),
        "died_by": _time(case.died_by),
        "grade": str(case.grade),
        "why": case.why or None,
        "graded_at": _time(case.graded_at),
        "is_watched": case.closed_at is None,
    }


def _spread_json(spread: Spread | None) -> dict[str, object] | None:
    if spread is None:
        return None
    return {
        "count": spread.count,
        "p50": _seconds(spread.p50),
        "p90": _seconds(spread.p90),
        "max": _seconds(spread.longest),
    }


def _seconds(length: timedelta) -> float:
    return round(length.total_seconds(), 3)


def _time(time: datetime | None) -> str | None:
    return rfc3339(time) if time else None
