"""The parts of Kubernetes' objects that are read, decoded by msgspec. Times are whole seconds, cut off (metav1.Time).

A field that says nothing is left out or null on the wire, so each has a default; what identifies an object has none.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

RUN_LABEL = "prefect.io/flow-run-id"
FLOW_CONTAINER = "prefect-job"  # as prefect-kubernetes names it; a custom manifest may not

JobPlace = tuple[str, str]  # the namespace and the name of a Job
ItemT = TypeVar("ItemT")

_A_SECOND = timedelta(seconds=1)
_YEARS = range(2000, 9000)  # a kubelet that does not know may say 1970; anybody who may write a status, 9999


def at_the_latest(told: datetime | None) -> datetime | None:
    """A time as late as it can have been, since its fraction of a second was cut off. None for one that is no time."""
    return told + _A_SECOND if told and told.year in _YEARS else None


class Struct(msgspec.Struct, rename="camel", gc=False, kw_only=True):
    """Made by the thousand and without cycles, so the garbage collector need not look at them."""


class Labels(Struct):
    run: str | None = msgspec.field(default=None, name=RUN_LABEL)
    job: str | None = msgspec.field(
        default=None, name="job-name"
    )  # also on newer clusters, beside batch.kubernetes.io/

    @property
    def run_id(self) -> UUID | None:
        """None for no label, or one that is no UUID: labels are data from outside, anyone may write anything."""
        try:
            return UUID(self.run) if self.run else None
        except ValueError:
            return None


class Owner(Struct):
    kind: str
    name: str
    uid: str
    controller: bool | None = None


class Metadata(Struct):
    name: str
    uid: str
    namespace: str = ""
    labels: Labels | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: list[Owner] | None = None

    @property
    def run_id(self) -> UUID | None:
        return self.labels.run_id if self.labels else None

    @property
    def place(self) -> JobPlace:
        return self.namespace, self.name


class Condition(Struct):
    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_transition_time: datetime | None = None


class JobSpec(Struct):
    suspend: bool | None = None
    backoff_limit: int | None = None  # the server fills in 6
    completions: int | None = None
    parallelism: int | None = None
    managed_by: str | None = None
    pod_failure_policy: dict[str, object] | None = None


class JobStatus(Struct):
    conditions: list[Condition] | None = None
    active: int | None = None  # pods that have not ended
    failed: int | None = None


class Job(Struct):
    metadata: Metadata
    spec: JobSpec
    status: JobStatus = msgspec.field(default_factory=JobStatus)


class Waiting(Struct):
    reason: str | None = None
    message: str | None = None


class Terminated(Struct):
    exit_code: int
    reason: str | None = None
    message: str | None = None
    finished_at: datetime | None = None


class ContainerState(Struct):
    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(Struct):
    name: str
    restart_count: int = 0
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)


class Resources(Struct):
    limits: dict[str, str] | None = None


class Container(Struct):
    name: str
    resources: Resources | None = None
    restart_policy: str | None = None  # of its own: a native sidecar, or (1.34) a container that restarts in place
    restart_policy_rules: list[object] | None = None


class PodSpec(Struct):
    containers: list[Container]
    init_containers: list[Container] | None = None
    node_name: str | None = None
    restart_policy: str | None = None


class PodStatus(Struct):
    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None

    @property
    def disruptions(self) -> list[Condition]:
        """What pushes it off its node from outside, or did."""
        return [one for one in self.conditions or () if one.type == "DisruptionTarget" and one.status == "True"]


class Pod(Struct):
    metadata: Metadata
    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class NodeStatus(Struct):
    conditions: list[Condition] | None = None


class Node(Struct):
    metadata: Metadata
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class Bare(Struct):
    """Any object of which only the metadata matters."""

    metadata: Metadata


class ListMetadata(msgspec.Struct):
    next_page: str | None = msgspec.field(default=None, name="continue")


class Page(Struct, Generic[ItemT]):
    """One page of a list. Without `items` it is no list: an empty answer must not pass for an empty list."""

    kind: str
    metadata: ListMetadata
    items: list[ItemT] | None

    @property
    def is_list(self) -> bool:
        """Only lists of PartialObjectMetadata have null for no items (seen on 1.20)."""
        return self.kind.endswith("List") and (self.items is not None or self.kind == "PartialObjectMetadataList")


class StatusDetails(Struct):
    name: str | None = None
    kind: str | None = None


class Status(Struct):
    """What the API server says of an error."""

    kind: str | None = None
    message: str | None = None
    reason: str | None = None
    details: StatusDetails | None = None


class ReviewStatus(Struct):
    allowed: bool


class Review(Struct):
    """The answer to a SelfSubjectAccessReview."""

    status: ReviewStatus
