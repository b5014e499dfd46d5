"""The rig does what the scenarios build on: real containers, and the stop codes and exit codes that they lead to."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import missing
from tests.rigs.engine import Engine
from tests.rigs.ministack import CONTAINER, FLOW_RUN_ID, NO_IMAGE, NO_MINISTACK, Ministack, ministack_venv

pytestmark = [pytest.mark.docker]
CLUSTER = "lab"


@pytest.fixture(scope="module")
def cloud(session_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    venv = ministack_venv() or missing(NO_MINISTACK)
    with Ministack(venv, tmp_path_factory.mktemp("ministack"), session_engine) as cloud:
        cloud.create_cluster(CLUSTER)
        yield cloud


def shell(script: str) -> dict[str, object]:
    return {"command": ["sh", "-c", script]}


def started(cloud: Ministack, *containers: dict[str, object]) -> str:
    return cloud.run_task(CLUSTER, cloud.define("lab", *containers), uuid.uuid4())


def ended(cloud: Ministack, arn: str) -> tuple[str, str, dict[str, int | None]]:
    """Stop code, reason, and the exit code of each container."""
    task = cloud.wait_for(CLUSTER, arn, "STOPPED")
    codes = {each["name"]: each.get("exitCode") for each in task["containers"]}
    print(task["stopCode"], task["stoppedReason"], codes)
    return task["stopCode"], task["stoppedReason"], codes


def test_a_running_task_carries_its_tag_and_its_environment(cloud: Ministack) -> None:
    run_id = uuid.uuid4()
    arn = cloud.run_task(CLUSTER, cloud.define("lab"), run_id)
    task = cloud.wait_for(CLUSTER, arn, "RUNNING")
    assert arn.startswith(f"arn:aws:ecs:{cloud.region}:{cloud.account}:task/{CLUSTER}/")
    assert task["clusterArn"] == cloud.create_cluster(CLUSTER)
    assert task["tags"] == [{"key": FLOW_RUN_ID, "value": str(run_id)}]
    assert task["overrides"]["containerOverrides"][0]["environment"][0]["value"] == str(run_id)
    assert [each["name"] for each in task["containers"]] == [CONTAINER]
    assert cloud.engine.docker("inspect", "-f", "{{.HostConfig.NetworkMode}}", cloud.container_of(arn)) == "host"
    assert cloud.ecs.list_tasks(cluster=CLUSTER)["taskArns"] == [arn]
    cloud.engine.docker("kill", cloud.container_of(arn))
    assert ended(cloud, arn) == ("EssentialContainerExited", "Essential container exited", {CONTAINER: 137})
    assert cloud.ecs.list_tasks(cluster=CLUSTER)["taskArns"] == []
    assert arn in cloud.ecs.list_tasks(cluster=CLUSTER, desiredStatus="STOPPED")["taskArns"]


@pytest.mark.parametrize("code", [0, 3])
def test_exit_codes(cloud: Ministack, code: int) -> None:
    arn = started(cloud, shell(f"exit {code}"))
    assert ended(cloud, arn) == ("EssentialContainerExited", "Essential container exited", {CONTAINER: code})


def test_a_sidecar_may_end_first(cloud: Ministack) -> None:
    sidecar = {"name": "sidecar", "essential": False, **shell("exit 5")}
    arn = started(cloud, {"command": ["sleep", "3600"]}, sidecar)
    cloud.wait_for(CLUSTER, arn, "RUNNING")
    cloud.engine.docker("wait", cloud.container_of(arn, "sidecar"))
    assert cloud.task(CLUSTER, arn)["lastStatus"] == "RUNNING"
    cloud.engine.docker("kill", cloud.container_of(arn))
    assert ended(cloud, arn)[2] == {CONTAINER: 137, "sidecar": 5}


@pytest.mark.parametrize("broken", [{"image": NO_IMAGE}, {"command": ["no-such-program"]}])
def test_a_task_that_cannot_start(cloud: Ministack, broken: dict[str, object]) -> None:
    code, reason, codes = ended(cloud, started(cloud, broken))
    assert (code, codes) == ("TaskFailedToStart", {CONTAINER: None})
    assert reason.startswith("ResourceInitializationError: unable to pull image or start container: ")


def test_stopped_by_a_user(cloud: Ministack) -> None:
    arn = started(cloud, shell("trap 'exit 0' TERM; while :; do sleep 0.1; done"))
    cloud.wait_for(CLUSTER, arn, "RUNNING")
    cloud.stop_task(CLUSTER, arn, "by hand")
    assert ended(cloud, arn) == ("UserInitiated", "by hand", {CONTAINER: 0})
    assert cloud.container_of(arn) == ""
    assert cloud.task(CLUSTER, arn)["tags"], "AWS would have deleted them"


@pytest.mark.parametrize("cluster", [CLUSTER, "another"])
def test_a_task_it_never_had(cloud: Ministack, cluster: str) -> None:
    arn = f"arn:aws:ecs:{cloud.region}:{cloud.account}:task/{CLUSTER}/{uuid.uuid4().hex}"
    answer = cloud.ecs.describe_tasks(cluster=cluster, tasks=[arn])
    assert (answer["tasks"], answer["failures"]) == ([], [{"arn": arn, "reason": "MISSING"}])


def test_who_and_where(cloud: Ministack) -> None:
    identity: Any = cloud.client("sts")
    assert identity.get_caller_identity()["Account"] == cloud.account
    identity.close()
    answer = cloud.ecs.describe_clusters(clusters=[CLUSTER, "another"])
    assert [(each["clusterName"], each["status"]) for each in answer["clusters"]] == [(CLUSTER, "ACTIVE")]
    assert [each["reason"] for each in answer["failures"]] == ["MISSING"]
