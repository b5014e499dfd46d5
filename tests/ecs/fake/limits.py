"""The token buckets of ECS, one per account, region and group of actions (Amazon ECS API reference, "Throttling")."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple


class Limit(NamedTuple):
    burst: float
    rate: float  # tokens a second


TASKS, CLUSTERS, WRITES = "tasks", "clusters", "writes"
GROUPS = {
    "ecs:DescribeTasks": TASKS,
    "ecs:ListTasks": TASKS,
    "ecs:DescribeContainerInstances": TASKS,
    "ecs:DescribeClusters": CLUSTERS,
    "ecs:RunTask": WRITES,
    "ecs:StopTask": WRITES,
}


class Limits(dict[str, Limit | None]):
    """The limit of each group; None: no limit. Time is the machine's: nobody can move it."""

    def __init__(self) -> None:
        super().__init__({TASKS: Limit(100, 20), CLUSTERS: Limit(50, 20), WRITES: Limit(100, 40)})
        self._lock = threading.Lock()
        self._levels: dict[tuple[str, str, str], tuple[float, float]] = {}

    def take(self, action: str, account: str, region: str) -> bool:
        """Take a token. False: there is none."""
        group = GROUPS.get(action, "")
        limit = self.get(group)
        if limit is None:
            return True
        with self._lock:
            now, bucket = time.monotonic(), (group, account, region)
            level, since = self._levels.get(bucket, (limit.burst, now))
            level = min(limit.burst, level + (now - since) * limit.rate)
            self._levels[bucket] = (level - 1 if level >= 1 else level, now)
            return level >= 1

    def refill(self) -> None:
        """All buckets are full again."""
        with self._lock:
            self._levels.clear()
