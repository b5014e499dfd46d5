"""The grades: what a run's history, its resources and its age say of a verdict. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile

from reconciler.grading.cases import STAYED, UNREAD_FOR, WATCHED_FOR, Case, Grade, Kind, Opinion
from reconciler.grading.sequel import Author, Sequel, Step, after_settlement, after_state
from reconciler.model import FlowRun, StateRecord, StateType
from reconciler.words import dated, legible, span

DELETED = Opinion(Grade.UNGRADED, "was deleted", is_final=True)


def by_history(case: Case, history: Sequence[StateRecord], row: FlowRun | None = None) -> Opinion | None:
    """What the states after the verdict say of it; None: nothing.

    `row` is the run as it is now, if it is in flight: it tells a retry inside the flow's own process.
    """
    if case.kind is Kind.SETTLED:
        sequel = after_settlement(history, case.run_id, case.state_id)
        return _of_settlement(sequel) if sequel else None
    sequel = after_state(history, case.run_id, case.state_id)
    in_process = row is not None and row.awaits_retry_in_process
    return _of_shadow(sequel, in_process=in_process) if sequel else None


def _of_settlement(sequel: Sequel) -> Opinion | None:
    """A false crash is what the run itself reports in the same attempt, after we set it to Crashed or Cancelled.

    A Cancelled that it then reports is what was asked of it. A Crashed of its own may be its worker's late word, or
    that of a live flow which has lost the lease of its concurrency slot to our Crashed.
    """
    unclear: Opinion | None = None
    for step in sequel.of_the_attempt():
        if step.type is StateType.CRASHED and step.author is Author.RUN:
            why = f"reported {_when(step)}; by itself or by a worker cannot be told"
            unclear = unclear or Opinion(Grade.UNCLEAR, why, step.record.timestamp)
        if not step.is_life or step.author in (Author.HAND, Author.RECONCILER):
            continue
        reported = f"reported {_when(step)}, {_unscheduled(sequel, step)}"
        by_worker = step.type is StateType.FAILED and sequel.never_ran
        if step.author is Author.RUN and not by_worker:
            return Opinion(Grade.FALSE, reported, step.record.timestamp, is_final=True)
        who = "a worker that could not submit it says that too" if by_worker else "who set that cannot be told"
        unclear = unclear or Opinion(Grade.UNCLEAR, f"{reported}; {who}", step.record.timestamp)
    if unclear is not None or not sequel.steps:
        return unclear
    return _of_what_came(sequel)


def _unscheduled(sequel: Sequel, step: Step) -> str:
    """Why that is no report of another attempt."""
    before = takewhile(lambda one: one is not step, sequel.steps)
    resumed = any(one.is_resumption for one in before)
    return "before a worker had fetched it again" if resumed else "with no Scheduled between"


def _of_what_came(sequel: Sequel) -> Opinion:
    """Nothing by the run itself: what others, or we, did with it says nothing of the settlement."""
    step, what = sequel.steps[-1], f"was set to {_when(sequel.steps[-1])} {sequel.steps[-1].author}"
    if (resumed := sequel.resumption) is not None:
        step, what = resumed, f"was resumed by us: {_when(resumed)}"
    elif (again := sequel.next_attempt) is not None:
        step, what = again, f"was given another attempt: {_when(again)}"
    return Opinion(Grade.OPEN, what, step.record.timestamp)


def _of_shadow(sequel: Sequel, *, in_process: bool) -> Opinion | None:
    """Whoever reports after the verdict was alive; whom others ended as Crashed or Cancelled was not.

    That is so only if they judged as we did: a cancellation ends live runs too, and Crashed may be a live flow's word.
    """
    by_others: Opinion | None = None
    for step in sequel.of_the_attempt():
        if step.is_life:
            return _reported(step, sequel) if step.author is Author.RUN else by_others or _set(step)
        if not step.is_ended_by_others or by_others is not None:
            continue
        if step.author is Author.RECONCILER:
            return _settled_for_real(step)
        by_others = _ended_by_others(step, sequel)
    again = sequel.next_attempt
    if by_others is not None or again is None:
        return by_others
    at = again.record.timestamp
    if sequel.retries_in_process(is_waiting=in_process):
        return Opinion(Grade.FALSE, f"showed life: {_when(again)} in its own process", at, is_final=True)
    return Opinion(Grade.UNGRADED, f"was rescheduled: {_when(again)}", at, is_final=True)


def _ended_by_others(step: Step, sequel: Sequel) -> Opinion:
    at = step.record.timestamp
    if step.type is StateType.CANCELLED and sequel.was_cancelling:
        return Opinion(Grade.UNGRADED, f"was cancelled: {_when(step)}", at, others_settled_at=at)
    if step.type is StateType.CRASHED and step.author is Author.RUN:
        why = f"was reported {_when(step)}, by itself or by a worker"
        return Opinion(Grade.UNGRADED, why, at, others_settled_at=at)
    return Opinion(Grade.RIGHT, f"was settled by others: {_when(step)}", at, others_settled_at=at)


def _reported(step: Step, sequel: Sequel) -> Opinion:
    at = step.record.timestamp
    if not step.type.is_terminal:
        return Opinion(Grade.FALSE, f"showed life: it went on to {_when(step)}", at, is_final=True)
    if step.type is StateType.FAILED and sequel.never_ran:
        return Opinion(Grade.UNGRADED, f"was reported {_when(step)}, by itself or by a worker", at, is_final=True)
    return Opinion(Grade.FALSE, f"ended by itself: it reported {_when(step)}", at, is_final=True)


def _set(step: Step) -> Opinion:
    return Opinion(Grade.UNGRADED, f"was set to {_when(step)} {step.author}", step.record.timestamp, is_final=True)


def _settled_for_real(step: Step) -> Opinion:
    """From now on the settlement is what is watched."""
    return Opinion(Grade.UNGRADED, f"was settled by a reconciler: {_when(step)}", step.record.timestamp, is_final=True)


def alive(title: str, what: str, at: datetime) -> Opinion:
    """Its resource was seen alive after the verdict; `at` is ours."""
    return Opinion(Grade.FALSE, f"showed life: {title} {what}, seen {dated(at)}", is_final=True)


def life_sign(what: str, at: datetime) -> Opinion:
    """It did something after the verdict; `at` is ours."""
    return Opinion(Grade.FALSE, f"showed life: a {what} of {dated(at)}", is_final=True)


def by_age(case: Case, now: datetime, *, stays_zombie: bool, is_read: bool) -> Opinion | None:
    """What the time says that went by without another sign; None: nothing yet.

    `stays_zombie`: this pass still judges the run as it did. One that nobody could look at proves nothing.
    `is_read`: this pass knows its state, and how it came there. Without that no watch ends well.
    """
    age = case.age(now)
    if age >= WATCHED_FOR and is_read:
        return _at_the_end(case)
    if age >= UNREAD_FOR:
        why = f"could not be read when {span(WATCHED_FOR)} were over, nor until {span(UNREAD_FOR)} were"
        open_ = Opinion(Grade.UNGRADED, why, is_final=True)
        return open_ if case.grade is Grade.OPEN else Opinion(case.grade, case.why, is_final=True)
    if case.kind is Kind.SHADOW and case.grade is Grade.OPEN and stays_zombie and age >= STAYED:
        return Opinion(Grade.RIGHT, f"stayed a zombie: it has not moved for {span(age)}")
    return None


def _at_the_end(case: Case) -> Opinion:
    if case.kind is Kind.SETTLED and case.grade is Grade.OPEN:
        note = f" ({case.why})" if case.why else ""
        return Opinion(Grade.RIGHT, f"showed no life for {span(WATCHED_FOR)}{note}", is_final=True)
    if case.grade is Grade.OPEN:
        return Opinion(Grade.UNGRADED, f"was not looked at again within {span(WATCHED_FOR)}", is_final=True)
    return Opinion(case.grade, case.why, is_final=True)


def _when(step: Step) -> str:
    return f"{legible(step.record.name)[:60]} at {dated(step.record.timestamp)}"
