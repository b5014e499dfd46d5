"""Runs that are started again after a settlement: a real worker, real flows, and the real daemon."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.real.test_acceptance import container, docker_run, some_pool
from tests.rigs.daemon import DaemonProcess
from tests.rigs.deployments import deploy, host_fails, runs_for_the, states_of
from tests.rigs.engine import Engine
from tests.rigs.host import judged
from tests.rigs.policy import add_policy
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, history, read, seed_run, set_state, state_of
from tests.rigs.proxy import Answer, Call, FaultProxy, Forward
from tests.rigs.reconcile import QUICK, Reconcile, docker_scope, process_scope
from tests.rigs.sleepers import Sleepers
from tests.rigs.worker import Worker

pytestmark = [pytest.mark.prefect]
CRASH = r'"type": ?"CRASHED"'


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    made = Sleepers()
    yield made
    made.end()


@contextmanager
def daemon(api: str, folder: Path, scope: str, **policy: object) -> Iterator[DaemonProcess]:
    """One that has looked twice."""
    made = DaemonProcess(api, folder, scope)
    add_policy(made.file, **QUICK, breaker_count=50, resume_max=2, resume_backoff="1s", **policy)
    with made.start().ready():
        made.wait_for_passes(2)
        yield made


def resumptions(run: SeededRun) -> list[float]:
    """After how many seconds each attempt that was to follow was due."""
    due = [
        datetime.fromisoformat(state["state_details"]["scheduled_time"]) - datetime.fromisoformat(state["timestamp"])
        for before, state in pairwise(history(run))
        if (before["type"], state["name"]) == ("CRASHED", "AwaitingRetry")
    ]
    return [round(one.total_seconds(), 1) for one in due]


def test_twice_and_then_no_more_through_a_restart(process_worker: Worker, tmp_path: Path) -> None:
    worker, api = process_worker, process_worker.server.api_url
    scope, chosen = process_scope(worker.pool), {"resume_work_pools": [worker.pool]}
    run = deploy(worker, "sleeper").submit()
    runs_for_the(1, run, worker)
    with daemon(api, tmp_path / "first", scope, **chosen):
        host_fails(worker, run)
        worker.start()
        runs_for_the(2, run, worker)
    with daemon(api, tmp_path / "second", scope, **chosen) as second:  # remembers nothing of the first one
        host_fails(worker, run)
        worker.start()
        runs_for_the(3, run, worker)
        second.wait_for_passes(2)
        host_fails(worker, run)
        wait_until(lambda: len([name for name in states_of(run) if name == "Crashed"]) == 3, "a third time", 60, 0.3)
        worker.start()
        second.wait_for_passes(3)
    names = states_of(run)
    print(f"{', '.join(names)}\n{read(run)['state']['message']}")
    assert (names[-1], names.count("Crashed"), names.count("AwaitingRetry")) == ("Crashed", 3, 2)
    assert resumptions(run) == pytest.approx([1, 2], abs=0.5)
    assert read(run)["run_count"] == 3
    assert "not started again: 2 of 2 times are used" in read(run)["state"]["message"]
    messages = [state["message"] for state in history(run) if state["name"] == "AwaitingRetry"]
    for number, message in enumerate(messages, 1):
        assert message.startswith(f"resumed ({number} of 2) by prefect-reconciler after Removed: process "), message


def test_whoever_was_not_chosen_stays_crashed(empty_api_url: str, sleepers: Sleepers, tmp_path: Path) -> None:
    api, pool, other = empty_api_url, some_pool(), some_pool()

    def pending(name: str, work_pool: str, **more: object) -> SeededRun:
        made = seed_run(api, state="PENDING", work_pool=work_pool, name=name, **more)  # type: ignore[arg-type]
        return sleepers.run(made)

    by_pool, by_tag, plain = pending("by-pool", pool), pending("by-tag", other, tags=["often"]), pending("plain", other)
    own = pending("own-infrastructure", pool, parent=by_pool)  # as run_deployment makes it
    inside = seed_run(api, parent=by_pool, name="inside")
    processes = by_pool, by_tag, plain, own
    scope = process_scope(pool).replace(f'"{pool}"', f'"{pool}", "{other}"')
    with daemon(api, tmp_path, scope, resume_work_pools=[pool], resume_tags=["often"]) as made:
        sleepers.kill(*processes)
        for run in (by_pool, by_tag):
            wait_until(lambda run=run: states_of(run)[-1] == "AwaitingRetry", f"{run.name} is resumed", 60, 0.3)  # type: ignore[misc]
        for run in (plain, own, inside):
            wait_until(lambda run=run: state_of(run) == "CRASHED", f"{run.name} is settled", 60, 0.3)  # type: ignore[misc]
        made.wait_for_passes(3)
        followed = [text for line in made.of_run(by_pool.id) for text in line.get("followed", ())]
    assert [states_of(run)[-1] for run in (plain, own, inside)] == ["Crashed"] * 3
    assert {tuple(states_of(run)[-2:]) for run in (by_pool, by_tag)} == {("Crashed", "AwaitingRetry")}
    assert read(by_tag)["empirical_policy"]["retry_type"] == "reschedule", "a worker fetches it"
    assert "then resumed (1 of 2), due in 1 s" in followed


def test_one_that_moves_on_after_its_crash_is_left_alone(
    empty_api_url: str, sleepers: Sleepers, tmp_path: Path
) -> None:
    """Somebody else reschedules the one as soon as it is Crashed; of the other a process turns out to live."""
    pool = some_pool()
    rescheduled, lives = (
        sleepers.run(seed_run(empty_api_url, state="PENDING", work_pool=pool, name=name)) for name in ("moved", "lives")
    )

    def by_an_automation(_: Call, forward: Forward) -> Answer:
        answer = forward()
        set_state(rescheduled, "SCHEDULED", "AwaitingRetry")
        return answer

    def out_of_the_dark(_: Call, forward: Forward) -> Answer:
        answer = forward()
        sleepers.start(lives)
        return answer

    with (
        FaultProxy(empty_api_url) as proxy,
        daemon(proxy.url, tmp_path, process_scope(pool), resume_work_pools=[pool]) as made,
    ):
        proxy.rule("POST", f"{rescheduled.id}/set_state$", by_an_automation, 1, body=CRASH)
        proxy.rule("POST", f"{lives.id}/set_state$", out_of_the_dark, 1, body=CRASH)
        sleepers.kill(rescheduled, lives)
        wait_until(lambda: state_of(lives) == "CRASHED" and state_of(rescheduled) == "SCHEDULED", "both", 60, 0.3)
        made.wait_for_passes(3)
        assert proxy.count("POST", r"/set_state$") == 2, "nothing but the two settlements was proposed"
        told = made.log.read_text()
        followed = [text for line in made.of_run(rescheduled.id) for text in line.get("followed", ())]
    assert states_of(rescheduled)[-2:] == ["Crashed", "AwaitingRetry"]
    assert states_of(rescheduled).count("AwaitingRetry") == 1
    assert followed == ["not resumed: its settlement was not the last word"]
    assert states_of(lives)[-1] == "Crashed"
    assert "it was set to Crashed, and process " in told
    assert "it is not started again" in told


def test_one_that_is_killed_between_crash_and_resumption_is_followed_by_one_that_finishes(
    empty_api_url: str, sleepers: Sleepers, tmp_path: Path
) -> None:
    pool = some_pool()
    run = sleepers.run(seed_run(empty_api_url, state="PENDING", work_pool=pool))
    scope, chosen = process_scope(pool), {"resume_work_pools": [pool]}
    with FaultProxy(empty_api_url) as proxy, daemon(proxy.url, tmp_path / "first", scope, **chosen) as first:
        sleepers.kill(run)
        wait_until(lambda: states_of(run)[-1] == "AwaitingRetry", "it is resumed", 60, 0.3)
        set_state(run, "PENDING")
        sleepers.run(run)
        first.wait_for_passes(2)
        proxy.rule("POST", "/set_state$", lambda *_: first.send(signal.SIGKILL), 1, body=r'"type": ?"SCHEDULED"')
        sleepers.kill(run)
        wait_until(lambda: not first.program.running, "it is killed", 60)
    assert (states_of(run)[-1], len(resumptions(run))) == ("Crashed", 1)
    with daemon(empty_api_url, tmp_path / "first", scope, **chosen) as second:  # its sightings: it may say what is gone
        wait_until(lambda: states_of(run)[-1] == "AwaitingRetry", "it is resumed", 60, 0.3)
        second.wait_for_passes(2)
    assert len(resumptions(run)) == 2
    assert read(run)["state"]["message"].startswith("resumed (2 of 2) by prefect-reconciler")


def test_a_dry_run_shows_it(empty_api_url: str, sleepers: Sleepers, tmp_path: Path) -> None:
    pool = some_pool()
    run = sleepers.run(seed_run(empty_api_url, state="PENDING", work_pool=pool))
    with FaultProxy(empty_api_url) as proxy:
        reconcile = Reconcile(proxy.url, tmp_path, process_scope(pool), **QUICK)
        add_policy(reconcile.file, resume_max=2, resume_work_pools=[pool], resume_backoff="40s")
        judged(reconcile, "--dry-run", runs=[run])
        sleepers.kill(run)
        row = judged(reconcile, "--dry-run", runs=[run]).rows[run.id]
        assert (row["verdict"], row["outcome"]) == ("ZOMBIE", None)
        assert row["resumption"] == {"number": 1, "of": 2, "delay_seconds": 40.0, "outcome": None}
        forecast = "would then be resumed (1 of 2) after 40 s"
        wait_until(lambda: forecast in reconcile("--dry-run", document=False).out, "it is told to people", 60, 0.3)
        assert proxy.writes == []
    assert states_of(run) == ["Pending", "Running"]


HUNGRY = ("sh", "-c", "x=$(yes | head -c 200000000); echo ${#x}")


@pytest.mark.docker
@pytest.mark.parametrize("causes", [(), ("OOMKilled",)], ids=["by default", "on request"])
def test_who_ran_out_of_memory_is_resumed_on_request(
    empty_api_url: str, engine: Engine, tmp_path: Path, causes: tuple[str, ...]
) -> None:
    """It would run out of it again. What was removed is resumed by default, and not where other causes are named."""
    pool, limits = some_pool(), ("--memory", "16m", "--memory-swap", "16m")
    hungry, _ = docker_run(empty_api_url, engine, pool, *limits, command=HUNGRY)
    removed, made = docker_run(empty_api_url, engine, pool)
    reconcile = Reconcile(empty_api_url, tmp_path, docker_scope(engine.base_url, pool), **QUICK)
    named = {"resume_causes": list(causes)} if causes else {}
    add_policy(reconcile.file, resume_max=1, resume_work_pools=[pool], **named)
    found = dict[SeededRun, dict[str, Any]]()

    def settled(*runs: SeededRun) -> bool:
        rows = {row["id"]: row for row in reconcile().document["runs"]}
        found.update({run: rows[str(run.id)] for run in runs if rows.get(str(run.id), {}).get("outcome")})
        return found.keys() >= set(runs)

    assert reconcile("--dry-run").run(removed.id)["verdict"] == "HEALTHY"
    engine.docker("rm", "-f", made)
    wait_until(lambda: settled(hungry, removed), "both are settled", 60, 0.3)
    assert [found[run]["cause"] for run in (hungry, removed)] == ["OOMKilled", "Removed"]
    resumed, left = (hungry, removed) if causes else (removed, hungry)
    assert (states_of(resumed)[-2:], states_of(left)[-1]) == (["Crashed", "AwaitingRetry"], "Crashed")
    assert [found[run]["resumption"] is None for run in (resumed, left)] == [False, True]


@pytest.mark.docker
def test_the_other_host_of_a_pool_resumes_nothing_that_it_could_not_see(
    empty_api_url: str, engine: Engine, second_engine: Engine, tmp_path: Path
) -> None:
    """The first host's reconciler sees the run come to life after its crash; the other's begins after that."""
    pool = some_pool()
    run, made = docker_run(empty_api_url, engine, pool)

    def out_of_the_dark(_: Call, forward: Forward) -> Answer:
        answer = forward()
        container(engine, run.id)
        return answer

    with FaultProxy(empty_api_url) as proxy:
        sides = {
            name: Reconcile(proxy.url, tmp_path / name, docker_scope(place.base_url, pool, name), **QUICK)
            for name, place in (("a", engine), ("b", second_engine))
        }
        for side in sides.values():
            add_policy(side.file, resume_max=2, resume_work_pools=[pool], resume_backoff="1s")
            side("--dry-run")
        engine.docker("rm", "-f", made)
        proxy.rule("POST", "/set_state$", out_of_the_dark, 1, body=CRASH)
        wait_until(lambda: sides["a"]().code >= 0 and state_of(run) == "CRASHED", "settled", 60, 0.3)
        for name in ("a", "b", "a", "b"):
            sides[name]()
            assert (name, states_of(run)[-1]) == (name, "Crashed")
        assert proxy.count("POST", "/set_state$") == 1
