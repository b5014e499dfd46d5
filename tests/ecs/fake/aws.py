"""The fake as tests hold it: furnish, break, count."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.ecs.fake.answers import Answer, Call, Refused, as_json, refusal
from tests.ecs.fake.faults import FaultKind, Faults, throttling
from tests.ecs.fake.identifiers import cluster_arn, task_arn
from tests.ecs.fake.keys import DEFAULT_KEY, Credentials, Keyring, Principal, new_credentials
from tests.ecs.fake.limits import Limits
from tests.ecs.fake.reads import (
    Asked,
    describe_clusters,
    describe_container_instances,
    describe_tasks,
    list_tasks,
)
from tests.ecs.fake.rights import Rights, denial
from tests.ecs.fake.server import Listener
from tests.ecs.fake.store import Store
from tests.ecs.fake.sts import assume_role, get_caller_identity
from tests.ecs.fake.task import FakeTask
from tests.ecs.fake.task_shape import Body, prefect_tags, task_body
from tests.ecs.fake.writes import run_task, stop_task

ACCOUNT, REGION = "123456789012", "us-east-1"
_ECS: dict[str, Callable[[Asked], Body]] = {
    "DescribeClusters": describe_clusters,
    "DescribeContainerInstances": describe_container_instances,
    "DescribeTasks": describe_tasks,
    "ListTasks": list_tasks,
    "RunTask": run_task,
    "StopTask": stop_task,
}


class FakeAws:
    """ECS and STS of every account and region at one address.

    Settable: `now` (all times that it writes, and the Date header), `account` (whose the keys are that name none),
    `delay` (seconds before each answer), `limits`, `denied`, `lag`, `retention`.
    """

    def __init__(self) -> None:
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.account, self.delay = ACCOUNT, 0.0
        self.calls: Counter[str] = Counter()
        self.throttled = 0
        self.limits, self.store, self._rights, self._faults = Limits(), Store(self._clock), Rights(), Faults()
        self._keys = Keyring(self._clock, lambda: self.account)
        self._ended = threading.Event()
        self._listener = Listener(self._respond, self._clock, self._ended)
        self.url = self._listener.url

    def close(self) -> None:
        self._ended.set()
        self.heal()
        self._listener.end()

    def __enter__(self) -> FakeAws:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Who may ask, and what.

    @property
    def default_key(self) -> Credentials:
        """Known from the start, of `account`, for ever."""
        return DEFAULT_KEY

    def access_key(self, account: str | None = None, expires: timedelta | None = None) -> Credentials:
        """A new key; with `expires` a session's, with its token."""
        until = self._clock() + expires if expires is not None else None
        return self._keys.add(new_credentials(temporary=until is not None), account, expires=until)

    def revoke(self, credentials: Credentials) -> None:
        """The key is known no more."""
        self._keys.revoke(credentials.access_key)

    def role(self, arn: str, external_id: str | None = None) -> str:
        """Let everybody assume that role."""
        self._keys.roles[arn] = external_id
        return arn

    @property
    def denied(self) -> set[str]:
        """Actions such as "ecs:ListTasks" that nobody may do."""
        return self._rights.denied

    @denied.setter
    def denied(self, actions: set[str]) -> None:
        self._rights.denied = actions

    def policy(self, document: dict[str, Any] | None) -> None:
        """From now on only what this IAM policy grants (GetCallerIdentity apart); None: everything again."""
        self._rights.policy(document)

    # What there is.

    @property
    def lag(self) -> timedelta:
        """How long a new task is not shown by DescribeTasks and ListTasks."""
        return self.store.lag

    @lag.setter
    def lag(self, lag: timedelta) -> None:
        self.store.lag = lag

    @property
    def retention(self) -> timedelta:
        """How long a stopped task is still shown."""
        return self.store.retention

    @retention.setter
    def retention(self, retention: timedelta) -> None:
        self.store.retention = retention

    def cluster(self, name: str, region: str = REGION, status: str = "ACTIVE", account: str | None = None) -> str:
        """Make it, or give it another status; the ARN. One made anew after INACTIVE has none of the old tasks."""
        return self.store.put(account or self.account, region, name, status).arn

    def forget_cluster(self, arn: str) -> None:
        """As long after its deletion."""
        del self.store.clusters[arn]

    def task(
        self,
        cluster_arn: str,
        run_id: UUID | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        containers: Sequence[str] = ("prefect",),
        created_ago: float = 420,
        last_status: str = "RUNNING",
        launch_type: str = "FARGATE",
        family: str = "prefect_pool_9f1f5a0e-3a52-4f0d-a7a5-b3c0b2b5c9d2",
        long_arn: bool = True,
    ) -> FakeTask:
        """A task as the Prefect worker asks for it, so many seconds old. `last_status`: of its start, or RUNNING."""
        cluster = self.store.clusters[cluster_arn]
        body = task_body(
            task_arn(cluster.account, cluster.region, cluster.name if long_arn else None, uuid4().hex),
            cluster_arn,
            run_id=run_id,
            tags=tags if tags is not None else prefect_tags(run_id) if run_id else {},
            containers=containers,
            launch_type=launch_type,
            family=family,
            created=self._clock() - timedelta(seconds=created_ago),
        )
        task = FakeTask(body, self._clock, self.store.lock)
        _ = task.run() if last_status == "RUNNING" else task.starting(last_status)
        with self.store.lock:
            cluster.tasks[task.id] = task
        return task

    def unknown_task(self, cluster: str = "default", region: str = REGION) -> str:
        """The ARN of a task that never was."""
        return task_arn(self.account, region, cluster, uuid4().hex)

    def cluster_arn(self, name: str, region: str = REGION) -> str:
        return cluster_arn(self.account, region, name)

    # What goes wrong, and what was asked.

    def fault(
        self, kind: FaultKind, action: str | None = None, times: int | None = None, about: str | None = None
    ) -> None:
        """Let calls go wrong: of this action, so many times, about the task of this ARN; None: all."""
        self._faults.add(kind, action, times, about)

    def heal(self) -> None:
        """No fault and no delay any more. What is denied stays denied."""
        self.delay = 0.0
        self._faults.heal()

    def reset_counts(self) -> None:
        self.calls.clear()
        self.throttled = 0

    # One call.

    def _clock(self) -> datetime:
        return self.now()

    def _respond(self, call: Call) -> Answer | None:
        with self.store.lock:
            self.calls[call.action] += 1
        if self.delay:
            self._ended.wait(self.delay)
        return self._faults.answer(call, self._truth, lambda: self._denial(call))

    def _truth(self, call: Call) -> Answer:
        try:
            with self.store.lock:
                principal = self._keys.principal(call)
                return self._sts(call, principal) if call.service == "sts" else self._ecs(call, principal)
        except Refused as refused:
            return refusal(call.service, refused)

    def _denial(self, call: Call) -> Refused:
        return denial(self._keys.principal(call), call.action, "*")

    def _sts(self, call: Call, principal: Principal) -> Answer:
        if call.operation == "GetCallerIdentity":
            return get_caller_identity(principal)
        if call.operation == "AssumeRole":
            return assume_role(call, principal, self._keys, self._rights, self._clock())
        raise Refused("InvalidAction", f"Could not find operation {call.operation} for version 2011-06-15")

    def _ecs(self, call: Call, principal: Principal) -> Answer:
        if not self.limits.take(call.action, principal.account, call.region):
            self.throttled += 1
            raise throttling("ecs")
        if call.operation not in _ECS:
            raise Refused("UnknownOperationException", f"Unknown operation: {call.operation}")

        def permit(action: str, resource: str, cluster: str) -> None:
            self._rights.check(principal, action, resource, {"ecs:cluster": cluster})

        return as_json(_ECS[call.operation](Asked(call.params, principal.account, call.region, self.store, permit)))
