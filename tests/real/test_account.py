"""The commands that say why, and how right it was: explain, replay, report; with a real server and real processes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.host import Host, by_the_engine, explained, explained_in_json, judged, refused, screen
from tests.rigs.prefect import SeededRun, set_state, state_of
from tests.rigs.reconcile import Reconcile
from tests.rigs.server import PrefectServer

pytestmark = [pytest.mark.prefect]
NOWHERE = "http://127.0.0.1:1/api"  # what gives account of the past needs no server


@pytest.fixture
def host(empty_api_url: str, tmp_path: Path) -> Iterator[Host]:
    made = Host(empty_api_url, tmp_path)
    yield made
    made.end()


def settled_run(host: Host) -> SeededRun:
    """Seen alive, killed, held by `observe`, and settled at last; explained at each step."""
    (run,) = host.start("otter")
    told = explained(host.reconcile(), run)
    assert "verdict HEALTHY" in told
    assert "needed is an end" in told
    host.kill(run)
    told = explained(host.reconcile(grace="1h"), run)
    assert "verdict WAITING" in told
    assert "rule 10" in told
    assert "if nothing changes: set to Crashed" in told
    assert state_of(run) == "RUNNING"
    reconcile = host.reconcile(mode="observe")
    assert judged(reconcile, runs=[run]).of(run) == ("HELD", "mode", None)
    told = explained(reconcile, run)
    assert "verdict HELD, held by 'mode'" in told
    assert "guards holds: mode" in told
    assert 'needed is mode = "settle" under [policy]; then now' in told
    held_in_json(reconcile, run)
    assert judged(host.reconcile(), runs=[run]).of(run) == ("ZOMBIE", None, "ACCEPTED")
    return run


def held_in_json(reconcile: Reconcile, run: SeededRun) -> None:
    document = explained_in_json(reconcile, run)
    assert (document["id"], document["decision"]["guard"]) == (str(run.id), "mode")
    assert {one["guard"]: bool(one["why"]) for one in document["decision"]["guards"]}["mode"] is True
    assert [one["absence"] for one in document["scopes"]] == ["sighted"]
    assert document["forecast"]["acts_at"] is None
    assert document["forecast"]["then_at"]


def test_a_run_s_life_is_explained_and_what_was_decided_is_decided_again(host: Host) -> None:
    run = settled_run(host)
    reconcile = host.reconcile()
    told = explained(reconcile, run)
    assert "not judged it is over: only runs in flight are judged" in told
    assert "ZOMBIE (rule 7) -> set to Crashed" in told
    document = explained_in_json(reconcile, run)
    assert (document["decision"], document["run"]["state_name"]) == (None, "Crashed")
    assert [line["outcome"] for line in document["settlements"]] == ["ACCEPTED"]
    (done,) = host.start("badger")
    set_state(done, "COMPLETED")
    assert "it is over" in explained(reconcile, done)
    unknown = screen(reconcile("explain", str(uuid.uuid4()), document=False), code=1)
    assert "the Prefect server has no flow run of this id" in unknown
    refused(reconcile("explain", "not-a-uuid", document=False), "Invalid value for 'RUN_ID'", "valid UUID")
    replayed(host, run)


def replayed(host: Host, run: SeededRun) -> None:
    """With neither server nor configuration."""
    reconcile, folder = Reconcile(NOWHERE, host.folder / "elsewhere"), str(host.state_dir)
    evidence = host.state_dir / "evidence.jsonl"
    before = evidence.read_bytes()
    count = len(before.splitlines())
    assert count >= 2
    same = reconcile("replay", folder, document=False)
    assert (same.code, len(same.out.splitlines())) == (0, 1), same.out + same.err
    assert same.out.startswith(f"{count} lines of 1 run, ")
    assert same.out.endswith(f": {count} same.\n")
    other = reconcile("replay", folder, "--with", "grace=120s", document=False)
    assert other.code == 0, other.out + other.err
    assert f"{run.id} otter: ZOMBIE (rule 7) -> WAITING (rule 10), settled later at " in other.out
    (sum_,) = [line for line in other.out.splitlines() if line.startswith("with grace=2m: ")]
    assert "1 run would have been settled later" in sum_
    assert evidence.read_bytes() == before
    forged = host.folder / "forged.jsonl"
    forged.write_bytes(before.replace(b'"verdict":"HELD"', b'"verdict":"ZOMBIE"'))
    changed = reconcile("replay", str(forged), document=False)
    assert changed.code == 1
    assert "not reproduced: verdict: ZOMBIE, now HELD" in changed.out
    refused(reconcile("replay", folder, "--with", "graze=120s", document=False), "there is no 'graze' in a policy")
    refused(reconcile("replay", str(host.folder / "no.jsonl"), document=False), "there is no file", "no.jsonl")


def report_of(reconcile: Reconcile) -> str:
    done = reconcile("report", document=False)
    assert done.code == 0, done.out + done.err
    return done.out


def test_the_report_tells_what_observe_would_have_done_wrong(host: Host, prefect_server: PrefectServer) -> None:
    wrong, zombie = runs = host.start("wrong", "zombie")
    reconcile = host.reconcile(mode="observe")
    assert judged(reconcile, runs=runs).of(wrong) == ("HEALTHY", None, None)
    host.kill(*runs)
    found = judged(reconcile, runs=runs)
    assert {found.of(run) for run in runs} == {("HELD", "mode", None)}
    told = report_of(reconcile)
    assert "2 would-be settlements (0 right, 0 false, 2 open, 0 ungraded; precision not known" in told
    assert "leave it in observe mode" in told
    by_the_engine(prefect_server, wrong, "Completed()")
    reconcile()
    told = report_of(reconcile)
    assert "2 would-be settlements (0 right, 1 false, 1 open, 0 ungraded; precision 0 of 1)" in told
    assert "ended by itself: it reported Completed at" in told
    assert 'keep mode = "observe" there, and find out why' in told
    document = reconcile("report").document
    grades = {case["run_id"]: case["grade"] for case in document["cases"]}
    assert grades == {str(wrong.id): "false", str(zombie.id): "open"}
    assert (document["scopes"][0]["precision"], document["problems"]) == (0.0, [])
    assert [state_of(run) for run in runs] == ["COMPLETED", "RUNNING"]
