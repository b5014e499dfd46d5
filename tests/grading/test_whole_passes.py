"""Real cycles over fakes of the two ports: what a verdict brings along into its case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from reconciler.cycle import Cycle
from reconciler.grading.casebook import Casebook
from reconciler.grading.cases import Grade, Kind
from reconciler.grading.grader import Graded, Grader
from reconciler.memory import Memory
from reconciler.model import Condition, Observation, Resource, RunMapping
from reconciler.outlook import Outlook
from reconciler.plan import Mode, Policy
from reconciler.ports import BoundScope
from reconciler.testing import FakeOrchestrator, FakeScope, flow_run

QUICK = Policy(confirm_after=timedelta(0), breaker_count=100)


class Station:
    def __init__(self, mode: Mode) -> None:
        self.scope, self.api, self.book = FakeScope(name="prod"), FakeOrchestrator(), Casebook()
        mapping = RunMapping(work_pools=frozenset({"pool"}))
        outlook = Outlook([BoundScope(self.scope, "fake", mapping)], Memory(), 5.0)
        self.cycle = Cycle(self.api, outlook, replace(QUICK, mode=mode), wait=lambda _: None)
        self.grader = Grader(self.book, self.api)

    def pass_(self) -> Graded:
        planned = self.cycle.plan()
        report = self.cycle.report(planned, self.cycle.settle(planned))
        return self.grader.note(report, planned.deadline)


def test_an_exited_resource_in_observe_mode() -> None:
    station, run = Station(Mode.OBSERVE), flow_run(pid="c1")
    ended = datetime.now(UTC) - timedelta(seconds=40)
    station.api.runs = [run]
    station.scope.answers = {run.id: [station.scope.exited(run, 137, ended)]}
    station.pass_()
    (case,) = station.book.cases()
    assert (case.kind, case.guard, case.resource, case.scope) == (Kind.SHADOW, "mode", f"res-{run.id}", "prod")
    assert case.died_by is not None
    assert abs(case.died_by - ended) < timedelta(seconds=1)
    assert "exited with code 137" in case.died
    assert "held" not in case.died
    station.scope.answers = {run.id: [station.scope.alive(run)]}
    station.pass_()
    assert station.book.cases()[0].grade is Grade.FALSE


def test_a_resource_that_vanished_is_known_by_its_sighting() -> None:
    station, run = Station(Mode.SETTLE), flow_run(pid="c1")
    station.api.runs = [run]
    station.scope.answers = {run.id: [station.scope.alive(run)]}
    station.pass_()
    station.scope.answers = {}
    station.pass_()
    (case,) = station.book.cases()
    assert (case.kind, case.resource) == (Kind.SETTLED, f"res-{run.id}")
    assert case.died_by is not None
    assert case.died_by < case.judged_at
    station.api.runs = []
    station.scope.strangers = [station.scope.resource(run)]
    (alarm,) = station.pass_().alarms
    assert "showed life: fake test-run at engine-1 is alive" in alarm


def test_a_gone_that_names_only_what_the_pid_said_is_known_by_its_sighting_too() -> None:
    station, run = Station(Mode.SETTLE), flow_run(pid="c1")
    station.api.runs = [run]
    station.scope.answers = {run.id: [station.scope.alive(run)]}
    station.pass_()
    stated = Resource(id="c1", title="Job c1", run_id=run.id)
    gone = Observation(condition=Condition.GONE, reason="no longer exists", resource=stated)
    station.scope.answers = {run.id: [gone]}
    station.pass_()
    (case,) = station.book.cases()
    assert (case.kind, case.resource) == (Kind.SETTLED, f"res-{run.id}")
