"""AWS ECS: clusters of one account, asked about the tasks that Prefect's ECS workers start.

A task carries its flow run's id in the tag `prefect.io/flow-run-id`, until somebody stops it by StopTask; no list can
be asked for by tag. The run's pid is `<cluster>::<task ARN>`, which names one task among all there are. ECS forgets
stopped tasks after an hour or more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from reconciler.model import FlowRun, Place, Resource, RunId, Seen
from reconciler.options import needed_sdk
from reconciler.ports import Problem
from reconciler_adapters.ecs.account import Account
from reconciler_adapters.ecs.calls import Conversation, conversation, explained
from reconciler_adapters.ecs.connection import THREADS, Buckets, Connection
from reconciler_adapters.ecs.crew import Crew
from reconciler_adapters.ecs.lookup import LAG, LookUp
from reconciler_adapters.ecs.names import ClusterName, TaskName
from reconciler_adapters.ecs.owners import Owners
from reconciler_adapters.ecs.rights import missing_rights

_CHECK_SECONDS = 15.0
_HALF_A_SECOND = timedelta(seconds=0.5)  # the header Date is cut to seconds: the middle is meant


class EcsScope:
    """One cluster, or some of one account.

    Options, texts unless said otherwise: `clusters` (a list of names or ARNs; default: the cluster `default`), `region`
    (default: AWS_REGION, else as the AWS command line finds it), `profile`, `role_arn` and `external_id` (a role to
    take on, of this account or another), `endpoint_url` (of all services). Credentials are found as the AWS command
    line finds them.
    """

    worker_types = frozenset({"ecs", "ecs:push"})
    lists_everything = False

    def __init__(self, name: str, options: Mapping[str, object]) -> None:
        with needed_sdk(name, "ecs", extra="aws"):
            import boto3  # noqa: F401
        self.name = name
        self._account = Account.of(name, options)
        self._connection: Connection | None = None
        self._crew, self._door, self._buckets = Crew(THREADS), Crew(1), Buckets()
        self._owners = Owners()
        self._clusters: frozenset[ClusterName] = frozenset()  # as last read
        self._remembered: dict[RunId, str] = {}

    @classmethod
    def discover(cls) -> None:
        """Find nothing: an account has many clusters, and none of them is the usual one."""

    def identity(self, deadline: float) -> str:
        """Read the clusters' ARNs, which name account and region. Each must be ACTIVE, and of the account that asks.

        A cluster that does not exist has no tasks, as if all had vanished: it is an error.
        """
        with self._conversation(deadline) as talk:
            found = talk.active(talk.configured(talk.account()))
        self._clusters = frozenset(found)
        return ",".join(sorted(cluster.arn for cluster in found))

    def locate(self, run: FlowRun) -> Place:
        """A task's ARN names its account, region and cluster: it is here, if that is one of ours, or elsewhere."""
        if run.pid is None:
            return Place.UNSAID
        name = TaskName.parse(run.pid)
        return Place.HERE if name and name.cluster in self._clusters else Place.ELSEWHERE

    def remind(self, resources: Mapping[RunId, Resource]) -> None:
        """Remember tasks: one whose run has no pid is looked for by its ARN then, and found after its tags are gone."""
        self._remembered = {run_id: resource.id for run_id, resource in resources.items() if resource.is_whole}

    def observe(self, runs: Sequence[FlowRun], deadline: float) -> Seen:
        if not self._clusters:
            self.identity(deadline)
        with self._conversation(deadline) as talk:
            look = LookUp(talk=talk, clusters=sorted(self._clusters), remembered=self._remembered, owners=self._owners)
            observations = look.of(runs)
            if talk.time is None:  # nothing was asked for: only a call tells the time
                talk.account()
        return Seen(
            observations=observations,
            strangers=look.strangers,
            incomplete=look.incomplete,
            place_time=talk.time + _HALF_A_SECOND if talk.time else None,
            place_time_within=_HALF_A_SECOND,
            lag=LAG,
        )

    def check(self) -> Sequence[Problem]:
        """Make each of the calls once, for each cluster."""
        return missing_rights(lambda: self._conversation(time.monotonic() + _CHECK_SECONDS))

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _conversation(self, deadline: float) -> Iterator[Conversation]:
        """Talk through the connection that is open. A failure closes it: the next one reads the credentials anew."""
        try:
            if self._connection is None or not self._connection.is_fresh:
                self.close()
                with explained(None, 0.0):
                    self._connection = Connection.open(self._account, self._buckets)
            with conversation(self._connection, self._crew, self._door, deadline) as talk:
                yield talk
        except Exception:
            self.close()
            raise
