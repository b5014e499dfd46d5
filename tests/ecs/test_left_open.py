"""What a scope leaves open while calls hang or fail: few threads, and no descriptors."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from reconciler.ports import AdapterError
from tests.ecs.fake import ACCOUNT, FaultKind
from tests.ecs.world import EcsWorld
from tests.rigs.polling import wait_until


def threads() -> int:
    return sum(thread.name == "ecs call" for thread in threading.enumerate())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.DRIP])
def test_calls_that_hang_are_made_by_four_threads(world: EcsWorld, kind: FaultKind) -> None:
    before, runs = threads(), some_runs(world)
    world.scope.identity(time.monotonic() + 5)
    world.aws.fault(kind)
    for _ in range(20):
        with pytest.raises(AdapterError):
            world.scope.observe(runs, time.monotonic() + 0.1)
        assert threads() - before <= 5, "four, and one that looks for credentials"
    world.heal()
    if kind is FaultKind.HANG:
        wait_until(lambda: threads() == before, "the threads to end", 15)
        world.scope.observe(runs, time.monotonic() + 5)


def some_runs(world: EcsWorld) -> list[Any]:
    """As many as seven calls take."""
    return [world.run_of(f"default::{world.aws.unknown_task()}", UUID(int=number)) for number in range(1, 701)]


def test_descriptors_do_not_pile_up(world: EcsWorld) -> None:
    """Fifty looks, every other with a failure that closes the connection."""
    aws, run = world.aws, world.run_of(None, uuid4())
    scope = world.bind(role_arn=aws.role(f"arn:aws:iam::{ACCOUNT}:role/reader"))
    kinds = (FaultKind.EXPIRED, FaultKind.TRUNCATED, FaultKind.MALFORMED, FaultKind.NOT_FOUND, FaultKind.DENIED)
    counts = []
    for number in range(50):
        if number % 2:
            aws.fault(kinds[number // 2 % len(kinds)], ("ecs:ListTasks", "sts:AssumeRole")[number // 2 % 2], times=1)
        with contextlib.suppress(AdapterError):
            scope.identity(time.monotonic() + 5)
            scope.observe([run], time.monotonic() + 5)
        aws.heal()
        aws.limits.refill()
        counts.append(descriptors())
    scope.close()
    assert max(counts[25:]) <= max(counts[5:25]) + 4, counts
