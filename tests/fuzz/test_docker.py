"""Docker: any pid, any answer of the engine. What is malformed says nothing, and nobody speaks for another's run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import Condition, Place, Seen
from reconciler.ports import AdapterError
from reconciler.testing import flow_run
from reconciler_adapters.docker import DockerScope
from tests.adapters.fake_docker import FakeDocker
from tests.fuzz.effort import fuzz
from tests.fuzz.spoiling import STRINGS, bodies

RUN, OTHER = UUID(int=1), UUID(int=2)
PIDS = st.one_of(
    STRINGS,
    st.builds("{}:{}".format, STRINGS, st.sampled_from(["a" * 64, "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"])),
    st.just("x://" + ":" * 100_000 + "a" * 64),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeDocker]:
    with FakeDocker() as engine:
        yield engine


def looked(engine: FakeDocker, pid: str | None) -> Seen | None:
    scope = DockerScope("a", {"base_url": engine.base_url})
    runs = [flow_run(pid, id=RUN)]
    try:
        scope.identity(time.monotonic() + 10)
        return scope.observe(runs, time.monotonic() + 10)
    except AdapterError as error:
        refused = str(error)
    assert len(refused) < 2000
    return None


@given(pid=PIDS)
@fuzz(200)
def test_any_pid_points_somewhere(pid: str) -> None:
    assert DockerScope("a", {"base_url": "tcp://127.0.0.1:1"}).locate(flow_run(pid)) in set(Place)


@given(data=st.data(), path=st.sampled_from(["/info", "/containers/json", "/containers/[^/]+/json", "/version"]))
@fuzz(120)
def test_any_answer(engine: FakeDocker, data: st.DataObject, path: str) -> None:
    """The run's container is alive, and so it stays, or nothing is known: no answer makes it gone or ended."""
    engine.containers.clear()
    engine.heal()
    mine = engine.add(RUN)
    engine.add(OTHER)
    query = {"filters": '{"label": ["io.prefect.flow-run-id"]}', "all": "1"}
    place = f"/containers/{mine.id}/json" if path.startswith("/containers/[") else path
    body = data.draw(bodies(engine.answer(place, query)[1]))
    engine.inject(body, path)
    seen = looked(engine, f"http+docker://localhost:{mine.id}")
    for run_id, many in (seen.observations if seen else {}).items():
        assert run_id == RUN
        for one in many:
            assert one.resource is None or one.resource.run_id == RUN


LABELS = st.one_of(
    STRINGS, st.sampled_from([str(OTHER), str(RUN).upper(), f"{{{RUN}}}", f"{RUN}\n", f"urn:uuid:{RUN}"])
)


@given(label=LABELS, pid_names_it=st.booleans(), status=st.sampled_from(["running", "exited", "created"]))
@fuzz(120)
def test_a_label_that_is_not_this_runs_says_nothing_of_it(
    engine: FakeDocker, label: str, status: str, *, pid_names_it: bool
) -> None:
    engine.containers.clear()
    engine.heal()
    odd = engine.add(RUN, status, ExitCode=1)
    odd.labels = {"io.prefect.flow-run-id": label}
    pid = f"http+docker://localhost:{odd.id if pid_names_it else 'b' * 64}"
    seen = looked(engine, pid)
    try:
        is_mine = UUID(label) == RUN
    except ValueError:
        is_mine = False
    assert seen is not None
    if not is_mine:
        (one,) = seen.observations[RUN]
        assert one.condition is (Condition.UNKNOWN if pid_names_it else Condition.GONE)
        assert one.resource is None or one.resource.id != odd.id


def test_a_huge_label_is_of_no_run(engine: FakeDocker) -> None:
    engine.containers.clear()
    engine.heal()
    odd = engine.add(uuid4())
    odd.labels = {"io.prefect.flow-run-id": "a" * 10_000_000}
    seen = looked(engine, None)
    assert seen is not None
    assert seen.observations[RUN][0].condition is Condition.GONE
    assert seen.strangers == []
