"""The file: shared, bounded, private, and never a reason to stop."""

from __future__ import annotations

import sqlite3
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from reconciler.grading.casebook import GRADES_FILE, Casebook
from reconciler.grading.cases import Case, Grade, Kind, Opinion
from tests.grading.histories import START

HOUR = timedelta(hours=1)
FALSE = Opinion(Grade.FALSE, "reported Completed", is_final=True)


def case(kind: Kind = Kind.SETTLED, scope: str = "prod", **changes: object) -> Case:
    values: dict[str, object] = {
        "run_id": uuid4(),
        "state_id": uuid4(),
        "kind": kind,
        "name": "otter",
        "scope": scope,
        "rule": "6",
        "guard": "",
        "died": "it exited",
        "resource": "res",
        "run_count": 1,
        "judged_at": START,
        "died_by": START - timedelta(seconds=9),
    }
    return Case(**(values | changes))  # type: ignore[arg-type]


def with_false_crash(book: Casebook, scope: str, now: object = START) -> None:
    one = case(scope=scope)
    book.add([one])
    book.change([one.graded(FALSE, now)], now)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / GRADES_FILE


def test_a_case_comes_back_as_it_was_and_is_kept_once(path: Path) -> None:
    one = case(read_state=uuid4(), asked_at=START, others_at=START, graded_at=START, grade=Grade.RIGHT, why="so")
    book = Casebook(path)
    assert book.add([one]) == [one]
    assert book.add([replace(one, judged_at=START + HOUR)]) == []
    book.close()
    again = Casebook(path)
    assert again.watched() == [one]
    assert again.problems == []


def test_a_run_may_be_a_shadow_first_and_settled_later(path: Path) -> None:
    one = case(Kind.SHADOW)
    book = Casebook(path)
    assert len(book.add([one, replace(one, kind=Kind.SETTLED)])) == 2


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    Casebook(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_symbolic_link_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    book = Casebook(path)
    assert "could not open the grades" in book.problems[0]
    assert not (tmp_path / "elsewhere").exists()
    book.add([case()])
    assert len(book.watched()) == 1


def test_what_another_process_closed_is_not_changed(path: Path) -> None:
    mine, theirs, one = Casebook(path), Casebook(path), case()
    mine.add([one])
    theirs.change([one.graded(FALSE, START)], START)
    assert mine.change([replace(one, why="mine")], START) == {one.key}
    assert mine.cases()[0].why == "reported Completed"
    assert mine.scopes()["prod"].false_crashes == 1


def test_the_bound_drops_those_closed_first_and_watched_ones_last(path: Path) -> None:
    book = Casebook(path, most=3)
    closed = [case(closed_at=START + number * HOUR, name=str(number)) for number in range(3)]
    book.add([*closed, case(name="watched"), case(name="watched too", judged_at=START - HOUR)])
    book.tidy(START + 5 * HOUR)
    assert {one.name for one in book.cases()} == {"2", "watched", "watched too"}


def test_closed_cases_are_kept_for_thirty_days(path: Path) -> None:
    book = Casebook(path)
    book.add([case(closed_at=START)])
    book.tidy(START + timedelta(days=30))
    assert len(book.cases()) == 1
    book.tidy(START + timedelta(days=30, seconds=1))
    assert book.cases() == []


def test_two_false_crashes_within_a_day_take_the_trust(path: Path) -> None:
    book = Casebook(path)
    with_false_crash(book, "prod")
    with_false_crash(book, "other")
    assert book.distrusted() == {}
    with_false_crash(book, "prod", START + 23 * HOUR)
    assert book.distrusted() == {"prod": START + 23 * HOUR}
    with_false_crash(book, "prod", START + 24 * HOUR)
    assert Casebook(path).distrusted() == {"prod": START + 23 * HOUR}
    assert book.scopes()["prod"].false_crashes == 3


def test_false_crashes_a_day_apart_do_not(path: Path) -> None:
    book = Casebook(path)
    with_false_crash(book, "prod")
    with_false_crash(book, "prod", START + 24 * HOUR)
    assert book.distrusted() == {}


def test_who_is_trusted_again_begins_anew(path: Path) -> None:
    book = Casebook(path)
    with_false_crash(book, "prod")
    with_false_crash(book, "prod", START + HOUR)
    assert book.trust("prod", START + 2 * HOUR)
    assert book.distrusted() == {}
    with_false_crash(book, "prod", START + 3 * HOUR)
    assert book.distrusted() == {}
    with_false_crash(book, "prod", START + 4 * HOUR)
    assert book.distrusted() == {"prod": START + 4 * HOUR}
    assert not book.trust("never heard of", START)


def test_a_locked_file_is_a_problem_and_takes_no_scope_back_into_trust(path: Path) -> None:
    book = Casebook(path)
    with_false_crash(book, "prod")
    with_false_crash(book, "prod")
    assert book.distrusted() == {"prod": START}
    other = sqlite3.connect(path)
    other.execute("begin exclusive")
    assert book.distrusted() == {"prod": START}
    assert book.add([case()]) == []
    assert "locked" in book.problems[0]
    other.rollback()
    other.close()
    book.begin()
    assert book.problems == []
    assert len(book.add([case()])) == 1


@pytest.mark.parametrize("content", [b"no database at all, and long enough to be looked at" * 50, b""])
def test_whatever_stands_in_the_file_it_goes_on(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    book = Casebook(path)
    assert len(book.add([case()])) == 1
    assert len(book.watched()) == 1
    assert bool(book.problems) is bool(content)
    book.begin()
    assert bool(book.problems) is bool(content)


def test_a_row_that_is_none_is_a_problem_and_the_others_are_read(path: Path) -> None:
    book = Casebook(path)
    book.add([case(), case(name="bad\x1b[31m")])
    with sqlite3.connect(path) as database:
        database.execute("update cases set judged_at = 'yesterday' where name = 'otter'")
    database.close()
    (read,) = book.watched()
    assert read.name == "bad\N{REPLACEMENT CHARACTER}[31m"
    assert "could not read a case" in book.problems[0]


def test_another_version_is_forgotten(path: Path) -> None:
    book = Casebook(path)
    book.add([case()])
    book.close()
    with sqlite3.connect(path) as database:
        database.execute("pragma user_version = 99")
    database.close()
    assert Casebook(path).cases() == []
