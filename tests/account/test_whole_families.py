"""Whole passes over families: what they decided is decided again from their lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from reconciler.account.explain import Sources, explanation
from reconciler.account.replay import Result
from reconciler.model import FlowRun, Guard, Heartbeat, StateType, Verdict
from reconciler.plan import CycleReport, Mode, Policy
from reconciler.ports import AdapterError
from reconciler.testing import flow_run
from tests import test_evidence
from tests.account.test_replay import replayed
from tests.test_cycle import POLICY as AT_ONCE
from tests.test_cycle import Bench
from tests.test_evidence import assert_rejudged, lines_in, seconds_ago, writer

benches = test_evidence.benches
Benches = Callable[..., Bench]


class House:
    """A bench with one family: a parent, its subflow, and one inside that."""

    def __init__(self, bench: Bench, policy: Policy = AT_ONCE) -> None:
        self.bench, bench.cycle.policy = bench, policy
        bench.api.takes_states = True
        self.parent = bench.alive(name="parent")
        self.child = self.add(self.parent, name="child")
        self.deep = self.add(self.child, name="grandchild")

    def add(self, parent: FlowRun, **changes: object) -> FlowRun:
        task_run = uuid4()
        self.bench.api.owners[task_run] = parent.id
        run = flow_run(work_pool=None, parent_task_run_id=task_run, **changes)
        self.bench.api.runs.append(run)
        return run

    def ends(self) -> None:
        """The parent's resource ends."""
        scope = self.bench.scope
        scope.answers[self.parent.id] = [scope.exited(self.parent, 137, seconds_ago(60))]

    def over(self, state: str = "CRASHED", *, ours: bool = True) -> None:
        """The parent has a final state for long."""
        row = replace(
            self.parent, state_type=StateType(state), state_name=state.title(), state_id=uuid4(),
            state_since=seconds_ago(900), transition_id=uuid4() if ours else None,
        )  # fmt: skip
        self.bench.api.runs = [row if run.id == row.id else run for run in self.bench.api.runs]
        self.parent = row
        listed = self.bench.api.in_flight
        self.bench.api.in_flight = lambda: replace(  # type: ignore[method-assign]
            listed(), runs=tuple(run for run in self.bench.api.runs if run.is_in_flight)
        )

    def kept(self, folder: Path, *, dry: bool = False) -> CycleReport:
        """A pass whose lines are written and decided again."""
        report = self.bench.run(dry=dry)
        evidence = writer(folder)
        evidence.note(report)
        assert evidence.problems == ()
        lines = lines_in(folder) if (folder / "evidence.jsonl").exists() else []
        assert_rejudged(lines, report)
        assert {one.result for one in replayed(folder)} <= {Result.SAME} if lines else True
        return report

    def verdicts(self, report: CycleReport) -> list[tuple[Verdict, str, Guard | None]]:
        found = {one.run.id: one for one in report.plan.findings}
        mine = (self.parent, self.child, self.deep)
        return [(found[run.id].verdict, found[run.id].rule, found[run.id].guard) for run in mine if run.id in found]


def test_a_family_that_is_settled(benches: Benches, tmp_path: Path) -> None:
    house = House(benches())
    house.ends()
    report = house.kept(tmp_path)
    assert house.verdicts(report) == [(Verdict.ZOMBIE, rule, None) for rule in ("6", "1", "1")]
    assert [one.run.name for one in house.bench.api.written] == ["parent", "grandchild", "child"]


def test_a_family_that_waits_is_held_or_is_not_known(benches: Benches, tmp_path: Path) -> None:
    held = House(benches(), replace(AT_ONCE, mode=Mode.OBSERVE))
    held.ends()
    assert {guard for *_, guard in held.verdicts(held.kept(tmp_path / "held"))} == {Guard.MODE}
    beats = House(benches())
    beats.ends()
    now = seconds_ago(1)
    beats.bench.api.hearts = {beats.deep.id: Heartbeat(9, seconds_ago(300), now)}
    assert {guard for *_, guard in beats.verdicts(beats.kept(tmp_path / "beats"))} == {Guard.LIFE_SIGN}
    blind = House(benches())
    blind.bench.run()
    blind.bench.scope.error = AdapterError("the engine refused the connection")
    assert {verdict for verdict, *_ in blind.verdicts(blind.kept(tmp_path / "blind"))} == {Verdict.UNKNOWN}


@pytest.mark.parametrize("how", ["ended", "gone", "reported", "alive"])
def test_a_family_whose_parent_was_over_before(benches: Benches, tmp_path: Path, how: str) -> None:
    house = House(benches())
    house.bench.run(dry=True)
    house.over(ours=how == "reported")
    if how == "ended":
        house.ends()
    elif how in ("gone", "reported"):
        del house.bench.scope.answers[house.parent.id]
    report = house.kept(tmp_path, dry=True)
    expected = Verdict.HEALTHY if how == "alive" else Verdict.ZOMBIE
    assert house.verdicts(report) == [(expected, "2", None)] * 2
    for run in (house.child, house.deep):
        told = explanation(run.id, report, Sources())
        assert told.inside
        assert told.inside.vouched.startswith("nothing, for ") is (how == "alive")
        assert told.decision
        assert told.forecast
        assert told.decision.verdict is told.forecast.stages[0].verdict


def test_what_the_second_look_does_not_tell_nobody_is_judged_on(benches: Benches, tmp_path: Path) -> None:
    """Nor is the one being cancelled, which no look would have settled."""
    house = House(benches())
    slow = house.add(house.parent, name="slow", state_type=StateType.CANCELLING, state_name="Cancelling")
    house.bench.run(dry=True)
    house.over(ours=False)
    house.ends()
    looks = iter([None, lambda: house.bench.scope.answers.update({house.parent.id: []})])
    house.bench.scope.on_observe = lambda: (look := next(looks, None)) and look()
    report = house.kept(tmp_path)
    found = {one.run.id: one for one in report.plan.findings}
    assert {found[run.id].verdict for run in (slow, house.child, house.deep)} == {Verdict.UNKNOWN}


def test_a_parent_that_is_started_anew_between_the_looks(benches: Benches, tmp_path: Path) -> None:
    house = House(benches())
    house.bench.run(dry=True)
    house.over(ours=False)
    house.ends()
    api, again = (
        house.bench.api,
        replace(house.parent, state_type=StateType.RUNNING, state_name="Running", state_id=uuid4()),
    )
    real = api.reread

    def reread(run_ids: object) -> object:
        api.runs = [again if run.id == again.id and house.parent.id in run_ids else run for run in api.runs]  # type: ignore[operator]
        return real(run_ids)  # type: ignore[arg-type]

    looks = iter([None, lambda: setattr(api, "reread", reread)])
    house.bench.scope.on_observe = lambda: (look := next(looks, None)) and look()
    house.kept(tmp_path)
    assert house.bench.api.written == []
