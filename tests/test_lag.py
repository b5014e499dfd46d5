"""A place that is eventually consistent: what was made within `lag` it may not show yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.model import ClockOffset, Guard, Place, Seen
from reconciler.snapshot import ScopeView
from tests.spec import alive, beat, case, exited, gone, look, run, scope, sighting, vanished, verdict

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

    def test_is_believed_when_the_heartbeats_are_quiet(self) -> None:
        r = run(age=100)
        one = case(r, look(exited(r, made=120, ended=60)))
        held = verdict(one, late(), heartbeats={r.id: beat(70)})
        assert held.guard is Guard.QUIET
        assert held.reason.endswith("; held: its last heartbeat is 70 s old, held until 3 min")
        assert verdict(one, late(), heartbeats={r.id: beat(201)}).verdict == "ZOMBIE"
        assert verdict(one, late()).verdict == "ZOMBIE", "without heartbeats there is nothing to wait for"
        assert verdict(one, scope(), heartbeats={r.id: beat(70)}).verdict == "ZOMBIE", "it is the place that is late"

    def test_what_is_older_has_no_twin_that_is_not_shown(self) -> None:
        r = run(age=600)
        one = case(r, look(exited(r, made=301, ended=60)))
        assert verdict(one, late(), heartbeats={r.id: beat(70)}).verdict == "ZOMBIE"

    def test_what_does_not_say_when_it_was_made_is_taken_for_young(self) -> None:
        r = run(age=600)
        ended = exited(r)
        assert ended.resource is not None
        one = case(r, look(replace(ended, resource=replace(ended.resource, created_at=None))))
        assert verdict(one, late(), heartbeats={r.id: beat(70)}).guard is Guard.QUIET
        assert verdict(one, scope(), heartbeats={r.id: beat(70)}).verdict == "ZOMBIE"

    def test_the_twin_s_own_look_wins(self) -> None:
        r = run(age=600)
        one = case(r, look(exited(r), alive(r, name="res-2"), sightings=(sighting(r),)))
        assert verdict(one, late()).verdict == "HEALTHY"


def test_no_place_is_late_unless_it_says_so() -> None:
    assert Seen(observations={}).lag == timedelta(0)
