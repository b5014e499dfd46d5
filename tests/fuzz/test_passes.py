"""Whole passes over spoiled answers: never an exception, and nothing that lives is written."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reconciler.cycle import Cycle
from reconciler.evidence import read, rejudge
from reconciler.evidence_file import Evidence
from reconciler.memory import Memory
from reconciler.metrics import Metrics
from reconciler.model import FlowRun, RunMapping, Verdict
from reconciler.news import Newsroom
from reconciler.outlook import Outlook
from reconciler.pages import status_page
from reconciler.plan import CycleReport, Policy
from reconciler.ports import BoundScope
from reconciler.report import as_json, lines, table
from reconciler.shown import NO_PASS_YET, Shown, last_pass, newest, settlements_of
from reconciler.telling import Teller
from reconciler.testing import FakeScope
from tests.fake_prefect import FakePrefect, stamp
from tests.fuzz.effort import fuzz
from tests.fuzz.spoiling import HTML, STEERING
from tests.fuzz.test_prefect_answers import PATHS, Spoil, Spoiler, a_client, a_server, spoils, the_run

POLICY = Policy(confirm_after=timedelta(0), quiet=timedelta(seconds=1))


@contextmanager
def passes(server: Spoiler, scope: FakeScope, memory: Path | None = None) -> Iterator[Callable[[], CycleReport]]:
    api = a_client(server)
    outlook = Outlook([BoundScope(scope, "fake", RunMapping(work_pools=frozenset({"pool"})))], Memory(memory), 5.0)
    cycle = Cycle(api, outlook, POLICY, wait=lambda seconds: None, time_limit=5.0)

    def one() -> CycleReport:
        planned = cycle.plan()
        return cycle.report(planned, cycle.settle(planned))

    try:
        yield one
    finally:
        outlook.close()
        api.close()


def tell_all(report: CycleReport, folder: Path) -> None:
    """Every way in which a pass is told."""
    json.dumps(as_json(report)).encode()
    "\n".join(lines(report)).encode()
    Console(file=io.StringIO(), width=100).print(table(report))
    evidence = Evidence(folder, configuration="c", version="1")
    evidence.note(report)
    assert evidence.problems == ()
    news = Newsroom().news(report)
    Teller().note(news)
    Metrics(version="1", process=False).note(news)
    shown = Shown(
        last=last_pass(news),
        ago=timedelta(0),
        failure=None,
        settlements=newest(settlements_of(report), ()),
        configuration_problems=(),
        readiness=NO_PASS_YET,
        api_url=report.api_url,
        ui_url="",
    )
    status_page(shown, report.ended_at).encode()
    for line in read(folder / "evidence.jsonl") if (folder / "evidence.jsonl").exists() else ():
        again = rejudge(line)
        assert (again.verdict, again.rule, again.guard, again.reason) == (
            line.verdict,
            line.rule,
            line.guard,
            line.reason,
        )


@given(paths=st.lists(st.sampled_from(PATHS), min_size=1, max_size=2), spoil=spoils())
@fuzz(40)
def test_nothing_that_lives_is_written(paths: list[str], spoil: Callable[[FakePrefect], Spoil]) -> None:
    server, scope = a_server(), FakeScope()
    run = the_run(server)
    scope.answers[run.id] = [scope.alive(run)]
    with passes(server, scope) as one, TemporaryDirectory() as folder:
        one()
        server.spoil = dict.fromkeys(paths, spoil(server.true))
        for _ in range(2):
            report = one()
            assert report.outcomes == {}
            tell_all(report, Path(folder))
    assert server.proposals == []


@given(paths=st.lists(st.sampled_from(PATHS), min_size=1, max_size=2), spoil=spoils())
@fuzz(40)
def test_a_real_zombie_is_settled_as_such_or_not_at_all(
    paths: list[str], spoil: Callable[[FakePrefect], Spoil]
) -> None:
    server, scope = a_server(), FakeScope()
    run = the_run(server)
    ended = datetime.now(UTC) - timedelta(minutes=4)
    scope.answers[run.id] = [scope.exited(run, 1, ended)]
    with passes(server, scope) as one, TemporaryDirectory() as folder:
        server.spoil = dict.fromkeys(paths, spoil(server.true))
        for _ in range(2):
            tell_all(one(), Path(folder))
        server.spoil = {}
        tell_all(one(), Path(folder))
    assert all(one["force"] is False and one["state"]["type"] == "CRASHED" for one in server.proposals)
    assert server.true.runs[str(run.id)]["state"]["type"] == "CRASHED", "settled once the rubbish ends"


NAMES = st.one_of(st.sampled_from([STEERING, HTML, "\ud800", "\0", "", "a" * 100_000]), st.text(max_size=20))


@given(name=NAMES, pool=NAMES, state=NAMES, reason=NAMES, title=NAMES, node=NAMES, scope_error=NAMES)
@fuzz(25)
def test_whatever_the_names_are_a_pass_can_be_told(
    name: str, pool: str, state: str, reason: str, title: str, node: str, scope_error: str
) -> None:
    """An adapter's words too: a place may be as hostile as a run."""
    server, scope = a_server(), FakeScope()
    server.true.add()
    dead, other = list(server.true.runs.values())
    written = [text.encode("utf-8", "replace").decode() for text in (name, pool, state)]
    other |= {"name": written[0], "work_pool_name": written[1]}
    server.true.enter(other["id"], "RUNNING", written[2] or None)
    other["state"]["timestamp"] = stamp(datetime.now(UTC) - timedelta(minutes=5))
    runs = {str(run.id): run for run in a_client(server).in_flight().runs}
    run = runs[dead["id"]]
    seen = scope.exited(run, 1, datetime.now(UTC) - timedelta(minutes=4))
    assert seen.resource
    scope.answers[run.id] = [
        replace(seen, reason=reason, resource=replace(seen.resource, title=title, node=node)),
        replace(seen, reason=reason, resource=replace(seen.resource, id="two", title=title)),
    ]
    scope.incomplete = None
    with passes(server, scope) as one, TemporaryDirectory() as folder:
        report = one()
        assert not report.warnings, "sightings were kept"
        tell_all(report, Path(folder))
        for message in server.proposals:
            assert len(message["state"]["message"]) < 10_000
            assert message["state"]["message"].isprintable()
        scope.error = RuntimeError(scope_error)
        tell_all(one(), Path(folder))
        size = (Path(folder) / "evidence.jsonl").stat().st_size
    assert server.proposals
    assert size < 50_000


def test_a_strangers_label_never_speaks_for_another_run() -> None:
    """An answer about a run that was asked for, with the resource of another, blinds the scope."""
    server, scope = a_server(), FakeScope()
    run = the_run(server)
    foreign: FlowRun = replace(run, id=run.state_id)
    scope.answers[run.id] = [scope.exited(foreign, 1, datetime.now(UTC) - timedelta(hours=1))]
    with passes(server, scope) as one:
        report = one()
    (finding,) = report.plan.findings
    assert finding.verdict is Verdict.UNKNOWN
    assert server.proposals == []
