"""The daemon's log: once, not every 30 seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from reconciler.model import FlowRun, Guard, OutcomeKind, Verdict
from reconciler.news import Newsroom
from reconciler.plan import CycleReport, Finding, Outcome, Plan
from reconciler.telling import Teller
from reconciler.testing import flow_run
from tests.spec import NOW


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
