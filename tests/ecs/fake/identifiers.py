"""Names, ids and ARNs as ECS reads them, and how it words that it will not.

Seen in public reports: other cluster aws/aws-toolkit-vscode#2915, region aws/aws-cli#3175, type aws/aws-cli#7875,
cluster name awslabs/amazon-ecs-nodejs-microservices#18, length aws/aws-cli#10057.
"""

from __future__ import annotations

import re

from tests.ecs.fake.answers import invalid

_CLUSTER = re.compile(r"[a-zA-Z0-9\-_]{1,255}")
_TASK_LENGTHS = (32, 36)


def cluster_arn(account: str, region: str, name: str) -> str:
    return f"arn:{partition(region)}:ecs:{region}:{account}:cluster/{name}"


def task_arn(account: str, region: str, cluster: str | None, task_id: str) -> str:
    """Without a cluster: as it was before the long ARNs of 2018."""
    path = f"{cluster}/{task_id}" if cluster else task_id
    return f"arn:{partition(region)}:ecs:{region}:{account}:task/{path}"


def partition(region: str) -> str:
    return {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(region.rsplit("-", 2)[0], "aws")


def cluster_name(account: str, region: str, identifier: str | None) -> str:
    """A name or an ARN; none is "default"."""
    name = identifier or "default"
    if name.startswith("arn:"):
        name = _path(account, region, name, "cluster")
    if not _CLUSTER.fullmatch(name):
        raise invalid(rf"Cluster must match ^[a-zA-Z0-9\-_]{{1,255}}$, but was {name}")
    return name


def task_id(account: str, region: str, cluster: str, identifier: str) -> str:
    """An id or an ARN; a long ARN names its cluster, and must name the one that is asked."""
    name = identifier
    if name.startswith("arn:"):
        named, _, name = _path(account, region, name, "task").rpartition("/")
        if named and named != cluster:
            raise invalid(f"Invalid identifier: Identifier is for cluster {named}. Your cluster is {cluster}")
    if len(name) not in _TASK_LENGTHS:
        raise invalid("taskId length should be one of [32,36]")
    return name


def _path(account: str, region: str, arn: str, kind: str) -> str:
    parts = arn.split(":", 5)
    if len(parts) < 6 or parts[1] != partition(region) or parts[2] != "ecs":
        raise invalid(f"Invalid identifier: {arn}")
    if parts[3] != region:
        raise invalid("Invalid Region in ARN")
    if parts[4] != account:
        raise invalid(f"Identifier is for {parts[4]}. Your accountId is {account}")
    named, _, path = parts[5].partition("/")
    if named != kind:
        raise invalid(f"Unsupported resource type: {named}")
    return path
