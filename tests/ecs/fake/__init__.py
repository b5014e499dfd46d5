"""AWS ECS and STS over plain HTTP on loopback, for real boto3 clients."""

from __future__ import annotations

from tests.ecs.fake.aws import ACCOUNT, REGION, FakeAws
from tests.ecs.fake.faults import FaultKind
from tests.ecs.fake.keys import DEFAULT_KEY, Credentials
from tests.ecs.fake.task import FakeTask
from tests.ecs.fake.task_shape import API_KEY

__all__ = ["ACCOUNT", "API_KEY", "DEFAULT_KEY", "REGION", "Credentials", "FakeAws", "FakeTask", "FaultKind"]
