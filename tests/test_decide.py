"""The decision table, as the specification. Each row: a case in words, and the verdict and rule that it must get."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from reconciler.decide import decide
from reconciler.model import ClockOffset, Guard, Place, RunMapping, StateRecord, StateType, Verdict
from reconciler.plan import Mode, Policy, transition_id
from reconciler.snapshot import Case

from .spec import (
    NOW,
    POLICY,
    ago,
    alive,
    asleep,
    beat,
    case,
    exited,
    first_look,
    gone,
    history,
    look,
    resource,
    run,
    scope,
    sighting,
    snapshot,
    unknown,
    unknown_namespace,
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


def test_exclusive_mapping_makes_absence_count() -> None:
    r = run()
    finding = verdict(case(r, look(gone(r))), scope("a", exclusive=True))
    assert (finding.verdict, finding.rule) == (Verdict.ZOMBIE, "7")


def test_a_pid_in_a_namespace_that_is_unknown_there_needs_a_sighting() -> None:
    r = run()
    one = case(r, look(unknown_namespace(r), place=Place.HERE))
    finding = verdict(one, scope("a", exclusive=True))
    assert (finding.verdict, finding.rule) == (Verdict.UNMANAGED, "5")
    assert finding.reason == (
        "Docker container res-1 on engine a was not found, and namespace 'preview-7' does not exist, "
        "and nothing of this attempt was ever seen in scope 'a'"
    )
    bare = replace(unknown_namespace(r), resource=None)
    assert verdict(case(r, look(bare)), scope("a", exclusive=True)).reason.startswith("its infrastructure was not")

    seen = case(r, look(unknown_namespace(r), sightings=(sighting(r),)))
    finding = verdict(seen)
    assert (finding.verdict, finding.rule) == (Verdict.ZOMBIE, "7")
    assert "'preview-7' does not exist; last seen running" in finding.reason


def test_and_so_does_the_end_of_another_resource_than_that_pid_names() -> None:
    r = run(pid="preview-7:res-9")
    named = resource(r, name="res-9")
    one = case(r, look(exited(r), replace(unknown_namespace(r), resource=named)))
    assert verdict(one, scope("a", exclusive=True)).verdict is Verdict.UNMANAGED
    assert verdict(case(r, look(exited(r), gone(r, resource=named))), scope("a", exclusive=True)).rule == "7"


def test_a_failed_part_voids_every_gone_of_the_scope() -> None:
    finding = verdict(vanished(), scope("a", incomplete="one page is missing"))
    assert finding.verdict is Verdict.UNKNOWN
    assert "one page is missing" in finding.reason


@pytest.mark.parametrize(
    ("reason", "ended", "words"),
    [
        ("is running", None, "; last seen running 11:58:30 UTC; "),
        ("has a pod that is starting", None, "; last seen 11:58:30 UTC: it has a pod that is starting; "),
        ("exited with code 137", 100, "; when last seen, 11:58:30 UTC, it exited with code 137; "),
        ("was killed: out of memory", 100, "; when last seen, 11:58:30 UTC, it was killed: out of memory; "),
    ],
)
def test_what_was_last_seen_is_told_in_a_sentence(reason: str, ended: float | None, words: str) -> None:
    r = run()
    before = replace(sighting(r, ended=ended), reason=reason)
    finding = verdict(case(r, look(gone(r), sightings=(before,))))
    assert words in finding.message


def test_reasons_are_sentences_for_the_operator() -> None:
    r = run()
    assert verdict(case(r, look(exited(r)))).message == (
        "Docker container res-1 on engine a exited with code 137 at 11:59:00 UTC; no final state was reported. "
        "Set by prefect-reconciler."
    )
    assert verdict(vanished()).message == (
        "Docker container res-1 on engine a was removed; last seen running 11:58:30 UTC; no final state was reported. "
        "Set by prefect-reconciler."
    )


def test_unmanaged_names_the_line_that_would_change_it() -> None:
    r = run()
    assert "exclusive = true" in verdict(case(r, look(gone(r)))).reason
    assert 'work_pools = ["pool"]' in verdict(case(run())).reason


def test_unmanaged_says_that_the_pool_names_the_cluster() -> None:
    finding = verdict(case(run(worker_type="kubernetes", pool_names_place=True)))
    assert (finding.verdict, finding.rule) == (Verdict.UNMANAGED, "5")
    assert finding.reason == (
        "its work pool 'pool' (or the run itself) carries its own cluster_config, which names the cluster: "
        'map it with `work_pools = ["pool"]` on that cluster\'s scope'
    )


def test_a_worker_type_maps_no_run_whose_pool_names_its_place() -> None:
    plain, named = run(worker_type="kubernetes"), run(worker_type="kubernetes", pool_names_place=True)
    by_type, types = RunMapping(worker_types=frozenset({"kubernetes"})), frozenset({"kubernetes"})
    assert by_type.covers(plain)
    assert not by_type.covers(named)
    for explicit in (
        RunMapping(work_pools=frozenset({"pool"})),
        RunMapping(work_pools=frozenset({"pool"}), worker_types=types),
    ):
        assert explicit.covers(named)


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


class TestWhoseResourceItIs:
    """Two hosts may serve one pool, and ids may be copied: what a scope shows need not be what runs the flow."""

    def test_an_end_that_the_pid_does_not_name(self) -> None:
        r = run(pid="base:elsewhere")
        one = case(r, look(exited(r)))
        assert verdict(one).verdict is Verdict.UNKNOWN
        assert verdict(one, scope("a", exclusive=True)).verdict is Verdict.ZOMBIE, "it can be nowhere else"
        seen = look(exited(r), sightings=(sighting(r, name="elsewhere"),))
        assert verdict(case(r, seen)).verdict is Verdict.ZOMBIE, "what the pid names was here, and is not said to be"

    def test_a_sighting_that_the_pid_does_not_name(self) -> None:
        r = run(pid="base:elsewhere")
        assert verdict(case(r, look(gone(r), sightings=(sighting(r),)))).verdict is Verdict.UNMANAGED

    def test_a_pid_that_is_known_as_an_earlier_attempt_s(self) -> None:
        r = run(pid="base:old")
        old = sighting(r, made=800, name="old")
        seen = look(gone(r), sightings=(sighting(r), old))
        assert verdict(case(r, seen, past=history(r, *SECOND_ATTEMPT))).verdict is Verdict.ZOMBIE

    def test_what_had_ended_when_running_was_reported_did_not_report_it(self) -> None:
        r = run(age=60)
        assert verdict(case(r, look(exited(r, ended=70)))).verdict is Verdict.UNKNOWN

    def test_and_nor_did_it_when_only_the_memory_of_its_end_is_left(self) -> None:
        r = run(age=60)
        seen = replace(sighting(r, ended=70), live_seen=None)
        assert verdict(case(r, look(gone(r), sightings=(seen,)))).verdict is Verdict.UNMANAGED

    def test_a_dead_run_that_somebody_cancels_is_told_as_such(self) -> None:
        r = run("CANCELLING", age=700)
        past = history(r, ("PENDING", 960), ("RUNNING", 955))
        finding = verdict(case(r, look(exited(r, ended=900, made=950)), past=past))
        assert (finding.verdict, finding.rule) == (Verdict.HELD, "9")

    def test_a_part_of_what_runs_the_flow_says_nothing_of_the_whole(self) -> None:
        """A tool that a flow starts carries its run's id; the flow's own process need not show it."""
        r = run(pid=None)
        seen = sighting(r)
        part = replace(seen, resource=replace(seen.resource, is_whole=False))
        assert verdict(case(r, look(gone(r), sightings=(seen,)))).verdict is Verdict.ZOMBIE
        assert verdict(case(r, look(gone(r), sightings=(part,)))).verdict is Verdict.UNMANAGED

    def test_an_attempt_without_a_pending_is_an_attempt(self) -> None:
        r = run("PENDING", age=100)
        past = history(r, ("SCHEDULED", 900), ("RUNNING", 890), ("FAILED", 700), ("SCHEDULED", 110))
        assert verdict(case(r, look(exited(r, ended=700, made=895)), past=past)).verdict is Verdict.WAITING

    def test_before_its_history_is_read_every_end_makes_a_suspect(self) -> None:
        """Else the container that an earlier attempt left would hide for ever that this one's is gone."""
        r = run(age=60, pid="base:elsewhere")
        assert verdict(replace(case(r, look(exited(r, ended=70)), confirmed=False), history=None)).is_suspect

    def test_a_sighting_from_before_the_run_left_a_final_state(self) -> None:
        r = run(age=60)
        past = history(r, ("PENDING", 900), ("RUNNING", 890), ("FAILED", 700), ("SCHEDULED", 80))
        assert verdict(case(r, look(gone(r), sightings=(sighting(r),)), past=past)).verdict is Verdict.UNMANAGED

    def test_a_sighting_last_seen_before_the_attempt_began(self) -> None:
        r = run()
        seen = replace(sighting(r, made=350), last_seen=ago(370))
        one = case(r, look(gone(r), sightings=(seen,)), past=history(r, *SECOND_ATTEMPT))
        assert verdict(one).verdict is Verdict.UNMANAGED

    def test_alive_and_not_what_the_pid_names_is_reported_in_time(self) -> None:
        for age, told in ((800, False), (1000, True)):
            r = run(age=age, pid="base:elsewhere")
            assert verdict(case(r, look(alive(r)))).is_notable is told


class TestAnEndOfAPartOnly:
    """What a flow starts may carry its labels: such a thing may end, as it should, while the flow lives."""

    def unmapped(self, **changes: object) -> tuple[Case, Case]:
        """A run without a pid; what a scope that is not mapped to it showed of it has ended, or was removed."""
        r = run(pid=None, **changes)
        there = {"mapped": False, "sightings": (sighting(r),)}
        return case(r, look(exited(r, 0), **there)), case(r, look(gone(r), **there))

    def test_without_a_pid_an_end_where_the_run_is_not_mapped(self) -> None:
        ended, removed = self.unmapped(work_pool=None)
        for one in (ended, removed, replace(ended, history=None), replace(removed, history=None)):
            finding = verdict(one)
            assert (finding.verdict, finding.rule, finding.is_suspect) == (Verdict.UNMANAGED, "5", False)
            assert finding.reason.startswith("it has neither work pool nor infrastructure_pid (a script or .serve())")
        assert verdict(ended).reason.endswith(
            "; Docker container res-1 on engine a exited with code 0 at 11:59:00 UTC, which may be a part of it only"
        )

    def test_and_the_same_of_a_pool_that_runs_elsewhere(self) -> None:
        ended, removed = self.unmapped(work_pool="other")
        told = (
            "it has no infrastructure_pid, and scope 'a' is not mapped to it: "
            'if it runs there, add `work_pools = ["other"]` to that scope'
        )
        for one in (ended, removed, replace(ended, history=None), replace(removed, history=None)):
            finding = verdict(one, scope("a", exclusive=True))
            assert (finding.verdict, finding.rule, finding.is_suspect) == (Verdict.UNMANAGED, "5", False)
            assert finding.reason.startswith(told)
        assert "may be a part of it only" in verdict(ended).reason

    def test_where_it_is_mapped_what_ended_is_what_runs_it(self) -> None:
        r = run(pid=None)
        assert verdict(case(r, look(exited(r)))).rule == "6"

    def test_what_ended_elsewhere_does_not_hinder_the_scope_that_it_is_mapped_to(self) -> None:
        r = run(pid=None)
        part = look(exited(r, name="res-2"), scope="b", mapped=False)
        finding = verdict(case(r, look(gone(r), sightings=(sighting(r),)), part))
        assert (finding.verdict, finding.rule, finding.scope) == (Verdict.ZOMBIE, "7", "a")

    def masked(self, **changes: object) -> Case:
        """What the pid names is gone, and a thing that it does not name has ended before."""
        r = run(**changes)  # type: ignore[arg-type]
        seen = (sighting(r), sighting(r, name="res-2"))
        return case(r, look(exited(r, 0, ended=250, name="res-2"), gone(r), sightings=seen))

    def test_what_the_pid_names_is_gone_and_another_thing_has_ended(self) -> None:
        finding = verdict(self.masked())
        assert (finding.verdict, finding.rule, finding.is_sighted) == (Verdict.ZOMBIE, "7", True)
        assert finding.reason.startswith("Docker container res-1 on engine a was removed; last seen running")
        once = verdict(replace(self.masked(), first_look=None))
        assert (once.verdict, once.wants_time) == (Verdict.WAITING, True)
        assert verdict(replace(self.masked(), first_look=None, history=None)).wants_time
        assert verdict(self.masked(age=29)).verdict is Verdict.WAITING
        late = replace(self.masked(), run=replace(self.masked().run, state_since=ago(200)))
        late = replace(late, history=history(late.run))
        assert verdict(late).rule == "7", "what ended before Running was reported did not report it: no doubt"

    def test_it_neither_passes_nor_dilutes_the_breaker(self) -> None:
        for past in (True, False):
            lost = [self.masked() if past else replace(self.masked(), history=None) for _ in range(3)]
            plan = decide(snapshot(*lost), POLICY)
            assert [(one.absent, one.counted) for one in plan.breakers] == [(3, 3)]
            assert not plan.zombies

    def test_never_sighted_its_absence_needs_the_mapping_and_no_heartbeat(self) -> None:
        r = run()
        one, here = case(r, look(exited(r, name="res-2"), gone(r))), scope("a", exclusive=True)
        finding = verdict(one)
        assert (finding.verdict, finding.rule) == (Verdict.UNMANAGED, "5")
        assert "exclusive = true" in finding.reason
        assert "res-2 on engine a exited with code 137" in finding.reason
        assert verdict(one, here).rule == "7"
        assert verdict(one, here, heartbeats={r.id: beat(199)}).guard is Guard.QUIET
        assert verdict(one, scope("a", exclusive=True, known_since=ago(9))).guard is Guard.IDENTITY

    def second(self, state: str = "RUNNING", *, known: bool = True) -> Case:
        """The pid still names the first attempt's container, which is gone; the second attempt's has ended."""
        r = run(state, pid="base:old", age=300)
        old = replace(sighting(r, made=800, ended=600, name="old"), live_seen=None)
        seen = look(exited(r), gone(r, resource=resource(r, name="old")), sightings=(sighting(r), old)[: 1 + known])
        return case(r, seen, past=history(r, *SECOND_ATTEMPT))

    @pytest.mark.parametrize("state", ["RUNNING", "PENDING"])
    def test_an_end_of_this_attempt_when_the_pid_is_an_earlier_one_s(self, state: str) -> None:
        finding = verdict(self.second(state))
        assert (finding.verdict, finding.rule) == (Verdict.ZOMBIE, "6"), finding.reason
        unread = replace(self.second(state), history=None, first_look=None)
        assert verdict(unread).is_suspect, "else its history is never read, which says that the pid is an earlier one's"

    def test_and_when_nothing_is_known_of_what_the_pid_names(self) -> None:
        finding = verdict(self.second(known=False))
        assert (finding.verdict, finding.rule) == (Verdict.UNMANAGED, "5")
        assert "its infrastructure_pid may be an earlier attempt's; Docker container res-1" in finding.reason


class TestGuards:
    def long_gone(self) -> Case:
        of = run(age=9999)
        seen = replace(sighting(of, made=10020), last_seen=ago(400), live_seen=ago(400))
        return case(of, look(gone(of), sightings=(seen,)), past=history(of, ("PENDING", 10050)))

    def held(self, one: Case, *scopes: object, **kw: object) -> Guard | None:
        finding = verdict(one, *scopes, **kw)  # type: ignore[arg-type]
        assert (finding.verdict is Verdict.HELD) == (finding.guard is not None)
        return finding.guard

    def test_breaker_holds_every_absence_of_the_scope_and_lets_ends_pass(self) -> None:
        lost = [vanished() for _ in range(3)]
        r, h = run(), run()
        plan = decide(
            snapshot(*lost, case(r, look(exited(r))), case(h, look(alive(h), sightings=(sighting(h),)))), POLICY
        )
        by = {finding.run.id: finding for finding in plan.findings}
        assert [by[one.run.id].guard for one in lost] == [Guard.BREAKER] * 3
        assert by[r.id].verdict is Verdict.ZOMBIE
        assert [(b.scope, b.absent) for b in plan.breakers] == [("a", 3)]

    def test_breaker_needs_both_a_count_and_a_share(self) -> None:
        assert not decide(snapshot(vanished(), vanished()), POLICY).breakers
        herd = [case(r, look(alive(r), sightings=(sighting(r),))) for r in (run() for _ in range(4))]
        assert not decide(snapshot(*[vanished() for _ in range(3)], *herd), POLICY).breakers
        assert decide(snapshot(*[vanished() for _ in range(3)], *herd[:3]), POLICY).breakers

    def test_breaker_counts_absences_that_still_wait(self) -> None:
        plan = decide(snapshot(vanished(), *[vanished(age=5) for _ in range(2)]), POLICY)
        assert [f.guard for f in plan.findings if f.rule == "7"] == [Guard.BREAKER]

    def test_breaker_releases_what_was_sighted(self) -> None:
        old = [self.long_gone() for _ in range(3)]
        for seconds, expected in ((299, Verdict.HELD), (300, Verdict.ZOMBIE)):
            plan = decide(snapshot(*old, scopes=(scope("a", breaker_since=ago(seconds)),)), POLICY)
            assert {finding.verdict for finding in plan.findings} == {expected}
            assert [breaker.holds for breaker in plan.breakers] == [expected is Verdict.HELD]

    def test_an_open_breaker_holds_what_vanished_later(self) -> None:
        cases = [*(self.long_gone() for _ in range(3)), *(vanished() for _ in range(3))]
        plan = decide(snapshot(*cases, scopes=(scope("a", breaker_since=ago(9999)),)), POLICY)
        by = {finding.run.id: finding.verdict for finding in plan.findings}
        assert [by[one.run.id] for one in cases] == [Verdict.ZOMBIE] * 3 + [Verdict.HELD] * 3

    def test_the_breaker_s_share_is_of_runs_that_can_be_absent(self) -> None:
        others = [run(state) for state in ("PENDING", "PENDING", "CANCELLING", "CANCELLING")]
        gone_too = [case(r, look(gone(r), sightings=(sighting(r),))) for r in others]
        assert decide(snapshot(*[vanished() for _ in range(3)], *gone_too), POLICY).breakers

    def test_what_has_ended_does_not_dilute_the_breaker(self) -> None:
        ends = [case(r, look(exited(r), sightings=(sighting(r),))) for r in (run() for _ in range(9))]
        plan = decide(snapshot(*[vanished() for _ in range(3)], *ends), POLICY)
        assert [(b.absent, b.counted) for b in plan.breakers] == [(3, 3)]

    def test_what_tripped_at_the_first_look_stays_open_for_the_cycle(self) -> None:
        lost = [vanished() for _ in range(3)]
        first = decide(snapshot(*lost), POLICY)
        plan = decide(snapshot(*lost[1:]), POLICY, first)
        assert {f.guard for f in plan.findings} == {Guard.BREAKER}

    def test_half_a_list_holds_absences_and_lets_ends_pass(self) -> None:
        r = run()
        assert self.held(vanished(), is_whole=False) is Guard.LISTING
        assert self.held(case(r, look(exited(r))), is_whole=False) is None

    def test_first_contact_is_not_trusted_with_what_was_never_seen(self) -> None:
        r = run()
        one = case(r, look(gone(r)))
        assert self.held(one, scope("a", exclusive=True, known_since=ago(199))) is Guard.IDENTITY
        assert self.held(one, scope("a", exclusive=True, known_since=ago(199), pinned=True)) is None
        assert self.held(vanished(), scope("a", known_since=ago(10))) is None

    def test_our_crash_of_a_state_that_had_moved_on_is_ours_too(self) -> None:
        r = run()
        first = history(r, ("PENDING", 360), ("RUNNING", 355))[:2]
        ours = StateRecord(
            id=uuid4(), type=StateType.CRASHED, name="Crashed", timestamp=ago(320),
            transition_id=transition_id(r.id, first[0].id),
        )  # fmt: skip
        assert self.held(case(r, look(exited(r)), past=(*first, ours, history(r)[-1]))) is Guard.AGAIN

    def test_breaker_never_releases_what_was_never_seen(self) -> None:
        cases = [case(r, look(gone(r))) for r in (run() for _ in range(3))]
        view = scope("a", exclusive=True, breaker_since=ago(9999))
        assert {f.guard for f in decide(snapshot(*cases, scopes=(view,)), POLICY).findings} == {Guard.BREAKER}

    def test_a_jump_of_our_clock_holds_everything(self) -> None:
        """No age is what it seems then: not that of an absence, and not that of an end."""
        r = run()
        for one in (vanished(), case(r, look(exited(r)))):
            assert verdict(one).verdict is Verdict.ZOMBIE
            for seconds, expected in ((0, Guard.AMNESTY), (59, Guard.AMNESTY), (60, None)):
                assert self.held(one, clock_jumped=ago(seconds)) is expected
            assert self.held(one, clock_jumped=ago(-5)) is Guard.AMNESTY, "seen in the middle of this pass"
        shorter = replace(POLICY, amnesty=timedelta(seconds=20))
        assert self.held(vanished(), clock_jumped=ago(20), policy=shorter) is None

    def test_an_end_without_a_time_is_as_old_as_what_is_remembered_of_it(self) -> None:
        """Also where a heartbeat, or the present state, came after it."""
        r = run(age=20)
        known = replace(sighting(r), ended_seen=ago(60))
        one = case(r, look(exited(r, ended=None), sightings=(known,)))
        assert verdict(one).verdict is Verdict.UNKNOWN, "Running was reported after it was seen ended"
        r = run()
        known = replace(sighting(r), ended_seen=ago(60))
        one = case(r, look(exited(r, ended=None), sightings=(known,)))
        assert verdict(one).verdict is Verdict.ZOMBIE
        assert self.held(one, heartbeats={r.id: beat(5)}) is Guard.LIFE_SIGN

    def test_identity_change_starts_an_amnesty(self) -> None:
        assert self.held(vanished(), scope("a", known_since=ago(199), former_identity="x")) is Guard.IDENTITY
        assert self.held(vanished(), scope("a", known_since=ago(200), former_identity="x")) is None

    def test_quiet_believes_heartbeats_rather_than_the_mapping(self) -> None:
        r = run()
        one, here = case(r, look(gone(r))), scope("a", exclusive=True)
        assert self.held(one, here, heartbeats={r.id: beat(199)}) is Guard.QUIET
        assert self.held(one, here, heartbeats={r.id: beat(201)}) is None
        assert self.held(one, here, heartbeats={r.id: beat(330, cadence=300)}) is Guard.QUIET
        assert self.held(one, here) is None

    def test_quiet_does_not_hold_what_was_sighted(self) -> None:
        one = vanished()
        assert self.held(one, heartbeats={one.run.id: beat(60)}) is None

    def test_quiet_holds_what_nobody_saw_end(self) -> None:
        r, other = run(), run()
        for one in (
            case(r, look(replace(exited(r, ended=250), unseen_end=True))),
            case(r, look(exited(r, ended=None), replace(exited(r, name="res-2", ended=260), unseen_end=True))),
            case(r, look(gone(r, unseen_end=True), sightings=(replace(sighting(r), last_seen=ago(150)),))),
            case(r, look(gone(r), gone(r, unseen_end=True), sightings=(sighting(r),))),
        ):
            assert self.held(one, heartbeats={r.id: beat(199), other.id: beat(1)}) is Guard.QUIET
            assert self.held(one, heartbeats={r.id: beat(330, cadence=300)}) is Guard.QUIET
            assert self.held(one, heartbeats={r.id: beat(410)}) is None
            assert self.held(one) is None, "without heartbeats there is nothing to wait for"

    def test_an_unseen_end_of_an_earlier_attempt_says_nothing_of_this_one(self) -> None:
        r = run()
        old = replace(exited(r, made=800, name="res-0", ended=600), unseen_end=True)
        one = case(r, look(exited(r), old), past=history(r, *SECOND_ATTEMPT))
        assert self.held(one, heartbeats={r.id: beat(100)}) is None

    def test_the_breaker_counts_no_absence_that_needs_a_sighting(self) -> None:
        lost = [vanished() for _ in range(3)]
        unknown_there = [run() for _ in range(9)]
        cases = [*lost, *(case(r, look(unknown_namespace(r))) for r in unknown_there)]
        plan = decide(snapshot(*cases, scopes=(scope("a", exclusive=True),)), POLICY)
        assert [(one.absent, one.counted) for one in plan.breakers] == [(3, 3)]

    def test_heartbeats_that_cannot_be_read_hold(self) -> None:
        r = run()
        for one in (vanished(), case(r, look(exited(r)))):
            assert self.held(one, heartbeats_error="503") is Guard.LIFE_SIGN

    def test_a_heartbeat_after_the_end_contradicts_it(self) -> None:
        r = run()
        one = case(r, look(exited(r, ended=60)))
        assert self.held(one, heartbeats={r.id: beat(61)}) is None
        assert self.held(one, heartbeats={r.id: beat(59)}) is Guard.LIFE_SIGN
        gone_one = vanished()
        assert self.held(gone_one, heartbeats={gone_one.run.id: beat(9)}) is Guard.LIFE_SIGN

    def test_never_a_second_time_in_one_attempt(self) -> None:
        r = run()
        before = history(r)[0]
        ours = StateRecord(
            id=uuid4(),
            type=StateType.CRASHED,
            name="Crashed",
            timestamp=ago(320),
            transition_id=transition_id(r.id, before.id),
        )
        one = case(r, look(exited(r)), past=(before, ours, history(r)[-1]))
        assert self.held(one) is Guard.AGAIN
        theirs = replace(ours, transition_id=uuid4())
        assert self.held(replace(one, history=(before, theirs, history(r)[-1]))) is None

    def test_a_new_attempt_after_our_crash_is_judged_afresh(self) -> None:
        r = run()
        first, second, now = history(r, ("PENDING", 900), ("PENDING", 360))
        ours = StateRecord(
            id=uuid4(),
            type=StateType.CRASHED,
            name="Crashed",
            timestamp=ago(500),
            transition_id=transition_id(r.id, first.id),
        )
        assert self.held(case(r, look(exited(r)), past=(first, ours, second, now))) is None

    def test_selection_mode_and_exclusions(self) -> None:
        r = run(tags=frozenset({"keep"}), work_queue="q", deployment_id=uuid4())
        one = case(r, look(exited(r)))
        for policy, guard in (
            (Policy(mode=Mode.OBSERVE), Guard.MODE),
            (Policy(exclude_tags=frozenset({"keep"})), Guard.OPT_OUT),
            (Policy(exclude_work_pools=frozenset({"pool"})), Guard.OPT_OUT),
            (Policy(exclude_work_queues=frozenset({"q"})), Guard.OPT_OUT),
            (Policy(exclude_deployments=frozenset({str(r.deployment_id)})), Guard.OPT_OUT),
            (Policy(only_pools=frozenset({"other"})), Guard.SELECTION),
            (Policy(only_runs=frozenset({uuid4()})), Guard.SELECTION),
            (Policy(only_pools=frozenset({"pool"}), only_runs=frozenset({r.id})), None),
        ):
            assert self.held(one, policy=policy) is guard

    def test_rate_lets_the_oldest_through(self) -> None:
        cases = [case(r, look(exited(r))) for r in (run(age=300 + n) for n in range(5))]
        plan = decide(snapshot(*cases), Policy(max_settlements=2))
        assert {f.run.id for f in plan.zombies} == {one.run.id for one in cases[3:]}
        assert [f.guard for f in plan.findings].count(Guard.RATE) == 3


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
