"""Whose clock a time is of, and how far that clock is right."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from reconciler.model import ClockOffset, Verdict

from .spec import (
    case,
    exited,
    history,
    look,
    run,
    scope,
    vanished,
    verdict,
)
from .test_decide import SECOND_ATTEMPT


class TestClocks:
    def test_ends_are_read_in_the_place_s_clock(self) -> None:
        r = run()
        fast = scope("a", clock=ClockOffset(timedelta(seconds=55)))  # its clock is 55 s ahead: it ended 60 + 55 s ago
        slow = scope("a", clock=ClockOffset(timedelta(seconds=-55)))
        assert verdict(case(r, look(exited(r, ended=5))), fast).verdict is Verdict.ZOMBIE
        assert verdict(case(r, look(exited(r, ended=60))), slow).verdict is Verdict.WAITING

    def test_state_ages_are_read_in_the_server_s_clock(self) -> None:
        one = vanished(age=20)
        assert verdict(one, server_clock=ClockOffset(timedelta(seconds=15))).verdict is Verdict.ZOMBIE
        assert verdict(vanished(age=40), server_clock=ClockOffset(timedelta(seconds=-15))).verdict is Verdict.WAITING

    def test_too_near_the_attempt_s_beginning_to_tell(self) -> None:
        r = run()
        at_once = (("PENDING", 900), ("RUNNING", 890), ("SCHEDULED", 361), ("PENDING", 360))
        one = case(r, look(exited(r, made=358)), past=history(r, *at_once))
        assert verdict(one).verdict is Verdict.ZOMBIE
        unsure = scope("a", clock=ClockOffset(uncertainty=timedelta(seconds=3)))
        assert verdict(one, unsure).verdict is Verdict.UNKNOWN
        assert verdict(replace(one, history=history(r, *SECOND_ATTEMPT)), unsure).verdict is Verdict.ZOMBIE, (
            "nothing was made for the former attempt after it had ended"
        )

    def test_an_uncertain_clock_waits_longer(self) -> None:
        r = run()
        unsure = scope("a", clock=ClockOffset(uncertainty=timedelta(seconds=2)))
        assert verdict(case(r, look(exited(r, ended=11)))).verdict is Verdict.ZOMBIE
        assert verdict(case(r, look(exited(r, ended=11))), unsure).verdict is Verdict.WAITING
