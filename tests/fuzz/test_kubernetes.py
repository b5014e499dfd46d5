"""Kubernetes: any pid, any object of the API server. What is malformed says nothing of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import Condition, Place
from reconciler.ports import AdapterError
from reconciler.testing import flow_run
from tests.fuzz.effort import fuzz
from tests.fuzz.spoiling import STRINGS, bodies
from tests.kubernetes.apiserver.fake import FakeApiServer
from tests.kubernetes.world import HOME, KubernetesWorld, kubernetes_world, pid_of

RUN, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesWorld]:
    folder: Path = tmp_path_factory.mktemp("kubernetes")
    with FakeApiServer() as server, kubernetes_world(server, folder) as world:
        job = world.cluster.job(RUN)
        world.cluster.pod(job)
        world.cluster.pod(world.cluster.job(OTHER))
        world.jobs[flow_run(pid_of(job), id=RUN)] = job
        yield world


@given(pid=st.one_of(STRINGS, st.builds("{}:{}".format, STRINGS, STRINGS), st.just(":" * 100_000)))
@fuzz(150)
def test_any_pid_points_somewhere(world: KubernetesWorld, pid: str) -> None:
    assert world.scope.locate(flow_run(pid)) in set(Place)


@given(data=st.data(), part=st.sampled_from(["/jobs", "/pods", "/namespaces/", "/nodes"]))
@fuzz(120)
def test_any_object(world: KubernetesWorld, data: st.DataObject, part: str) -> None:
    """Nobody is answered for but the run that was asked for, and no answer is a bug of ours."""
    (run,) = world.jobs

    def edit(path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if part not in path or not data.draw(st.booleans()):
            return status, headers, body
        spoilt = data.draw(bodies(json.loads(body)))
        return status, headers | {"content-length": str(len(spoilt))}, spoilt

    world.front.rewrite(edit)
    try:
        world.scope.identity(time.monotonic() + 10)
        seen = world.scope.observe([run], time.monotonic() + 10)
    except AdapterError:
        return
    finally:
        world.front.rewrite(lambda path, status, headers, body: (status, headers, body))
    assert set(seen.observations) <= {RUN}
    for one in seen.observations.get(RUN, ()):
        assert one.resource is None or one.resource.run_id == RUN


@given(label=st.one_of(STRINGS, st.sampled_from([str(OTHER), f"{RUN}1", "None"])))
@fuzz(60)
def test_a_label_that_is_not_this_runs_says_nothing_of_it(world: KubernetesWorld, label: str) -> None:
    (run,) = world.jobs
    told = json.dumps(label).encode()

    def edit(path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        spoilt = body.replace(f'"{RUN}"'.encode(), told)
        return status, headers | {"content-length": str(len(spoilt))}, spoilt

    world.front.rewrite(edit)
    try:
        seen = world.scope.observe([flow_run(f"{HOME}:another", id=RUN)], time.monotonic() + 10)
    except AdapterError:
        return
    finally:
        world.front.rewrite(lambda path, status, headers, body: (status, headers, body))
    assert run.id == RUN
    assert all(one.condition in {Condition.GONE, Condition.UNKNOWN} for one in seen.observations[RUN])
