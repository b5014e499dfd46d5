"""The names of clusters and tasks: Amazon Resource Names, and what an `infrastructure_pid` says."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_PLACE = r"arn:(?P<partition>aws[a-z0-9-]*):ecs:(?P<region>[a-z0-9-]+):(?P<account>\d{12})"
_CLUSTER_NAME = "[A-Za-z0-9_-]{1,255}"
# 32 hexadecimal digits, formerly with dashes. For anything else AWS would refuse all that is asked for with it.
_TASK_ID = "[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_CLUSTER = re.compile(f"{_PLACE}:cluster/(?P<name>{_CLUSTER_NAME})")
_TASK = re.compile(f"{_PLACE}:task/(?:(?P<name>{_CLUSTER_NAME})/)?(?P<id>{_TASK_ID})")


@dataclass(frozen=True, slots=True, order=True)
class ClusterName:
    """One cluster, among all there are."""

    partition: str  # "aws", "aws-cn", "aws-us-gov"
    region: str
    account: str
    name: str

    @classmethod
    def parse(cls, arn: str) -> ClusterName | None:
        found = _CLUSTER.fullmatch(arn)
        return cls(found["partition"], found["region"], found["account"], found["name"]) if found else None

    @property
    def arn(self) -> str:
        return f"arn:{self.partition}:ecs:{self.region}:{self.account}:cluster/{self.name}"


def is_cluster_name(text: str) -> bool:
    return bool(re.fullmatch(_CLUSTER_NAME, text))


@dataclass(frozen=True, slots=True)
class TaskName:
    """One task, among all there are; never used again."""

    cluster: ClusterName
    arn: str

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def title(self) -> str:
        return f"ECS task {self.id} on cluster {self.cluster.name} in {self.cluster.region}"

    @property
    def removal(self) -> str:
        """The command that would stop it."""
        place = ["--region", self.cluster.region, "--cluster", self.cluster.name]
        return shlex.join(["aws", "ecs", "stop-task", *place, "--task", self.arn])

    @classmethod
    def parse(cls, pid: str | None) -> TaskName | None:
        """Read "<cluster's name or ARN>::<task ARN>", as Prefect's ECS worker writes it (seen on prefect-aws 0.7.12).

        Tasks named in the old way ("task/ID") do not name their cluster themselves: then the part before it does.
        """
        before, _, after = (pid or "").rpartition("::")
        found = _TASK.fullmatch(after)
        if found is None:
            return None
        told = ClusterName.parse(before)
        name = found["name"] or (told.name if told else before)
        cluster = ClusterName(found["partition"], found["region"], found["account"], name)
        if not is_cluster_name(name) or (told is not None and told != cluster):
            return None
        return cls(cluster, after)
