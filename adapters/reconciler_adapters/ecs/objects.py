"""What ECS answers, as far as it is looked at. Unknown members are skipped; one of another form is an error.

Of the environment that a task was started with only one variable is kept, as of its tags: the others may be secrets.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec

_FAR = 1e11  # seconds after 1970: in the year 5138
_RUN_TAG = "prefect.io/flow-run-id"
_RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"


class Tag(msgspec.Struct, frozen=True):
    key: str | None = None
    value: str | None = None


class Variable(msgspec.Struct, frozen=True):
    name: str | None = None
    value: str | None = None


class ContainerOverride(msgspec.Struct, frozen=True):
    name: str | None = None
    environment: tuple[Variable, ...] | None = None

    def __post_init__(self) -> None:
        kept = tuple(one for one in self.environment or () if one.name == _RUN_VARIABLE)
        msgspec.structs.force_setattr(self, "environment", kept)

    @property
    def run_id(self) -> UUID | None:
        return next((_run_id(one.value) for one in self.environment or ()), None)


class Overrides(msgspec.Struct, frozen=True):
    containers: tuple[ContainerOverride, ...] | None = msgspec.field(default=None, name="containerOverrides")


class Container(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    last_status: str | None = None
    exit_code: int | None = None  # not there if it never ran, or the platform took it away
    reason: str | None = None


class Task(msgspec.Struct, frozen=True, rename="camel"):
    task_arn: str
    last_status: str
    desired_status: str | None = None
    stop_code: str | None = None
    stopped_reason: str | None = None
    created_at: float | None = None  # seconds since 1970
    stopped_at: float | None = None
    execution_stopped_at: float | None = None
    container_instance_arn: str | None = None
    containers: tuple[Container, ...] | None = None
    tags: tuple[Tag, ...] | None = None
    overrides: Overrides | None = None

    def __post_init__(self) -> None:
        kept = tuple(tag for tag in self.tags or () if tag.key == _RUN_TAG)
        msgspec.structs.force_setattr(self, "tags", kept)

    @property
    def tagged(self) -> UUID | None:
        """The flow run that its tag names. StopTask deletes all tags (botocore's documentation of it)."""
        return next((_run_id(tag.value) for tag in self.tags or ()), None)

    @property
    def told(self) -> UUID | None:
        """The flow run that it was told to run."""
        return next((run_id for one in self.container_overrides if (run_id := one.run_id)), None)

    @property
    def container_overrides(self) -> tuple[ContainerOverride, ...]:
        return (self.overrides.containers or ()) if self.overrides else ()


class Failure(msgspec.Struct, frozen=True):
    arn: str | None = None
    reason: str | None = None
    detail: str | None = None


class Tasks(msgspec.Struct, frozen=True):
    """The answer to DescribeTasks. Both lists are always there, if only empty."""

    tasks: tuple[Task, ...]
    failures: tuple[Failure, ...]


class TaskArns(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to ListTasks."""

    task_arns: tuple[str, ...]
    next_token: str | None = None


class Cluster(msgspec.Struct, frozen=True, rename="camel"):
    cluster_arn: str
    status: str


class Clusters(msgspec.Struct, frozen=True):
    """The answer to DescribeClusters."""

    clusters: tuple[Cluster, ...]
    failures: tuple[Failure, ...]


def time_of(seconds: float | None) -> datetime | None:
    """None: it does not say, or says a time that is none of this computer's."""
    return None if seconds is None or not 0 < seconds < _FAR else datetime.fromtimestamp(seconds, UTC)


def _run_id(text: str | None) -> UUID | None:
    """Values of tags and variables are data from outside, and a user's own labels win over Prefect's."""
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
