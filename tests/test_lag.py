"""A place that is eventually consistent: what was made within `lag` it may not show yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.model import ClockOffset, Place, Seen
from reconciler.snapshot import ScopeView
from tests.spec import alive, case, exited, gone, look, run, scope, sighting, vanished, verdict

LAG = timedelta(minutes=5)


def late(**changes: object) -> ScopeView:
    return scope("a", lag=LAG, **changes)


class TestAbsence:
    @pytest.mark.parametrize(("age", "expected"), [(31, "WAITING"), (299, "WAITING"), (301, "ZOMBIE")])
    def test_says_nothing_of_a_run_whose_state_is_younger_than_the_lag(self, age: float, expected: str) -> None:
        assert verdict(vanished(age=age), late()).verdict == expected
        assert verdict(vanished(age=age), scope()).verdict == "ZOMBIE", "other places show at once what they hold"

    def test_not_even_where_the_pid_names_the_place(self) -> None:
        r = run(age=200)
        finding = verdict(case(r, look(gone(r), place=Place.HERE)), late())
        assert finding.verdict == "WAITING"
        assert finding.reason.endswith(
            "was removed; awaited: the state is 3 min old, and scope 'a' may not show yet what was made within 5 min"
        )

    def test_the_clocks_doubt_is_waited_for(self) -> None:
        doubtful = late(clock=ClockOffset(uncertainty=timedelta(seconds=3)))
        assert verdict(vanished(age=302), doubtful).verdict == "WAITING"
        assert verdict(vanished(age=304), doubtful).verdict == "ZOMBIE"

    def test_a_run_that_waits_is_no_suspect_yet(self) -> None:
        one = replace(vanished(age=100), history=None, first_look=None)
        assert not verdict(one, late()).is_suspect


class TestAnEndOfWhatIsYoung:
    """A request to start it may have been sent twice: its twin runs on, and is not shown yet."""

    @pytest.mark.parametrize("state", ["RUNNING", "PENDING"])
    @pytest.mark.parametrize(
        ("made", "age", "expected"),
        [
            (120, 100, "WAITING"),
            (299, 600, "WAITING"),
            (301, 299, "WAITING"),  # what reported the state may be another, made after this one
            (301, 301, "ZOMBIE"),
        ],
    )
    def test_is_believed_when_its_twin_would_be_shown(self, state: str, made: float, age: float, expected: str) -> None:
        r = run(state, age=age)
        one = case(r, look(exited(r, made=made, ended=60)))
        assert verdict(one, late()).verdict == expected
        assert verdict(one, scope()).verdict == "ZOMBIE", "it is the place that is late"

    def test_says_what_is_awaited(self) -> None:
        r = run(age=600)
        finding = verdict(case(r, look(exited(r, made=200))), late())
        assert finding.rule == "10"
        assert finding.reason.endswith(
            "awaited: scope 'a' may not show yet what else was made within 5 min, for another 100 s"
        )

    def test_what_does_not_say_when_it_was_made_is_as_old_as_the_state(self) -> None:
        for age, expected in ((299, "WAITING"), (301, "ZOMBIE")):
            r = run(age=age)
            ended = exited(r)
            assert ended.resource is not None
            bare = replace(ended, resource=replace(ended.resource, created_at=None))
            assert verdict(case(r, look(bare)), late()).verdict == expected

    def test_the_twin_s_own_look_wins(self) -> None:
        r = run(age=600)
        one = case(r, look(exited(r), alive(r, name="res-2"), sightings=(sighting(r),)))
        assert verdict(one, late()).verdict == "HEALTHY"


def test_a_place_that_is_not_late_waits_for_nothing() -> None:
    """Not even when its clock was set back, so that what ended seems to be of the future."""
    r = run(age=600)
    assert verdict(case(r, look(exited(r, made=-100))), scope()).verdict == "ZOMBIE"
    assert verdict(case(r, look(exited(r, made=-100))), late()).verdict == "ZOMBIE"
    doubtful = scope("a", clock=ClockOffset(uncertainty=timedelta(seconds=2)))
    assert "settle_failed" in verdict(case(r, look(exited(r, made=1, ended=1))), doubtful).reason


class TestSomethingElseThatWasSeenAlive:
    """The end that is seen need not be the last: what was alive beside it is neither shown nor known to have ended."""

    def test_is_looked_for_twice(self) -> None:
        r = run(age=600)
        where = look(exited(r), sightings=(sighting(r), sighting(r, name="res-2")))
        once = replace(case(r, where), first_look=None)
        finding = verdict(once)
        assert (finding.verdict, finding.is_suspect, finding.wants_time) == ("WAITING", True, True)
        assert finding.reason.endswith("a second look, for Docker container res-2 on engine a was alive before")
        assert verdict(case(r, where)).verdict == "ZOMBIE"

    def test_not_before_its_settle_time_nor_for_ever(self) -> None:
        r = run(age=600)
        others = (sighting(r), sighting(r, name="res-2"))
        young = replace(case(r, look(exited(r, ended=5), sightings=others)), first_look=None)
        assert not verdict(young).wants_time
        long_ago = tuple(replace(one, live_seen=one.last_seen - timedelta(minutes=5)) for one in others)
        assert not verdict(replace(case(r, look(exited(r), sightings=long_ago)), first_look=None)).wants_time

    def test_not_when_it_is_known_to_have_ended(self) -> None:
        r = run(age=600)
        for where in (
            look(exited(r), sightings=(sighting(r), sighting(r, name="res-2", ended=100))),
            look(exited(r), exited(r, name="res-2"), sightings=(sighting(r), sighting(r, name="res-2"))),
            look(exited(r), sightings=(sighting(r),)),
        ):
            assert not verdict(replace(case(r, where), first_look=None)).wants_time


def test_no_place_is_late_unless_it_says_so() -> None:
    assert Seen(observations={}).lag == timedelta(0)
