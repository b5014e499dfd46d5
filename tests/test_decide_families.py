"""Rules 1 and 2, as the specification: what becomes of the subflows that run in their parent's process.

`r` is the root, `m` a subflow between, `s` the subflow that is judged. Times are in seconds before now.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from reconciler.decide import decide, decide_alone
from reconciler.guards import Watchman
from reconciler.model import AbsenceCounts, Action, Cause, FlowRun, Guard, LifeSign, Place, StateRecord, Verdict
from reconciler.plan import Finding, Mode, Plan, Policy, transition_id
from reconciler.snapshot import Case, FirstLook, Look

from .spec import (
    NOW,
    POLICY,
    ago,
    alive,
    asleep,
    beat,
    case,
    exited,
    gone,
    herd,
    history,
    inside,
    judged,
    look,
    over,
    past_of,
    run,
    scope,
    sighting,
    snapshot,
    subflow,
    unknown,
    vanished,
)

SUBFLOW_GRACE = POLICY.subflow_grace.total_seconds()
FINISHING, LABELLING = Policy(finish_cancelling=True), Policy(label_settled=True)


def told(finding: Finding) -> tuple[str, str]:
    return finding.verdict.value, finding.rule


def kid_of(root: Case, policy: Policy = POLICY, **kw: object) -> Finding:
    """The finding of a running child of this root, which is in flight."""
    s = subflow()
    return judged(root, inside(s, root.run), policy=policy, **kw)[s.id]  # type: ignore[arg-type]


def ended_root(root: FlowRun, *looks: Look, **kw: object) -> Case:
    """Without a look: its scope is asked about it, has nothing of it, and that says nothing."""
    return case(root, *(looks or (look(gone(root)),)), past=past_of(root), **kw)  # type: ignore[arg-type]


def orphaned(root: Case, s: FlowRun | None = None, **kw: object) -> Finding:
    """The finding of a subflow whose root is not in flight."""
    s = s or subflow(age=(NOW - root.run.state_since).total_seconds() + 50)
    return judged(inside(s, root.run), roots=(root,), **kw)[s.id]  # type: ignore[arg-type]


class TestRule1:
    """The root is in flight: its verdict is the subflow's."""

    def roots(self) -> dict[str, tuple[Case, str]]:
        r = [run() for _ in range(8)]
        cancelling, pending, sleeper = run("CANCELLING", age=30), run("PENDING", age=60), asleep(due=-60)
        return {
            "alive": (case(r[0], look(alive(r[0]))), "HEALTHY"),
            "a scope is blind": (case(r[1], look(error="timed out")), "UNKNOWN"),
            "cannot be read": (case(r[2], look(unknown())), "UNKNOWN"),
            "no scope is mapped": (case(r[3]), "UNMANAGED"),
            "ended": (case(r[4], look(exited(r[4]))), "ZOMBIE"),
            "ended a moment ago": (case(r[5], look(exited(r[5], ended=9))), "WAITING"),
            "removed": (vanished(), "ZOMBIE"),
            "removed, younger than grace": (vanished(age=29), "WAITING"),
            "cancelling, alive": (case(cancelling, look(alive(cancelling))), "HEALTHY"),
            "pending, nothing there": (case(pending, look(gone(pending))), "WAITING"),
            "asleep, dead, not due": (case(sleeper, look(exited(sleeper, ended=600))), "WAITING"),
        }

    def test_it_shares_the_verdict_whatever_that_is(self) -> None:
        for words, (root, expected) in self.roots().items():
            s = subflow(age=2000)
            found = judged(root, inside(s, root.run))
            mine, its = found[s.id], found[root.run.id]
            assert told(mine) == (expected, "1"), words
            assert its.verdict is mine.verdict
            shared = (its.guard, its.scope, its.adapter, its.observation, its.cause, its.is_suspect)
            assert (mine.guard, mine.scope, mine.adapter, mine.observation, mine.cause, mine.is_suspect) == shared
            assert mine.reason == f"it runs inside flow run {root.run.id} (otter): {its.reason}"
            assert (mine.inside, mine.root, mine.depth, mine.absence) == (root.run, root.run.id, 1, None)

    def test_that_its_root_is_worth_a_line_makes_it_worth_none(self) -> None:
        r, s = run(age=1000), subflow()
        found = judged(case(r, look(alive(r, "STARTING"))), inside(s, r))
        assert (found[r.id].is_notable, found[s.id].is_notable) == (True, False)

    def test_an_ancestor_in_between_that_ended_between_the_looks_is_no_root(self) -> None:
        """The second look keeps all that ended since in `roots` (`Examiner._reread`). The root lives."""
        r, s = run(), subflow()
        m = replace(subflow("COMPLETED", age=1), transition_id=uuid4())
        living, middle = case(r, look(alive(r))), inside(m, r, past=past_of(m))
        for policy in (POLICY, replace(POLICY, subflow_grace=timedelta(0))):
            found = judged(living, inside(s, m, r), roots=(middle,), policy=policy)
            assert told(found[s.id]) == ("HEALTHY", "1")

    def test_one_in_between_that_had_infrastructure_of_its_own_is_the_root_of_what_runs_in_it(self) -> None:
        r, s = run(), subflow(age=950)
        m = over(by_client=True, parent_task_run_id=uuid4())
        living = case(r, look(alive(r)))
        found = judged(living, inside(s, m, r), roots=(ended_root(m),))
        assert (told(found[s.id]), found[s.id].inside) == (("ZOMBIE", "2"), m)

    def test_what_it_was_judged_by_is_kept(self) -> None:
        r, s, ended, orphan = run(), subflow(), over(), subflow(age=950)
        living, above = case(r, look(alive(r))), ended_root(ended)
        plan = decide(snapshot(living, inside(s, r), inside(orphan, ended), roots={ended.id: above}), POLICY)
        kept = {one.finding.run.id: one.root and one.root.run for one in plan.judged}
        assert kept == {r.id: None, s.id: r, orphan.id: ended}

    def test_what_is_written_names_the_parent_and_its_reason(self) -> None:
        r = run()
        message = kid_of(case(r, look(exited(r)))).message
        assert message == (
            f"it runs inside flow run {r.id} (otter): Docker container res-1 on engine a exited with code 137 at "
            "11:59:00 UTC; no final state was reported. Set by prefect-reconciler."
        )

    def test_at_any_depth_it_is_the_root_that_counts(self) -> None:
        r, m, s = run(), subflow(), subflow()
        dead = case(r, look(exited(r)))
        found = judged(dead, inside(m, r), inside(s, m, r))
        assert [told(found[one.id]) for one in (r, m, s)] == [("ZOMBIE", "6"), ("ZOMBIE", "1"), ("ZOMBIE", "1")]
        assert [found[one.id].depth for one in (r, m, s)] == [0, 1, 2]
        assert found[s.id].root == r.id

    @pytest.mark.parametrize("state", ["PAUSED", "SCHEDULED"])
    def test_a_root_that_is_paused_or_scheduled_condemns_nobody(self, state: str) -> None:
        r = run(state, age=9000, state_name="Suspended")
        finding = orphaned(case(r, look(gone(r), sightings=(sighting(r),))))
        assert told(finding) == ("HEALTHY", "1")
        assert finding.reason == f"its parent flow run {r.id} (otter) is Suspended"

    def test_a_root_in_flight_that_the_list_left_out_condemns_nobody(self) -> None:
        r = run(age=9000)
        assert told(orphaned(case(r, look(exited(r))))) == ("HEALTHY", "1")

    def test_a_deleted_root(self) -> None:
        s = subflow()
        for one in (inside(s), case(s), inside(s, run())):
            finding = judged(one)[s.id]
            assert told(finding) == ("UNMANAGED", "1")
            assert finding.reason == "its parent flow run was deleted, so nothing tells in whose process it ran"

    def test_a_root_that_could_not_be_told(self) -> None:
        s = subflow()
        finding = judged(inside(s, error="503 Service Unavailable"))[s.id]
        assert (told(finding), finding.reason) == (("UNKNOWN", "1"), "503 Service Unavailable")

    def test_its_own_history_is_read_before_it_is_written(self) -> None:
        r, s = run(), subflow()
        dead, kid = case(r, look(exited(r))), inside(s, r)
        for one, words, suspect in (
            (replace(kid, history=None), "its state history is still to be read", True),
            (replace(kid, history=history(subflow())), "its state has changed since it was listed", False),
            (replace(kid, first_look=None), "a second look, in every scope", True),
        ):
            finding = judged(dead, one, policy=LABELLING)[s.id]
            assert told(finding) == ("WAITING", "1")
            assert (finding.is_suspect, finding.cause, finding.labels_run) == (suspect, None, False)
            assert finding.reason.endswith(f"; awaited: {words}")
        finding = judged(dead, replace(kid, history=None, history_error="503"))[s.id]
        assert told(finding) == ("UNKNOWN", "1")
        assert finding.reason.endswith("; its state history could not be read: 503")
        assert finding.is_suspect is False

    def test_the_second_look_judges_suspects_only(self) -> None:
        """Of one that could not be told at the first look nothing new is known, though its root is dead."""
        r, s = run(), subflow()
        dead = case(r, look(exited(r)))
        first = decide(snapshot(dead, inside(s, r, error="503"), *herd()), POLICY)
        again = decide(snapshot(dead, inside(s, r), *herd()), POLICY, first)
        found = {finding.run.id: told(finding) for finding in again.findings}
        assert (found[r.id], found[s.id]) == (("ZOMBIE", "6"), ("UNKNOWN", "1"))

    def test_a_subflow_that_came_back_after_we_crashed_it_is_left_alone(self) -> None:
        r, s = run(), subflow(age=100)
        ours = StateRecord(
            id=uuid4(), type=over().state_type, name="Crashed", timestamp=ago(200), transition_id=uuid4()
        )
        before = history(s, ("PENDING", 360), ("RUNNING", 350))
        ours = replace(ours, transition_id=transition_id(s.id, before[1].id))
        finding = judged(case(r, look(exited(r))), inside(s, r, past=(*before[:2], ours, before[-1])))[s.id]
        assert finding.guard is Guard.AGAIN


class TestRule2:
    """The root has ended, whoever wrote that: there must be more than a state to say that its process did."""

    def test_it_waits_for_subflow_grace(self) -> None:
        for age, expected in ((SUBFLOW_GRACE - 1, "WAITING"), (SUBFLOW_GRACE, "ZOMBIE")):
            finding = orphaned(ended_root(over(age=age, by_client=True)))
            assert told(finding) == (expected, "2")
        reason = orphaned(ended_root(over(age=60, by_client=True))).reason
        assert reason.endswith(
            "is Crashed since 11:59:00 UTC; awaited: subflow_grace of 3 min has not passed (60 s so far)"
        )

    def test_a_parent_falsely_crashed_by_an_automation_whose_container_lives(self) -> None:
        for age in (10, 900, 90_000):
            for by_client in (True, False):
                r = over(age=age, by_client=by_client)
                finding = orphaned(ended_root(r, look(alive(r, made=age + 100))))
                assert told(finding) == ("HEALTHY", "2")
                assert finding.reason.endswith("yet Docker container res-1 on engine a is running")
                assert finding.is_notable, "it is worth a line"

    def test_of_what_lives_the_first_scope_is_told_and_there_what_runs(self) -> None:
        r = over(by_client=True)
        found = orphaned(
            ended_root(r, look(alive(r), scope="b"), look(alive(r, "STARTING", name="new"), alive(r, name="old")))
        )
        assert (found.scope, found.adapter, found.cause) == ("a", "docker", None)
        assert found.observation == alive(r, name="old")
        assert found.reason.endswith("yet Docker container old on engine a is running")

    @pytest.mark.parametrize("condition", ["STARTING", "STOPPING"])
    def test_what_starts_or_stops_lives_too(self, condition: str) -> None:
        r = over(by_client=True)
        assert told(orphaned(ended_root(r, look(alive(r, condition))))) == ("HEALTHY", "2")

    def test_in_a_scope_that_it_is_not_mapped_to_it_lives_as_well(self) -> None:
        r = over(by_client=True)
        looks = look(gone(r), sightings=(sighting(r),)), look(alive(r), scope="b", mapped=False)
        assert told(orphaned(ended_root(r, *looks))) == ("HEALTHY", "2")

    def test_a_live_resource_of_an_earlier_attempt_is_alive(self) -> None:
        r = over(by_client=True)
        past = history(r, ("PENDING", 5000), ("RUNNING", 4990), ("CRASHED", 2000), ("PENDING", 1900))
        assert told(orphaned(case(r, look(alive(r, made=4990)), past=past))) == ("HEALTHY", "2")

    def test_one_blind_scope_is_enough(self) -> None:
        r = over(by_client=True)
        for looks in (
            (look(error="timed out"),),
            (look(unknown()),),
            (look(),),
            (look(exited(r, made=950, ended=900)), look(scope="b", error="x")),
            (look(gone(r), sightings=(sighting(r),)), look(scope="b", mapped=False, ever_seen=True, error="x")),
        ):
            assert told(orphaned(ended_root(r, *looks))) == ("UNKNOWN", "2")
        there = look(gone(r), sightings=(sighting(r),))
        assert told(orphaned(ended_root(r, there), scopes=(scope("a", incomplete="one page"),))) == ("UNKNOWN", "2")

    def test_all_that_could_not_be_told_is_said(self) -> None:
        r, s = over(by_client=True), subflow(age=950)
        root = replace(ended_root(r, look(error="timed out")), history=None, history_error="503")
        finding = judged(inside(s, r, past=()), roots=(root,))[s.id]
        assert told(finding) == ("UNKNOWN", "2")
        assert (finding.cause, finding.inside, finding.depth) == (None, r, 1)
        assert finding.reason == (
            f"its parent flow run {r.id} (otter) is Crashed since 11:45:00 UTC; scope 'a' could not tell: timed out; "
            "its state history could not be read: 503; the server has no state history of it"
        )

    def test_by_an_end_that_was_seen(self) -> None:
        r = over()
        finding = orphaned(ended_root(r, look(exited(r, made=950, ended=905))))
        assert told(finding) == ("ZOMBIE", "2")
        assert (finding.cause, finding.action, finding.scope) == (Cause.PARENT_ENDED, Action.CRASH, "a")
        assert finding.reason == (
            f"its parent flow run {r.id} (otter) is Crashed since 11:45:00 UTC; "
            "Docker container res-1 on engine a exited with code 137 at 11:44:55 UTC"
        )

    @pytest.mark.parametrize("end", ["", ".", " . Set by prefect-reconciler."])
    def test_the_parents_own_message_is_told(self, end: str) -> None:
        r = over(by_client=True, state_message=f"Pod was evicted by MAX{end}")
        finding = orphaned(ended_root(r))
        assert (
            finding.reason
            == f"its parent flow run {r.id} (otter) is Crashed since 11:45:00 UTC (Pod was evicted by MAX)"
        )

    def test_deeper_it_is_what_it_runs_inside(self) -> None:
        r, s = over(by_client=True), subflow(age=950)
        finding = judged(inside(s, subflow(), r), roots=(ended_root(r),))[s.id]
        assert finding.reason == f"what it runs inside, flow run {r.id} (otter) is Crashed since 11:45:00 UTC"

    def test_an_end_of_an_earlier_attempt_vouches_for_nothing(self) -> None:
        r = over()
        past = history(r, ("PENDING", 5000), ("RUNNING", 4990), ("CRASHED", 2000), ("PENDING", 1900), ("RUNNING", 1890))
        assert told(orphaned(case(r, look(exited(r, made=4990, ended=2100)), past=past))) == ("UNMANAGED", "2")

    def test_by_an_absence_that_counts_seen_twice(self) -> None:
        r = over()
        there = look(gone(r), sightings=(sighting(r, made=950),))
        finding = orphaned(ended_root(r, there))
        assert told(finding) == ("ZOMBIE", "2")
        assert finding.absence is AbsenceCounts.SIGHTED
        assert "was removed; last seen running 11:58:30 UTC" in finding.reason
        one = ended_root(r, there)
        for first in (
            None,
            FirstLook(ago(9.9), frozenset("a")),
            FirstLook(ago(60), frozenset("b")),
            FirstLook(ago(60)),
        ):
            finding = orphaned(replace(one, first_look=first))
            assert told(finding) == ("WAITING", "2")
            assert finding.is_suspect
            assert finding.wants_time

    @pytest.mark.parametrize("counts", [AbsenceCounts.LOCATED, AbsenceCounts.EXCLUSIVE])
    def test_by_an_absence_of_what_can_be_nowhere_else(self, counts: AbsenceCounts) -> None:
        r = over()
        there = look(gone(r), place=Place.HERE) if counts is AbsenceCounts.LOCATED else look(gone(r))
        finding = orphaned(ended_root(r, there), scopes=(scope("a", exclusive=counts is AbsenceCounts.EXCLUSIVE),))
        assert told(finding) == ("ZOMBIE", "2")
        assert finding.absence is counts

    def test_by_the_word_of_prefects_own_client(self) -> None:
        r = over(by_client=True)
        for looks in ((), (look(gone(r)),)):
            assert told(orphaned(ended_root(r, *looks))) == ("ZOMBIE", "2")
        finding = orphaned(ended_root(r, look(gone(r))))
        assert (finding.scope, finding.adapter) == ("a", "docker"), "whose mode and trust bind it"

    def test_nothing_vouches(self) -> None:
        """As after a heartbeat automation: it has no transition id, and its process may run where nobody looks."""
        r = over(age=90_000)
        finding = orphaned(case(r, past=past_of(r)))
        assert told(finding) == ("UNMANAGED", "2")
        assert finding.reason.endswith("and nothing tells that its process ended, for no scope is asked about it")
        finding = orphaned(ended_root(r, look(gone(r))))
        assert told(finding) == ("UNMANAGED", "2")
        assert "set `exclusive = true` on that scope" in finding.reason

    def test_its_own_word_counts_where_a_scope_is_asked_about_it_or_none_could_be(self) -> None:
        """Else whose subflows would they be? A script, and .serve(), have nothing that a scope could be asked about."""
        r = over(by_client=True)
        assert told(orphaned(case(r, past=past_of(r)))) == ("UNMANAGED", "2")
        script = over(by_client=True, pid=None, work_pool=None)
        assert told(orphaned(case(script, past=past_of(script)))) == ("ZOMBIE", "2")
        wary = (scope("a", observes=True), scope("b", observes=True))
        assert orphaned(case(script, past=past_of(script)), scopes=wary).guard is Guard.MODE

        unnamed = over(by_client=True, pid=None)
        assert told(orphaned(case(unnamed, past=past_of(unnamed)))) == ("UNMANAGED", "2"), "it has a work pool"

    def test_what_its_subflow_reported_after_its_own_word_contradicts_that(self) -> None:
        r = over(age=900, by_client=True)
        for age, expected in ((900.000001, "ZOMBIE"), (900, "ZOMBIE"), (899.999999, "UNMANAGED")):
            finding = orphaned(ended_root(r), subflow(age=age))
            assert told(finding) == (expected, "2")
        assert finding.reason == (
            f"its parent flow run {r.id} (otter) is Crashed since 11:45:00 UTC, and nothing tells that its process "
            "ended: what runs in it reported a state after that"
        )

    def test_each_scope_says_why_its_absence_says_nothing(self) -> None:
        r = over()
        reason = orphaned(ended_root(r, look(gone(r)), look(gone(r), scope="b"), look(gone(r)))).reason
        whys = [
            f"it was never seen in scope '{name}', and others may run it: set `exclusive = true` on that scope if its "
            "runs can be nowhere else"
            for name in "ab"
        ]
        assert reason.endswith(f"nothing tells that its process ended: {'; '.join(whys)}")

    def test_its_end_must_be_believed_as_any_other(self) -> None:
        """Settle time, an end without a time, and something else of it that was alive a while ago."""
        r = over(age=900)
        lately = look(exited(r, 0, made=1000, ended=5))
        assert "settle_zero of 30 s has not passed" in orphaned(ended_root(r, lately)).reason
        lost = look(exited(r, made=1000), sightings=(sighting(r, made=950, name="twin"),))
        once = orphaned(replace(ended_root(r, lost), first_look=None))
        assert (once.verdict, once.wants_time) == (Verdict.WAITING, True)
        assert "was alive before" in once.reason

    def test_its_roots_history_is_read_first(self) -> None:
        r = over(by_client=True)
        finding = orphaned(replace(ended_root(r), history=None))
        assert told(finding) == ("WAITING", "2")
        assert finding.is_suspect
        finding = orphaned(replace(ended_root(r), history=None, history_error="503"))
        assert told(finding) == ("UNKNOWN", "2")
        assert orphaned(replace(ended_root(r), history=())).verdict is Verdict.UNKNOWN

    def test_nothing_is_written_at_the_first_look(self) -> None:
        r, s = over(by_client=True), subflow(age=950)
        finding = judged(inside(s, r, confirmed=False), roots=(ended_root(r),))[s.id]
        assert told(finding) == ("WAITING", "2")
        assert finding.is_suspect


class TestCancelling:
    """A subflow that is being cancelled is never crashed: rule 9's conditions are its own."""

    def of(self, age: float, policy: Policy) -> list[Finding]:
        r, ended = run(age=9000), over(age=5000, by_client=True)
        one, other = subflow("CANCELLING", age=age), subflow("CANCELLING", age=age)
        dead = case(r, look(exited(r)))
        found = judged(dead, inside(one, r), inside(other, ended), roots=(ended_root(ended),), policy=policy)
        return [found[one.id], found[other.id]]

    def test_young(self) -> None:
        for policy in (POLICY, FINISHING):
            for finding in self.of(599, policy):
                assert (finding.verdict, finding.is_suspect) == (Verdict.WAITING, False)
                assert finding.reason.endswith("; awaited: cancelling for 10 min, reported after 10 min")

    def test_old(self) -> None:
        for finding in self.of(600, POLICY):
            assert (finding.verdict, finding.guard, finding.is_suspect) == (Verdict.HELD, None, False)
            assert finding.reason.endswith(
                "; cancelling for 10 min: servers before 3.7.5 leave it so, set it Cancelled by hand, or let "
                "`finish_cancelling = true` do it"
            )

    def test_old_and_to_be_finished(self) -> None:
        for finding in self.of(600, FINISHING):
            assert (finding.verdict, finding.action) == (Verdict.ZOMBIE, Action.CANCEL)

    def test_what_runs_inside_a_root_that_we_set_to_cancelled_is_the_servers(self) -> None:
        r, s = run("CANCELLING", age=700), subflow(age=5000)
        found = judged(case(r, look(exited(r))), inside(s, r), policy=FINISHING)
        assert (found[r.id].verdict, found[r.id].action) == (Verdict.ZOMBIE, Action.CANCEL)
        assert told(found[s.id]) == ("WAITING", "1")
        assert found[s.id].reason.endswith("; awaited: the server cancels what runs inside a cancelled flow run")


class TestOtherStates:
    @pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
    def test_dies_with_its_root(self, state: str) -> None:
        r, s = run(), subflow(state)
        assert told(judged(case(r, look(exited(r))), inside(s, r))[s.id]) == ("ZOMBIE", "1")

    @pytest.mark.parametrize("due", [60, -3600])
    def test_asleep_it_dies_too_for_nobody_else_wakes_it(self, due: float) -> None:
        mine = {"pid": None, "work_pool": None, "worker_type": None, "parent_task_run_id": uuid4()}
        r, s = run(), asleep(due=due, **mine)
        assert s.is_in_process_subflow
        assert told(judged(case(r, look(exited(r))), inside(s, r))[s.id]) == ("ZOMBIE", "1")


class TestJudgedAlone:
    """Infrastructure of its own: also when its parent is dead, and whatever state that is in."""

    @pytest.mark.parametrize(
        "own",
        [{"deployment_id": uuid4()}, {"work_pool": "pool"}, {"worker": "w-1"}, {"pid": "base:res-1"}],
        ids=lambda own: next(iter(own)),
    )
    def test_by_what_the_run_says(self, own: dict[str, object]) -> None:
        r, s = run(), subflow(**own)  # type: ignore[arg-type]
        dead, living = case(r, look(exited(r))), replace(inside(s, r), looks=(look(alive(s), mapped=False),))
        assert told(judged(dead, living)[s.id]) == ("HEALTHY", "3")
        finding = judged(dead, inside(s, r))[s.id]
        assert told(finding) == ("UNMANAGED", "5"), "nothing was seen of it, and its parent's death says nothing"
        assert finding.inside is None

    def test_by_what_was_seen_of_it(self) -> None:
        """Its work pool was deleted: nothing on the run itself tells that a worker started it."""
        r, s = run(), subflow()
        dead = case(r, look(exited(r)))
        there = look(alive(s), mapped=False)
        assert told(judged(dead, inside(s, r, looks=(there,)))[s.id]) == ("HEALTHY", "3")
        once = look(gone(s), mapped=False, ever_seen=True)
        assert told(judged(dead, inside(s, r, looks=(once,)))[s.id]) == ("UNMANAGED", "5")

    def test_that_it_is_nowhere_by_itself_makes_it_no_other(self) -> None:
        r, s = run(), subflow(tags=frozenset({"eu"}))
        dead = case(r, look(exited(r)))
        for looks in ((look(gone(s)),), (look(error="x"),), (look(unknown()),)):
            assert told(judged(dead, inside(s, r, looks=looks))[s.id]) == ("ZOMBIE", "1")

    @pytest.mark.parametrize("by", ["1", "2"])
    def test_what_runs_inside_one_that_is_judged_alone_shares_its_fate(self, by: str) -> None:
        """`m` runs in a container of its own, which lives; its pool was deleted, so only the container tells that."""
        r = run() if by == "1" else over(by_client=True)
        root = case(r, look(exited(r, made=950))) if by == "1" else ended_root(r)
        m, s = subflow(age=950), subflow(age=940)
        living = inside(m, r, looks=(look(alive(m), mapped=False),))
        cases, roots = ((root,), ()) if by == "1" else ((), (root,))
        found = judged(*cases, living, inside(s, m, r), roots=roots)
        assert told(found[m.id]) == ("HEALTHY", "3")
        assert found[s.id].verdict is Verdict.HEALTHY


class TestSignsOfLife:
    """The family's newest sign is given for each of them (`newest_of_family`)."""

    def test_later_than_the_roots_end_holds_for_quiet(self) -> None:
        r, s = over(age=900, by_client=True), subflow(age=950)
        for seconds, guard in ((5, Guard.LIFE_SIGN), (199, Guard.LIFE_SIGN), (200, None)):
            assert orphaned(ended_root(r), s, heartbeats={s.id: beat(seconds)}).guard is guard
            assert orphaned(ended_root(r), s, life_signs={s.id: LifeSign("log line", ago(seconds))}).guard is guard

    def test_its_own_cadence_counts(self) -> None:
        r, s = over(age=900, by_client=True), subflow(age=5000)
        for seconds, guard in ((719, Guard.LIFE_SIGN), (720, None)):
            slow = beat(seconds, count=4, cadence=600)
            assert orphaned(ended_root(r), s, heartbeats={s.id: slow}).guard is guard

    def test_earlier_than_the_roots_end_says_nothing(self) -> None:
        r, s = over(age=200, by_client=True), subflow(age=950)
        assert orphaned(ended_root(r), s, heartbeats={s.id: beat(201)}).verdict is Verdict.ZOMBIE
        assert orphaned(ended_root(r), s, heartbeats={s.id: beat(199)}).guard is Guard.LIFE_SIGN

    def test_later_than_the_end_that_was_seen_of_the_root(self) -> None:
        """With `quiet` longer than `subflow_grace`, or that short: what ended is not where it runs.

        The container ended 900 s ago, an automation crashed the root 250 s ago, and in between the subflow has logged.
        Of the root, were it still in flight, that holds it (`TestLifeSigns` of the guards).
        """
        r, s = over(age=250), subflow(age=1000)
        root = ended_root(r, look(exited(r, made=1100, ended=900)))
        signs = {one.id: LifeSign("log line", ago(400)) for one in (r, s)}
        patient = replace(POLICY, quiet=timedelta(seconds=600))
        assert orphaned(root, s, policy=patient, life_signs=signs).verdict is not Verdict.ZOMBIE

    def test_that_cannot_be_read_hold(self) -> None:
        for kw in ({"heartbeats_error": "503"}, {"life_signs_error": "503"}):
            assert orphaned(ended_root(over(by_client=True)), **kw).guard is Guard.LIFE_SIGN  # type: ignore[arg-type]

    def test_of_the_subflow_hold_the_root_and_that_the_subflow(self) -> None:
        r, s = run(), subflow()
        dead = case(r, look(exited(r, ended=60)))
        both = {r.id: LifeSign("log line", ago(5)), s.id: LifeSign("log line", ago(5))}
        found = judged(dead, inside(s, r), life_signs=both)
        assert {found[one.id].guard for one in (r, s)} == {Guard.LIFE_SIGN}
        found = judged(dead, inside(s, r), life_signs={r.id: both[r.id]})
        assert found[s.id].guard is Guard.LIFE_SIGN

    @pytest.mark.parametrize("by", ["1", "2"])
    def test_it_began_after_the_end_that_it_is_said_to_have_died_of(self, by: str) -> None:
        """A crashed run goes on, and starts subflows (seen on 3.8.8): whatever reported its start lived then.

        Of the run itself `Scale._reported_later` says so. Nothing else holds it: it has been silent for longer than
        `quiet`, as one that computes, and sends no heartbeats, is.
        """
        if by == "1":
            r = run(age=3000)
            s = subflow(age=400)
            found = judged(case(r, look(exited(r, made=3100, ended=900)), past=past_of(r)), inside(s, r))
        else:  # by a worker that lost sight of it, or by us: our own word vouches too
            r = over(age=900, by_client=True)
            s = subflow(age=400)
            found = judged(inside(s, r), roots=(ended_root(r),))
        assert found[s.id].verdict is not Verdict.ZOMBIE


class TestEarlierAttempts:
    """What ended is the root's present attempt; a subflow that runs since before it runs in another process."""

    @pytest.mark.parametrize("by", ["1", "2"])
    def test_the_end_of_this_one_is_not_the_end_of_the_former(self, by: str) -> None:
        """The former was crashed by an automation, lives on a host that no scope looks at, and was started again here.

        What ends of a former attempt says nothing of this one (`Scale._is_of_this_attempt`), nor the other way round.
        """
        r = run(age=350) if by == "1" else over(age=300, by_client=True)
        past = history(r, ("PENDING", 900), ("RUNNING", 890), ("CRASHED", 500), ("SCHEDULED", 490), ("PENDING", 360))
        root = case(r, look(exited(r, made=355, ended=310)), past=past)
        s = subflow(age=700)
        cases, roots = ((root,), ()) if by == "1" else ((), (root,))
        finding = judged(*cases, inside(s, r), roots=roots)[s.id]
        assert finding.verdict is Verdict.UNMANAGED
        assert finding.is_suspect is False
        assert finding.reason.endswith(
            " UTC; it runs since before that attempt began, and nothing tells what became of the attempt that it "
            "belongs to"
        )

    @pytest.mark.parametrize("by", ["1", "2"])
    def test_who_was_there_told_of_the_end_of_the_former(self, by: str) -> None:
        """What the root went to next, its former attempt's RUNNING aside: that was its end, and not what came later."""
        r = run(age=350) if by == "1" else over(age=300, by_client=True)
        past = history(
            r,
            ("PENDING", 900),
            ("CRASHED", 890),
            ("RUNNING", 600),
            ("CRASHED", 500),
            ("SCHEDULED", 490),
            ("PENDING", 360),
        )
        for age, vouched, expected in (
            (700, "CRASHED", "ZOMBIE"),
            (700, "SCHEDULED", "UNMANAGED"),
            (700, "RUNNING", "UNMANAGED"),
            (500.000001, "CRASHED", "ZOMBIE"),
            (500, "SCHEDULED", "ZOMBIE"),
            (360.000001, "CRASHED", "UNMANAGED"),
            (360, "none", "ZOMBIE"),
        ):
            told_of = tuple(replace(one, transition_id=uuid4()) if one.name == vouched else one for one in past)
            root, s = case(r, look(exited(r, made=355, ended=310)), past=told_of), subflow(age=age)
            cases, roots = ((root,), ()) if by == "1" else ((), (root,))
            assert told(judged(*cases, inside(s, r), roots=roots)[s.id]) == (expected, by), (age, vouched)


class TestReports:
    """What one of a family reports shows that the process of all of them lived then."""

    def test_the_root_is_held_by_what_its_subflow_reported_later(self) -> None:
        r, m, s = run(age=3000), subflow(age=2900), subflow(age=400)
        dead = case(r, look(exited(r, made=3100, ended=900)), past=past_of(r))
        for members in ((inside(s, r),), (inside(m, r), inside(s, m, r))):
            found = judged(dead, *members)
            assert {found[one.run.id].verdict for one in (dead, *members)} == {Verdict.UNKNOWN}

    @pytest.mark.parametrize("ages", [(400, 2900), (2900, 400)])
    def test_the_newest_of_them_counts_in_whatever_order_they_are_listed(self, ages: tuple[float, ...]) -> None:
        r = run(age=3000)
        dead = case(r, look(exited(r, made=3100, ended=900)), past=past_of(r))
        found = judged(dead, *(inside(subflow(age=age), r) for age in ages))
        assert found[r.id].verdict is Verdict.UNKNOWN

    def test_that_it_is_being_cancelled_is_no_report_of_its_own(self) -> None:
        r, s = run(age=3000), subflow("CANCELLING", age=400)
        dead = case(r, look(exited(r, made=3100, ended=900)), past=past_of(r))
        assert judged(dead, inside(s, r))[r.id].verdict is Verdict.ZOMBIE

    @pytest.mark.parametrize("who", ["a subflow", "a subflow of an ended root", "the run itself"])
    def test_an_absence_that_began_before_it_says_nothing_either(self, who: str) -> None:
        """Nothing was there 500 s ago, nor since, and 400 s ago it reported a state: so it runs where we do not see."""
        r = over(age=900) if "ended" in who else run(age=400 if "itself" in who else 3000)
        gone_since = look(gone(r), sightings=(sighting(r, made=3100),), absent_since=ago(500))
        if "itself" in who:
            past = history(r, ("PENDING", 3000), ("RUNNING", 2990), ("SCHEDULED", 450))  # its retry woke up
            assert judged(case(r, gone_since, past=past))[r.id].verdict is not Verdict.ZOMBIE
            return
        root, s = case(r, gone_since, past=past_of(r)), subflow(age=400)
        cases, roots = ((), (root,)) if "ended" in who else ((root,), ())
        assert judged(*cases, inside(s, r), roots=roots)[s.id].verdict is not Verdict.ZOMBIE

    def test_of_another_family_it_says_nothing(self) -> None:
        r, other, s = run(age=3000), run(), subflow(age=400)
        dead = case(r, look(exited(r, made=3100, ended=900)), past=past_of(r))
        assert judged(dead, case(other, look(alive(other))), inside(s, other))[r.id].verdict is Verdict.ZOMBIE


class TestWhoIsWritten:
    """What opting in and out goes by is the root's, and its own tags."""

    R = run(tags=frozenset({"eu"}), work_queue="fast", deployment_id=uuid4())
    S = subflow(tags=frozenset({"keep"}))

    def guards(self, policy: Policy) -> tuple[Guard | None, Guard | None]:
        found = judged(case(self.R, look(exited(self.R))), inside(self.S, self.R), policy=policy)
        return found[self.R.id].guard, found[self.S.id].guard

    def test_its_own_tags_take_it_out_alone(self) -> None:
        assert self.guards(Policy(exclude_tags=frozenset({"keep"}))) == (None, Guard.OPT_OUT)
        assert self.guards(Policy(include_tags=frozenset({"keep"}))) == (Guard.OPT_OUT, Guard.OPT_OUT)

    @pytest.mark.parametrize(
        "kind", [{"tags": "eu"}, {"work_pools": "pool"}, {"work_queues": "fast"}, {"deployments": str(R.deployment_id)}]
    )
    def test_its_roots_take_both_out(self, kind: dict[str, str]) -> None:
        ((name, value),) = kind.items()
        excluding = Policy(**{f"exclude_{name}": frozenset({value})})  # type: ignore[arg-type]
        assert self.guards(excluding) == (Guard.OPT_OUT, Guard.OPT_OUT)
        including = Policy(**{f"include_{name}": frozenset({value})})  # type: ignore[arg-type]
        assert self.guards(including) == (None, None)

    def test_of_a_root_that_has_ended_too(self) -> None:
        r = over(by_client=True, tags=frozenset({"eu"}))
        for policy in (Policy(exclude_work_pools=frozenset({"pool"})), Policy(exclude_tags=frozenset({"eu"}))):
            assert orphaned(ended_root(r), policy=policy).guard is Guard.OPT_OUT

    def test_the_root_is_chosen(self) -> None:
        assert self.guards(Policy(only_runs=frozenset({self.R.id}))) == (None, None)
        assert self.guards(Policy(only_pools=frozenset({"pool"}))) == (None, None)
        assert self.guards(Policy(only_pools=frozenset({"other"}))) == (Guard.SELECTION, Guard.SELECTION)

    def test_the_subflow_alone_is_never_written_before_its_root(self) -> None:
        assert self.guards(Policy(only_runs=frozenset({self.S.id}))) == (Guard.SELECTION, Guard.SELECTION)
        assert self.guards(Policy(only_runs=frozenset({self.R.id, self.S.id}))) == (None, None)

    def test_the_subflow_alone_of_a_root_that_has_ended(self) -> None:
        r, s = over(by_client=True), subflow(age=950)
        for chosen, guard in ((s.id, None), (r.id, None), (uuid4(), Guard.SELECTION)):
            assert orphaned(ended_root(r), s, policy=Policy(only_runs=frozenset({chosen}))).guard is guard
        assert orphaned(ended_root(r), s, policy=Policy(only_pools=frozenset({"pool"}))).guard is None


class TestOtherGuards:
    def test_every_guard_of_the_root_holds_its_subflow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever a guard says of the root, by the name of that guard."""
        r, s = run(), subflow()
        for guard in (one for one in Guard if one is not Guard.RATE):
            with monkeypatch.context() as patch:
                says = lambda _, weighed, found: "so" if found.run.id == r.id else None  # noqa: E731
                patch.setattr(Watchman, guard.name.lower(), says)
                finding = judged(case(r, look(exited(r))), inside(s, r))[s.id]
                assert (finding.verdict, finding.guard) == (Verdict.HELD, guard)
                assert finding.reason.endswith("; held: so")

    def test_a_scope_that_only_observes_or_is_not_trusted(self) -> None:
        r, ended = run(), over(by_client=True)
        for view, guard in (
            (scope("a", observes=True), Guard.MODE),
            (scope("a", distrusted_since=ago(900)), Guard.TRUST),
        ):
            assert kid_of(case(r, look(exited(r))), scopes=(view,)).guard is guard
            for there in (look(gone(ended)), look(gone(ended), sightings=(sighting(ended),))):
                assert orphaned(ended_root(ended, there), scopes=(view,)).guard is guard
        assert orphaned(ended_root(ended), policy=Policy(mode=Mode.OBSERVE)).guard is Guard.MODE

    def test_by_the_clients_word_all_scopes_that_the_root_is_mapped_to_bind_it(self) -> None:
        r = over(by_client=True)
        root = ended_root(r, look(gone(r)), look(gone(r), scope="b"))
        for view, guard in (
            (scope("b", observes=True), Guard.MODE),
            (scope("b", distrusted_since=ago(900)), Guard.TRUST),
        ):
            assert orphaned(root, scopes=(view,)).guard is guard

    def test_an_absence_of_the_root_is_held_like_any_other(self) -> None:
        r = over()
        root = ended_root(r, look(gone(r), sightings=(sighting(r),)))
        assert orphaned(root).verdict is Verdict.ZOMBIE
        for view, guard in (
            (scope("a", back_since=ago(5)), Guard.AMNESTY),
            (scope("a", known_since=ago(5), former_identity="another"), Guard.IDENTITY),
        ):
            assert orphaned(root, scopes=(view,)).guard is guard
        assert orphaned(root, clock_jumped=ago(5)).guard is Guard.AMNESTY
        assert orphaned(root, is_whole=False).guard is Guard.LISTING

    def test_out_of_sight_its_heartbeats_are_asked(self) -> None:
        r, s = over(age=250), subflow(age=400)
        lost = look(gone(r, unseen_end=True), sightings=(sighting(r),))
        for seconds, guard in ((199, Guard.QUIET), (201, None)):
            assert orphaned(ended_root(r, lost), s, heartbeats={s.id: beat(seconds)}).guard is guard


class TestBreaker:
    def plan(self, absent: int, kids: int, alive_: int) -> Plan:
        lost = [vanished() for _ in range(absent)]
        cases = [*lost, *herd(alive_)]
        cases += [inside(subflow(), one.run) for one in cases[:1] for _ in range(kids)]
        return decide(snapshot(*cases), POLICY)

    @pytest.mark.parametrize("kids", [0, 50])
    def test_subflows_neither_trip_nor_dilute_it(self, kids: int) -> None:
        assert self.plan(3, kids, 3).breakers[0].counted == 6
        assert {f.guard for f in self.plan(3, kids, 3).findings if f.verdict is not Verdict.HEALTHY} == {Guard.BREAKER}
        assert not self.plan(2, kids, 0).breakers
        assert not self.plan(3, kids, 4).breakers

    def test_those_of_ended_roots_do_not_either(self) -> None:
        roots = [over() for _ in range(6)]
        before = {r.id: replace(sighting(r), live_seen=r.state_since, last_seen=r.state_since) for r in roots}
        above = {r.id: ended_root(r, look(gone(r), sightings=(before[r.id],))) for r in roots}
        kids = [inside(subflow(age=950), r) for r in roots]
        plan = decide(snapshot(*kids, roots=above), POLICY)
        assert not plan.breakers
        plan = decide(snapshot(*kids, *herd(3), *(vanished() for _ in range(3)), roots=above), POLICY)
        assert [(one.absent, one.counted) for one in plan.breakers] == [(3, 6)]
        held = [one for one in plan.findings if one.rule == "2"]
        assert {one.guard for one in held} == {Guard.BREAKER}, "but what it holds, it holds of them too"

    def test_but_those_do_that_were_seen_alive_after_their_end(self) -> None:
        """Somebody had ended them by mistake, and now the scope shows nothing: that is its fault, more likely."""
        roots = [over() for _ in range(6)]
        above = {r.id: ended_root(r, look(gone(r), sightings=(sighting(r),))) for r in roots}
        kids = [inside(subflow(age=950), r) for r in roots]
        plan = decide(snapshot(*kids, *herd(2), roots=above), POLICY)
        assert [(one.absent, one.counted) for one in plan.breakers] == [(6, 8)]
        assert {one.guard for one in plan.findings if one.rule == "2"} == {Guard.BREAKER}


class TestTurns:
    def families(self) -> tuple[list[Case], list[str]]:
        """Two families of one root, two children and a grandchild; the second has stood longer."""
        cases = list[Case]()
        for name, age in (("young", 400), ("old", 800)):
            r = run(age=age, name=f"{name} root")
            one, two = (subflow(age=age - 10, name=f"{name} child", id=uuid4()) for _ in range(2))
            deep = subflow(age=age - 20, name=f"{name} grandchild")
            cases += [case(r, look(exited(r))), inside(one, r), inside(two, r), inside(deep, one, r)]
        order = [f"{age} {who}" for age in ("old", "young") for who in ("root", "grandchild", "child", "child")]
        return cases, order

    def test_each_root_first_then_the_deepest(self) -> None:
        cases, order = self.families()
        plan = decide(snapshot(*cases, *herd()), POLICY)
        assert [finding.run.name for finding in plan.zombies] == order

    def test_of_ended_roots_the_deepest_first(self) -> None:
        r, m, s = over(by_client=True), subflow(age=950), subflow(age=960)
        plan = decide(snapshot(inside(m, r), inside(s, m, r), roots={r.id: ended_root(r)}), POLICY)
        assert [finding.run.id for finding in plan.zombies] == [s.id, m.id]

    @pytest.mark.parametrize("most", range(3))
    def test_a_rate_counts_families(self, most: int) -> None:
        """One that is cut in two would wait for `subflow_grace` with the rest."""
        cases, order = self.families()
        plan = decide(snapshot(*cases, *herd()), Policy(max_settlements=most))
        assert [finding.run.name for finding in plan.zombies] == order[: 4 * most]
        held = [finding for finding in plan.findings if finding.guard is Guard.RATE]
        assert len(held) == 8 - 4 * most
        roots = {finding.run.id for finding in plan.zombies if not finding.inside}
        assert all(finding.root in roots for finding in plan.zombies if finding.inside)

    def test_the_order_of_inputs_is_irrelevant(self) -> None:
        cases, _ = self.families()
        ended = over(by_client=True)
        cases += [inside(subflow(age=950), ended), *herd(3)]
        chance, policy = random.Random(7), Policy(max_settlements=5)
        expected = decide(snapshot(*cases, roots={ended.id: ended_root(ended)}), policy)
        for _ in range(10):
            chance.shuffle(cases)
            assert decide(snapshot(*cases, roots={ended.id: ended_root(ended)}), policy) == expected

    def test_alone_none_comes_before_it(self) -> None:
        for most, expected in ((1, Verdict.ZOMBIE), (0, Verdict.HELD)):
            assert decide_alone(snapshot(vanished()), Policy(max_settlements=most)).verdict is expected

    def test_one_cut_out_of_the_pass_is_judged_the_same(self) -> None:
        """As an explanation, or a replay, does: with what the pass noted on it."""
        cases, _ = self.families()
        r, late = run(age=3000), subflow(age=400)
        cases += [case(r, look(exited(r, made=3100, ended=900)), past=past_of(r)), inside(late, r)]
        m, within = subflow(age=950), subflow(age=940)
        cases += [inside(m, cases[0].run, looks=(look(alive(m), mapped=False),)), inside(within, m, cases[0].run)]
        plan = decide(snapshot(*cases, *herd()), POLICY)
        found = {one.run.id: one for one in plan.findings}
        by_id = {one.weighed.case.run.id: one.weighed.case for one in plan.judged}
        for one in by_id.values():
            root = found[one.run.id].root
            above = {root: by_id[root]} if root else {}
            assert decide_alone(snapshot(one, roots=above), POLICY) == found[one.run.id]
