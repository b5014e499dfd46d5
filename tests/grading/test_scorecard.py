"""`reconcile report`: the figures, the list, what to do."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from reconciler.grading.casebook import Casebook
from reconciler.grading.cases import Case, Grade, Kind
from reconciler.grading.scorecard import Scorecard, scorecard
from reconciler.grading.showing import as_json, lines, table
from tests.grading.histories import START
from tests.grading.test_casebook import case, with_false_crash

NOW = START + timedelta(hours=5)
SECOND = timedelta(seconds=1)


def card_of(*cases: Case) -> Scorecard:
    book = Casebook()
    book.add(cases)
    return scorecard(book, NOW)


def shadows(grade: Grade, count: int, scope: str = "prod") -> list[Case]:
    return [case(Kind.SHADOW, scope, grade=grade, guard="mode") for _ in range(count)]


def test_nothing_at_all() -> None:
    card = card_of()
    assert list(lines(card)) == [
        "Nothing was settled so far, and nothing would have been.",
        (
            "What to do: no would-be settlement was graded so far: leave it in observe mode, and come back in an hour "
            "or more."
        ),
    ]
    assert as_json(card)["detection_seconds"] is None


def test_counts_and_precision_by_scope() -> None:
    card = card_of(
        *shadows(Grade.RIGHT, 3),
        *shadows(Grade.FALSE, 1),
        *shadows(Grade.OPEN, 2),
        *shadows(Grade.UNGRADED, 1),
        *shadows(Grade.OPEN, 1, "other"),
        case(grade=Grade.RIGHT, closed_at=START),
        case(grade=Grade.UNCLEAR),
    )
    other, prod = card.scopes
    assert (prod.right, prod.false, prod.open, prod.ungraded, prod.shadows) == (3, 1, 2, 1, 7)
    assert (prod.settlements, prod.false_crashes, prod.unclear, prod.watched) == (2, 0, 1, 1)
    assert prod.precision == 0.75
    assert other.precision is None
    text = "\n".join(lines(card))
    assert "7 would-be settlements (3 right, 1 false, 2 open, 1 ungraded; precision 3 of 4)" in text
    assert "precision not known, none was graded" in text
    assert "%" not in text


def test_detection_times_leave_out_who_was_dead_before_and_false_ones() -> None:
    died = [1, 2, 3, 4, 5, 6, 7, 8, 9, 60]
    timed = [
        case(judged_at=START + 100 * SECOND, died_by=START + (100 - seconds) * SECOND, grade=Grade.RIGHT)
        for seconds in died
    ]
    long_dead = case(judged_at=START, died_by=START - timedelta(days=9))
    false = case(grade=Grade.FALSE, judged_at=START + 100 * SECOND, died_by=START)
    card = card_of(*timed, long_dead, false, case(died_by=None))
    assert card.detection is not None
    assert (card.detection.count, card.detection.p50, card.detection.p90) == (10, 5 * SECOND, 9 * SECOND)
    assert card.detection.longest == 60 * SECOND
    assert card.dead_before == 1
    assert "from death to verdict: p50 5 s, p90 9 s, at most 60 s (10 counted)" in list(lines(card))


def test_how_much_earlier_than_others() -> None:
    card = card_of(case(Kind.SHADOW, grade=Grade.RIGHT, others_at=START + 300 * SECOND))
    assert "earlier than those who settled instead: p50 5 min, p90 5 min, at most 5 min (1 counted)" in list(
        lines(card)
    )


@pytest.mark.parametrize(
    ("cases", "advice"),
    [
        (shadows(Grade.RIGHT, 17), '17 of 17 graded would-be settlements were right: set mode = "settle"'),
        (
            shadows(Grade.RIGHT, 3),
            (
                "3 of 3 graded would-be settlements were right: that is little to judge by; "
                'set mode = "settle" when there are 10, or if that is enough'
            ),
        ),
        (
            [*shadows(Grade.RIGHT, 20), *shadows(Grade.FALSE, 1, "bad")],
            (
                "scope 'bad': 1 of 1 graded would-be settlements would have been false: "
                'keep mode = "observe" there, and find out why'
            ),
        ),
        ([case(), case()], "none of 2 settlements was a false crash: leave it as it is"),
        ([case(), case(grade=Grade.FALSE)], "scope 'prod': 1 of 2 settlements were false crashes: find out why"),
    ],
)
def test_what_to_do(cases: list[Case], advice: str) -> None:
    assert card_of(*cases).advice == advice


def test_a_distrusted_scope_comes_with_its_command() -> None:
    book = Casebook()
    with_false_crash(book, "prod")
    with_false_crash(book, "prod")
    card = scorecard(book, NOW)
    text = list(lines(card))
    assert "NOT TRUSTED since 2026-03-01 12:00:00 UTC" in text[1]
    assert text[-1] == ("What to do: scope 'prod' had false crashes: find out why, then run `reconcile --trust prod`.")
    assert as_json(card)["scopes"][0]["distrusted_since"] == "2026-03-01T12:00:00.000Z"  # type: ignore[index]


def test_the_list_is_bounded_the_newest_first() -> None:
    card = card_of(*(case(name=str(number), judged_at=START + number * SECOND) for number in range(60)))
    assert [one.name for one in card.cases[:2]] == ["59", "58"]
    assert (len(card.cases), card.more) == (50, 10)
    assert "and 10 older ones" in list(lines(card))


def test_a_line_of_the_list() -> None:
    one = case(Kind.SHADOW, grade=Grade.FALSE, why="ended by itself: it reported Completed")
    assert (
        f"FALSE     would be settled 2026-03-01 12:00:00 UTC  {one.run_id}  otter  it exited; it ended by itself: it "
        "reported Completed"
    ) in list(lines(card_of(one)))


def test_for_a_terminal_and_as_json() -> None:
    card = card_of(case(Kind.SHADOW, grade=Grade.RIGHT, why="stayed", name="[red]otter[/red]"))
    screen = io.StringIO()
    Console(file=screen, width=120).print(table(card))
    assert "[red]otter[/red]" in screen.getvalue()
    assert "What to do:" in screen.getvalue()
    document = json.loads(json.dumps(as_json(card)))
    assert document["version"] == 1
    assert document["cases"][0]["grade"] == "right"
    assert document["cases"][0]["died_by"] == "2026-03-01T11:59:51.000Z"
    assert document["dead_before"] == 1


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "grades.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    card = scorecard(Casebook(path), NOW)
    assert any(line.startswith("problem: could not open the grades") for line in lines(card))
