"""What the Prefect API answers, as far as it is used, and its translation into the project's words.

Every field that is not named here is skipped unread; parameters make rows of up to 512 KiB.

Whoever may start a flow run chooses most of it, so all of it is bounded here. What is only shown is cut. What is
compared with something (a pid, a pool, a tag) is never cut, since it might then be equal to another: a row with one
that is absurdly long is not understood, so it is skipped, and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec

from reconciler.model import FlowRun, StateRecord, StateType
from reconciler.prefect_api.pools import KUBERNETES, WorkPool
from reconciler.words import clipped, legible, one_line

Time = Annotated[datetime, msgspec.Meta(tz=True)]

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]

_NAME = 300  # characters
_KEY = 2000  # of what is compared
_TAGS = 20_000  # of all tags together
_MOMENT = 100  # of a time as text
_YEARS = range(1900, 9000)  # of others the sums of times leave what Python can count


def in_range(time: datetime | None) -> datetime | None:
    """A time that can be reckoned with. One that cannot is as good as none."""
    return time if time is not None and time.year in _YEARS else None


def check_known(time: datetime, what: str) -> None:
    """For `__post_init__`: msgspec makes a ValueError one of its own."""
    if time.year not in _YEARS:
        raise ValueError(f"{what} is in the year {time.year}")


def _short(value: object, what: str, limit: int = _KEY) -> None:
    """As `check_known`."""
    if isinstance(value, str) and len(value) > limit:
        raise ValueError(f"{what} has {len(value)} characters")


class StateDetails(msgspec.Struct):
    scheduled_time: Time | None = None
    transition_id: str | None = None

    def __post_init__(self) -> None:
        self.scheduled_time = in_range(self.scheduled_time)


class State(msgspec.Struct):
    id: UUID
    type: StateType
    timestamp: Time
    name: str | None = None
    message: str | None = None
    state_details: StateDetails | None = None

    def __post_init__(self) -> None:
        check_known(self.timestamp, "the time of its state")
        self.name = clipped(self.name, _NAME) if self.name else None
        self.message = legible(one_line(self.message)) if self.message and self.type.is_terminal else None

    @property
    def title(self) -> str:
        return self.name or self.type.capitalize()

    @property
    def transition(self) -> UUID | None:
        """The id that whoever proposed the state gave to the transition; engines give one too."""
        try:
            return UUID(self.state_details.transition_id or "") if self.state_details else None
        except ValueError:
            return None

    @property
    def scheduled_time(self) -> datetime | None:
        return self.state_details.scheduled_time if self.state_details else None

    def record(self) -> StateRecord:
        return StateRecord(
            id=self.id,
            type=self.type,
            name=self.title,
            timestamp=self.timestamp,
            transition_id=self.transition,
        )


class Labels(msgspec.Struct):
    """Any JSON type may stand in a label."""

    worker: object = msgspec.field(default=None, name="prefect.worker.name")
    worker_type: object = msgspec.field(default=None, name="prefect.worker.type")

    def __post_init__(self) -> None:
        _short(self.worker, "its label prefect.worker.name")
        _short(self.worker_type, "its label prefect.worker.type")


class Policy(msgspec.Struct):
    retry_type: str | None = None


class JobVariables(msgspec.Struct):
    cluster_config: object = None


class RunRow(msgspec.Struct):
    """A flow run. A row without a state does not decode: nothing could be judged of it. 2.20 sends no `labels`."""

    id: UUID
    state: State
    name: str = ""
    created: Time | None = None
    expected_start_time: str | None = None  # verbatim: it is the key of the next page
    next_scheduled_start_time: Time | None = None
    run_count: Count = 0
    infrastructure_pid: str | None = None
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    labels: Labels | None = None
    job_variables: JobVariables | None = None
    deployment_id: UUID | None = None
    parent_task_run_id: UUID | None = None
    tags: list[str] = []
    empirical_policy: Policy | None = None
    total_run_time: float = 0.0  # seconds in RUNNING states that are over
    estimated_run_time: float | None = None

    def __post_init__(self) -> None:
        self.name = clipped(self.name, _NAME)
        self.created, self.next_scheduled_start_time = in_range(self.created), in_range(self.next_scheduled_start_time)
        _short(self.expected_start_time, "its expected start", _MOMENT)
        _short(self.infrastructure_pid, "its infrastructure_pid")
        _short(self.work_pool_name, "the name of its work pool")
        _short(self.work_queue_name, "the name of its work queue")
        _short(self.retry_type, "its kind of retry", _NAME)
        if sum(map(len, self.tags)) > _TAGS:  # none may be left out: it may be the one that the operator excludes
            raise ValueError(f"its {len(self.tags)} tags have more than {_TAGS} characters")

    @property
    def server_time(self) -> datetime | None:
        """When the server wrote this row, to the microsecond: of a RUNNING run it tells the time since its state.

        `estimated_run_time` is `total_run_time + (now - state.timestamp)` (server/database/orm_models.py, 2.20 to
        3.8.8; seen between sending and receiving on 3.8.8).
        """
        if self.state.type is not StateType.RUNNING or self.estimated_run_time is None:
            return None
        try:
            return self.state.timestamp + timedelta(seconds=self.estimated_run_time - self.total_run_time)
        except OverflowError:
            return None

    @property
    def names_cluster(self) -> bool:
        return self.job_variables is not None and self.job_variables.cluster_config is not None

    @property
    def retry_type(self) -> str | None:
        return self.empirical_policy.retry_type if self.empirical_policy else None


class RowEdge(msgspec.Struct):
    """What is tried of a row that does not decode as a `RunRow`."""

    id: UUID | None = None
    expected_start_time: str | None = None

    def __post_init__(self) -> None:
        if len(self.expected_start_time or "") > _MOMENT:
            self.expected_start_time = None


class TransitionDetails(msgspec.Struct):
    reason: str | None = None


class Transition(msgspec.Struct):
    """The answer to a proposed state. The HTTP code says nothing: 201 comes with REJECT too."""

    status: str
    state: State | None = None
    details: TransitionDetails | None = None

    def __post_init__(self) -> None:
        self.status = legible(one_line(self.status, 60))

    @property
    def reason(self) -> str:
        return legible(one_line((self.details and self.details.reason) or "no reason given"))


def flow_run(row: RunRow, pools: Mapping[str, WorkPool]) -> FlowRun:
    """The row in the project's words; `pools` are those that `wants_pool` named."""
    labels, pool = row.labels or Labels(), pools.get(row.work_pool_name or "")
    worker_type = _text(labels.worker_type) or (pool.type if pool else None)
    names_cluster = row.names_cluster or (pool is not None and pool.names_cluster)
    return FlowRun(
        id=row.id,
        name=row.name,
        state_id=row.state.id,
        state_type=row.state.type,
        state_name=row.state.title,
        state_since=row.state.timestamp,
        created=row.created or _time(row.expected_start_time) or row.state.timestamp,
        run_count=row.run_count,
        pid=row.infrastructure_pid,
        work_pool=row.work_pool_name,
        work_queue=row.work_queue_name,
        worker=_text(labels.worker),
        worker_type=worker_type,
        deployment_id=row.deployment_id,
        parent_task_run_id=row.parent_task_run_id,
        tags=frozenset(row.tags),
        retry_type=row.retry_type,
        scheduled_time=row.state.scheduled_time or row.next_scheduled_start_time,
        pool_names_place=worker_type == KUBERNETES and names_cluster,
        state_message=row.state.message,
        transition_id=row.state.transition,
    )


def wants_pool(row: RunRow) -> bool:
    """Whether the row alone does not say by what type, and to which cluster, it was submitted."""
    worker_type = _text(row.labels.worker_type) if row.labels else None
    return bool(row.work_pool_name) and (worker_type is None or (worker_type == KUBERNETES and not row.names_cluster))


def _text(label: object) -> str | None:
    return label if isinstance(label, str) and label else None


def _time(text: str | None) -> datetime | None:
    try:
        return in_range(msgspec.convert(text, Time)) if text else None
    except msgspec.ValidationError:
        return None
