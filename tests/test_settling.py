"""What is written, in which order, and what is left alone: with a Prefect API that does what a script says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from reconciler import settling
from reconciler.model import FlowRun, OutcomeKind, RunId, StateType, TaskRun, Verdict
from reconciler.plan import Finding, Mode, Outcome, Plan, Policy, Resumption, Settled, resumption_id
from reconciler.ports import OrchestratorError
from reconciler.settling import Settling
from reconciler.snapshot import Case
from reconciler.testing import FakeOrchestrator
from reconciler.weigh import Weighed, weigh
from tests.fake_prefect import FakePrefect, connect, judged

from .spec import alive, exited, look, over, run, snapshot, subflow

POLICY = Policy()
FAILED = Outcome(OutcomeKind.FAILED, "503 Service Unavailable")
REFUSED = Outcome(OutcomeKind.REFUSED, "no")
ELSEWHERE = Outcome(OutcomeKind.SETTLED_ELSEWHERE, "already CRASHED")
DISTURBED = Outcome(OutcomeKind.ACCEPTED, "it has reported Completed since", state_id=uuid4())
AGAIN = Resumption(1, 3, timedelta(seconds=30))


@dataclass
class Scripted(FakeOrchestrator):
    """`log` is what was done to whom, by name; `answers` are outcomes for names; `before` is called with each step."""

    takes_states: bool = True
    log: list[str] = field(default_factory=list)
    answers: dict[str, Outcome] = field(default_factory=dict)
    before: Callable[[str], object] = lambda step: None
    down: frozenset[str] = frozenset()  # methods that raise
    most_listed: int = 5000

    def settle(self, finding: Finding) -> Outcome:
        self._step(f"crash {finding.run.name}")
        return self.answers.get(finding.run.name) or super().settle(finding)

    def open_task_runs(self, run_ids: Collection[RunId]) -> Sequence[TaskRun]:
        self._step("list")
        self._reached("open_task_runs")
        return super().open_task_runs(run_ids)[: self.most_listed]

    def settle_task_run(self, task_run: TaskRun, message: str) -> Outcome:
        self._step(f"end {task_run.name}")
        return self.answers.get(task_run.name) or super().settle_task_run(task_run, message)

    def resume(self, finding: Finding, crash_id: UUID) -> Outcome:
        self._step(f"resume {finding.run.name}")
        return self.answers.get(f"resume {finding.run.name}") or super().resume(finding, crash_id)

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        self._reached("reread")
        return super().reread(run_ids)

    def becomes(self, one: FlowRun, state: str = "RUNNING") -> None:
        """Somebody else writes a state."""
        now = next(each for each in self.runs if each.id == one.id)
        after = replace(now, state_id=uuid4(), state_type=StateType(state), state_name=state.title())
        self.runs[self.runs.index(now)] = after

    def state(self, one: FlowRun) -> StateType:
        return next(each.state_type for each in self.runs if each.id == one.id)

    def _step(self, what: str) -> None:
        self.before(what)
        self.log.append(what)

    def _reached(self, what: str) -> None:
        if what in self.down:
            raise OrchestratorError("503 Service Unavailable")


@dataclass
class Bench:
    """A server, what settles, and the zombies of a pass."""

    api: Scripted = field(default_factory=Scripted)
    findings: list[Finding] = field(default_factory=list)
    hindrance: str | None = None
    living: dict[RunId, Weighed] = field(default_factory=dict)
    looked: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settling = Settling(self.api)

    def zombie(self, name: str, **changes: object) -> FlowRun:
        one = run(name=name, deployment_id=uuid4())
        self.api.runs.append(one)
        self.findings.append(Finding(run=one, verdict=Verdict.ZOMBIE, rule="6", reason=f"{name} died"))
        self.findings[-1] = replace(self.findings[-1], **changes)  # type: ignore[arg-type]
        return one

    def kid(self, name: str, root: FlowRun, depth: int = 1) -> FlowRun:
        """A subflow of a root that is settled in the same pass, or has ended before."""
        one, rule = subflow(name=name), "2" if root.state_type.is_terminal else "1"
        self.api.runs.append(one)
        found = Finding(run=one, verdict=Verdict.ZOMBIE, rule=rule, reason="with it", inside=root, depth=depth)
        self.findings.append(found)
        return one

    def ended(self, name: str) -> FlowRun:
        self.api.runs.append(one := over(name=name, by_client=True))
        return one

    def task(self, name: str, of: FlowRun, *, placeholder: bool = False) -> TaskRun:
        one = TaskRun(
            id=uuid4(),
            name=name,
            flow_run_id=of.id,
            state_id=uuid4(),
            state_type=StateType.RUNNING,
            placeholder=placeholder,
        )
        self.api.task_runs.append(one)
        return one

    def settle(self, policy: Policy = POLICY) -> Settled:
        """One pass; what it settled is no zombie of the next."""
        plan, self.findings = Plan(findings=tuple(reversed(self.findings))), []
        return self.settling.settle(plan, policy, lambda: self.hindrance, self._what_lives)

    def alive(self, one: FlowRun) -> None:
        self.living[one.id] = weigh(Case(run=one, looks=(look(alive(one)),)), snapshot())

    def blind(self, one: FlowRun) -> None:
        self.living[one.id] = weigh(Case(run=one, looks=(look(error="timed out"),)), snapshot())

    def _what_lives(self, runs: Sequence[FlowRun]) -> dict[RunId, Weighed]:
        self.looked.append([one.name for one in runs])
        return {one.id: self.living.get(one.id) or self.nothing(one) for one in runs}

    @staticmethod
    def nothing(one: FlowRun) -> Weighed:
        """What is left of it: its end."""
        return weigh(Case(run=one, looks=(look(exited(one)),)), snapshot())


@pytest.fixture
def bench() -> Bench:
    return Bench()


class TestOrder:
    def test_root_then_the_deepest_then_task_runs_then_resumptions(self, bench: Bench) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        a = bench.kid("child", r)
        b = bench.kid("grandchild", r, depth=2)
        for name, of in (("task", r), ("child's task", a), ("grandchild's task", b)):
            bench.task(name, of)
        settled = bench.settle()
        flow_runs = ["crash root", "crash grandchild", "crash child"]
        assert bench.api.log[:3] == flow_runs
        assert sorted(bench.api.log[3:-1]) == sorted(["list", "end task", "end child's task", "end grandchild's task"])
        assert bench.api.log[-1] == "resume root"
        assert {outcome.kind for outcome in settled.outcomes.values()} == {OutcomeKind.ACCEPTED}
        assert [one.name for one, _ in settled.task_runs] == ["task", "child's task", "grandchild's task"]
        assert [outcome.kind for outcome in settled.resumed.values()] == [OutcomeKind.ACCEPTED]
        assert settled.problems == ()

    def test_families_do_not_mix(self, bench: Bench) -> None:
        for name in ("a", "b"):
            r = bench.zombie(name)
            bench.kid(f"{name} child", r)
        bench.settle()
        assert bench.api.log[0][-1] == bench.api.log[1].removesuffix(" child")[-1]
        assert bench.api.log[2][-1] == bench.api.log[3].removesuffix(" child")[-1]

    def test_a_message_names_the_flow_run_and_why(self, bench: Bench) -> None:
        bench.task("t", bench.zombie("root"))
        bench.settle()
        ((_, message),) = bench.api.written_task_runs
        assert message == (
            "its flow run is Crashed: root died; no final state was reported. Set by prefect-reconciler."
        )

    def test_a_second_pass_writes_nothing(self, bench: Bench) -> None:
        bench.task("t", bench.zombie("root", resumption=AGAIN))
        bench.settle()
        del bench.api.log[:]
        assert bench.settle() == Settled()
        assert [step for step in bench.api.log if step != "list"] == []


class TestRootNotSettled:
    """Only the server's acceptance there proves that nobody reported."""

    @pytest.mark.parametrize(
        ("outcome", "kind"),
        [
            (FAILED, OutcomeKind.FAILED),
            (REFUSED, OutcomeKind.REFUSED),
            (ELSEWHERE, OutcomeKind.SETTLED_ELSEWHERE),
            (Outcome(OutcomeKind.STATE_CHANGED, "it is Completed"), OutcomeKind.STATE_CHANGED),
            (DISTURBED, OutcomeKind.STATE_CHANGED),
        ],
        ids=lambda one: str(getattr(one, "kind", one)),
    )
    def test_its_family_is_untouched(self, bench: Bench, outcome: Outcome, kind: OutcomeKind) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        a = bench.kid("child", r)
        b = bench.kid("grandchild", r, depth=2)
        for one in (r, a, b):
            bench.task(f"task of {one.name}", one)
        bench.api.answers["root"] = outcome
        settled = bench.settle()
        assert bench.api.log == ["crash root"]
        assert {settled.outcomes[one.id].kind for one in (a, b)} == {kind}
        assert (settled.task_runs, dict(settled.resumed)) == ((), {})
        bench.settle()
        assert bench.api.log == ["crash root"], "nor later"

    def test_another_family_is(self, bench: Bench) -> None:
        r, other = bench.zombie("root"), bench.zombie("other")
        bench.kid("child", r)
        kid = bench.kid("other child", other)
        bench.api.answers["root"] = FAILED
        settled = bench.settle()
        assert settled.outcomes[kid.id].is_last_word
        assert "crash child" not in bench.api.log

    def test_a_subflow_that_failed_keeps_its_task_runs_and_no_other(self, bench: Bench) -> None:
        r = bench.zombie("root")
        a, b = bench.kid("a", r), bench.kid("b", r)
        bench.task("task of a", a)
        bench.task("task of b", b)
        bench.api.answers["a"] = FAILED
        bench.settle()
        assert "end task of b" in bench.api.log
        assert "end task of a" not in bench.api.log

    def test_a_subflow_without_its_root_in_the_plan_is_not_written(self, bench: Bench) -> None:
        """Rule 1, and its root held: no pass makes such a plan."""
        r = bench.zombie("root")
        kid = bench.kid("child", r)
        bench.findings = [one for one in bench.findings if one.run.id == kid.id]
        assert bench.settle().outcomes[kid.id].kind is not OutcomeKind.ACCEPTED
        assert bench.api.log == []

    def test_a_root_that_reports_between_two_of_its_subflows(self, bench: Bench) -> None:
        """It lives after all. With a hundred subflows that takes a while."""
        r = bench.zombie("root")
        kids = [bench.kid(f"child {number}", r) for number in range(5)]
        steps = iter(range(9))
        bench.api.before = lambda step: bench.api.becomes(r, "COMPLETED") if next(steps) == 3 else None  # after two
        settled = bench.settle()
        assert [settled.outcomes[one.id].kind for one in kids].count(OutcomeKind.ACCEPTED) <= 3


class TestEndedRoots:
    def test_they_are_read_again_before_each(self, bench: Bench) -> None:
        r = bench.ended("root")
        for number in range(3):
            bench.kid(f"child {number}", r)
        assert {one.kind for one in bench.settle().outcomes.values()} == {OutcomeKind.ACCEPTED}

    @pytest.mark.parametrize("state", ["RUNNING", "SCHEDULED", "COMPLETED", "CRASHED"])
    def test_one_that_goes_on_or_was_ended_anew(self, bench: Bench, state: str) -> None:
        r = bench.ended("root")
        kid = bench.kid("child", r)
        bench.api.becomes(r, state)
        outcome = bench.settle().outcomes[kid.id]
        assert outcome.kind is OutcomeKind.STATE_CHANGED
        assert outcome.detail == f"it was not proposed, for its parent is {state.title()} by now"
        assert bench.api.log == []

    def test_one_that_comes_back_in_between(self, bench: Bench) -> None:
        r = bench.ended("root")
        for number in range(3):
            bench.kid(f"child {number}", r)
        bench.api.before = lambda step: bench.api.becomes(r) if len(bench.api.log) == 1 else None
        kinds = [one.kind for one in bench.settle().outcomes.values()]
        assert kinds.count(OutcomeKind.ACCEPTED) == 2, "the one that was under way, and none after it"
        assert kinds[-1] is OutcomeKind.STATE_CHANGED

    def test_one_that_was_deleted_or_cannot_be_read(self, bench: Bench) -> None:
        r = bench.ended("root")
        kid = bench.kid("child", r)
        bench.api.runs = [one for one in bench.api.runs if one.id != r.id]
        assert bench.settle().outcomes[kid.id].detail == "it was not proposed, for its parent is deleted by now"
        again = bench.kid("again", r)
        bench.api.down = frozenset({"reread"})
        assert bench.settle().outcomes[again.id].kind is OutcomeKind.FAILED
        assert bench.api.log == []


class TestTaskRuns:
    def test_those_that_stand_for_subflows_follow_these(self, bench: Bench) -> None:
        r = bench.zombie("root")
        bench.task("subflow", r, placeholder=True)
        bench.task("task", r)
        settled = bench.settle()
        assert [one.name for one, _ in settled.task_runs] == ["task"]
        del bench.api.log[:]
        bench.settle()
        assert "end subflow" not in bench.api.log

    def test_switched_off(self, bench: Bench) -> None:
        bench.task("task", bench.zombie("root"))
        assert bench.settle(Policy(settle_task_runs=False)).task_runs == ()
        assert bench.api.log == ["crash root"]

    def test_of_a_run_that_was_started_anew_meanwhile(self, bench: Bench) -> None:
        """After the list, and before the first of them is written: its task runs live."""
        r, other = bench.zombie("root"), bench.zombie("other")
        bench.task("task", r)
        bench.task("other's", other)
        bench.api.before = lambda step: bench.api.becomes(r, "SCHEDULED") if step == "list" else None
        settled = bench.settle()
        assert [one.name for one, _ in settled.task_runs] == ["other's"]
        bench.api.before = lambda step: None
        assert bench.settle().task_runs == (), "it is forgotten"

    def test_of_a_cancelled_run_they_are_the_servers(self, bench: Bench) -> None:
        r = bench.zombie("root")
        stuck = replace(r, state_type=StateType.CANCELLING, state_name="Cancelling")
        bench.findings[-1] = replace(bench.findings[-1], run=stuck, rule="9")
        bench.task("task", r)
        bench.settle()
        assert bench.api.log == ["crash root"]
        assert bench.api.state(r) is StateType.CANCELLED

    def test_what_failed_is_tried_again_and_what_was_done_is_not(self, bench: Bench) -> None:
        r = bench.zombie("root")
        for name in ("a", "b", "c"):
            bench.task(name, r)
        bench.api.answers["b"] = FAILED
        assert [outcome.kind for _, outcome in bench.settle().task_runs].count(OutcomeKind.FAILED) == 1
        bench.api.answers, bench.api.log = {}, []
        assert [one.name for one, _ in bench.settle().task_runs] == ["b"]

    @pytest.mark.parametrize("down", ["open_task_runs", "reread"])
    def test_what_cannot_be_read_waits_for_the_next_pass(self, bench: Bench, down: str) -> None:
        bench.task("task", bench.zombie("root"))
        bench.api.down = frozenset({down})
        settled = bench.settle()
        assert settled.task_runs == ()
        expected = "what follows settlements was left for the next pass: 503 Service Unavailable"
        assert set(settled.problems) == {expected}
        bench.api.down = frozenset()
        assert [one.name for one, _ in bench.settle().task_runs] == ["task"]

    def test_more_of_them_than_are_told_at_once(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """5,000 are: of a run that mapped over more the rest is found when these have ended."""
        bench.api.most_listed = 4
        monkeypatch.setattr(settling, "MOST_OPEN_TASK_RUNS", 4)
        r = bench.zombie("root")
        for number in range(10):
            bench.task(f"task {number}", r)
        done = [len(bench.settle().task_runs) for _ in range(4)]
        assert done == [4, 4, 2, 0]

    def test_one_that_the_server_refuses_is_not_proposed_for_ever(self, bench: Bench) -> None:
        bench.task("task", bench.zombie("root"))
        bench.api.answers["task"] = REFUSED
        assert len(bench.settle().task_runs) == 1
        assert bench.settle().task_runs == ()

    def test_one_that_is_refused_spoils_no_other(self, bench: Bench) -> None:
        r = bench.zombie("root")
        bench.task("odd", r)
        bench.task("slow", r)
        bench.api.answers = {"odd": REFUSED, "slow": FAILED}
        bench.settle()
        del bench.api.answers["slow"]
        assert "slow" in [one.name for one, _ in bench.settle().task_runs]

    def test_a_bug_there_hides_nothing_of_what_was_written(self, bench: Bench) -> None:
        r = bench.zombie("root")
        bench.task("task", r)

        def fails(step: str) -> None:
            if step == "list":
                raise ZeroDivisionError("x")

        bench.api.before = fails
        settled = bench.settle()
        assert settled.outcomes[r.id].is_last_word
        assert "a bug of ours after settlements: ZeroDivisionError: x" in settled.problems

    def test_a_bug_in_one_settlement_stops_no_other(self, bench: Bench) -> None:
        r = bench.zombie("root")
        kid, other = bench.kid("child", r), bench.zombie("other")

        def fails(step: str) -> None:
            if step == "crash root":
                raise ZeroDivisionError("x")

        bench.api.before = fails
        outcomes = bench.settle().outcomes
        assert [outcomes[one.id].kind for one in (r, kid, other)] == [
            OutcomeKind.FAILED,
            OutcomeKind.FAILED,
            OutcomeKind.ACCEPTED,
        ]


class TestHindered:
    """The deadline of the pass, or a SIGTERM: nothing more is begun."""

    def stop_at(self, bench: Bench, step: str) -> None:
        def stop(done: str) -> None:
            if done == step:
                bench.hindrance = "this process was told to end"

        bench.api.before = stop

    def test_before_anything(self, bench: Bench) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        bench.kid("child", r)
        bench.hindrance = "the pass had reached its deadline (cycle_deadline)"
        settled = bench.settle()
        assert {one.detail for one in settled.outcomes.values()} == {f"it was not proposed: {bench.hindrance}"}
        assert bench.api.log == []

    @pytest.mark.parametrize("step", ["crash root", "crash grandchild"])
    def test_in_the_midst_of_a_family(self, bench: Bench, step: str) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        kid = bench.kid("child", r)
        bench.kid("grandchild", r, depth=2)
        bench.task("task", r)
        self.stop_at(bench, step)
        settled = bench.settle()
        assert settled.outcomes[kid.id].kind is OutcomeKind.FAILED
        assert bench.api.log[-1] == step
        assert bench.api.state(kid) is StateType.RUNNING

    def test_the_next_pass_goes_on(self, bench: Bench) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        for number in range(4):
            bench.task(f"task {number}", r)
        self.stop_at(bench, "end task 1")
        assert len(bench.settle().task_runs) == 2
        assert bench.api.log[-1] == "end task 1"
        bench.hindrance = None
        bench.api.before = lambda step: None
        settled = bench.settle()
        assert [one.name for one, _ in settled.task_runs] == ["task 2", "task 3"]
        assert [one.kind for one in settled.resumed.values()] == [OutcomeKind.ACCEPTED]

    def test_the_children_that_were_left_are_judged_anew(self, bench: Bench) -> None:
        """By rule 2 then: their root is Crashed, and it is read again before each."""
        r = bench.zombie("root")
        bench.kid("one", r)
        bench.kid("two", r)
        self.stop_at(bench, "crash root")
        bench.settle()
        bench.hindrance, bench.api.before = None, lambda step: None
        crashed = next(one for one in bench.api.runs if one.id == r.id)
        assert crashed.state_type is StateType.CRASHED
        left = bench.kid("three", crashed)
        assert bench.settle().outcomes[left.id].is_last_word

    def test_between_two_resumptions(self, bench: Bench) -> None:
        for name in ("a", "b"):
            bench.zombie(name, resumption=AGAIN)
        bench.api.before = lambda step: setattr(bench, "hindrance", "end") if step.startswith("resume") else None
        assert len(bench.settle().resumed) == 1
        bench.hindrance, bench.api.before = None, lambda step: None
        assert len(bench.settle().resumed) == 1
        assert sorted(step for step in bench.api.log if step.startswith("resume")) == ["resume a", "resume b"]


class TestResumption:
    def test_it_is_proposed_for_the_crash_that_was_written(self, bench: Bench) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        settled = bench.settle()
        ((_, crash_id),) = bench.api.resumed
        now = next(one for one in bench.api.runs if one.id == r.id)
        assert (now.state_type, now.transition_id) == (StateType.SCHEDULED, resumption_id(r.id, crash_id))
        assert settled.resumed[r.id].is_last_word
        assert bench.looked == [["root"]], "after a last look"

    def test_nobody_asked_for_it(self, bench: Bench) -> None:
        bench.zombie("root")
        assert not bench.settle().resumed
        assert bench.looked == []

    def test_what_lives_is_an_alarm_and_never_resumed(self, bench: Bench) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        bench.alive(r)
        outcome = bench.settle().resumed[r.id]
        assert outcome.kind is OutcomeKind.REFUSED
        assert outcome.alarm is not None
        assert outcome.alarm.endswith("is running: it is not started again")
        bench.living.clear()
        assert not bench.settle().resumed, "nor when it is gone"
        assert bench.api.resumed == []

    def test_while_a_scope_cannot_tell_it_waits(self, bench: Bench) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        bench.blind(r)
        for _ in range(3):
            assert bench.settle().resumed[r.id].kind is OutcomeKind.FAILED
        assert bench.api.resumed == []
        bench.living.clear()
        assert bench.settle().resumed[r.id].kind is OutcomeKind.ACCEPTED
        assert not bench.settle().resumed

    def test_while_a_scope_cannot_tell_it_may_come_to_life(self, bench: Bench) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        bench.blind(r)
        bench.settle()
        bench.alive(r)
        assert bench.settle().resumed[r.id].alarm
        assert bench.api.resumed == []

    def test_who_was_resumed_by_another_meanwhile_is_left_alone(self, bench: Bench) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        bench.blind(r)
        bench.settle()
        bench.api.becomes(r, "SCHEDULED")
        bench.living.clear()
        assert not bench.settle().resumed
        assert bench.api.resumed == []
        assert bench.looked[-1] in (["root"], [])

    def test_what_failed_is_tried_again_and_what_was_refused_is_not(self, bench: Bench) -> None:
        a, b = bench.zombie("a", resumption=AGAIN), bench.zombie("b", resumption=AGAIN)
        bench.api.answers = {"resume a": FAILED, "resume b": REFUSED}
        bench.settle()
        bench.api.answers = {}
        assert set(bench.settle().resumed) == {a.id}
        assert bench.api.state(b) is StateType.CRASHED

    def test_what_cannot_be_read_waits_for_the_next_pass(self, bench: Bench) -> None:
        r = bench.zombie("root", resumption=AGAIN)
        bench.api.down = frozenset({"reread"})
        assert not bench.settle().resumed
        bench.api.down = frozenset()
        assert bench.settle().resumed[r.id].kind is OutcomeKind.ACCEPTED

    @pytest.mark.parametrize("outcome", [FAILED, REFUSED, ELSEWHERE, DISTURBED], ids=lambda one: str(one.kind))
    def test_only_what_we_settled_for_good(self, bench: Bench, outcome: Outcome) -> None:
        bench.zombie("root", resumption=AGAIN)
        bench.api.answers["root"] = outcome
        assert not bench.settle().resumed
        assert not bench.settle().resumed


class TestRecall:
    """A process that begins asks the server what an earlier one did not finish."""

    def crashed(self, bench: Bench) -> FlowRun:
        """What another process wrote, whose task runs are still open."""
        earlier = Settling(bench.api)
        r = bench.zombie("root")
        plan, bench.findings = Plan(findings=tuple(bench.findings)), []
        earlier.settle(plan, Policy(settle_task_runs=False), lambda: None, lambda runs: {})
        bench.task("task", r)
        now = next(one for one in bench.api.runs if one.id == r.id)
        bench.api.crashed = [(now, "root died; no final state was reported. Set by prefect-reconciler.")]
        bench.api.log = []
        return now

    def test_the_task_runs(self, bench: Bench) -> None:
        self.crashed(bench)
        assert [one.name for one, _ in bench.settle().task_runs] == ["task"]
        assert bench.settle().task_runs == ()

    def test_a_crash_that_says_it_is_ours_and_is_not(self, bench: Bench) -> None:
        r = self.crashed(bench)
        forged = replace(r, state_id=uuid4(), transition_id=uuid4())
        bench.api.runs[bench.api.runs.index(r)] = forged
        bench.api.crashed = [(forged, bench.api.crashed[0][1])]
        assert bench.settle().task_runs == ()

    def test_one_that_goes_on_since(self, bench: Bench) -> None:
        r = self.crashed(bench)
        bench.api.becomes(r, "RUNNING")
        assert bench.settle().task_runs == ()

    @pytest.mark.parametrize(
        "policy",
        [
            Policy(mode=Mode.OBSERVE),
            Policy(settle_task_runs=False),
            Policy(only_pools=frozenset({"other"})),
            Policy(only_runs=frozenset({uuid4()})),
        ],
        ids=["observe", "switched off", "--pool", "--run"],
    )
    def test_not_where_nothing_is_to_be_written(self, bench: Bench, policy: Policy) -> None:
        self.crashed(bench)
        assert bench.settle(policy).task_runs == ()

    @pytest.mark.parametrize(
        "policy",
        [Policy(exclude_work_pools=frozenset({"pool"})), Policy(include_tags=frozenset({"other"}))],
        ids=["excluded", "not included"],
    )
    def test_who_is_taken_out_stays_out(self, bench: Bench, policy: Policy) -> None:
        """Another reconciler may have written it, with other settings, or this one before it was told."""
        self.crashed(bench)
        assert bench.settle(policy).task_runs == ()


@pytest.mark.parametrize("rule", ["1", "2"])
def test_a_subflow_that_is_to_be_cancelled_is(rule: str) -> None:
    """`finish_cancelling`: what these rules plan, the API must not refuse."""
    server = FakePrefect()
    finding = replace(judged(server, "CANCELLING"), rule=rule)
    assert connect(server).settle(finding).kind is OutcomeKind.ACCEPTED


def test_memory_is_bounded(bench: Bench) -> None:
    """An API that takes settlements and then fails at every list, for ever."""
    bench.api.down = frozenset({"open_task_runs", "reread"})
    bench.api.takes_states = False
    for _ in range(13):
        for number in range(100):
            bench.zombie(f"run {number}", resumption=AGAIN)
        bench.settle()
    left = bench.settling.unfinished
    assert (len(left.task_runs), len(left.resumptions)) == (1000, 1000)
    assert bench.api.runs[-1].id in left.task_runs, "the oldest are dropped"
    assert bench.api.runs[0].id not in left.task_runs
