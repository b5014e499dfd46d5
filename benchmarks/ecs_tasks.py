"""The cluster of `benchmarks.ecs`: running tasks, in the size of real ones."""

from __future__ import annotations

import json
from uuid import uuid4

from tests.ecs.fake import REGION, FakeAws, FakeTask

LIVE, VANISHED = 10_000, 1_000
_KB = (3.0, 4.5)  # what a task with its tags and environment takes

__all__ = ["LIVE", "REGION", "VANISHED", "furnish"]


def furnish(aws: FakeAws) -> list[FakeTask]:
    cluster = aws.cluster("default")
    tasks = [aws.task(cluster, uuid4()) for _ in range(LIVE)]
    size = len(json.dumps(tasks[0].body)) / 1e3
    assert _KB[0] <= size <= _KB[1], f"a task takes {size} kB"
    return tasks
