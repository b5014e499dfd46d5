"""The decision table, as the specification. Each row: a case in words, and the verdict and rule that it must get."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from reconciler.decide import decide
from reconciler.model import Place
from reconciler.snapshot import Case

from .spec import (
    NOW,
    POLICY,
    alive,
    asleep,
    case,
    exited,
    first_look,
    gone,
    history,
    look,
    resource,
    run,
    sighting,
    snapshot,
    unknown,
    vanished,
    verdict,
)

SECOND_ATTEMPT = (("PENDING", 900), ("RUNNING", 890), ("SCHEDULED", 500), ("PENDING", 360))


def rows() -> list[tuple[str, Case, str, str]]:  # noqa: PLR0915 - it is a table
    """Words, case, verdict, rule. Times are in seconds before now; `made` is when the resource was created."""
    table: list[tuple[str, Case, str, str]] = []

    def row(words: str, one: Case, expected: str, rule: str) -> None:
        table.append((words, one, expected, rule))

    r = run(parent_task_run_id=uuid4(), pid=None, work_pool=None)
    row("an in-process subflow is reported, never written", case(r), "UNMANAGED", "1")
    r = run(parent_task_run_id=uuid4(), deployment_id=uuid4())
    row("a subflow with infrastructure of its own is judged by it", case(r, look(exited(r))), "ZOMBIE", "6")
    r = run(parent_task_run_id=uuid4(), pid=None)
    row("so is an ad-hoc subflow (work pool, no deployment)", case(r, look(exited(r))), "ZOMBIE", "6")

    for state in ("RUNNING", "PENDING", "CANCELLING"):
        r = run(state)
        row(f"{state}, alive", case(r, look(alive(r))), "HEALTHY", "3")
    for condition in ("STARTING", "STOPPING"):
        r = run()
        row(f"{condition} is alive", case(r, look(alive(r, condition))), "HEALTHY", "3")
    r = run()
    row(
        "alive in a scope it is not mapped to",
        case(r, look(gone(r)), look(alive(r), scope="b", mapped=False)),
        "HEALTHY",
        "3",
    )
    r = run()
    row("one live resource wins over any dead one", case(r, look(exited(r), alive(r, name="res-2"))), "HEALTHY", "3")
    r = run()
    row(
        "a live resource of an earlier attempt is alive",
        case(r, look(alive(r, made=800)), past=history(r, *SECOND_ATTEMPT)),
        "HEALTHY",
        "3",
    )
    r = asleep(due=-60)
    row("asleep until its retry, alive", case(r, look(alive(r))), "HEALTHY", "3")
    r = run()
    row("alive here, the other scope blind", case(r, look(alive(r)), look(scope="b", error="refused")), "HEALTHY", "3")

    r = run()
    row("a mapped scope could not tell", case(r, look(error="connection refused")), "UNKNOWN", "4")
    r = run()
    row(
        "exited here, another mapped scope blind",
        case(r, look(exited(r)), look(scope="b", error="timed out")),
        "UNKNOWN",
        "4",
    )
    r = run()
    row(
        "gone here, sighted in a blind scope",
        case(r, look(gone(r)), look(scope="b", mapped=False, error="x", sightings=(sighting(r, "b"),))),
        "UNKNOWN",
        "4",
    )
    r = run()
    row(
        "exited here, a scope that has nothing to do with it is blind",
        case(r, look(exited(r)), look(scope="b", mapped=False, error="x")),
        "ZOMBIE",
        "6",
    )
    r = run()
    row("a mapped scope says nothing about it", case(r, look()), "UNKNOWN", "4")
    r = run()
    row("a part of it could not be read", case(r, look(unknown())), "UNKNOWN", "4")
    r = run()
    row(
        "its history could not be read",
        replace(case(r, look(exited(r))), history=None, history_error="503"),
        "UNKNOWN",
        "4",
    )

    r = run(pid=None, work_pool=None)
    row("a script or .serve() run", case(r), "UNMANAGED", "5")
    r = run(pid=None, work_pool=None)
    row(
        "without pid and pool, absence never counts", case(r, look(gone(r), sightings=(sighting(r),))), "UNMANAGED", "5"
    )
    r = run()
    row("no scope is mapped", case(r), "UNMANAGED", "5")
    r = run()
    row("a plain mapping is not enough: other hosts may serve the pool", case(r, look(gone(r))), "UNMANAGED", "5")
    r = run()
    row(
        "a pid of another form never counts",
        case(r, look(gone(r), place=Place.ELSEWHERE, sightings=(sighting(r),))),
        "UNMANAGED",
        "5",
    )
    r = run()
    row(
        "an older pid: only a sighting of this attempt counts",
        case(r, look(gone(r), place=Place.HERE), past=history(r, *SECOND_ATTEMPT)),
        "UNMANAGED",
        "5",
    )
    r = run()
    row(
        "a sighting of an earlier attempt does not count",
        case(r, look(gone(r), sightings=(sighting(r, made=800),)), past=history(r, *SECOND_ATTEMPT)),
        "UNMANAGED",
        "5",
    )
    r = run()
    row(
        "an exit of an earlier attempt is void",
        case(r, look(exited(r, made=800)), past=history(r, *SECOND_ATTEMPT)),
        "UNMANAGED",
        "5",
    )

    r = run()
    row("exited with a code", case(r, look(exited(r, 137, ended=60))), "ZOMBIE", "6")
    r = run()
    row("exited, its own end may still be on its way", case(r, look(exited(r, 137, ended=9))), "WAITING", "10")
    r = run()
    row("exited 0 waits longer", case(r, look(exited(r, 0, ended=29))), "WAITING", "10")
    r = run()
    row("exited 0 without reporting", case(r, look(exited(r, 0, ended=31))), "ZOMBIE", "6")
    r = run()
    row("no exit code is not 0", case(r, look(exited(r, None, ended=11))), "ZOMBIE", "6")
    r = run("PENDING")
    row("ended before it began", case(r, look(exited(r, 127, ended=46))), "ZOMBIE", "6")
    r = run("PENDING")
    row("ended before it began, a moment ago", case(r, look(exited(r, 127, ended=44))), "WAITING", "10")
    r = run()
    row("an end needs no mapping", case(r, look(exited(r), mapped=False)), "ZOMBIE", "6")
    r = run()
    row(
        "an end explains before an absence",
        case(r, look(gone(r), sightings=(sighting(r),)), look(exited(r), scope="b")),
        "ZOMBIE",
        "6",
    )
    r = run()
    row(
        "of two ends the later one is waited for",
        case(r, look(exited(r, ended=60), exited(r, ended=3, name="res-2"))),
        "WAITING",
        "10",
    )
    r = run()
    row("an end of this attempt", case(r, look(exited(r, made=350)), past=history(r, *SECOND_ATTEMPT)), "ZOMBIE", "6")
    r = run()
    row(
        "an end of unknown birth, several attempts",
        case(
            r,
            look(replace(exited(r), resource=replace(resource(r), created_at=None))),
            past=history(r, *SECOND_ATTEMPT),
        ),
        "UNKNOWN",
        "4",
    )
    r = run()
    row("an end without a time, first look", case(r, look(exited(r, ended=None)), confirmed=False), "WAITING", "10")
    r = run()
    row("an end without a time, second look", case(r, look(exited(r, ended=None))), "ZOMBIE", "6")
    r = run()
    row("exit 0 without a time: 10 s are not 30", case(r, look(exited(r, 0, ended=None))), "WAITING", "10")
    r = run()
    row(
        "exit 0 without a time, seen ended before",
        case(r, look(exited(r, 0, ended=None), sightings=(sighting(r, ended=31),))),
        "ZOMBIE",
        "6",
    )
    r = asleep(due=60)
    row("asleep past its time, dead", case(r, look(exited(r, 0, ended=600))), "ZOMBIE", "6")
    r = asleep(due=5)
    row("due just now, dead", case(r, look(exited(r, ended=600))), "WAITING", "10")
    r = asleep(due=-60)
    row("asleep, dead, not yet due", case(r, look(exited(r, ended=600))), "WAITING", "10")
    r = asleep(due=None)  # type: ignore[arg-type]
    row("asleep without a time, dead", case(r, look(exited(r, ended=600))), "HELD", "10")
    r = run()
    row("its history is not read yet", replace(case(r, look(exited(r))), history=None), "WAITING", "10")
    r = run()
    row("its state changed while it was judged", case(r, look(exited(r)), past=history(run())), "WAITING", "10")

    row("removed, sighted here before", vanished(), "ZOMBIE", "7")
    r = run()
    row("removed, the pid names this place", case(r, look(gone(r), place=Place.HERE)), "ZOMBIE", "7")
    r = run()
    row("removed, no pid, but sighted", case(run(pid=None), look(gone(r), sightings=(sighting(r),))), "ZOMBIE", "7")
    r = run(pid=None)
    row("removed, no pid, pid-less runs are not located", case(r, look(gone(r), place=Place.HERE)), "UNMANAGED", "5")
    row("removed, state younger than grace", vanished(age=29), "WAITING", "10")
    row("removed, first look", replace(vanished(), first_look=None), "WAITING", "10")
    row(
        "removed, second look too early",
        replace(vanished(), first_look=first_look(9, *vanished().looks)),
        "WAITING",
        "10",
    )
    r = asleep(due=60)
    row("asleep past its time, removed", case(r, look(gone(r), sightings=(sighting(r),))), "ZOMBIE", "7")
    r = asleep(due=20)
    row("asleep, removed, due within grace", case(r, look(gone(r), sightings=(sighting(r),))), "WAITING", "10")
    r = asleep(due=-20)
    row("asleep, removed, not yet due", case(r, look(gone(r), sightings=(sighting(r),))), "WAITING", "10")
    r = run()
    row(
        "an earlier attempt's container left, this attempt's removed",
        case(r, look(exited(r, made=800), gone(r), sightings=(sighting(r),)), past=history(r, *SECOND_ATTEMPT)),
        "ZOMBIE",
        "7",
    )
    r = run()
    row(
        "observers' repeated PENDING is one attempt",
        case(r, look(exited(r, made=355)), past=history(r, ("PENDING", 360), ("PENDING", 350), ("PENDING", 340))),
        "ZOMBIE",
        "6",
    )

    r = run("PENDING", age=60, pid=None)
    row("pending, nothing there yet", case(r, look(gone(r))), "WAITING", "10")
    r = run("PENDING", age=1200, pid=None)
    row("pending for long, nothing there", case(r, look(gone(r))), "HELD", "8")
    r = run("PENDING", age=1200)
    row("pending, sighted, vanished: still only held", case(r, look(gone(r), sightings=(sighting(r),))), "HELD", "8")
    r = run("PENDING", age=1200)
    row(
        "pending with an earlier attempt's pid and container",
        case(
            r,
            look(exited(r, made=1500)),
            past=history(r, ("PENDING", 1600), ("RUNNING", 1590), ("SCHEDULED", 1300), ("PENDING", 1210)),
        ),
        "HELD",
        "8",
    )

    r = run("CANCELLING", age=599)
    row("cancelling, dead", case(r, look(exited(r))), "WAITING", "10")
    r = run("CANCELLING", age=601)
    row("cancelling for long, dead: never Crashed", case(r, look(exited(r))), "HELD", "9")
    r = run("CANCELLING", age=601)
    row("cancelling for long, removed", case(r, look(gone(r), sightings=(sighting(r),))), "HELD", "9")
    return table


@pytest.mark.parametrize(("one", "expected", "rule"), [pytest.param(*rest, id=words) for words, *rest in rows()])
def test_the_table(one: Case, expected: str, rule: str) -> None:
    finding = verdict(one)
    assert (finding.verdict, finding.rule) == (expected, rule), finding.reason
    assert finding.reason


def test_the_plan_does_not_depend_on_the_order_of_its_inputs() -> None:
    cases = [one for _, one, _, _ in rows()]
    assert decide(snapshot(*cases), POLICY) == decide(snapshot(*reversed(cases)), POLICY)


def test_suspects_are_those_worth_a_second_look() -> None:
    r = run()
    first = replace(case(r, look(exited(r)), confirmed=False), history=None)
    assert verdict(first).is_suspect
    assert not verdict(first).wants_time
    assert verdict(replace(vanished(), first_look=None, history=None)).wants_time
    assert not verdict(vanished(age=5)).is_suspect
    assert snapshot().taken_at == NOW
