"""The daemon's log: once, not every 30 seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from reconciler.model import FlowRun, Guard, OutcomeKind, Resource, StateType, TaskRun, Verdict
from reconciler.news import Newsroom
from reconciler.plan import CycleReport, Finding, Orphan, Outcome, Plan, Resumption, Settled
from reconciler.telling import Teller
from reconciler.testing import flow_run
from tests.spec import NOW, ago, scope


def finding(run: FlowRun, verdict: Verdict, **more: Any) -> Finding:
    return Finding(run=run, verdict=verdict, rule="7", reason=more.pop("reason", "was removed"), **more)


def report(*findings: Finding, after: float = 0, **more: Any) -> CycleReport:
    values: dict[str, Any] = {
        "taken_at": NOW + timedelta(seconds=after),
        "duration": timedelta(seconds=0.5),
        "api_url": "http://h/api",
        "api_calls": 4,
        "server_version": "3.8.8",
        "scopes": (),
        "plan": Plan(findings=findings),
        "outcomes": {},
        "problems": (),
        "warnings": (),
        "dry_run": False,
        "was_listed": True,
    }
    return CycleReport(**(values | more))


class Log:
    """A newsroom with its teller, and what they wrote of each cycle."""

    def __init__(self) -> None:
        self.newsroom, self.teller = Newsroom(), Teller()

    def of(self, one: CycleReport) -> list[dict[str, Any]]:
        with capture_logs() as written:
            self.teller.note(self.newsroom.news(one))
        return [dict(entry) for entry in written]

    def runs(self, one: CycleReport) -> list[dict[str, Any]]:
        return [entry for entry in self.of(one) if "flow_run" in entry]


@pytest.fixture
def log() -> Iterator[Log]:
    return Log()


def test_one_line_per_cycle(log: Log) -> None:
    (line,) = log.of(report(finding(flow_run(), Verdict.HEALTHY)))
    assert line["event"] == "1 flow run in flight: 1 healthy; nothing to write (0.5 s, 4 API calls)."
    assert (line["log_level"], line["counts"], line["api_calls"]) == ("info", {"HEALTHY": 1}, 4)


def test_a_held_run_is_told_once_and_after_an_hour_again(log: Log) -> None:
    held = finding(flow_run(), Verdict.HELD, guard=Guard.BREAKER)
    assert [line["guard"] for line in log.runs(report(held))] == ["breaker"]
    aging = replace(held, reason="was removed 60 s ago")
    assert [log.runs(report(aging, after=s)) for s in range(30, 3600, 30)] == [[]] * 119
    (again,) = log.runs(report(aging, after=3600))
    assert again["standing"] == "60 min"
    assert log.runs(report(aging, after=3630)) == []


def test_another_guard_is_news(log: Log) -> None:
    held = finding(flow_run(), Verdict.HELD, guard=Guard.BREAKER)
    log.of(report(held))
    (line,) = log.runs(report(replace(held, guard=Guard.QUIET), after=30))
    assert line["standing"] == "30 s", "it is held for as long as before"


def test_a_settlement_is_told_with_its_outcome(log: Log) -> None:
    zombie = finding(flow_run(name="otter"), Verdict.ZOMBIE, scope="here")
    outcomes = {zombie.run.id: Outcome(OutcomeKind.ACCEPTED, "")}
    line, cycle = log.of(report(zombie, outcomes=outcomes))
    assert line["event"] == "otter: was removed"
    assert (line["log_level"], line["outcome"], line["scope"]) == ("warning", "ACCEPTED", "here")
    assert cycle["outcomes"] == {"ACCEPTED": 1}


def test_an_alarm_is_an_error(log: Log) -> None:
    zombie = finding(flow_run(), Verdict.ZOMBIE)
    outcomes = {zombie.run.id: Outcome(OutcomeKind.ACCEPTED, "", alarm="look here")}
    line = log.of(report(zombie, outcomes=outcomes))[0]
    assert (line["log_level"], line["alarm"]) == ("error", "look here")


def test_healthy_again(log: Log) -> None:
    unknown = finding(flow_run(name="otter"), Verdict.UNKNOWN, reason="503")
    log.of(report(unknown))
    well = replace(unknown, verdict=Verdict.HEALTHY, reason="is running")
    (line,) = log.runs(report(well, after=30))
    assert line["event"] == "otter: healthy again: is running"
    assert log.runs(report(well, after=60)) == []


def test_a_pass_that_could_not_list_forgets_nothing(log: Log) -> None:
    held = finding(flow_run(), Verdict.HELD)
    log.of(report(held))
    (cycle,) = log.of(report(after=30, was_listed=False, problems=("the API is down",)))
    assert (cycle["log_level"], cycle["problems"]) == ("warning", ["the API is down"])
    assert log.runs(report(held, after=60)) == []


def test_a_flood_is_cut(log: Log) -> None:
    lines = log.of(report(*(finding(flow_run(), Verdict.UNKNOWN) for _ in range(1000)), problems=("x",) * 50))
    assert len(lines) == 202
    assert lines[200]["left_out"] == 800
    assert lines[201]["problems"][-1] == "and 30 more"


def test_what_a_flood_cut_off_is_told_later(log: Log) -> None:
    findings = [finding(flow_run(), Verdict.UNKNOWN) for _ in range(450)]
    told = [len(log.runs(report(*findings, after=30 * number))) for number in range(4)]
    assert told == [200, 200, 50, 0]


def test_nothing_is_kept_of_runs_that_are_over(log: Log) -> None:
    for _ in range(50):
        log.of(report(finding(flow_run(), Verdict.HELD)))
    log.of(report())
    assert not log.teller._told
    assert not log.newsroom._keys


def test_a_warning_that_stays_is_a_warning_once(log: Log) -> None:
    levels = [log.of(report(after=30 * n, warnings=("no heartbeats",)))[0]["log_level"] for n in range(3)]
    assert levels == ["warning", "info", "info"]


@pytest.mark.parametrize("rule", ["8", "9"])
def test_what_is_stuck_is_a_warning_without_any_guard(log: Log, rule: str) -> None:
    stuck = replace(finding(flow_run(), Verdict.HELD), rule=rule)
    (line,) = log.runs(report(stuck))
    assert (line["log_level"], line["rule"]) == ("warning", rule)
    assert "guard" not in line


def test_task_runs_and_a_resumption_are_on_the_line_of_their_flow_run(log: Log) -> None:
    zombie = finding(flow_run(name="otter"), Verdict.ZOMBIE, resumption=Resumption(1, 2, timedelta(seconds=30)))
    accepted = Outcome(OutcomeKind.ACCEPTED, "")
    tasks = [
        TaskRun(id=uuid4(), name="t", flow_run_id=zombie.run.id, state_id=uuid4(), state_type=StateType.RUNNING)
        for _ in range(500)
    ]
    after = Settled(task_runs=tuple((one, accepted) for one in tasks), resumed={zombie.run.id: accepted})
    line, cycle = log.of(report(zombie, outcomes={zombie.run.id: accepted}, settled=after))
    assert line["followed"] == ["500 task runs set to Crashed", "then resumed (1 of 2), due in 30 s"]
    assert cycle["event"] == (
        "1 flow run in flight: 1 zombie; 1 accepted, 500 task runs set to Crashed, 1 resumed (0.5 s, 4 API calls)."
    )


def test_what_nothing_followed_has_no_word_on_it(log: Log) -> None:
    zombie = finding(flow_run(), Verdict.ZOMBIE)
    line = log.of(report(zombie, outcomes={zombie.run.id: Outcome(OutcomeKind.ACCEPTED, "")}))[0]
    assert "followed" not in line


def orphan(name: str = "c-1") -> Orphan:
    run = flow_run(name="otter", state_type=StateType.FAILED, state_name="Failed")
    resource = Resource(id=name, title=f"container {name}", run_id=run.id, removal=f"docker rm -f {name}")
    return Orphan(resource=resource, run=run, since=ago(3600))


class TestOrphans:
    def told(self, log: Log, one: CycleReport) -> list[str]:
        return [line["resource"] for line in log.of(one) if "resource" in line]

    def test_one_is_told_with_its_command(self, log: Log) -> None:
        one = orphan()
        line, _ = log.of(report(orphans={"a": (one,)}))
        assert line == {
            "event": f"orphan: a: container c-1 is alive; flow run {one.run.id} (otter) is Failed since 11:00:00 UTC "
            "(60 min); remove it with: docker rm -f c-1",
            "flow_run": str(one.run.id),
            "scope": "a",
            "resource": "c-1",
            "log_level": "warning",
        }

    def test_once_and_after_an_hour_again(self, log: Log) -> None:
        orphans = {"a": (orphan(),)}
        told = [self.told(log, report(orphans=orphans, after=30 * number)) for number in range(241)]
        assert [number for number, lines in enumerate(told) if lines] == [0, 120, 240]

    def test_each_scope_and_resource_is_one_of_its_own(self, log: Log) -> None:
        one, other = orphan(), orphan("c-2")
        assert self.told(log, report(orphans={"a": (one,)})) == ["c-1"]
        assert self.told(log, report(orphans={"a": (one, other)}, after=30)) == ["c-2"]
        assert self.told(log, report(orphans={"a": (one, other), "b": (one,)}, after=60)) == ["c-1"]

    def test_one_that_left_and_came_back_is_new(self, log: Log) -> None:
        orphans = {"a": (orphan(),)}
        log.of(report(orphans=orphans))
        log.of(report(orphans={"a": ()}, after=30))
        assert not log.teller._orphans
        assert self.told(log, report(orphans=orphans, after=60)) == ["c-1"]

    def test_a_pass_that_knows_nothing_of_them_forgets_nothing(self, log: Log) -> None:
        orphans = {"a": (orphan(),)}
        log.of(report(orphans=orphans))
        assert self.told(log, report(after=30)) == []
        assert self.told(log, report(after=60, orphans={"a": ()}, scopes=(scope("a", error="503"),))) == []
        assert self.told(log, report(orphans=orphans, after=90)) == []

    def test_a_flood_is_cut_and_the_rest_told_later(self, log: Log) -> None:
        orphans = {"a": tuple(orphan(f"c-{number}") for number in range(450))}
        first = log.of(report(orphans=orphans))
        assert first[200] == {
            "event": "more orphans are there than are listed here",
            "left_out": 250,
            "log_level": "warning",
        }
        assert [len(self.told(log, report(orphans=orphans, after=30 * n))) for n in (1, 2, 3)] == [200, 50, 0]
