"""A fake AWS for each test, and an environment from which boto3 can reach no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.loaders import JSONFileLoader

from tests.ecs.fake import DEFAULT_KEY, REGION, FakeAws

if TYPE_CHECKING:
    from tests.ecs.asking import Bind
    from tests.ecs.passes import Passes
    from tests.ecs.tool import PrefectOverHttp, Tool
    from tests.ecs.world import EcsWorld


_read = cache(JSONFileLoader().load_file)


@pytest.fixture(autouse=True)
def models_that_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 reads its description of each service anew for each session: half of the time of a short test."""
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda _, path: _read(path))


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


@pytest.fixture
def bind(aws: FakeAws) -> Iterator[Bind]:
    """Make scopes on the fake, with these options."""
    from reconciler_adapters.ecs import EcsScope

    scopes: list[EcsScope] = []

    def bind(**options: object) -> EcsScope:
        scopes.append(EcsScope("a", {"endpoint_url": aws.url, "region": REGION, **options}))
        return scopes[-1]

    yield bind
    for scope in scopes:
        scope.close()


@pytest.fixture
def home(aws: FakeAws) -> str:
    """The ARN of the cluster "default"."""
    return aws.cluster("default")


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key in the environment."""
    for name in DEFAULT_KEY.environment:
        monkeypatch.delenv(name)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write ~/.aws/config: this text as the profile "p"."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    def write(text: str) -> None:
        (tmp_path / "config").write_text(f"[profile p]\n{text}\n")

    return write


@pytest.fixture
def prefect() -> Iterator[PrefectOverHttp]:
    from tests.ecs.tool import PrefectOverHttp

    prefect = PrefectOverHttp()
    yield prefect
    prefect.close()


@pytest.fixture
def tool(tmp_path: Path, prefect: PrefectOverHttp) -> Tool:
    from tests.ecs.tool import Tool

    return Tool(tmp_path, prefect)
