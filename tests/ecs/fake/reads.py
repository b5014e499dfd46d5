"""DescribeTasks, ListTasks, DescribeClusters, DescribeContainerInstances."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tests.ecs.fake.answers import Refused, invalid
from tests.ecs.fake.identifiers import cluster_arn, cluster_name, task_arn, task_id
from tests.ecs.fake.store import Cluster, Store
from tests.ecs.fake.task import FakeTask
from tests.ecs.fake.task_shape import Body

_FILTERS = ("containerInstance", "family", "serviceName", "launchType", "daemonName")


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of a known principal. `permit(action, resource, cluster ARN)` raises Refused."""

    params: dict[str, Any]
    account: str
    region: str
    store: Store
    permit: Callable[[str, str, str], None]

    @property
    def cluster_name(self) -> str:
        return cluster_name(self.account, self.region, self.params.get("cluster"))

    @property
    def cluster_arn(self) -> str:
        return cluster_arn(self.account, self.region, self.cluster_name)

    def cluster(self) -> Cluster:
        return self.store.cluster(self.account, self.region, self.cluster_name)

    def task_id(self, identifier: str) -> str:
        return task_id(self.account, self.region, self.cluster_name, identifier)

    def task_arn(self, identifier: str) -> str:
        if identifier.startswith("arn:"):
            return identifier
        return task_arn(self.account, self.region, self.cluster_name, identifier)


def describe_tasks(asked: Asked) -> Body:
    wanted: list[str] = asked.params.get("tasks") or []
    if not wanted:
        raise invalid("Tasks cannot be empty.")
    if len(wanted) > 100:
        raise invalid("taskIds can have at most 100 items.")  # sil-org/ecs-deploy#266
    ids = {asked.task_id(identifier): asked.task_arn(identifier) for identifier in wanted}
    for arn in ids.values():
        asked.permit("ecs:DescribeTasks", arn, asked.cluster_arn)
    cluster = asked.cluster()
    found = {each: asked.store.seen(cluster, each) for each in ids}
    tagged = "TAGS" in (asked.params.get("include") or [])
    return {
        "tasks": [_shown(task, tagged=tagged) for task in found.values() if task],
        "failures": [{"arn": ids[each], "reason": "MISSING"} for each, task in found.items() if task is None],
    }


def _shown(task: FakeTask, *, tagged: bool) -> Body:
    return task.body if tagged else task.body | {"tags": []}


def list_tasks(asked: Asked) -> Body:
    # Without a container instance it is asked on "*", whatever the reference says: cdklabs/construct-hub#1207
    resource = asked.params.get("containerInstance") or "*"
    asked.permit("ecs:ListTasks", resource, asked.cluster_arn)
    size = asked.params.get("maxResults", 100)
    if not 1 <= size <= 100:
        raise invalid("maxResults must be between 1 and 100.")
    wanted = asked.params.get("desiredStatus", "RUNNING")
    if wanted not in {"RUNNING", "PENDING", "STOPPED"}:
        raise invalid(f"Invalid desiredStatus: {wanted}")
    if asked.params.get("startedBy") and any(asked.params.get(name) for name in _FILTERS):
        raise invalid("startedBy must be the only filter.")
    if asked.params.get("serviceName"):
        raise Refused("ServiceNotFoundException", "Service not found.")
    cluster = active(asked.cluster())
    question = _question(asked)
    tasks = asked.store.shown(cluster, _behind(asked.params.get("nextToken"), question))
    page = list(islice((task for task in tasks if _fits(task, asked.params, wanted)), size + 1))
    arns = [task.arn for task in page[:size]]
    if len(page) <= size:
        return {"taskArns": arns}
    return {"taskArns": arns, "nextToken": b64encode(json.dumps([question, page[size - 1].id]).encode()).decode()}


def active(cluster: Cluster) -> Cluster:
    if cluster.status == "INACTIVE":
        raise Refused("ClusterNotFoundException", "The referenced cluster was inactive.")
    return cluster


def _fits(task: FakeTask, params: dict[str, Any], status: str) -> bool:
    """By what is *desired*: a task that is about to stop is among the STOPPED, one that starts among the RUNNING."""
    body = task.body
    if body["desiredStatus"] != status:
        return False
    family = body["taskDefinitionArn"].rpartition("/")[2].partition(":")[0]
    wanted = (
        (params.get("family"), family),
        (params.get("launchType"), body.get("launchType")),
        (params.get("startedBy"), body.get("startedBy")),
        (params.get("containerInstance"), body.get("containerInstanceArn")),
    )
    return all(not asked or asked == has for asked, has in wanted)


def _question(asked: Asked) -> str:
    """What a token is good for: the same question only."""
    kept = {name: value for name, value in asked.params.items() if name not in {"nextToken", "maxResults"}}
    return hashlib.sha256(json.dumps([kept, asked.account, asked.region], sort_keys=True).encode()).hexdigest()


def _behind(token: str | None, question: str) -> str:
    """The id behind which the page begins. Raises Refused."""
    if token is None:
        return ""
    try:
        same, behind = json.loads(b64decode(token))
    except ValueError:
        same, behind = "", ""
    if same != question:
        raise invalid("Invalid token.")
    return str(behind)


def describe_clusters(asked: Asked) -> Body:
    """Clusters are found whatever became of them; one that never was is a failure, not an error."""
    wanted: list[str] = asked.params.get("clusters") or ["default"]
    if len(wanted) > 100:
        raise invalid("Clusters can have at most 100 items.")
    names = {cluster_name(asked.account, asked.region, each): None for each in wanted}
    arns = [cluster_arn(asked.account, asked.region, name) for name in names]
    for arn in arns:
        asked.permit("ecs:DescribeClusters", arn, arn)
    known = asked.store.clusters
    return {
        "clusters": [_cluster(known[arn], asked.store) for arn in arns if arn in known],
        "failures": [{"arn": arn, "reason": "MISSING"} for arn in arns if arn not in known],
    }


def _cluster(cluster: Cluster, store: Store) -> Body:
    states = [task.body["lastStatus"] for task in store.shown(cluster)]
    return {
        "clusterArn": cluster.arn,
        "clusterName": cluster.name,
        "status": cluster.status,
        "registeredContainerInstancesCount": 0,
        "runningTasksCount": states.count("RUNNING"),
        "pendingTasksCount": states.count("PENDING") + states.count("PROVISIONING") + states.count("ACTIVATING"),
        "activeServicesCount": 0,
        "statistics": [],
        "tags": [],
        "settings": [],
        "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
        "defaultCapacityProviderStrategy": [],
    }


def describe_container_instances(asked: Asked) -> Body:
    """There are none that one could look at."""
    wanted: list[str] = asked.params.get("containerInstances") or []
    for each in wanted:
        asked.permit("ecs:DescribeContainerInstances", each, asked.cluster_arn)
    active(asked.cluster())
    return {"containerInstances": [], "failures": [{"arn": each, "reason": "MISSING"} for each in wanted]}
