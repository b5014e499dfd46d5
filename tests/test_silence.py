"""Unmanaged runs that have beaten and do no longer: counted and listed, never written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.model import Heartbeat, RunId, RunMapping, StateType, Verdict
from reconciler.news import key_of
from reconciler.ports import OrchestratorError
from reconciler.report import as_json, exit_code, lines
from reconciler.testing import flow_run
from tests.test_cycle import Bench

ELSEWHERE = RunMapping(work_pools=frozenset({"another"}))


def beaten(seconds: float, count: int = 5, cadence: float = 30) -> Heartbeat:
    last = datetime.now(UTC) - timedelta(seconds=seconds)
    return Heartbeat(count, last - timedelta(seconds=cadence * (count - 1)), last)


@pytest.mark.parametrize(
    ("seconds", "cadence", "is_silent"), [(190, 30, False), (210, 30, True), (300, 260, False), (320, 260, True)]
)
def test_longer_than_quiet_and_than_its_own_cadence(seconds: float, cadence: float, is_silent: bool) -> None:
    beat = beaten(seconds, cadence=cadence)
    bench = Bench(mapping=ELSEWHERE)
    run = flow_run("pid")
    bench.api.runs.append(run)
    bench.api.hearts = {run.id: beat}
    report = bench.run()
    (finding,) = report.plan.findings
    assert finding.verdict is Verdict.UNMANAGED
    assert (finding.silent_since == beat.last) is is_silent
    assert ("its last heartbeat is" in finding.reason) is is_silent
    assert as_json(report)["silent"] == int(is_silent)
    assert exit_code(report, tells_zombies=True) == 0
    assert not bench.api.written


def test_it_is_told_and_its_beginning_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.silence._RARELY", 0)
    bench = Bench(mapping=ELSEWHERE)
    run = flow_run("pid", name="otter")
    bench.api.runs.append(run)
    bench.api.hearts = {run.id: beaten(20)}
    before = bench.run()
    bench.api.hearts = {run.id: beaten(600)}
    after = bench.run()
    assert key_of(before, before.plan.findings[0]) != key_of(after, after.plan.findings[0])
    assert any(
        "otter" in line and "its last heartbeat is 10 min old, so it may have died unseen" in line
        for line in lines(after)
    )


def test_only_running_ones_are_asked_about_in_one_call() -> None:
    bench = Bench(mapping=ELSEWHERE)
    old = datetime.now(UTC) - timedelta(hours=3)
    runs = [flow_run("pid", state_since=old + timedelta(seconds=number)) for number in range(205)]
    runs[0] = flow_run("pid", state_type=StateType.PENDING, state_since=old)
    bench.api.runs += [*runs, flow_run("pid", state_since=datetime.now(UTC))]
    asked: list[list[RunId]] = []
    bench.api.heartbeats = lambda run_ids, window=None: asked.append(list(run_ids)) or {}  # type: ignore[method-assign,assignment,misc,func-returns-value]
    bench.run()
    assert asked == [[run.id for run in runs[1:201]]], "the longest running 200"


def test_nobody_is_asked_about_when_all_are_managed() -> None:
    bench = Bench()
    bench.alive()
    bench.run()
    assert bench.run().api_calls == 1


def test_what_cannot_be_read_is_nothing_to_go_by() -> None:
    bench = Bench(mapping=ELSEWHERE)
    bench.api.runs.append(flow_run("pid"))

    def fails(run_ids: object, window: object = None) -> None:
        raise OrchestratorError("down")

    bench.api.heartbeats = fails  # type: ignore[method-assign,assignment]
    report = bench.run()
    assert [f.verdict for f in report.plan.findings] == [Verdict.UNMANAGED]
    assert report.is_complete


def test_they_are_asked_about_by_turns_and_not_in_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(mapping=ELSEWHERE)
    old = datetime.now(UTC) - timedelta(hours=3)
    runs = [flow_run("pid", state_since=old + timedelta(seconds=number)) for number in range(205)]
    bench.api.runs += runs
    dead = beaten(900)
    asked: list[list[RunId]] = []

    def heartbeats(run_ids: list[RunId], window: timedelta) -> dict[RunId, Heartbeat]:
        asked.append(list(run_ids))
        return {run_id: dead for run_id in run_ids if run_id in {runs[0].id, runs[204].id}}

    bench.api.heartbeats = heartbeats  # type: ignore[method-assign,assignment]
    assert as_json(bench.run())["silent"] == 1
    assert as_json(bench.run())["silent"] == 2, "the other five, and what is known of the first 200"
    assert as_json(bench.run())["silent"] == 2
    assert [len(ids) for ids in asked] == [200, 200], "the third pass asks nobody"
    assert {run.id for run in runs[200:]} <= set(asked[1])
    monkeypatch.setattr("reconciler.silence._RARELY", 0)
    bench.run()
    assert len(asked) == 3


def test_it_is_asked_after_everything_is_written() -> None:
    bench = Bench(mapping=ELSEWHERE)
    bench.api.runs.append(flow_run("pid"))
    bench.api.heartbeats = lambda run_ids, window: 1 / 0  # type: ignore[method-assign,assignment,misc]
    planned = bench.cycle.plan()
    assert [one.verdict for one in planned.plan.findings] == [Verdict.UNMANAGED]
