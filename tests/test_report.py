"""Families, task runs, resumptions and orphans in the report: as lines, as a sentence, as a document, as problems."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from reconciler.model import Cause, FlowRun, OutcomeKind, Resource, StateType, TaskRun, Verdict
from reconciler.plan import CycleReport, Finding, Orphan, Outcome, Policy, Resumption, Settled
from reconciler.problems import problems_of
from reconciler.report import EXIT_INCOMPLETE, EXIT_OK, as_json, exit_code, lines, summary, table
from reconciler.snapshot import Case, Lineage
from reconciler.testing import flow_run
from tests.spec import NOW, ago, snapshot
from tests.test_telling import finding, report

ACCEPTED = Outcome(OutcomeKind.ACCEPTED, "", state_id=uuid4(), is_undisturbed=True)
AGAIN = Resumption(1, 2, timedelta(seconds=30))


def task_run(of: FlowRun) -> TaskRun:
    return TaskRun(id=uuid4(), name="load", flow_run_id=of.id, state_id=uuid4(), state_type=StateType.RUNNING)


def settled(*findings: Finding, **more: Any) -> CycleReport:
    """A pass in which all of them were settled."""
    outcomes = {one.run.id: ACCEPTED for one in findings} | more.pop("outcomes", {})
    return report(*findings, outcomes=outcomes, settled=Settled(outcomes=outcomes, **more))


def arrows(one: CycleReport) -> list[str]:
    return [line.removeprefix("          -> ") for line in lines(one) if "->" in line]


def zombie(**more: Any) -> Finding:
    return finding(flow_run(), Verdict.ZOMBIE, **more)


def cancelling(**more: Any) -> Finding:
    return finding(flow_run(state_type=StateType.CANCELLING), Verdict.ZOMBIE, **more)


class TestWhatCameOfIt:
    def test_set_to_crashed_or_to_cancelled(self) -> None:
        assert arrows(settled(zombie())) == ["set to Crashed"]
        assert arrows(settled(cancelling())) == ["set to Cancelled"]

    def test_or_would_be(self) -> None:
        assert arrows(report(zombie(), dry_run=True)) == ["would be set to Crashed"]
        assert arrows(report(cancelling(), dry_run=True)) == ["would be set to Cancelled"]

    def test_it_would_then_be_resumed(self) -> None:
        assert arrows(report(zombie(resumption=AGAIN), dry_run=True)) == [
            "would be set to Crashed",
            "would then be resumed (1 of 2) after 30 s",
        ]

    def test_task_runs_have_one_line_together(self) -> None:
        one, other = zombie(), zombie()
        tasks = [(task_run(one.run), ACCEPTED), (task_run(one.run), ACCEPTED), (task_run(other.run), ACCEPTED)]
        tasks.append((task_run(other.run), Outcome(OutcomeKind.SETTLED_ELSEWHERE, "already COMPLETED")))
        told = arrows(settled(one, other, task_runs=tuple(tasks)))
        assert sorted(told) == ["1 task run set to Crashed", "2 task runs set to Crashed", *["set to Crashed"] * 2]

    def test_it_was_then_resumed(self) -> None:
        one = zombie(resumption=Resumption(2, 2, timedelta(seconds=60)))
        told = arrows(settled(one, task_runs=((task_run(one.run), ACCEPTED),), resumed={one.run.id: ACCEPTED}))
        assert told == ["set to Crashed", "1 task run set to Crashed", "then resumed (2 of 2), due in 60 s"]

    @pytest.mark.parametrize(
        ("outcome", "words"),
        [
            (Outcome(OutcomeKind.STATE_CHANGED, "it is Scheduled by now"), "not resumed: it is Scheduled by now"),
            (Outcome(OutcomeKind.FAILED, "no answer"), "not resumed: no answer"),
            (Outcome(OutcomeKind.SETTLED_ELSEWHERE, ""), "not resumed: settled elsewhere"),
        ],
    )
    def test_it_was_not_resumed(self, outcome: Outcome, words: str) -> None:
        one = zombie(resumption=AGAIN)
        assert arrows(settled(one, resumed={one.run.id: outcome})) == ["set to Crashed", words]

    def test_it_was_not_even_tried(self) -> None:
        one = zombie(resumption=AGAIN)
        assert arrows(settled(one)) == ["set to Crashed", "not resumed"]
        disturbed = Outcome(OutcomeKind.ACCEPTED, "", alarm="something came between")
        assert arrows(settled(one, outcomes={one.run.id: disturbed})) == [
            "set to Crashed",
            "not resumed: its settlement was not the last word",
        ]

    def test_what_was_not_settled_is_not_resumed_and_nothing_is_said_of_that(self) -> None:
        one = zombie(resumption=AGAIN)
        outcomes = {one.run.id: Outcome(OutcomeKind.SETTLED_ELSEWHERE, "already CRASHED")}
        assert arrows(settled(one, outcomes=outcomes)) == ["settled elsewhere: already CRASHED"]


class TestTheSentence:
    def test_counts_task_runs_and_resumptions(self) -> None:
        one, other = zombie(resumption=AGAIN), zombie(resumption=AGAIN)
        refused = Outcome(OutcomeKind.REFUSED, "403")
        tasks = ((task_run(one.run), ACCEPTED), (task_run(one.run), ACCEPTED), (task_run(other.run), refused))
        told = settled(one, other, task_runs=tasks, resumed={one.run.id: ACCEPTED, other.run.id: refused})
        assert summary(told) == (
            "2 flow runs in flight: 2 zombie; 2 accepted, 2 task runs set to Crashed, 1 task run not settled, "
            "1 resumed, 1 not resumed (0.5 s, 4 API calls)."
        )

    def test_says_nothing_of_what_there_is_none_of(self) -> None:
        assert summary(settled(zombie())) == "1 flow run in flight: 1 zombie; 1 accepted (0.5 s, 4 API calls)."
        assert summary(report(orphans={"a": ()})) == "0 flow runs in flight; nothing to write (0.5 s, 4 API calls)."

    def test_counts_orphans(self) -> None:
        one, other = orphan("one"), orphan("other")
        told = report(orphans={"a": (one,), "b": (other,)})
        assert summary(told) == "0 flow runs in flight; nothing to write; 2 orphans (0.5 s, 4 API calls)."


def orphan(name: str, seconds: float = 7200, **changes: Any) -> Orphan:
    run = flow_run(name=name, state_type=StateType.COMPLETED, state_name="Completed", **changes)
    resource = Resource(id=f"c-{name}", title=f"container {name}", run_id=run.id, removal=f"docker rm -f c-{name}")
    return Orphan(resource=resource, run=run, since=ago(seconds))


class TestOrphans:
    def told(self, one: CycleReport) -> list[str]:
        return [line for line in lines(one) if line.startswith("orphan")]

    def test_one_line_each_the_oldest_first_and_what_is_never_done(self) -> None:
        old, young = orphan("old"), orphan("young", 600)
        ended = "is Completed since 10:00:00 UTC (2 h); remove it with: docker rm -f c-old"
        later = "is Completed since 11:50:00 UTC (10 min); remove it with: docker rm -f c-young"
        assert self.told(report(orphans={"a": (young,), "b": (old,)})) == [
            f"orphan    b: container old is alive; flow run {old.run.id} (old) {ended}",
            f"orphan    a: container young is alive; flow run {young.run.id} (young) {later}",
            "orphan    nothing is ever removed by prefect-reconciler",
        ]

    def test_who_asks_is_told_that_there_is_none(self) -> None:
        assert self.told(report(orphans={"a": ()})) == ["orphan    none was found"]

    def test_who_does_not_ask_is_told_nothing(self) -> None:
        assert self.told(report()) == []
        assert as_json(report())["orphans"] is None

    def test_names_from_outside_steer_no_terminal(self) -> None:
        (line, _) = self.told(report(orphans={"a": (orphan("\x1b[31m\n"),)}))
        assert line.isprintable()

    def test_they_are_in_the_table(self) -> None:
        console = Console(width=400)
        with console.capture() as captured:
            console.print(table(report(orphans={"a": (orphan("old"),)})))
        assert "orphan: a: container old is alive; flow run " in captured.get()
        assert "orphan: nothing is ever removed by prefect-reconciler" in captured.get()

    def test_in_the_document(self) -> None:
        one = orphan("old")
        assert as_json(report(orphans={"a": (one,), "b": ()}))["orphans"] == [
            {
                "scope": "a",
                "resource": "c-old",
                "title": "container old",
                "run": str(one.run.id),
                "state": "COMPLETED",
                "ended_at": "2026-11-22T10:00:00.000Z",
                "age_seconds": 7200.5,
                "removal": "docker rm -f c-old",
            }
        ]

    def test_they_change_no_exit_code(self) -> None:
        assert exit_code(report(orphans={"a": (orphan("old"),)}), tells_zombies=True) == EXIT_OK


class TestTheDocument:
    def runs(self, one: CycleReport) -> list[dict[str, Any]]:
        runs = as_json(one)["runs"]
        assert isinstance(runs, list)
        return runs

    def test_says_what_is_written(self) -> None:
        found = [zombie(), cancelling(), finding(flow_run(), Verdict.HELD)]
        assert [run["action"] for run in self.runs(report(*found))] == ["crash", "cancel", None]

    def test_says_why_in_one_word_and_whose_fate_it_is(self) -> None:
        root = zombie(cause=Cause.EVICTED)
        child = zombie(inside=root.run, depth=1, cause=Cause.PARENT_ENDED)
        told = [(run["root"], run["cause"]) for run in self.runs(report(root, child))]
        assert told == [(None, "Evicted"), (str(root.run.id), "ParentEnded")]

    def test_says_what_becomes_of_a_resumption(self) -> None:
        one = zombie(resumption=AGAIN)
        planned = {"number": 1, "of": 2, "delay_seconds": 30.0, "outcome": None}
        assert [run["resumption"] for run in self.runs(report(one, zombie(), dry_run=True))] == [planned, None]
        (run,) = self.runs(settled(one, resumed={one.run.id: ACCEPTED}))
        assert run["resumption"] == planned | {"outcome": "ACCEPTED"}

    def test_lists_the_children_that_were_settled(self) -> None:
        root = zombie()
        child, other = zombie(inside=root.run, depth=1), zombie(inside=root.run, depth=1)
        done, open_one = task_run(child.run), task_run(child.run)
        failed = Outcome(OutcomeKind.FAILED, "no answer")
        told = settled(
            root, child, other, outcomes={other.run.id: failed}, task_runs=((done, ACCEPTED), (open_one, failed))
        )
        assert as_json(told)["settled_children"] == [
            {"kind": "flow-run", "id": str(child.run.id), "parent": str(root.run.id)},
            {"kind": "task-run", "id": str(done.id), "parent": str(child.run.id)},
        ]


class TestProblems:
    def of(self, **more: Any) -> list[str]:
        return list(problems_of(None, Settled(**more), Policy()))

    def test_failed_task_runs_are_one_problem_with_the_first_reason(self) -> None:
        run = flow_run()
        failed = [(task_run(run), Outcome(OutcomeKind.FAILED, f"no answer to {number}")) for number in range(3)]
        assert self.of(task_runs=tuple(failed)) == ["3 task runs were not settled: no answer to 0"]
        assert self.of(task_runs=((task_run(run), Outcome(OutcomeKind.REFUSED, "403")),)) == [
            "1 task run was not settled: 403"
        ]
        done = Outcome(OutcomeKind.SETTLED_ELSEWHERE, "already COMPLETED")
        assert self.of(task_runs=((task_run(run), done), (task_run(run), ACCEPTED))) == []

    def test_resumptions_that_failed_or_alarm(self) -> None:
        run = flow_run()
        refused = Outcome(OutcomeKind.REFUSED, "403", alarm="look at it")
        assert self.of(resumed={run.id: refused}) == [
            f"flow run {run.id} was not resumed: 403",
            f"flow run {run.id}: look at it",
        ]
        assert self.of(resumed={run.id: Outcome(OutcomeKind.STATE_CHANGED, "it is Scheduled by now")}) == []

    def test_what_could_not_be_read_for_it(self) -> None:
        text = "the task runs of 2 flow runs could not be read: no answer"
        assert self.of(problems=(text,)) == [text]
        assert exit_code(report(problems=(text,)), tells_zombies=False) == EXIT_INCOMPLETE

    def test_an_unresolved_family_is_told_once_for_each_reason(self) -> None:
        errors = ["no answer", "no answer", "a cycle", None]
        cases = [Case(run=flow_run(), lineage=Lineage(error=error)) for error in errors]
        seen = snapshot(*cases, Case(run=flow_run()))
        assert list(problems_of(seen, Settled(), Policy())) == [
            "2 subflows could not be judged: no answer",
            "1 subflow could not be judged: a cycle",
        ]


def test_the_times_of_these_tests_are_those_of_the_report() -> None:
    assert report().taken_at == NOW
