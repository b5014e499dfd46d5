"""Explained and foretold: subflows, resumptions, what a person may switch on, what lives on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.account.explain import Sources, explanation
from reconciler.account.explained import Explanation, as_json
from reconciler.account.forecast import Forecast, forecast
from reconciler.account.screen import as_lines
from reconciler.model import Action, Cause, FlowRun, OutcomeKind, Resource, StateRecord, StateType, Verdict
from reconciler.plan import CycleReport, Mode, Outcome, Policy, resumption_id, transition_id
from reconciler.snapshot import Case, FirstLook, ScopeView, Snapshot
from tests.account.families import ended, families, inside, over, root_case, script, subflow, vanished_root
from tests.spec import (
    NOW,
    POLICY,
    ago,
    alive,
    case,
    exited,
    gone,
    history,
    look,
    run,
    scope,
    sighting,
    snapshot,
    unknown_namespace,
    vanished,
)
from tests.test_evidence import report_of, writer

PENDING = replace(POLICY, crash_pending=True)
CANCELLING = replace(POLICY, finish_cancelling=True)
RESUMING = replace(POLICY, resume_max=2, resume_work_pools=frozenset({"pool"}), label_settled=True)


def flat(told: Explanation) -> str:
    return " ".join("\n".join(as_lines(told, height=999)).split())


def family_of(root: Case, *, confirmed: bool = True, **changes: object) -> tuple[CycleReport, FlowRun, FlowRun]:
    """A root with a child and a grandchild; the root is in flight if its state says so."""
    began = 700 if root.run.is_in_flight else 1000  # nothing reports from a process that has ended
    child, deep = subflow(age=began), subflow(age=began - 50, name="grandchild")
    family = [inside(child, root.run, confirmed=confirmed), inside(deep, child, root.run, confirmed=confirmed)]
    cases = [root, *family] if root.run.is_in_flight else family
    roots = {} if root.run.is_in_flight else {root.run.id: root}
    policy = changes.pop("policy", POLICY)
    return report_of(snapshot(*cases, roots=roots, **changes), policy), child, deep  # type: ignore[arg-type]


def told_of(of: FlowRun, report: CycleReport, **sources: object) -> Explanation:
    return explanation(of.id, report, Sources(**sources))  # type: ignore[arg-type]


class TestASubflowOfARootInFlight:
    @pytest.fixture
    def family(self) -> tuple[CycleReport, FlowRun, FlowRun, FlowRun]:
        root = vanished(age=800, name="etl")
        return (*family_of(root), root.run)

    def test_it_says_whose_process_it_runs_in(self, family: tuple[CycleReport, FlowRun, FlowRun, FlowRun]) -> None:
        report, child, deep, root = family
        told = told_of(deep, report)
        assert told.inside
        assert (told.inside.parent_id, told.inside.parent_name) == (str(child.id), "child")
        assert (told.inside.root_id, told.inside.root_name, told.inside.depth) == (str(root.id), "etl", 2)
        assert (told.inside.root_state_type, told.inside.root_since) == ("RUNNING", root.state_since)
        assert (told.inside.vouched, told.inside.note) == ("", "")
        text = flat(told)
        assert f"inside parent {child.id} (child), 2 levels below its root flow run {root.id} (etl), Running" in text
        assert "the scopes below are asked about the root" in text
        assert "sees GONE: Docker container res-1 on engine a was removed" in text
        assert "rule 1: it runs inside its parent's process" in text

    def test_its_parent_says_what_shares_its_fate(self, family: tuple[CycleReport, FlowRun, FlowRun, FlowRun]) -> None:
        report, child, deep, root = family
        told = told_of(root, report)
        assert [(one.id, one.depth) for one in told.children] == [(str(child.id), 1), (str(deep.id), 2)]
        text = flat(told)
        subflows = f"{child.id} (child, Running) {deep.id} (grandchild, Running)"
        assert f"subflows 2 in flight inside its process, which share its fate: {subflows}" in text
        assert "with it cause Removed; 2 subflows in flight settled too, the deepest first; its task runs set" in text
        assert told_of(child, report).child_count == 1
        assert told_of(deep, report).children == ()

    def test_none_of_the_subflows_is_hidden_behind_dots(self) -> None:
        root = vanished(age=800)
        family = [subflow(age=700, name="a subflow with a name that is far too long for it", id=UUID(int=number))
                  for number in range(1, 6)]  # fmt: skip
        report = report_of(snapshot(root, *(inside(one, root.run) for one in family)))
        text = flat(told_of(root.run, report))
        assert "subflows 5 in flight inside its process, which share its fate; the first 3:" in text
        assert [str(one.id) in text for one in family] == [True] * 3 + [False] * 2
        assert " ..." not in text.partition("subflows 5")[2].partition("scope")[0]

    def test_what_holds_its_root_holds_it_and_is_told_with_the_switch(self) -> None:
        report, child, _ = family_of(vanished(age=800), policy=replace(POLICY, mode=Mode.OBSERVE))
        text = flat(told_of(child, report))
        assert "HELD, held by 'mode'" in text
        assert 'needed is mode = "settle" under [policy]; then now' in text

    def test_a_scope_that_could_not_tell_is_the_root_s(self) -> None:
        of = run(age=800)
        report, child, _ = family_of(replace(case(of, look(error="503"), confirmed=False), history=None))
        text = flat(told_of(child, report))
        assert "UNKNOWN: it runs inside" in text
        assert "needed is an answer of scope 'a'" in text

    def test_a_healthy_one(self) -> None:
        of = run(age=800)
        report, child, _ = family_of(replace(case(of, look(alive(of)), confirmed=False), history=None), confirmed=False)
        told = told_of(child, report)
        assert told.decision
        assert told.decision.verdict is Verdict.HEALTHY
        assert told.settlement is None
        assert "sees ALIVE: Docker container res-1" in flat(told)


VOUCHED: dict[str, tuple[Case, str]] = {
    "seen ended": (root_case(one := ended(), over(one)), "Docker container res-1 on engine a exited with code 137 at"),
    "gone": (
        root_case(one := ended(), vanished_root(one)),
        "Docker container res-1 on engine a was removed; last seen running 11:58",
    ),
    "reported": (root_case(script()), "its Crashed was reported by Prefect's own client"),
    "reported where it is mapped": (
        root_case(one := ended(), look(gone(one))),
        "its Crashed was reported by Prefect's own client",
    ),
    "reported where nobody looks": (
        root_case(ended()),
        "nothing: its Crashed was reported by Prefect's own client, and no scope is asked about it",
    ),
    "contradicted": (root_case(script(age=1200)), "nothing: what runs in it reported a state after its Crashed"),
    "by hand": (
        root_case(ended(ours=False)),
        "nothing: its Crashed was set by hand, by an automation or by the server",
    ),
    "lives": (
        root_case(one := ended(), look(alive(one))),
        "nothing, for Docker container res-1 on engine a is",
    ),
    "blind": (root_case(one := ended(), look(error="503")), "not known: scope 'a' could not tell: 503"),
}


@pytest.mark.parametrize("what", VOUCHED)
def test_what_vouches_for_the_end_of_a_root(what: str) -> None:
    root, words = VOUCHED[what]
    report, child, _ = family_of(root)
    told = told_of(child, report)
    assert told.inside
    assert (told.inside.root_state_type, told.inside.depth) == ("CRASHED", 1)
    assert words in told.inside.vouched
    assert told.decision
    assert (told.decision.verdict is Verdict.ZOMBIE) is not words.startswith(("no", "nothing"))
    text = flat(told)
    assert f"vouched what tells that its root's process ended: {words}" in text
    assert f"inside its parent and root flow run {root.run.id} (parent), Crashed since 11:4" in text


def test_a_subflow_whose_parent_is_not_known() -> None:
    deleted = inside(subflow(), confirmed=False)
    told = told_of(deleted.run, report_of(snapshot(deleted)))
    assert told.inside
    assert told.inside.note == "the flow run that it runs in was deleted"
    assert "needed is nothing that can be configured: its parent flow run was deleted" in flat(told)
    assert deleted.lineage
    unread = replace(deleted, lineage=replace(deleted.lineage, error="it could not be read: 503"))
    text = flat(told_of(unread.run, report_of(snapshot(unread))))
    assert "inside it could not be read: 503" in text
    assert "needed is an answer about the flow run that it runs in" in text


def test_a_parent_that_is_over_and_its_subflows() -> None:
    root = root_case(ended())
    report, _, _ = family_of(root)
    told = told_of(root.run, report, row=root.run, history=root.history)
    assert (told.decision, told.child_count) == (None, 2)
    assert "subflows 2 in flight inside its process" in flat(told)


class TestWhatLivesOn:
    OF = ended()
    THING = Resource(id="c0ffee", title="Docker container c0ffee", run_id=OF.id, removal="docker rm -f c0ffee")

    def told(self, of: FlowRun, *things: Resource) -> Explanation:
        report = replace(report_of(snapshot()), strangers={"prod": things})
        return told_of(of, report, row=of)

    def test_it_is_shown_with_the_command(self) -> None:
        told = self.told(self.OF, self.THING)
        (orphan,) = told.orphans
        assert (orphan.scope, orphan.resource, orphan.removal) == ("prod", "c0ffee", "docker rm -f c0ffee")
        text = flat(told)
        assert "lives on prod: Docker container c0ffee is alive; the run is Crashed since 11:45:00 UTC (15 min)" in text
        assert "; remove it with: docker rm -f c0ffee" in text
        assert text.count(str(self.OF.id)) == 1
        assert "not judged it is over" in text

    def test_what_may_live_in_it_is_told_with_it(self) -> None:
        of = ended(id=self.OF.id, ours=False)
        report, _, _ = family_of(root_case(of))
        text = flat(told_of(of, replace(report, strangers={"prod": (self.THING,)}), row=of))
        assert "; 2 subflows of it are in flight, perhaps alive in there: do not remove it unseen" in text

    def test_not_of_another_run_nor_of_one_that_goes_on(self) -> None:
        assert self.told(self.OF, replace(self.THING, run_id=uuid4())).orphans == ()
        of = run("PAUSED", id=self.OF.id)
        assert self.told(of, self.THING).orphans == ()


def resumed(of: FlowRun, *, ours: bool = True) -> tuple[StateRecord, ...]:
    """Crashed by us 800 s ago, and scheduled again, by us or by hand; that is its present state."""
    before, crash = uuid4(), uuid4()
    again = resumption_id(of.id, crash) if ours else None
    rows = (
        (uuid4(), "PENDING", "Pending", 900, None),
        (before, "RUNNING", "Running", 890, None),
        (crash, "CRASHED", "Crashed", 800, transition_id(of.id, before)),
        (of.state_id, "SCHEDULED", "AwaitingRetry", 700, again),
    )
    return tuple(
        StateRecord(id=id_, type=StateType(type_), name=name, timestamp=ago(age), transition_id=transition)
        for id_, type_, name, age, transition in rows
    )


class TestWhenAResumptionIsDue:
    def text(self, due: float, *, ours: bool = True, policy: Policy = RESUMING) -> str:
        of = run("SCHEDULED", age=700, state_name="AwaitingRetry", scheduled_time=ago(due))
        return flat(told_of(of, report_of(snapshot(), policy), row=of, history=resumed(of, ours=ours)))

    def test_it_is_told_with_its_number(self) -> None:
        text = self.text(-3540)
        assert "state AwaitingRetry (SCHEDULED) since 11:48:20 UTC, for 12 min" in text
        assert "due 12:59:00 UTC, in 59 min; 1 of 2, resumed by us runs in" in text

    def test_what_is_late_says_so(self) -> None:
        assert "due 11:55:00 UTC, 5 min ago; 1 of 2, resumed by us" in self.text(300)

    def test_another_s_has_no_number(self) -> None:
        assert "due 12:59:00 UTC, in 59 min runs in" in self.text(-3540, ours=False)

    def test_more_than_there_may_be_by_now_has_no_most(self) -> None:
        assert "in 59 min; 1, resumed by us" in self.text(-3540, policy=POLICY)

    def test_only_what_is_scheduled_is_due(self) -> None:
        one = vanished(scheduled_time=ago(-3540))
        told = told_of(one.run, report_of(snapshot(one)))
        assert told.run
        assert told.run.due is None


class TestResumptions:
    def test_the_next_one_is_told_with_the_settlement(self) -> None:
        one = vanished(deployment_id=uuid4())
        told = told_of(one.run, report_of(snapshot(one), RESUMING))
        settlement = told.settlement
        assert settlement
        assert (settlement.action, settlement.cause) == (Action.CRASH, Cause.REMOVED)
        assert (settlement.resumption_number, settlement.resumption_most) == (1, 2)
        assert settlement.resumption_delay_seconds == 30
        assert "then resumed (1 of 2) after 30 s; labels put on the flow run" in flat(told)
        document = json.loads(json.dumps(as_json(told)))
        assert document["settlement"]["resumption_number"] == 1

    def test_those_before_are_counted(self) -> None:
        of = run(deployment_id=uuid4())
        before, crash = uuid4(), uuid4()
        first = [
            StateRecord(id=uuid4(), type=StateType.PENDING, name="Pending", timestamp=ago(900)),
            StateRecord(id=before, type=StateType.RUNNING, name="Running", timestamp=ago(890)),
            StateRecord(id=crash, type=StateType.CRASHED, name="Crashed", timestamp=ago(800),
                        transition_id=transition_id(of.id, before)),
            StateRecord(id=uuid4(), type=StateType.SCHEDULED, name="AwaitingRetry", timestamp=ago(700),
                        transition_id=resumption_id(of.id, crash)),
        ]  # fmt: skip
        past = (*first, *history(of))
        one = case(of, look(gone(of), sightings=(sighting(of),)), past=past)
        told = told_of(of, report_of(snapshot(one), RESUMING))
        assert told.attempt
        assert (told.attempt.crashed_by_us, told.attempt.resumed_by_us) == ((ago(800),), (ago(700),))
        text = flat(told)
        assert "resumed by us 1 time, last 11:48:20 UTC (12 min ago)" in text
        assert "then resumed (2 of 2) after 60 s" in text


def ahead(one: Case, *scopes: ScopeView, policy: Policy = POLICY, **changes: object) -> Forecast:
    """Among enough healthy runs that the breaker has nothing to say."""
    herd = [case(r, look(alive(r), sightings=(sighting(r),))) for r in (run() for _ in range(9))]
    return forecast(report_of(snapshot(one, *herd, scopes=scopes, **changes), policy), one.run.id)


def seconds(made: Forecast) -> float | None:
    return None if made.acts_at is None else (made.acts_at - NOW).total_seconds()


def listed(of: FlowRun, *looks: object) -> Case:
    return replace(case(of, *looks, confirmed=False), history=None)  # type: ignore[arg-type]


class TestWhenItActs:
    """To the second, by the passes to come."""

    @pytest.mark.parametrize("what", ["seen ended", "reported"])
    def test_when_subflow_grace_is_over(self, what: str) -> None:
        of = ended(age=150) if what == "seen ended" else script(age=150)
        root = root_case(of, *([over(of)] if what == "seen ended" else []), confirmed=False)
        child = inside(subflow(age=1000), of, confirmed=False)
        made = ahead(child, roots={of.id: replace(root, history=None)})
        assert (seconds(made), made.needed) == (50, "")
        assert "subflow_grace of 3 min has not passed (2 min so far)" in made.stages[0].why
        assert made.settlement
        assert made.settlement.cause is Cause.PARENT_ENDED

    def test_an_absent_root_is_looked_at_twice(self) -> None:
        of = ended(age=150)
        root = replace(root_case(of, vanished_root(of), confirmed=False), history=None)
        assert seconds(ahead(inside(subflow(), of, confirmed=False), roots={of.id: root})) == 50 + 10

    def test_with_its_root(self) -> None:
        of = run(age=4)
        root = listed(of, look(gone(of), sightings=(replace(sighting(of), last_seen=ago(1)),)))
        child = inside(subflow(age=3), of, confirmed=False)
        herd = [case(r, look(alive(r), sightings=(sighting(r),))) for r in (run() for _ in range(9))]
        report = report_of(snapshot(root, child, *herd))
        assert [seconds(forecast(report, one)) for one in (of.id, child.run.id)] == [36, 36]

    def test_a_pending_run_when_it_may_be_crashed(self) -> None:
        of = run("PENDING", age=20, pid=None)
        place = scope(exclusive=True, pinned=True)
        one = listed(of, look(gone(of)))
        assert seconds(ahead(one, place, policy=PENDING)) == 880 + 10
        made = ahead(one, place)
        assert (made.acts_at, made.needed) == (None, "crash_pending = true under [policy]")
        assert made.then_at == NOW + timedelta(seconds=890)

    def test_a_pending_run_that_crash_pending_cannot_judge(self) -> None:
        of = run("PENDING", age=20, pid=None)
        both = "crash_pending = true under [policy], and exclusive = true on scope 'a' if its runs can be nowhere else"
        for policy, needed in ((POLICY, both), (PENDING, both.partition(", and ")[2])):
            made = ahead(listed(of, look(gone(of))), scope(pinned=True), policy=policy)
            assert (made.acts_at, made.then_at, made.needed) == (None, NOW + timedelta(seconds=890), needed)

    def test_a_pending_run_that_no_key_lets_it_judge(self) -> None:
        """Its namespace is unknown here: only a sighting would tell."""
        of = run("PENDING", age=20)
        made = ahead(listed(of, look(unknown_namespace(of))))
        assert (made.then_at, made.needed) == (None, "a person: what rule 8 finds is shown, and not written")

    def test_a_cancelling_run_when_it_may_be_finished(self) -> None:
        of = run("CANCELLING", age=20)
        one = listed(of, look(exited(of)))
        made = ahead(one, policy=CANCELLING)
        assert seconds(made) == 580
        assert made.settlement
        assert made.settlement.action is Action.CANCEL
        report = report_of(snapshot(one), CANCELLING)
        text = flat(told_of(of, report))
        assert "acts if nothing changes: set to Cancelled 12:09:40 UTC" in text
        assert "its task runs left as they are" in text
        made = ahead(one)
        assert made.needed == "finish_cancelling = true under [policy]"
        assert made.then_at == NOW + timedelta(seconds=580)

    def test_a_subflow_that_is_being_cancelled(self) -> None:
        root = root_case(one := ended(age=900), over(one))
        child = inside(subflow("CANCELLING", age=100), root.run, confirmed=False)
        made = ahead(child, roots={one.id: root})
        assert (made.acts_at, made.needed) == (None, "finish_cancelling = true under [policy]")
        assert made.then_at == NOW + timedelta(seconds=500)

    def test_one_whose_root_nothing_vouches_for(self) -> None:
        root = root_case(ended(ours=False))
        made = ahead(inside(subflow(), root.run), roots={root.run.id: root})
        assert made.acts_at is None
        assert made.needed.startswith("what its reason says: the configuration")


def test_a_cancellation_of_ours_is_told_from_the_evidence(tmp_path: Path) -> None:
    of = run("CANCELLING", age=900)
    one = replace(case(of, look(exited(of))), first_look=FirstLook(ago(10), ended=frozenset({"res-1"})))
    report = report_of(snapshot(one), CANCELLING)
    report = replace(report, dry_run=False, outcomes={of.id: Outcome(OutcomeKind.ACCEPTED, "")})
    writer(tmp_path).note(report)
    row = replace(of, state_type=StateType.CANCELLED, state_name="Cancelled", state_id=uuid4())
    told = told_of(of, report_of(snapshot()), row=row, folder=tmp_path)
    assert "ZOMBIE (rule 9) -> set to Cancelled: Docker container res-1" in flat(told)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(families(), st.sampled_from([POLICY, replace(PENDING, finish_cancelling=True), RESUMING]))
def test_every_run_of_a_family_is_foretold_and_explained(snap: Snapshot, policy: Policy) -> None:
    report = report_of(snap, policy)
    for finding in report.plan.findings:
        made = forecast(report, finding.run.id)
        assert made.stages[0].finding == finding
        assert (made.acts_at is None) == (made.stages[-1].finding.verdict is not Verdict.ZOMBIE)
        assert bool(made.needed) == (made.acts_at is None)
        assert (made.settlement is None) == (made.acts_at is None and made.then_at is None)
        told = explanation(finding.run.id, report, Sources())
        assert (told.inside is None) == (finding.run.parent_task_run_id is None)
        assert all(len(line) <= 100 for line in as_lines(told))
