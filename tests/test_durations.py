from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.settings import durations


@pytest.mark.parametrize(
    ("written", "length"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1h 30m", timedelta(hours=1, minutes=30)),
        ("500ms", timedelta(milliseconds=500)),
        ("1.5s", timedelta(seconds=1.5)),
        ("2d", timedelta(days=2)),
        ("0s", timedelta()),
        ("30S", timedelta(seconds=30)),
    ],
)
def test_reads_what_operators_write(written: str, length: timedelta) -> None:
    assert durations.parse(written) == length


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (30, 'write "30s"'),
        (1.5, 'write "1.5s"'),
        ("30", 'write "30s"'),
        (-5, "negative"),
        ("-5", "negative"),
        ("-5s", "negative"),
        (timedelta(seconds=-1), "negative"),
        ("", "not a duration"),
        ("soon", "not a duration"),
        ("PT30S", '"5m"'),
        ("30m1h", "not a duration"),
        ("5 minutes", "not a duration"),
        (True, "not a duration"),
        ([], "not a duration"),
        ("99999999999d", "too long"),
        ("99999999h", "too long"),
    ],
)
def test_says_what_to_write_instead(written: object, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        durations.parse(written)
    assert words in str(refused.value)


@given(st.integers(min_value=0, max_value=8 * 10**11).map(lambda number: timedelta(milliseconds=number)))
def test_what_is_written_reads_back(length: timedelta) -> None:
    assert durations.parse(durations.text(length)) == length


def test_is_written_short() -> None:
    assert durations.text(timedelta(minutes=90)) == "1h30m"
    assert durations.text(timedelta(seconds=200)) == "3m20s"
    assert durations.text(timedelta()) == "0s"
