"""Clusters and their tasks, as far as anybody can still see them."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.ecs.fake.answers import Refused
from tests.ecs.fake.identifiers import cluster_arn
from tests.ecs.fake.task import FakeTask


@dataclass(slots=True)
class Cluster:
    arn: str
    status: str = "ACTIVE"
    tasks: dict[str, FakeTask] = field(default_factory=dict)  # by id

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]


class Store:
    """`retention`: how long a stopped task is known. `lag`: how long a new one is not yet shown to readers."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock, self.lock = clock, threading.RLock()
        self.retention, self.lag = timedelta(hours=1), timedelta(0)
        self.clusters: dict[str, Cluster] = {}

    def put(self, account: str, region: str, name: str, status: str) -> Cluster:
        """Make it, or give it another status. One of the name of a deleted one is new: it has no tasks."""
        arn = cluster_arn(account, region, name)
        known = self.clusters.get(arn)
        if known is None or (known.status == "INACTIVE" and status != "INACTIVE"):
            known = self.clusters[arn] = Cluster(arn)
        known.status = status
        return known

    def cluster(self, account: str, region: str, name: str) -> Cluster:
        """Raises Refused."""
        found = self.clusters.get(cluster_arn(account, region, name))
        if found is None:
            raise Refused("ClusterNotFoundException", "Cluster not found.")
        return found

    def shown(self, cluster: Cluster, behind: str = "") -> Iterator[FakeTask]:
        """What readers see, by id, which means nothing; behind that id. Of a deleted cluster: tasks with tags."""
        now, ids = self.clock(), sorted(cluster.tasks)
        for task_id in ids[bisect_right(ids, behind) :]:
            task = cluster.tasks[task_id]
            if self._is_shown(cluster, task, now):
                yield task

    def seen(self, cluster: Cluster, task_id: str) -> FakeTask | None:
        """A task as a reader sees it, or None."""
        task = cluster.tasks.get(task_id)
        return task if task and self._is_shown(cluster, task, self.clock()) else None

    def _is_shown(self, cluster: Cluster, task: FakeTask, now: datetime) -> bool:
        if cluster.status == "INACTIVE" and not task.body["tags"]:
            return False
        return self._is_known(task, now) and now >= task.created + self.lag

    def known(self, cluster: Cluster, task_id: str) -> FakeTask | None:
        """A task as a writer sees it: without lag."""
        task = cluster.tasks.get(task_id)
        return task if task and self._is_known(task, self.clock()) else None

    def _is_known(self, task: FakeTask, now: datetime) -> bool:
        return not task.is_forgotten and (task.stopped is None or now < task.stopped + self.retention)
