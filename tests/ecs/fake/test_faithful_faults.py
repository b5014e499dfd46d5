"""What boto3 makes of every fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from botocore import exceptions
from botocore.parsers import ResponseParserError

from tests.ecs.fake import FakeAws, FakeTask, FaultKind
from tests.ecs.fake.clients import client, refused
from tests.rigs.polling import wait_until


@pytest.fixture
def task(aws: FakeAws) -> FakeTask:
    return aws.task(aws.cluster("default"), uuid4())


@pytest.fixture
def describe(aws: FakeAws, task: FakeTask) -> Callable[[], dict[str, Any]]:
    ecs = client(aws, checked=False, read_timeout=1, connect_timeout=1)
    return lambda **_: ecs.describe_tasks(tasks=[task.arn, aws.unknown_task()])


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        (FaultKind.UNRECOGNIZED, "UnrecognizedClientException", 400),
        (FaultKind.EXPIRED, "ExpiredTokenException", 400),
        (FaultKind.DENIED, "AccessDeniedException", 400),
        (FaultKind.THROTTLED, "ThrottlingException", 400),
        (FaultKind.CLUSTER_NOT_FOUND, "ClusterNotFoundException", 400),
        (FaultKind.SERVER_ERROR, "ServerException", 500),
        (FaultKind.UNAVAILABLE, "503", 503),
        (FaultKind.NOT_FOUND, "404", 404),
    ],
)
def test_errors(aws: FakeAws, describe: Callable[[], object], kind: FaultKind, code: str, status: int) -> None:
    aws.fault(kind)
    said = refused(describe)
    assert (said[0], said[2]) == (code, status)
    aws.heal()
    describe()


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        (FaultKind.UNRECOGNIZED, "InvalidClientTokenId", 403),
        (FaultKind.EXPIRED, "ExpiredToken", 403),
        (FaultKind.THROTTLED, "Throttling", 400),
        (FaultKind.SERVER_ERROR, "InternalFailure", 500),
    ],
)
def test_errors_of_sts(aws: FakeAws, kind: FaultKind, code: str, status: int) -> None:
    aws.fault(kind)
    said = refused(client(aws, "sts").get_caller_identity)
    assert (said[0], said[2]) == (code, status)


def test_everybody_may_ask_who_he_is(aws: FakeAws) -> None:
    aws.fault(FaultKind.DENIED)
    client(aws, "sts").get_caller_identity()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.RESET, exceptions.ConnectionClosedError),
        (FaultKind.HANG, exceptions.ReadTimeoutError),
    ],
)
def test_broken_answers(aws: FakeAws, describe: Callable[[], object], kind: FaultKind, error: type[Exception]) -> None:
    aws.fault(kind, times=1)
    with pytest.raises(error):
        describe()
    describe()


def test_a_body_that_drips_meets_no_read_timeout(aws: FakeAws, describe: Callable[[], object]) -> None:
    aws.fault(FaultKind.DRIP)
    ended: list[object] = []
    begun = threading.Thread(target=lambda: ended.append(describe()), daemon=True)
    begun.start()
    begun.join(2.5)
    assert begun.is_alive()
    aws.close()
    begun.join(5)
    assert ended


@pytest.mark.parametrize("kind", [FaultKind.EMPTY, FaultKind.TRUNCATED, FaultKind.MALFORMED])
def test_what_is_no_json_is_an_answer_without_members(
    aws: FakeAws, describe: Callable[[], dict[str, Any]], kind: FaultKind
) -> None:
    """botocore raises nothing for ECS (seen on 1.44): no tasks, no failures, status 200. For STS it does."""
    aws.fault(kind)
    assert set(describe()) == {"ResponseMetadata"}
    sts = client(aws, "sts", checked=False)
    with pytest.raises(ResponseParserError):
        sts.get_caller_identity()


def test_null_lists(aws: FakeAws, describe: Callable[[], dict[str, Any]]) -> None:
    """botocore leaves them out."""
    aws.fault(FaultKind.NULL_LISTS)
    said = describe()
    assert said.get("tasks") is None
    assert said.get("failures") is None


def test_a_task_without_its_status(aws: FakeAws, describe: Callable[[], dict[str, Any]], task: FakeTask) -> None:
    aws.fault(FaultKind.NO_LAST_STATUS, about=task.arn)
    (said,) = describe()["tasks"]
    assert "lastStatus" not in said
    assert task.body["lastStatus"] == "RUNNING"


def test_a_task_that_is_left_out(aws: FakeAws, describe: Callable[[], dict[str, Any]], task: FakeTask) -> None:
    aws.fault(FaultKind.LEFT_OUT, about=task.arn)
    said = describe()
    assert (said["tasks"], len(said["failures"])) == ([], 1)
    aws.heal()
    aws.fault(FaultKind.LEFT_OUT)
    assert (describe()["tasks"], describe()["failures"]) == ([], [])


def test_another_failure(aws: FakeAws, describe: Callable[[], dict[str, Any]]) -> None:
    aws.fault(FaultKind.OTHER_FAILURE)
    assert {each["reason"] for each in describe()["failures"]} == {"INTERNAL"}


def test_a_listed_task_that_is_missing(aws: FakeAws, task: FakeTask) -> None:
    aws.fault(FaultKind.LISTED_MISSING)
    ecs = client(aws)
    said = ecs.describe_tasks(tasks=ecs.list_tasks()["taskArns"])
    assert [each["taskArn"] for each in said["tasks"]] == [task.arn]
    assert [each["reason"] for each in said["failures"]] == ["MISSING"]


def test_pages_without_end(aws: FakeAws, task: FakeTask) -> None:
    aws.fault(FaultKind.ENDLESS_PAGES)
    ecs, token = client(aws), dict[str, str]()
    for _ in range(5):
        said = ecs.list_tasks(**token)
        assert said["taskArns"] == [task.arn]
        token = {"nextToken": said["nextToken"]}


def test_the_cluster_is_missing_from_descriptions(aws: FakeAws) -> None:
    aws.fault(FaultKind.CLUSTER_NOT_FOUND)
    said = client(aws).describe_clusters()
    assert (said["clusters"], len(said["failures"])) == ([], 1)


def test_a_fault_of_one_action(aws: FakeAws, describe: Callable[[], object]) -> None:
    aws.fault(FaultKind.SERVER_ERROR, "ecs:ListTasks", times=1)
    describe()
    ecs = client(aws)
    assert refused(ecs.list_tasks)[0] == "ServerException"
    ecs.list_tasks()


def test_slow_answers(aws: FakeAws) -> None:
    aws.delay = 0.3
    ecs, began = client(aws), time.monotonic()
    ecs.list_tasks()
    assert time.monotonic() - began >= 0.3


def test_what_hangs_goes_on_when_healed(aws: FakeAws) -> None:
    aws.fault(FaultKind.HANG)
    found: list[object] = []
    asking = threading.Thread(target=lambda: found.append(client(aws).list_tasks()["taskArns"]), daemon=True)
    asking.start()
    wait_until(lambda: aws.calls["ecs:ListTasks"], "the call comes in", every=0.01)
    assert not found
    aws.heal()
    asking.join(5)
    assert found == [[]]
