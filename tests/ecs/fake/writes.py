"""RunTask and StopTask."""

from __future__ import annotations

import copy
from typing import Any
from uuid import uuid4

from tests.ecs.fake.answers import invalid
from tests.ecs.fake.reads import Asked, active
from tests.ecs.fake.task import FakeTask
from tests.ecs.fake.task_shape import Body, task_body


def run_task(asked: Asked) -> Body:
    """The tasks are on their way; nobody moves them on but the test. There are no task definitions to look up."""
    definition = str(asked.params.get("taskDefinition") or "").rpartition("/")[2]
    if not definition:
        raise invalid("TaskDefinition can not be blank.")
    prefix = asked.cluster_arn.partition(":cluster/")[0]
    asked.permit("ecs:RunTask", f"{prefix}:task-definition/{definition}", asked.cluster_arn)
    count = asked.params.get("count", 1)
    if not 1 <= count <= 10:
        raise invalid("Count must be between 1 and 10.")
    cluster = active(asked.cluster())
    made = [_made(asked, definition) for _ in range(count)]
    cluster.tasks |= {task.id: task for task in made}
    return {"tasks": [copy.deepcopy(task.body) for task in made], "failures": []}


def _made(asked: Asked, definition: str) -> FakeTask:
    params = asked.params
    overrides: dict[str, Any] = params.get("overrides") or {}
    body = task_body(
        asked.task_arn(uuid4().hex),
        asked.cluster_arn,
        run_id=None,
        tags={tag["key"]: tag["value"] for tag in params.get("tags") or ()},
        containers=[each["name"] for each in overrides.get("containerOverrides") or ()] or ["prefect"],
        launch_type=params.get("launchType") or ("FARGATE" if params.get("capacityProviderStrategy") else "EC2"),
        family=definition.partition(":")[0],
        created=asked.store.clock(),
    )
    body["overrides"] |= overrides
    if ":" in definition:
        body["taskDefinitionArn"] = body["taskDefinitionArn"].rpartition("/")[0] + f"/{definition}"
    body |= {name: params[name] for name in ("startedBy", "group", "enableExecuteCommand") if params.get(name)}
    return FakeTask(body, asked.store.clock, asked.store.lock)


def stop_task(asked: Asked) -> Body:
    """It only asks: the task goes through its end afterwards."""
    identifier = str(asked.params.get("task") or "")
    task_id = asked.task_id(identifier)
    asked.permit("ecs:StopTask", asked.task_arn(identifier), asked.cluster_arn)
    task = asked.store.known(asked.cluster(), task_id)
    if task is None:
        raise invalid("The referenced task was not found.")
    if len(asked.params.get("reason") or "") > 1024:
        raise invalid("Reason cannot exceed 1024 characters.")
    task.stop_request(asked.params.get("reason"))
    return {"task": task.body}
