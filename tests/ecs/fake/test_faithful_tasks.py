"""DescribeTasks and ListTasks, as AWS documents them and as people have met them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.ecs.fake import API_KEY, FakeAws, FakeTask
from tests.ecs.fake.clients import client, refused
from tests.ecs.fake.task import STARTING, STOPPING

OTHER = "arn:aws:ecs:us-east-1:123456789012:task/other/0123456789abcdef0123456789abcdef"


@pytest.fixture
def home(aws: FakeAws) -> str:
    return aws.cluster("default")


def missing(*arns: str) -> list[dict[str, str]]:
    return [{"arn": arn, "reason": "MISSING"} for arn in arns]


def pages(aws: FakeAws, **params: object) -> list[list[str]]:
    found = client(aws).get_paginator("list_tasks").paginate(**params)
    return [page["taskArns"] for page in found]


@pytest.mark.parametrize("launch_type", ["FARGATE", "EC2", "EXTERNAL"])
@pytest.mark.parametrize("long_arn", [True, False])
def test_a_task_is_told_in_full(aws: FakeAws, home: str, launch_type: str, long_arn: bool) -> None:
    task = aws.task(home, uuid4(), containers=["prefect", "logs"], launch_type=launch_type, long_arn=long_arn)
    ecs = client(aws)
    for identifier in (task.arn, task.id):
        for cluster in ({}, {"cluster": "default"}, {"cluster": home}):
            (said,) = ecs.describe_tasks(tasks=[identifier], include=["TAGS"], **cluster)["tasks"]
            assert said["taskArn"] == task.arn
            assert said["createdAt"] < said["pullStartedAt"] < said["pullStoppedAt"] < said["startedAt"]
    assert (said["lastStatus"], said["desiredStatus"]) == ("RUNNING", "RUNNING")
    assert {"key": "prefect.io/flow-run-id", "value": str(task.run_id)} in said["tags"]
    assert {"name": "PREFECT_API_KEY", "value": API_KEY} in said["overrides"]["containerOverrides"][0]["environment"]


def test_a_task_is_as_large_as_a_real_one(aws: FakeAws, home: str) -> None:
    assert 3000 <= len(json.dumps(aws.task(home, uuid4()).body)) <= 4500


def test_tags_only_when_asked_for(aws: FakeAws, home: str) -> None:
    task = aws.task(home, uuid4())
    assert client(aws).describe_tasks(tasks=[task.arn])["tasks"][0]["tags"] == []


def test_unknown_tasks_are_missing(aws: FakeAws, home: str) -> None:
    task, unknown = aws.task(home), aws.unknown_task()
    said = client(aws).describe_tasks(tasks=[unknown, task.arn])
    assert [each["taskArn"] for each in said["tasks"]] == [task.arn]
    assert said["failures"] == missing(unknown)


def test_tasks_of_other_clusters(aws: FakeAws, home: str) -> None:
    """By id and by an old ARN it is missing; a long ARN names its cluster, and the whole call is refused."""
    away = aws.cluster("other")
    old, new, own = aws.task(away, long_arn=False), aws.task(away), aws.task(home)
    ecs = client(aws)
    assert ecs.describe_tasks(tasks=[old.arn])["failures"] == missing(old.arn)
    assert ecs.describe_tasks(tasks=[new.id])["tasks"] == []
    said = "Invalid identifier: Identifier is for cluster other. Your cluster is default"
    assert refused(ecs.describe_tasks, tasks=[own.arn, new.arn]) == ("InvalidParameterException", said, 400)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tasks": []}, "Tasks cannot be empty."),
        ({"tasks": [uuid4().hex] * 101}, "taskIds can have at most 100 items."),
        ({"tasks": ["wise-otter"]}, "taskId length should be one of [32,36]"),
        ({"tasks": [OTHER.replace("us-east-1", "eu-west-1")]}, "Invalid Region in ARN"),
        (
            {"tasks": [OTHER.replace("123456789012", "999999999999")]},
            "Identifier is for 999999999999. Your accountId is 123456789012",
        ),
        ({"tasks": [OTHER.replace(":task/", ":cluster/")]}, "Unsupported resource type: cluster"),
        ({"cluster": "a cluster", "tasks": [OTHER]}, "Cluster must match ^[a-zA-Z0-9\\-_]{1,255}$, but was a cluster"),
        (
            {"cluster": "arn:aws:ecs:eu-west-1:123456789012:cluster/default", "tasks": [OTHER]},
            "Invalid Region in ARN",
        ),
    ],
)
def test_what_is_no_question(aws: FakeAws, params: dict[str, object], message: str) -> None:
    assert refused(client(aws).describe_tasks, **params) == ("InvalidParameterException", message, 400)


def test_a_hundred_tasks_at_once(aws: FakeAws, home: str) -> None:
    arns = {aws.task(home, uuid4()).arn for _ in range(100)}
    said = client(aws).describe_tasks(tasks=sorted(arns), include=["TAGS"])
    assert {each["taskArn"] for each in said["tasks"]} == arns
    assert said["failures"] == []


def test_an_unknown_cluster(aws: FakeAws) -> None:
    said = ("ClusterNotFoundException", "Cluster not found.", 400)
    ecs = client(aws)
    assert refused(ecs.describe_tasks, cluster="nowhere", tasks=[uuid4().hex]) == said
    assert refused(ecs.list_tasks, cluster="nowhere") == said
    with pytest.raises(ecs.exceptions.ClusterNotFoundException):
        ecs.list_tasks(cluster="nowhere")


def test_regions_do_not_know_each_other(aws: FakeAws, home: str) -> None:
    task, away = aws.task(home), client(aws, region="eu-west-1")
    assert refused(away.list_tasks)[0] == "ClusterNotFoundException"
    aws.cluster("default", region="eu-west-1")
    assert away.list_tasks()["taskArns"] == []
    assert away.describe_tasks(tasks=[task.id])["tasks"] == []


def test_other_partitions(aws: FakeAws) -> None:
    task = aws.task(aws.cluster("default", region="cn-north-1"))
    assert task.arn.startswith("arn:aws-cn:ecs:cn-north-1:")
    assert client(aws, region="cn-north-1").describe_tasks(tasks=[task.arn])["failures"] == []


def test_a_list_comes_in_pages(aws: FakeAws, home: str) -> None:
    arns = {aws.task(home).arn for _ in range(230)}
    found = pages(aws)
    assert [len(page) for page in found] == [100, 100, 30]
    assert {arn for page in found for arn in page} == arns
    assert [len(page) for page in pages(aws, PaginationConfig={"PageSize": 60})] == [60, 60, 60, 50]


def test_a_full_page_may_be_the_last(aws: FakeAws, home: str) -> None:
    for _ in range(100):
        aws.task(home)
    assert "nextToken" not in client(aws).list_tasks()


def test_a_token_is_good_for_its_question_only(aws: FakeAws, home: str) -> None:
    _ = aws.task(home), aws.task(home)
    ecs = client(aws)
    token = ecs.list_tasks(maxResults=1)["nextToken"]
    for strange in ({"nextToken": "abc"}, {"nextToken": token, "desiredStatus": "STOPPED"}):
        assert refused(ecs.list_tasks, **strange)[0] == "InvalidParameterException"
    assert refused(ecs.list_tasks, maxResults=101)[0] == "InvalidParameterException"


def test_a_list_goes_by_what_is_desired(aws: FakeAws, home: str) -> None:
    starting = {aws.task(home, last_status=phase).arn for phase in STARTING} | {aws.task(home).arn}
    ending = {aws.task(home).stopping(phase).arn for phase in STOPPING} | {aws.task(home).notice().arn}
    ending |= {aws.task(home).stop().arn}
    ecs = client(aws)
    assert set(ecs.list_tasks()["taskArns"]) == starting
    assert set(ecs.list_tasks(desiredStatus="RUNNING")["taskArns"]) == starting
    assert set(ecs.list_tasks(desiredStatus="STOPPED")["taskArns"]) == ending
    assert ecs.list_tasks(desiredStatus="PENDING")["taskArns"] == []


def test_filters_of_a_list(aws: FakeAws, home: str) -> None:
    own, other = aws.task(home, launch_type="EC2", family="flows"), aws.task(home)
    other.body["startedBy"] = "deploy"
    ecs = client(aws)
    assert ecs.list_tasks(family="flows")["taskArns"] == [own.arn]
    assert ecs.list_tasks(launchType="EC2")["taskArns"] == [own.arn]
    assert ecs.list_tasks(startedBy="deploy")["taskArns"] == [other.arn]
    assert refused(ecs.list_tasks, startedBy="deploy", family="flows")[0] == "InvalidParameterException"
    assert refused(ecs.list_tasks, serviceName="web")[0] == "ServiceNotFoundException"


def test_a_stopped_task_is_forgotten_after_an_hour(aws: FakeAws, home: str) -> None:
    task, ecs, real = aws.task(home, uuid4()).stop(), client(aws), aws.now
    aws.now = lambda: real() + timedelta(minutes=59)
    assert ecs.describe_tasks(tasks=[task.arn])["tasks"][0]["lastStatus"] == "STOPPED"
    assert ecs.list_tasks(desiredStatus="STOPPED")["taskArns"] == [task.arn]
    aws.now = lambda: real() + timedelta(minutes=61)
    assert ecs.describe_tasks(tasks=[task.arn])["failures"] == missing(task.arn)
    assert ecs.list_tasks(desiredStatus="STOPPED")["taskArns"] == []
    assert refused(ecs.stop_task, task=task.arn)[1] == "The referenced task was not found."
    aws.retention = timedelta(hours=2)
    assert ecs.describe_tasks(tasks=[task.arn])["failures"] == []


def test_a_new_task_is_not_yet_shown(aws: FakeAws, home: str) -> None:
    aws.lag = timedelta(seconds=30)
    task, ecs, real = aws.task(home, created_ago=0), client(aws), aws.now
    assert ecs.describe_tasks(tasks=[task.arn])["failures"] == missing(task.arn)
    assert ecs.list_tasks()["taskArns"] == []
    aws.now = lambda: real() + timedelta(seconds=31)
    assert ecs.describe_tasks(tasks=[task.arn])["failures"] == []
    assert ecs.list_tasks()["taskArns"] == [task.arn]


def test_a_forgotten_task(aws: FakeAws, home: str) -> None:
    task = aws.task(home)
    task.forget()
    assert client(aws).describe_tasks(tasks=[task.arn])["failures"] == missing(task.arn)


def described(aws: FakeAws, task: FakeTask) -> dict[str, Any]:
    said: dict[str, Any]
    (said,) = client(aws).describe_tasks(tasks=[task.arn], include=["TAGS"])["tasks"]
    return said


@pytest.mark.parametrize("phase", STARTING)
def test_a_task_that_starts(aws: FakeAws, home: str, phase: str) -> None:
    said = described(aws, aws.task(home, last_status=phase))
    assert (said["lastStatus"], said["desiredStatus"]) == (phase, "RUNNING")
    assert "startedAt" not in said
    assert "stopCode" not in said


@pytest.mark.parametrize("phase", STOPPING)
def test_a_task_that_ends(aws: FakeAws, home: str, phase: str) -> None:
    said = described(aws, aws.task(home).stopping(phase))
    assert (said["lastStatus"], said["desiredStatus"]) == (phase, "STOPPED")
    assert said["stoppingAt"] > said["startedAt"]
    assert "stoppedAt" not in said
    assert ("executionStoppedAt" in said) is (phase == "DEPROVISIONING")


def test_a_stop_code_comes_while_it_runs(aws: FakeAws, home: str) -> None:
    task = aws.task(home).notice("TerminationNotice", "Your Spot Task was interrupted.")
    said = described(aws, task)
    assert (said["lastStatus"], said["desiredStatus"], said["stopCode"]) == ("RUNNING", "STOPPED", "TerminationNotice")
    said = described(aws, task.stop())
    assert (said["lastStatus"], said["stopCode"]) == ("STOPPED", "TerminationNotice")


def test_a_stopped_task(aws: FakeAws, home: str) -> None:
    task = aws.task(home, containers=["prefect", "logs"])
    version = task.body["version"]
    said = described(aws, task.stop(exits={"prefect": 137}, reasons={"prefect": "OutOfMemoryError: killed"}, ago=90))
    first, second = said["containers"]
    assert (first["exitCode"], first["reason"], first["lastStatus"]) == (137, "OutOfMemoryError: killed", "STOPPED")
    assert "exitCode" not in second
    assert (said["stopCode"], said["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert said["stoppingAt"] <= said["executionStoppedAt"] <= said["stoppedAt"]
    assert timedelta(seconds=80) < datetime.now(UTC) - said["stoppedAt"] < timedelta(seconds=120)
    assert said["version"] > version


def test_a_task_that_never_started(aws: FakeAws, home: str) -> None:
    said = described(aws, aws.task(home, last_status="PROVISIONING").fail_to_start("RESOURCE:GPU"))
    assert (said["containers"], said["stopCode"], said["stoppedReason"]) == ([], "TaskFailedToStart", "RESOURCE:GPU")
    assert not {"startedAt", "pullStartedAt", "executionStoppedAt"} & set(said)
    why = {"prefect": "CannotPullContainerError: not found"}
    said = described(aws, aws.task(home, last_status="PENDING").fail_to_start("Task failed to start", why))
    assert said["containers"][0]["reason"] == why["prefect"]
    assert "exitCode" not in said["containers"][0]
