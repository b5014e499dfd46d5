"""ECS: any pid, any task. What is malformed says nothing of a run."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import Condition
from reconciler.testing import flow_run
from reconciler_adapters.ecs import objects as ecs
from reconciler_adapters.ecs.meaning import observe
from reconciler_adapters.ecs.names import TaskName
from tests.fuzz.effort import fuzz
from tests.fuzz.spoiling import STRINGS, bodies

ID = "0123456789abcdef0123456789abcdef"
ARN = f"arn:aws:ecs:us-east-1:123456789012:task/default/{ID}"
RUN = flow_run().id
TRUE = {
    "tasks": [
        {
            "taskArn": ARN,
            "lastStatus": "STOPPED",
            "desiredStatus": "STOPPED",
            "stopCode": "EssentialContainerExited",
            "stoppedReason": "Essential container in task exited",
            "createdAt": 1.7e9,
            "stoppedAt": 1.7e9,
            "executionStoppedAt": 1.7e9,
            "containers": [{"name": "prefect", "lastStatus": "STOPPED", "exitCode": 137, "reason": "OutOfMemory: x"}],
            "tags": [{"key": "prefect.io/flow-run-id", "value": str(RUN)}],
            "overrides": {"containerOverrides": [{"name": "prefect", "environment": [{"name": "A", "value": "b"}]}]},
        }
    ],
    "failures": [{"arn": ARN, "reason": "MISSING", "detail": None}],
}


@given(
    pid=st.one_of(
        STRINGS,
        st.builds("{}::{}".format, STRINGS, st.sampled_from([ARN, ARN + "\n", ARN.upper(), ARN[:-1], ARN * 2])),
        st.just(":" * 100_000),
    )
)
@fuzz(200)
def test_any_pid_is_a_tasks_name_or_none(pid: str) -> None:
    name = TaskName.parse(pid)
    assert name is None or name.arn == ARN


@given(body=bodies(TRUE))
@fuzz(400)
def test_any_task(body: bytes) -> None:
    """What decodes can be judged; what does not is one of the errors that make the scope UNKNOWN."""
    name = TaskName.parse(f"default::{ARN}")
    assert name is not None
    try:
        answer = msgspec.json.decode(body, type=ecs.Tasks)
    except (ValueError, RecursionError):  # `explained` catches both
        return
    for task in answer.tasks:
        seen = observe(task, name, RUN)
        assert seen.condition in set(Condition)
        assert seen.resource is not None
        assert seen.resource.run_id == RUN
