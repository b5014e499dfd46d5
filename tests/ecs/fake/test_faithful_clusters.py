"""DescribeClusters, deleted clusters, RunTask and StopTask."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from tests.ecs.fake import FakeAws
from tests.ecs.fake.clients import client, refused


def test_clusters_are_described(aws: FakeAws) -> None:
    other = aws.cluster("other", status="PROVISIONING")
    aws.task(aws.cluster("default"))
    ecs = client(aws)
    (said,) = ecs.describe_clusters()["clusters"]
    assert (said["clusterName"], said["status"], said["runningTasksCount"]) == ("default", "ACTIVE", 1)
    said = ecs.describe_clusters(clusters=["other", said["clusterArn"], "nowhere"])
    assert [each["status"] for each in said["clusters"]] == ["PROVISIONING", "ACTIVE"]
    assert said["clusters"][0]["clusterArn"] == other
    assert said["failures"] == [{"arn": aws.cluster_arn("nowhere"), "reason": "MISSING"}]


def test_a_deleted_cluster(aws: FakeAws) -> None:
    """Tagged tasks are still told; one of the same name knows none of them."""
    arn = aws.cluster("default")
    tagged, plain = aws.task(arn, uuid4()).stop(), aws.task(arn).stop()
    aws.cluster("default", status="INACTIVE")
    ecs = client(aws)
    assert ecs.describe_clusters()["clusters"][0]["status"] == "INACTIVE"
    said = ecs.describe_tasks(tasks=[tagged.arn, plain.arn])
    assert [each["taskArn"] for each in said["tasks"]] == [tagged.arn]
    assert [each["arn"] for each in said["failures"]] == [plain.arn]
    assert refused(ecs.list_tasks)[0] == "ClusterNotFoundException"
    assert aws.cluster("default") == arn
    assert len(ecs.describe_tasks(tasks=[tagged.arn, plain.arn])["failures"]) == 2
    aws.forget_cluster(arn)
    assert refused(ecs.describe_tasks, tasks=[tagged.arn])[0] == "ClusterNotFoundException"


def test_tasks_are_run(aws: FakeAws) -> None:
    run_id = str(uuid4())
    overrides = {
        "containerOverrides": [{"name": "flow", "environment": [{"name": "PREFECT__FLOW_RUN_ID", "value": run_id}]}]
    }
    ecs = client(aws)
    said = ecs.run_task(
        taskDefinition="flows:3",
        count=2,
        launchType="FARGATE",
        overrides=overrides,
        tags=[{"key": "prefect.io/flow-run-id", "value": run_id}],
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
    )
    assert (len(said["tasks"]), said["failures"]) == (2, [])
    assert set(ecs.list_tasks(family="flows")["taskArns"]) == {task["taskArn"] for task in said["tasks"]}
    task = ecs.describe_tasks(tasks=[said["tasks"][0]["taskArn"]], include=["TAGS"])["tasks"][0]
    assert (task["lastStatus"], task["launchType"]) == ("PROVISIONING", "FARGATE")
    assert task["tags"] == [{"key": "prefect.io/flow-run-id", "value": run_id}]
    assert task["containers"][0]["name"] == "flow"
    assert task["overrides"]["containerOverrides"] == overrides["containerOverrides"]
    assert task["taskDefinitionArn"].endswith(":task-definition/flows:3")


@pytest.mark.parametrize("count", [0, 11])
def test_ten_tasks_at_most(aws: FakeAws, count: int) -> None:
    assert refused(client(aws).run_task, taskDefinition="flows", count=count)[0] == "InvalidParameterException"


def test_nothing_runs_where_no_cluster_is(aws: FakeAws) -> None:
    aws.cluster("old", status="INACTIVE")
    for name in ("old", "nowhere"):
        said = refused(client(aws).run_task, taskDefinition="flows", cluster=name)
        assert said[0] == "ClusterNotFoundException"


def test_stopping_deletes_the_tags(aws: FakeAws) -> None:
    task, ecs = aws.task(aws.cluster("default"), uuid4()), client(aws)
    said = ecs.stop_task(task=task.arn, reason="cancelled by Ann")["task"]
    assert (said["lastStatus"], said["desiredStatus"], said["stopCode"]) == ("RUNNING", "STOPPED", "UserInitiated")
    assert said["stoppedReason"] == "cancelled by Ann"
    assert said["tags"] == []
    assert ecs.describe_tasks(tasks=[task.arn], include=["TAGS"])["tasks"][0]["tags"] == []
    task.stop()
    said = ecs.describe_tasks(tasks=[task.arn])["tasks"][0]
    assert (said["lastStatus"], said["stopCode"]) == ("STOPPED", "UserInitiated")


def test_what_is_not_there_cannot_be_stopped(aws: FakeAws) -> None:
    said = refused(client(aws).stop_task, task=aws.unknown_task())
    assert said == ("InvalidParameterException", "The referenced task was not found.", 400)


def test_all_times_are_of_the_clock_that_was_set(aws: FakeAws) -> None:
    then = datetime(2026, 3, 4, 5, 6, 7, 250_000, tzinfo=UTC)
    aws.now = lambda: then
    said = client(aws).run_task(taskDefinition="flows")
    assert said["ResponseMetadata"]["HTTPHeaders"]["date"] == "Wed, 04 Mar 2026 05:06:07 GMT"
    assert said["tasks"][0]["createdAt"] == then
