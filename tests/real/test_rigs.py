"""The rigs do what the other tests build on."""

from __future__ import annotations

import httpx
import pytest

from tests.rigs.engine import Engine
from tests.rigs.prefect import call, history, logs_of, read, seed_run, set_state, state_of, wait_for_state
from tests.rigs.worker import Worker, alive, container_of, containers_of, flow_process, kill_flow


@pytest.mark.prefect
def test_the_server_answers(prefect_api_url: str) -> None:
    assert httpx.get(f"{prefect_api_url}/health", trust_env=False).json() is True


@pytest.mark.prefect
def test_a_seeded_run_looks_like_a_workers(prefect_api_url: str) -> None:
    run = seed_run(prefect_api_url, pid="4242", work_pool="seeded", worker_type="process", tags=["a"])
    row = read(run)
    assert (state_of(run), row["infrastructure_pid"], row["work_pool_name"]) == ("RUNNING", "4242", "seeded")
    assert row["labels"]["prefect.worker.type"] == "process"
    assert row["deployment_id"]
    assert row["tags"] == ["a"]
    assert [state["type"] for state in history(run)] == ["PENDING", "RUNNING"]
    assert logs_of(run) == []


@pytest.mark.prefect
@pytest.mark.parametrize(
    ("state", "name"),
    [
        ("PENDING", None),
        ("CANCELLING", None),
        ("PAUSED", None),
        ("COMPLETED", None),
        ("SCHEDULED", None),
        ("SCHEDULED", "AwaitingRetry"),
    ],
)
def test_a_run_is_seeded_in_any_state(prefect_api_url: str, state: str, name: str | None) -> None:
    run = seed_run(prefect_api_url, state=state, state_name=name)
    assert state_of(run) == state
    assert name in {None, read(run)["state_name"]}


@pytest.mark.prefect
def test_a_subflow_is_seeded_under_its_parent(prefect_api_url: str) -> None:
    child = seed_run(prefect_api_url, parent=seed_run(prefect_api_url))
    assert read(child)["parent_task_run_id"]


@pytest.mark.prefect
def test_a_test_can_have_the_server_to_itself(empty_api_url: str) -> None:
    run = seed_run(empty_api_url)
    assert [row["id"] for row in call(empty_api_url, "POST", "/flow_runs/filter", {})] == [str(run.id)]


@pytest.mark.prefect
def test_a_finished_run_refuses_to_crash(prefect_api_url: str) -> None:
    run = seed_run(prefect_api_url, state="COMPLETED")
    assert set_state(run, "CRASHED")["status"] == "ABORT"


@pytest.mark.docker
def test_the_engine_runs_a_container_through_a_crash_of_dockerd_but_not_of_its_host(engine: Engine) -> None:
    container = engine.run("--label", "a=b")
    engine.kill()
    assert engine.docker("ps", check=False) == ""
    engine.start()
    assert engine.docker("inspect", "--format", "{{.State.Running}}", container) == "true"
    engine.crash_host()
    engine.start()
    assert engine.docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container) == "exited 255"


@pytest.mark.docker
def test_two_engines_are_two_hosts(engine: Engine, second_engine: Engine) -> None:
    assert engine.docker("info", "--format", "{{.ID}}") != second_engine.docker("info", "--format", "{{.ID}}")
    container = engine.run()
    assert second_engine.docker("ps", "--all", "--quiet") == ""
    assert engine.docker("ps", "--all", "--quiet", "--no-trunc") == container


@pytest.mark.prefect
def test_a_process_workers_run_stays_running_when_both_are_killed(process_worker: Worker) -> None:
    run = process_worker.run()
    assert flow_process(run).environ()["PREFECT__FLOW_RUN_ID"] == str(run.id)
    assert read(run)["labels"]["prefect.worker.type"] == "process"
    process_worker.kill()
    assert alive(flow_process(run))
    process = flow_process(run)
    kill_flow(run)
    assert not alive(process)
    assert state_of(run) == "RUNNING"


@pytest.mark.prefect
def test_a_process_worker_runs_a_flow_to_its_end(process_worker: Worker) -> None:
    assert wait_for_state(process_worker.submit(seconds=0), "COMPLETED", "FAILED", "CRASHED") == "COMPLETED"


@pytest.mark.prefect
@pytest.mark.docker
def test_a_docker_workers_run_runs_in_a_container(docker_worker: Worker, engine: Engine) -> None:
    run = docker_worker.run()
    assert containers_of(engine, run) == [container_of(run)]
    assert engine.docker("inspect", "--format", "{{.State.Running}}", container_of(run)) == "true"
    docker_worker.kill()
    engine.docker("rm", "--force", container_of(run))
    assert state_of(run) == "RUNNING"
