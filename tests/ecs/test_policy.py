"""The policy in config/aws is enough to see everything, with nothing to spare; what is missing is named and mended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from reconciler.model import Condition, FlowRun
from reconciler.ports import Misconfigured
from reconciler_adapters.ecs import EcsScope
from reconciler_adapters.ecs.names import ClusterName
from reconciler_adapters.ecs.rights import policy
from tests.ecs.fake import FakeAws
from tests.ecs.world import EcsWorld

FILE = Path(__file__).parents[2] / "config" / "aws" / "iam-policy.json"
TEXT = FILE.read_text(encoding="utf-8")
DOCUMENT: dict[str, Any] = json.loads(TEXT)
ARNS: list[str] = DOCUMENT["Statement"][0]["Resource"]
CLUSTER = ARNS[0].rpartition("/")[2]
ACTIONS = ["ecs:DescribeClusters", "ecs:DescribeTasks", "ecs:ListTasks"]
STATEMENTS = {"Clusters": ["ecs:DescribeClusters"], "Tasks": ["ecs:DescribeTasks", "ecs:ListTasks"]}


@pytest.fixture
def furnished(world: EcsWorld) -> EcsWorld:
    """The cluster of the file is there, and the world's runs are placed in it."""
    world.cluster = world.aws.cluster(CLUSTER)
    assert [world.cluster] == ARNS
    return world


@pytest.fixture
def scope(furnished: EcsWorld) -> Iterator[EcsScope]:
    scope = furnished.bind(clusters=[CLUSTER])
    yield scope
    scope.close()


def soon() -> float:
    return time.monotonic() + 20


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def without_action(action: str) -> dict[str, Any]:
    left = [one | {"Action": [it for it in listed(one["Action"]) if it != action]} for one in DOCUMENT["Statement"]]
    return DOCUMENT | {"Statement": [one for one in left if one["Action"]]}


def without_statement(name: str) -> dict[str, Any]:
    return DOCUMENT | {"Statement": [one for one in DOCUMENT["Statement"] if one["Sid"] != name]}


def for_another_cluster() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(TEXT.replace(f"cluster/{CLUSTER}", "cluster/another"))
    return document


def see(world: EcsWorld, scope: EcsScope) -> None:
    """Identity, a look at runs for some of which tasks are listed, and a check."""
    assert scope.identity(soon()) == world.cluster
    alive, ended, lost = world.place(Condition.ALIVE), world.place(Condition.EXITED), vanished(world)
    nameless = replace(world.place(Condition.ALIVE), pid=None)
    world.aws.reset_counts()
    seen = scope.observe([alive, ended, lost, nameless], soon()).observations
    conditions = {run_id: [one.condition for one in many] for run_id, many in seen.items()}
    assert conditions == {
        alive.id: [Condition.ALIVE],
        ended.id: [Condition.EXITED],
        lost.id: [Condition.GONE],
        nameless.id: [Condition.ALIVE],
    }
    assert {"ecs:DescribeTasks", "ecs:ListTasks"} <= world.aws.calls.keys()
    assert scope.check() == []


def vanished(world: EcsWorld) -> FlowRun:
    return world.run_of(f"{CLUSTER}::{world.aws.unknown_task(CLUSTER)}", uuid4())


def mended(scope: EcsScope, aws: FakeAws) -> list[str]:
    """What `check` says is missing. Puts its remedy into force."""
    (problem,) = scope.check()
    aws.policy(json.loads(problem.remedy))
    assert not problem.optional
    return problem.text.removeprefix("missing rights: ").split(", ")


def test_the_file_is_the_policy_of_its_clusters() -> None:
    clusters = [name for arn in ARNS if (name := ClusterName.parse(arn))]
    assert policy(clusters) + "\n" == TEXT
    assert [action for one in DOCUMENT["Statement"] for action in listed(one["Action"])] == ACTIONS


def test_it_is_enough(furnished: EcsWorld, scope: EcsScope) -> None:
    furnished.aws.policy(DOCUMENT)
    see(furnished, scope)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_that_is_missing_is_named_and_mended(furnished: EcsWorld, scope: EcsScope, action: str) -> None:
    furnished.aws.policy(without_action(action))
    assert mended(scope, furnished.aws) == [f"{action} on cluster {CLUSTER}"]
    see(furnished, scope)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_that_is_missing_is_named_and_mended(furnished: EcsWorld, scope: EcsScope, name: str) -> None:
    furnished.aws.policy(without_statement(name))
    assert mended(scope, furnished.aws) == [f"{action} on cluster {CLUSTER}" for action in STATEMENTS[name]]
    see(furnished, scope)


@pytest.mark.parametrize("action", ACTIONS)
def test_without_an_action_nothing_is_called_gone(furnished: EcsWorld, scope: EcsScope, action: str) -> None:
    furnished.aws.policy(without_action(action))
    with pytest.raises(Misconfigured, match=f"not authorized to perform: {action} .*`reconcile check`"):
        scope.observe([vanished(furnished)], soon())


def test_a_policy_for_another_cluster_is_refused_and_this_one_is_named(furnished: EcsWorld, scope: EcsScope) -> None:
    furnished.aws.policy(for_another_cluster())
    with pytest.raises(Misconfigured, match=rf"DescribeClusters .*on resource: {ARNS[0]} "):
        scope.identity(soon())
    assert mended(scope, furnished.aws) == [f"{action} on cluster {CLUSTER}" for action in ACTIONS]
    see(furnished, scope)


def test_of_several_clusters_the_one_without_rights_is_named(furnished: EcsWorld) -> None:
    furnished.aws.cluster("another")
    scope = furnished.bind(clusters=[CLUSTER, "another"])
    furnished.aws.policy(DOCUMENT)
    assert mended(scope, furnished.aws) == [f"{action} on cluster another" for action in ACTIONS]
    assert scope.check() == []
    scope.close()
