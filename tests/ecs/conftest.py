"""A fake AWS for each test, and an environment from which boto3 can reach no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ecs.fake import DEFAULT_KEY, FakeAws

if TYPE_CHECKING:
    from tests.ecs.passes import Passes
    from tests.ecs.world import EcsWorld


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    """ECS and STS with one empty cluster, "default"."""
    with FakeAws() as aws:
        aws.cluster("default")
        yield aws


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fake's default key, and nothing of the machine's own: no profile, no instance role, no region, no proxy."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nowhere = {
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    for name, value in (DEFAULT_KEY.environment | nowhere).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def world(aws: FakeAws, credentials: None) -> Iterator[EcsWorld]:
    """A scope on the cluster "default"."""
    from tests.ecs.world import ecs_world  # the fake's own tests need no adapter

    with ecs_world(aws) as world:
        yield world


@pytest.fixture
def many(world: EcsWorld) -> Iterator[Passes]:
    """Whole passes of the core over `world`."""
    from tests.ecs.passes import passes

    with passes(world) as many:
        yield many
