"""Tasks as ECS describes them, and what the adapter's pure part makes of them."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec

from reconciler.model import Observation
from reconciler_adapters.ecs.meaning import observe
from reconciler_adapters.ecs.names import ClusterName, TaskName
from reconciler_adapters.ecs.objects import Task

CLUSTER = ClusterName("aws", "eu-west-1", "123456789012", "prod")
ARN = f"arn:aws:ecs:eu-west-1:123456789012:task/prod/{'0a' * 16}"
NAME = TaskName(CLUSTER, ARN)
RUN = uuid4()
ENDED = 1_700_000_100.5


def task(status: str = "STOPPED", containers: object = (), **members: object) -> Task:
    rows = [{"name": "prefect", "exitCode": containers}] if isinstance(containers, int) else containers
    return msgspec.convert({"taskArn": ARN, "lastStatus": status, "containers": rows, **members}, Task)


def seen(one: Task) -> Observation:
    return observe(one, NAME, RUN)


def told(container: str, run_id: UUID = RUN) -> dict[str, object]:
    variables = [{"name": "PREFECT_API_KEY", "value": "secret"}, {"name": "PREFECT__FLOW_RUN_ID", "value": str(run_id)}]
    return {"containerOverrides": [{"name": "other"}, {"name": container, "environment": variables}]}
