"""Who set a state, with a real Prefect server: live flows that we crash falsely, people, automations, retries."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from reconciler.grading.casebook import Casebook
from reconciler.grading.cases import Grade
from reconciler.grading.grader import Graded, Grader
from reconciler.model import Cause, OutcomeKind
from reconciler.plan import Finding, Resumption
from reconciler.prefect_api import Connection, PrefectApi
from tests.grading.reports import healthy, held, report_of, zombie
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, seed_run, set_state
from tests.rigs.processes import Program
from tests.rigs.server import PrefectServer

pytestmark = [pytest.mark.prefect]
FLOWS = Path(__file__).parent / "flows" / "waits.py"


class Desk:
    """The real orchestrator and a grader over it; passes are as far apart in time as a test wants."""

    def __init__(self, api: str) -> None:
        self.api = PrefectApi(Connection(api))
        self.book = Casebook()
        self.grader = Grader(self.book, self.api)
        self.now = datetime.now(UTC)

    def crash(self, run: SeededRun, **changes: object) -> tuple[Finding, UUID]:
        """Settle it as a cycle does. Gives also the id of the state that was written."""
        finding = replace(zombie(self.api.reread([run.id])[run.id]), **changes)  # type: ignore[arg-type]
        outcome = self.api.settle(finding)
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert outcome.state_id
        self.grader.note(report_of(self.now, [finding]))
        return finding, outcome.state_id

    def resume(self, run: SeededRun) -> None:
        """Settle it, and resume it."""
        finding, crash = self.crash(run, resumption=Resumption(1, 2, timedelta(seconds=30)))
        assert self.api.resume(finding, crash).kind is OutcomeKind.ACCEPTED

    def shadow(self, run: SeededRun) -> None:
        self.grader.note(report_of(self.now, [held(self.api.reread([run.id])[run.id])]))

    def pass_(self) -> Graded:
        """The next one; it lists what is in flight."""
        self.now += timedelta(minutes=10)
        watched = {case.run_id for case in self.book.watched()}
        rows = [row for row in self.api.in_flight().runs if row.id in watched]
        return self.grader.note(report_of(self.now, [healthy(row) for row in rows]))

    def grade(self, run: SeededRun) -> Grade:
        (case,) = (case for case in self.book.cases() if case.run_id == run.id)
        return case.grade

    def why(self, run: SeededRun) -> str:
        (case,) = (case for case in self.book.cases() if case.run_id == run.id)
        return case.why


@pytest.fixture
def desk(prefect_api_url: str) -> Iterator[Desk]:
    made = Desk(prefect_api_url)
    yield made
    made.api.close()


def live_flow(server: PrefectServer, folder: Path, does: str, state: str) -> tuple[Program, Path, SeededRun]:
    """Start a flow in a process of its own, and wait until its run is in a state of that name."""
    go = folder / f"go-{does}"
    known = {row["id"] for row in call(server.api_url, "POST", "/flow_runs/filter", {"limit": 200})}
    command = [str(server.venv / "bin" / "python"), str(FLOWS), does, str(go)]
    program = Program(command, folder / f"{does}.log", server.environment)

    def mine() -> dict[str, str] | None:
        body = {"flows": {"name": {"any_": [does]}}, "flow_runs": {"state": {"name": {"any_": [state]}}}}
        rows = call(server.api_url, "POST", "/flow_runs/filter", body)
        return next((row for row in rows if row["id"] not in known), None)

    try:
        row = wait_until(lambda: program.must_run() and mine(), f"{does} is {state}", 120)
    except BaseException:
        program.end()
        raise
    assert row
    return program, go, SeededRun(server.api_url, UUID(row["id"]), row["name"])


@pytest.mark.parametrize(
    ("does", "state", "reported"),
    [
        ("completes", "Running", "reported Completed"),
        ("fails", "Running", "reported Failed"),
        ("retries", "AwaitingRetry", "reported Running"),
    ],
)
def test_a_live_flow_that_we_crash_is_a_false_crash(
    prefect_server: PrefectServer, desk: Desk, tmp_path: Path, does: str, state: str, reported: str
) -> None:
    program, go, run = live_flow(prefect_server, tmp_path, does, state)
    try:
        desk.crash(run)
        assert desk.pass_().alarms == ()
        go.touch()
        program.wait(120)
    finally:
        program.end()
    (alarm,) = desk.pass_().alarms
    assert reported in alarm
    assert desk.grade(run) is Grade.FALSE


def test_a_live_flow_that_would_have_been_crashed(prefect_server: PrefectServer, desk: Desk, tmp_path: Path) -> None:
    program, go, run = live_flow(prefect_server, tmp_path, "completes", "Running")
    try:
        desk.shadow(run)
        assert desk.pass_().shadows[Grade.OPEN] == 1
        go.touch()
        program.wait(120)
    finally:
        program.end()
    assert desk.pass_().shadows[Grade.FALSE] == 1
    assert "ended by itself" in desk.why(run)


def reporting(api: str, work_pool: str | None = None) -> SeededRun:
    """A run whose RUNNING carries a transition id of its own, as all that Prefect's client reports."""
    run = seed_run(api, state="PENDING", work_pool=work_pool)
    set_state(run, "RUNNING", transition_id=str(uuid4()))
    return run


def by_client(server: PrefectServer, run: SeededRun, state: str) -> None:
    code = (
        "from prefect import get_client\nfrom prefect.states import *\n"
        f"with get_client(sync_client=True) as client:\n    client.set_flow_run_state('{run.id}', {state})\n"
    )
    subprocess.run([str(server.venv / "bin" / "python"), "-c", code], env=server.environment, check=True)


def test_what_people_and_automations_do_is_no_false_crash(prefect_server: PrefectServer, desk: Desk) -> None:
    api = prefect_server.api_url
    done, forced, back, retried, by_cli, automated = runs = [reporting(api, "grading-pool") for _ in range(6)]
    automate(api, automated)
    for run in runs:
        desk.crash(run)
    set_state(done, "COMPLETED")
    set_state(forced, "FAILED", force=True)
    set_state(back, "RUNNING")
    set_state(retried, "SCHEDULED", "AwaitingRetry", force=True)  # what the button of the UI sends
    cli = [str(prefect_server.venv / "bin" / "prefect"), "flow-run", "retry", str(by_cli.id)]
    subprocess.run(cli, env=prefect_server.environment, check=True, capture_output=True)
    wait_until(lambda: call(api, "GET", f"/flow_runs/{automated.id}")["state"]["type"] == "COMPLETED", "automation", 60)
    graded = desk.pass_()
    assert (graded.alarms, graded.warnings) == ((), ())
    assert {desk.grade(run) for run in runs} == {Grade.OPEN}
    assert all("by hand or by an automation" in desk.why(run) for run in (done, forced, back, automated))
    assert all("another attempt" in desk.why(run) for run in (retried, by_cli))
    by_client(prefect_server, back, "Completed()")  # set back by hand, and the flow was alive all the time
    assert len(desk.pass_().alarms) == 1
    assert desk.grade(back) is Grade.FALSE


def test_what_we_resume_is_no_false_crash_unless_it_lives(prefect_server: PrefectServer, desk: Desk) -> None:
    picked_up, lives = runs = [reporting(prefect_server.api_url, "grading-pool") for _ in range(2)]
    for run in runs:
        desk.resume(run)
    assert desk.pass_().alarms == ()
    assert all(desk.why(run).startswith("was resumed by us: AwaitingRetry at ") for run in runs)
    for state in ("PENDING", "RUNNING", "COMPLETED"):
        set_state(picked_up, state, transition_id=str(uuid4()))
    by_client(prefect_server, lives, "Completed()")  # no worker has fetched it: that is the process that we had ended
    (alarm,) = desk.pass_().alarms
    assert "before a worker had fetched it again" in alarm
    assert [desk.grade(run) for run in runs] == [Grade.OPEN, Grade.FALSE]


def test_what_we_set_to_cancelled(prefect_server: PrefectServer, desk: Desk) -> None:
    stopped, lives = runs = [reporting(prefect_server.api_url) for _ in range(2)]
    for run in runs:
        set_state(run, "CANCELLING")
        desk.crash(run, rule="9")
    by_client(prefect_server, stopped, "Cancelled()")  # as a worker does that was late
    by_client(prefect_server, lives, "Completed()")
    (alarm,) = desk.pass_().alarms
    assert "was set to Cancelled by us" in alarm
    assert [desk.grade(run) for run in runs] == [Grade.OPEN, Grade.FALSE]


def test_a_live_subflow_that_no_scope_spoke_of(prefect_server: PrefectServer, desk: Desk) -> None:
    parent = seed_run(prefect_server.api_url)
    run = seed_run(prefect_server.api_url, state="PENDING", parent=parent)
    set_state(run, "RUNNING", transition_id=str(uuid4()))
    desk.crash(run, rule="2", scope=None, observation=None, cause=Cause.PARENT_ENDED)
    by_client(prefect_server, run, "Completed()")
    graded = desk.pass_()
    assert graded.alarms == ()
    assert graded.warnings[0].startswith(f"false crash, counted against no scope: flow run {run.id}")
    assert desk.grade(run) is Grade.FALSE


def automate(api: str, run: SeededRun) -> None:
    """An automation that answers the run's Crashed with Completed."""
    trigger = {
        "type": "event",
        "posture": "Reactive",
        "threshold": 1,
        "within": 0,
        "expect": ["prefect.flow-run.Crashed"],
        "match": {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
    }
    actions = [{"type": "change-flow-run-state", "state": "COMPLETED", "force": True}]
    call(
        api, "POST", "/automations/", {"name": f"of {run.id}", "enabled": True, "trigger": trigger, "actions": actions}
    )


def test_a_run_whose_client_gives_no_transition_ids_is_unclear(prefect_server: PrefectServer, desk: Desk) -> None:
    run = seed_run(prefect_server.api_url)
    desk.crash(run)
    set_state(run, "COMPLETED")
    graded = desk.pass_()
    assert graded.alarms == ()
    assert "who set that cannot be told" in graded.warnings[0]


def test_shadows_that_others_settle_or_delete(prefect_server: PrefectServer, desk: Desk) -> None:
    api = prefect_server.api_url
    crashed, cancelled, deleted, real = runs = [seed_run(api) for _ in range(4)]
    for run in runs:
        desk.shadow(run)
    by_client(prefect_server, crashed, "Crashed()")
    set_state(cancelled, "CANCELLED")
    call(api, "DELETE", f"/flow_runs/{deleted.id}")
    finding = zombie(desk.api.reread([real.id])[real.id])
    desk.api.settle(replace(finding, reason="it died"))
    desk.pass_()
    assert [desk.grade(run) for run in runs] == [Grade.UNGRADED, Grade.RIGHT, Grade.UNGRADED, Grade.UNGRADED]
    assert "settled by a reconciler" in desk.why(real)
