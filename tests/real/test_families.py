"""Whole families with the real parts: real subflows and task runs in real containers that are really killed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from tests.rigs.engine import Engine
from tests.rigs.family import Family, FamilyWorker, state
from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call, history, read, seed_flow, seed_task_run, set_state, wait_for_state
from tests.rigs.proxy import FaultProxy
from tests.rigs.reconcile import QUICK, Pass, Reconcile, docker_scope
from tests.rigs.server import PrefectServer
from tests.rigs.worker import container_of

pytestmark = [pytest.mark.prefect, pytest.mark.docker]
DEPTHS = {"child": 1, "sibling": 1, "grandchild": 2, "great-grandchild": 3}
PARENTS = {"child": "parent", "sibling": "parent", "grandchild": "child", "great-grandchild": "grandchild"}
TASKS = {"RUNNING": 9, "PENDING": 1}  # five at work, the four that stand for the subflows; one waits
SIGNATURE = "Set by prefect-reconciler."


@pytest.fixture
def worker(empty_api_url: str, prefect_server: PrefectServer, engine: Engine, tmp_path: Path) -> Iterator[FamilyWorker]:
    made = FamilyWorker(prefect_server, tmp_path, engine)
    with made:
        yield made
        made.kill()  # or it would wait for its flows


@pytest.fixture
def proxy(prefect_server: PrefectServer) -> Iterator[FaultProxy]:
    """Counts what the passes write."""
    with FaultProxy(prefect_server.api_url) as made:
        yield made


def reconciler(worker: FamilyWorker, proxy: FaultProxy, folder: Path, **policy: str) -> Reconcile:
    assert worker.engine
    scope = docker_scope(worker.engine.base_url, worker.pool)
    return Reconcile(proxy.url, folder / "r", scope, **(QUICK | {"subflow_grace": "5s", "quiet": "1s"} | policy))


def grown_up(worker: FamilyWorker) -> Family:
    """Four generations that run in one container."""
    family = worker.family("parent", DEPTHS, TASKS)
    of = {task.child_id: task.flow_run_id for task in family.task_runs() if task.child_id}
    members = family.members()
    assert {name: of[members[name].id] for name in PARENTS} == {n: members[p].id for n, p in PARENTS.items()}
    rows = {name: read(run) for name, run in family.subflows().items()}
    assert not any(row["deployment_id"] or row["work_pool_name"] or row["infrastructure_pid"] for row in rows.values())
    return family


def settled(reconcile: Reconcile, *runs: SeededRun) -> Pass:
    """Pass until these runs are settled, all in the same pass; gives that pass."""

    def try_it() -> Pass | None:
        done = reconcile()
        outcomes = [row["outcome"] for row in done.document["runs"] if row["id"] in {str(run.id) for run in runs}]
        return done if "ACCEPTED" in outcomes else None

    done = wait_until(try_it, f"{[run.name for run in runs]} settled", 90, 0.5)
    assert done is not None
    assert [done.run(run.id)["outcome"] for run in runs] == ["ACCEPTED"] * len(runs), done.out
    assert done.code == 0, done.out + done.err
    return done


def since(run: SeededRun) -> datetime:
    return datetime.fromisoformat(state(run)["timestamp"])


def crashed_once(*runs: SeededRun) -> None:
    """Each of them one Crashed, and nothing after it."""
    for run in runs:
        assert [row["type"] for row in history(run)][-2:] == ["RUNNING", "CRASHED"], run.name


def in_order(family: Family, names: list[str]) -> None:
    """The deepest first."""
    members = family.members()
    by_time = sorted(names, key=lambda name: since(members[name]))
    assert [DEPTHS[name] for name in by_time] == sorted((DEPTHS[name] for name in names), reverse=True), by_time


def task_runs_follow(family: Family, *names: str) -> None:
    """No task run of these flow runs is left open, and each was crashed once, after its flow run."""
    members = family.members()
    of = {members[name].id: since(members[name]) for name in names}
    mine = [task for task in family.task_runs() if task.flow_run_id in of]
    assert {task.state for task in mine} == {"CRASHED"}
    for task in mine:
        assert task.history().count("CRASHED") == 1, task
        assert task.child_id or task.since >= of[task.flow_run_id], "after its flow run"


def test_a_removed_container_takes_four_generations_along(
    worker: FamilyWorker, engine: Engine, proxy: FaultProxy, tmp_path: Path
) -> None:
    family = grown_up(worker)
    members, subflows = family.members(), family.subflows()
    reconcile = reconciler(worker, proxy, tmp_path)
    healthy = reconcile()
    assert {healthy.run(run.id)["verdict"] for run in members.values()} == {"HEALTHY"}, healthy.out
    worker.kill()
    engine.docker("rm", "-f", container_of(family.root))
    died, began = datetime.now(UTC), time.monotonic()
    assert {state(run)["type"] for run in members.values()} == {"RUNNING"}, "nobody reported it"
    done = settled(reconcile, *members.values())
    seconds = time.monotonic() - began
    wrote = proxy.count("POST", r"/flow_runs/[^/]+/set_state$"), proxy.count("POST", r"/task_runs/[^/]+/set_state$")
    family.tell(died)
    print(f"{wrote[0]} flow run states and {wrote[1]} task run states by us, {seconds:.1f} s after the death")
    assert wrote == (5, 6), "the server lets placeholders follow by itself"
    crashed_once(*members.values())
    in_order(family, list(DEPTHS))
    assert since(family.root) < min(since(run) for run in subflows.values())
    task_runs_follow(family, *members)
    says_why(family)
    told = {(row["kind"], row["id"]) for row in done.document["settled_children"]}
    written = {("task-run", str(task.id)) for task in family.task_runs() if not task.child_id}
    assert told == written | {("flow-run", str(run.id)) for run in subflows.values()}
    before = len(proxy.writes)
    assert (reconcile().code, len(proxy.writes)) == (0, before), "a second pass writes nothing"


def says_why(family: Family) -> None:
    why = state(family.root)["message"]
    assert "was removed" in why
    assert why.endswith(SIGNATURE)
    reason = why.split("; no final state")[0]
    for run in family.subflows().values():
        message = state(run)["message"]
        assert f"{family.root.id} (parent)" in message
        assert reason in message
        assert message.endswith(SIGNATURE)


def test_children_whose_parent_was_crashed_by_its_worker(
    worker: FamilyWorker, engine: Engine, proxy: FaultProxy, tmp_path: Path
) -> None:
    grace = timedelta(seconds=15)
    family = grown_up(worker)
    subflows = family.subflows()
    container = container_of(family.root)
    engine.docker("kill", container)
    wait_for_state(family.root, "CRASHED")
    assert "137" in state(family.root)["message"], "the words of its worker"
    died = since(family.root)
    engine.docker("rm", container)  # so that nothing but the word of Prefect's own client says that it ended
    reconcile = reconciler(worker, proxy, tmp_path, subflow_grace="15s")
    first = reconcile()
    assert {first.run(run.id)["verdict"] for run in subflows.values()} == {"WAITING"}, first.out
    assert not proxy.writes
    settled(reconcile, *subflows.values())
    family.tell(died)
    crashed_once(family.root, *subflows.values())
    in_order(family, list(DEPTHS))
    assert min(since(run) for run in subflows.values()) - died >= grace
    assert {f"flow run {family.root.id} (parent) is Crashed" in state(run)["message"] for run in subflows.values()} == {
        True
    }
    task_runs_follow(family, *subflows)
    before = len(proxy.writes)
    assert (reconcile().code, len(proxy.writes)) == (0, before)


def test_a_parent_falsely_crashed_while_its_container_lives(
    worker: FamilyWorker, engine: Engine, proxy: FaultProxy, tmp_path: Path
) -> None:
    family = grown_up(worker)
    subflows = family.subflows()
    reconcile = reconciler(worker, proxy, tmp_path)
    set_state(family.root, "CRASHED")  # as an automation does: without a transition_id
    until = since(family.root) + timedelta(seconds=15)
    open_before = {task.id: task.state_id for task in family.task_runs()}
    passes = 0
    while passes < 4 or datetime.now(UTC) < until:
        done, passes = reconcile(), passes + 1
        assert {done.run(run.id)["verdict"] for run in subflows.values()} == {"HEALTHY"}, done.out
    print(f"{passes} passes: {done.run(subflows['child'].id)['reason']}")
    assert not proxy.writes
    assert {task.id: task.state_id for task in family.task_runs()} == open_before
    worker.kill()
    engine.docker("kill", container_of(family.root))
    died = datetime.now(UTC)
    settled(reconcile, *subflows.values())
    family.tell(died)
    crashed_once(family.root, *subflows.values())
    assert state(family.root)["state_details"]["transition_id"] is None, "the automation's, as it was"
    in_order(family, list(DEPTHS))
    task_runs_follow(family, *subflows)


def born_over_http(worker: FamilyWorker, engine: Engine, parent: SeededRun) -> SeededRun:
    """A child as most workers make one for a decorated flow: a work pool, no deployment, and no infrastructure_pid."""
    placeholder, body = seed_task_run(parent), {"state": {"type": "PENDING"}, "name": "without-pid"}
    body |= {"work_pool_name": worker.pool, "parent_task_run_id": str(placeholder), "flow_id": seed_flow(parent.api)}
    row = call(parent.api, "POST", "/flow_runs/", body)
    run = SeededRun(parent.api, UUID(row["id"]), row["name"])
    set_state(run, "RUNNING", transition_id=str(uuid.uuid4()))
    engine.run("--label", f"io.prefect.flow-run-id={run.id}")
    return run


def test_children_with_containers_of_their_own_outlive_their_parent(
    worker: FamilyWorker, engine: Engine, proxy: FaultProxy, tmp_path: Path
) -> None:
    family = worker.family(
        "guardian",
        {"sibling", "deployed", "ad-hoc"},
        {"RUNNING": 6},
        deployment=worker.deploy("deployed"),
        pool=worker.pool,
        shelf=str(worker.shelf),
        job_variables=worker.variables,
    )
    born_over_http(worker, engine, family.root)
    members = family.members()
    inside = members["sibling"]
    own = {name: members[name] for name in ("deployed", "ad-hoc", "without-pid")}
    shapes = {name: shape(run) for name, run in own.items()}
    assert shapes == {"deployed": (True, True), "ad-hoc": (False, True), "without-pid": (False, False)}
    reconcile = reconciler(worker, proxy, tmp_path)
    healthy = reconcile()
    assert {healthy.run(run.id)["verdict"] for run in members.values()} == {"HEALTHY"}, healthy.out
    before = family.states_of(own)
    assert [family.placeholder(run).state for run in own.values()] == ["RUNNING"] * 3
    worker.kill()
    engine.docker("rm", "-f", container_of(family.root))
    died = datetime.now(UTC)
    done = settled(reconcile, family.root, inside)
    family.tell(died)
    crashed_once(family.root, inside)
    assert f"{family.root.id} (guardian)" in state(inside)["message"]
    for later in (done, reconcile(), reconcile()):
        assert {later.run(run.id)["verdict"] for run in own.values()} == {"HEALTHY"}, later.out
        assert family.states_of(own) == before
    assert family.placeholder(inside).state == "CRASHED"
    engine.docker("rm", "-f", container_of(own["deployed"]))
    settled(reconcile, own["deployed"])
    assert "was removed" in state(own["deployed"])["message"]
    assert str(family.root.id) not in state(own["deployed"])["message"], "for a reason of its own"
    task_runs_follow(family, "deployed")
    assert family.placeholder(own["deployed"]).state == "CRASHED"
    rest = {name: own[name] for name in ("ad-hoc", "without-pid")}
    assert family.states_of(rest).items() <= before.items()


def shape(run: SeededRun) -> tuple[bool, bool]:
    """Of a child with a work pool: has it a deployment, and an infrastructure_pid."""
    row = read(run)
    assert row["parent_task_run_id"]
    assert row["work_pool_name"]
    return bool(row["deployment_id"]), bool(row["infrastructure_pid"])
