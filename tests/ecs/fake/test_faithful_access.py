"""Keys, accounts, roles, rights, and limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import boto3
import pytest
from botocore import UNSIGNED

from tests.ecs.fake import FakeAws
from tests.ecs.fake.clients import client, refused
from tests.ecs.fake.keys import new_credentials
from tests.ecs.fake.limits import Limit
from tests.rigs.polling import wait_until

ROLE = "arn:aws:iam::210987654321:role/team/looker"
INVALID = "The security token included in the request is invalid."
EXPIRED = "The security token included in the request is expired"


def test_the_environment_s_key_is_known(aws: FakeAws) -> None:
    """As an adapter would be made: by boto3's own search for credentials."""
    session = boto3.session.Session(region_name="us-east-1")
    assert session.client("sts", endpoint_url=aws.url).get_caller_identity()["Account"] == "123456789012"
    assert session.client("ecs", endpoint_url=aws.url).list_tasks()["taskArns"] == []


def test_unknown_keys(aws: FakeAws) -> None:
    for strange in (new_credentials(temporary=False), new_credentials(temporary=True)):
        assert refused(client(aws, key=strange).list_tasks) == ("UnrecognizedClientException", INVALID, 400)
        said = refused(client(aws, "sts", key=strange).get_caller_identity)
        assert said == ("InvalidClientTokenId", INVALID, 403)


def test_a_revoked_key(aws: FakeAws) -> None:
    key = aws.access_key()
    client(aws, key=key).list_tasks()
    aws.revoke(key)
    assert refused(client(aws, key=key).list_tasks)[0] == "UnrecognizedClientException"


def test_session_tokens_expire(aws: FakeAws) -> None:
    key, real = aws.access_key(expires=timedelta(hours=1)), aws.now
    client(aws, key=key).list_tasks()
    aws.now = lambda: real() + timedelta(minutes=61)
    assert refused(client(aws, key=key).list_tasks) == ("ExpiredTokenException", EXPIRED, 400)
    assert refused(client(aws, "sts", key=key).get_caller_identity) == ("ExpiredToken", EXPIRED, 403)


def test_accounts_do_not_know_each_other(aws: FakeAws) -> None:
    task = aws.task(aws.cluster("default"))
    ecs = client(aws, key=aws.access_key("999999999999"))
    assert refused(ecs.list_tasks)[0] == "ClusterNotFoundException"
    aws.cluster("default", account="999999999999")
    assert ecs.list_tasks()["taskArns"] == []
    said = refused(ecs.describe_tasks, tasks=[task.arn])
    assert said[1] == "Identifier is for 123456789012. Your accountId is 999999999999"


def test_the_same_key_of_another_account(aws: FakeAws) -> None:
    aws.account = "999999999999"
    assert client(aws, "sts").get_caller_identity()["Account"] == "999999999999"
    assert refused(client(aws).list_tasks)[0] == "ClusterNotFoundException"


def test_a_role_is_assumed(aws: FakeAws) -> None:
    home = aws.cluster("default", account="210987654321")
    sts = client(aws, "sts")
    said = sts.assume_role(RoleArn=aws.role(ROLE), RoleSessionName="reconciler", DurationSeconds=900)
    made = said["Credentials"]
    assert made["AccessKeyId"].startswith("ASIA")
    left = made["Expiration"] - datetime.now(UTC)
    assert timedelta(seconds=880) < left <= timedelta(seconds=900)
    session = boto3.session.Session(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], "us-east-1")
    who = session.client("sts", endpoint_url=aws.url).get_caller_identity()
    assert who["Arn"] == "arn:aws:sts::210987654321:assumed-role/looker/reconciler" == said["AssumedRoleUser"]["Arn"]
    assert session.client("ecs", endpoint_url=aws.url).describe_clusters()["clusters"][0]["clusterArn"] == home


@pytest.mark.parametrize("external_id", [None, "wrong"])
def test_a_role_that_may_not_be_assumed(aws: FakeAws, external_id: str | None) -> None:
    sts = client(aws, "sts")
    params = {"RoleArn": ROLE, "RoleSessionName": "reconciler"} | ({"ExternalId": external_id} if external_id else {})
    who = sts.get_caller_identity()["Arn"]
    message = f"User: {who} is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
    assert refused(sts.assume_role, **params) == ("AccessDenied", message, 403)
    aws.role(ROLE, external_id="right")
    assert refused(sts.assume_role, **params) == ("AccessDenied", message, 403)
    sts.assume_role(**params | {"ExternalId": "right"})


def test_an_action_is_denied(aws: FakeAws) -> None:
    task = aws.task(aws.cluster("default"))
    key = aws.access_key(expires=timedelta(hours=1))
    ecs = client(aws, key=key)
    aws.denied |= {"ecs:DescribeTasks", "ecs:ListTasks"}
    ending = "because no identity-based policy allows the"
    who = "User: arn:aws:sts::123456789012:assumed-role/reconciler/x is not authorized to perform"
    message = f"{who}: ecs:DescribeTasks on resource: {task.arn} {ending} ecs:DescribeTasks action"
    assert refused(ecs.describe_tasks, tasks=[task.arn]) == ("AccessDeniedException", message, 400)
    assert refused(ecs.list_tasks)[1] == f"{who}: ecs:ListTasks on resource: * {ending} ecs:ListTasks action"
    ecs.describe_clusters()
    aws.denied.clear()
    ecs.list_tasks()


def grant(*actions: str, resource: str = "*", **condition: object) -> dict[str, object]:
    said = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return said | ({"Condition": condition} if condition else {})


def document(*statements: object) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def test_a_policy_grants(aws: FakeAws) -> None:
    home = aws.cluster("default")
    task, ecs, sts = aws.task(home), client(aws), client(aws, "sts")
    aws.policy(document())
    sts.get_caller_identity()
    assert refused(ecs.describe_clusters)[0] == "AccessDeniedException"
    aws.role(ROLE)
    assert refused(sts.assume_role, RoleArn=ROLE, RoleSessionName="reconciler")[0] == "AccessDenied"
    aws.policy(document(grant("ecs:Describe*", resource="arn:aws:ecs:*:123456789012:*/default*")))
    ecs.describe_clusters()
    ecs.describe_tasks(tasks=[task.arn])
    assert refused(ecs.list_tasks)[0] == "AccessDeniedException"
    assert refused(ecs.stop_task, task=task.arn)[0] == "AccessDeniedException"
    aws.policy(None)
    ecs.list_tasks()


def test_lists_are_granted_by_the_condition_key_alone(aws: FakeAws) -> None:
    """The reference names container instances; a list of a cluster is asked on "*" (cdklabs/construct-hub#1207)."""
    aws.cluster("other")
    home, ecs = aws.cluster("default"), client(aws)
    aws.policy(document(grant("ecs:ListTasks", resource="arn:aws:ecs:us-east-1:123456789012:container-instance/*")))
    assert refused(ecs.list_tasks)[0] == "AccessDeniedException"
    for operator in ("ArnEquals", "ArnLike", "StringEquals"):
        aws.policy(document(grant("ecs:ListTasks", **{operator: {"ecs:cluster": [home]}})))
        ecs.list_tasks()
        assert refused(ecs.list_tasks, cluster="other")[0] == "AccessDeniedException"
    deny = {
        "Effect": "Deny",
        "Action": "ecs:*",
        "Resource": "*",
        "Condition": {"ArnLike": {"ecs:cluster": "*:*:*:*:*:*"}},
    }
    aws.policy(document(grant("*"), deny))
    assert refused(ecs.list_tasks)[0] == "AccessDeniedException"


def test_one_task_that_may_not_be_read_denies_them_all(aws: FakeAws) -> None:
    home = aws.cluster("default")
    one, two = aws.task(home), aws.task(home)
    aws.policy(document(grant("ecs:DescribeTasks", resource=one.arn)))
    assert two.arn in refused(client(aws).describe_tasks, tasks=[one.arn, two.arn])[1]


def test_words_that_are_not_known_are_refused(aws: FakeAws) -> None:
    with pytest.raises(ValueError, match="NotAction"):
        aws.policy(document({"Effect": "Allow", "NotAction": "ecs:*", "Resource": "*"}))
    with pytest.raises(ValueError, match="Bool"):
        aws.policy(document(grant("*", Bool={"aws:SecureTransport": "true"})))


def test_calls_are_throttled(aws: FakeAws) -> None:
    """A hundred at once and twenty a second, of DescribeTasks and ListTasks together; others have their own."""
    aws.limits["tasks"] = Limit(burst=10, rate=1)
    ecs, arn = client(aws), aws.unknown_task()
    for _ in range(5):
        ecs.list_tasks()
        ecs.describe_tasks(tasks=[arn])
    said = refused(lambda: [ecs.describe_tasks(tasks=[arn]) for _ in range(50)])
    assert said == ("ThrottlingException", "Rate exceeded", 400)
    assert aws.throttled == 1
    ecs.describe_clusters()
    aws.cluster("default", region="eu-west-1")
    client(aws, region="eu-west-1").list_tasks()
    wait_until(lambda: aws.limits.take("ecs:ListTasks", "123456789012", "us-east-1"), "a token", every=0.02)


def test_boto3_gets_over_it(aws: FakeAws) -> None:
    aws.limits["tasks"] = Limit(burst=2, rate=20)
    ecs = client(aws, retries={"mode": "standard", "total_max_attempts": 10})
    for _ in range(6):
        ecs.list_tasks()
    assert aws.calls["ecs:ListTasks"] == 6 + aws.throttled
    assert aws.throttled
    aws.limits["tasks"] = None
    aws.reset_counts()
    for _ in range(20):
        ecs.list_tasks()
    assert (aws.throttled, dict(aws.calls)) == (0, {"ecs:ListTasks": 20})


def test_the_limits_of_the_start(aws: FakeAws) -> None:
    taken = sum(aws.limits.take("ecs:DescribeTasks", "1", "us-east-1") for _ in range(200))
    assert 100 <= taken <= 102
    assert 50 <= sum(aws.limits.take("ecs:DescribeClusters", "1", "us-east-1") for _ in range(200)) <= 52
    aws.limits.refill()
    assert aws.limits.take("ecs:ListTasks", "1", "us-east-1")


def test_signatures_are_asked_for(aws: FakeAws) -> None:
    ecs = client(aws, signature_version=UNSIGNED)
    assert refused(ecs.describe_tasks, tasks=[uuid4().hex])[0] == "MissingAuthenticationTokenException"
