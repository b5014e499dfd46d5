"""What holds, and how a person releases it: with the real commands, a real server and real processes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.rigs.host import Host, by_the_engine, explained, judged, refused
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, history, seed_run, seed_task_run, set_state, state_of
from tests.rigs.reconcile import Pass, process_scope
from tests.rigs.server import PrefectServer

pytestmark = [pytest.mark.prefect]
SETTLED = ("ZOMBIE", None, "ACCEPTED")


@pytest.fixture
def host(empty_api_url: str, tmp_path: Path) -> Iterator[Host]:
    made = Host(empty_api_url, tmp_path)
    yield made
    made.end()


def test_one_scope_observes_while_another_settles(host: Host) -> None:
    other = f"{host.pool}-shy"
    bold, shy = runs = [*host.start("bold"), *host.start("shy", pool=other)]
    scopes = process_scope(host.pool, "bold"), process_scope(other, "shy") + 'mode = "observe"\n'
    reconcile = host.reconcile(scopes=scopes)
    judged(reconcile, "--dry-run", runs=runs)
    host.kill(*runs)
    found = judged(reconcile, "--exit-code", runs=runs)
    assert (found.of(bold), found.of(shy)) == (SETTLED, ("HELD", "mode", None))
    assert found.last.code == 3, found.last.out + found.last.err
    assert "the mode of scope 'shy' is \"observe\"" in found.why(shy)
    assert [state_of(run) for run in runs] == ["CRASHED", "RUNNING"]
    assert "needed is mode = \"settle\" in scope 'shy'" in explained(reconcile, shy)


def test_the_loss_of_a_scope_is_accepted_by_name(host: Host) -> None:
    seen = host.start("seen-1", "seen-2")
    reconcile = host.reconcile("exclusive = true", quiet="1s")
    judged(reconcile, "--dry-run", runs=seen)
    runs = [*seen, *host.start("unseen-1", "unseen-2")]
    host.kill(*runs)
    found = judged(reconcile, runs=runs)
    assert {found.of(run) for run in runs} == {("HELD", "breaker", None)}
    assert found.last.code == 4, found.last.out + found.last.err
    assert "released after 5 min, or by" in found.why(runs[0])
    assert "never seen there: `reconcile --accept-scope-loss this-host`" in found.why(runs[-1])
    assert "needed is `reconcile --accept-scope-loss this-host`" in explained(reconcile, runs[-1])
    refused(reconcile("--accept-scope-loss", "that-host"), "no scope is called 'that-host': there are this-host")
    assert {state_of(run) for run in runs} == {"RUNNING"}
    found = judged(reconcile, "--accept-scope-loss", "this-host", runs=runs)
    assert {found.of(run) for run in runs} == {SETTLED}
    assert found.last.code == 0, found.last.out + found.last.err


def alarm(done: Pass, run: SeededRun) -> str:
    """Which is a problem of the pass that finds it."""
    assert done.code == 1, done.out + done.err
    (told,) = [one for one in done.document["problems"] if one.startswith("FALSE CRASH")]
    assert f"flow run {run.id}" in told
    assert f"FALSE CRASH: flow run {run.id}" in done.err, "it is in the log, too"
    return str(told)


def test_two_false_crashes_and_nothing_is_written_until_a_person_trusts_it(
    host: Host, prefect_server: PrefectServer
) -> None:
    """The processes that it looks at die, and the flows live on: as with a scope that looks at the wrong things."""
    first, second, third = runs = host.start("first", "second", "third")
    reconcile = host.reconcile()
    judged(reconcile, "--dry-run", runs=runs)
    host.kill(first, second)
    found = judged(reconcile, runs=[first, second])
    assert {found.of(first), found.of(second)} == {SETTLED}
    by_the_engine(prefect_server, first, "Completed()")
    assert "1 of 2 within 24 h that make scope 'this-host' untrusted" in alarm(reconcile(), first)
    set_state(second, "FAILED", transition_id=str(uuid.uuid4()))  # the same, as it is on the wire
    assert "2 within 24 h, so scope 'this-host' is not trusted any more" in alarm(reconcile(), second)
    host.kill(third)
    found = judged(reconcile, runs=[third])
    assert (found.of(third), found.last.code) == (("HELD", "trust", None), 0)
    assert "`reconcile --trust this-host`" in found.why(third)
    assert "needed is `reconcile --trust this-host`; then now" in explained(reconcile, third)
    told = reconcile("report", document=False).out
    assert "2 settlements (2 false crashes, 0 still watched); NOT TRUSTED since" in told
    assert "What to do: scope 'this-host' had false crashes: find out why, then run `reconcile --trust" in told
    refused(reconcile("--trust", "that-host"), "no scope is called 'that-host': there are this-host")
    assert state_of(third) == "RUNNING"
    trusted = reconcile("--trust", "this-host")
    assert "scope 'this-host' is trusted again" in trusted.err
    if trusted.run(third.id)["verdict"] == "UNKNOWN":
        trusted = judged(reconcile, runs=[third]).last  # trust lasts
    assert (trusted.code, trusted.run(third.id)["outcome"]) == (0, "ACCEPTED"), trusted.out
    assert [state_of(run) for run in runs] == ["COMPLETED", "FAILED", "CRASHED"]


@contextmanager
def again_and_again(what: Callable[[], object]) -> Iterator[None]:
    """As a flow does that lives on, out of sight."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(0.3):
            what()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def log_line(run: SeededRun, logger: str) -> None:
    line = {"name": logger, "level": 20, "message": "on we go", "timestamp": datetime.now(UTC).isoformat()}
    call(run.api, "POST", "/logs/", [{**line, "flow_run_id": str(run.id)}])


def test_what_a_run_does_after_its_death_holds_it(host: Host) -> None:
    logs, works, is_silent = runs = host.start("logs", "works", "is-silent")
    reconcile = host.reconcile(breaker_count="4", quiet="5m", confirm_after="5s")
    judged(reconcile, "--dry-run", runs=runs)
    host.kill(*runs)

    def live() -> None:
        log_line(logs, "my.flow")
        seed_task_run(works)
        log_line(is_silent, "prefect.flow_runs.worker")  # a worker's line about it is no sign of its own

    with again_and_again(live):
        found = judged(reconcile, runs=runs)
    assert found.of(logs) == found.of(works) == ("HELD", "life sign", None)
    assert found.of(is_silent) == SETTLED
    assert "its last log line is" in found.why(logs)
    assert "its last task run is" in found.why(works)
    found = judged(host.reconcile(quiet="1s"), runs=[logs, works])
    assert {found.of(logs), found.of(works)} == {SETTLED}


def heartbeat(run: SeededRun, at: datetime) -> dict[str, object]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": at.isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
        "related": [],
        "payload": {},
    }


def test_a_run_that_nobody_may_judge_and_that_fell_silent_is_told(host: Host) -> None:
    silent, lively = (seed_run(host.api, name=name) for name in ("silent", "lively"))
    now = datetime.now(UTC)
    beats = [heartbeat(silent, now - timedelta(seconds=ago)) for ago in (90, 80, 70)]
    beats += [heartbeat(lively, now + timedelta(seconds=ahead)) for ahead in (-60, -10, 40)]
    call(host.api, "POST", "/events", beats)
    reconcile = host.reconcile(quiet="2s")

    def told() -> Pass | None:
        done = reconcile()
        return done if done.document["silent"] else None

    done = wait_until(told, "its heartbeats are counted", 60)
    assert done is not None
    assert (done.code, done.document["silent"]) == (0, 1)
    row = done.run(silent.id)
    assert row["verdict"] == "UNMANAGED"
    assert "s old, so it may have died unseen" in row["reason"]
    since = datetime.fromisoformat(row["silent_since"])
    assert abs(since - now + timedelta(seconds=70)) < timedelta(seconds=3)
    assert done.run(lively.id)["silent_since"] is None
    assert [state["type"] for state in history(silent)] == ["PENDING", "RUNNING"]
    line = next(line for line in reconcile(document=False).out.splitlines() if str(silent.id) in line)
    assert line.startswith("UNMANAGED")
    assert "so it may have died unseen" in line
