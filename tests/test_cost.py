"""What a pass costs: calls grow with pages and suspects, never with healthy runs."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from reconciler.cycle import Cycle
from reconciler.memory import Memory
from reconciler.model import RunMapping
from reconciler.outlook import Outlook
from reconciler.plan import Policy
from reconciler.ports import BoundScope
from reconciler_adapters.docker import DockerScope
from tests.adapters.fake_docker import FakeDocker
from tests.fake_prefect import FakePrefect, connect

LABEL = "prefect.worker.type"


def costs(runs: int, dead: int = 0) -> tuple[int, int]:
    """Requests to Prefect and to Docker in one pass over that many runs, `dead` of them exited."""
    server = FakePrefect()
    with FakeDocker() as engine:
        for number in range(runs):
            row = server.add(work_pool_name="pool", labels={LABEL: "docker"})
            container = engine.add(UUID(row["id"]), "exited" if number < dead else "running")
            row["infrastructure_pid"] = f"http+docker://localhost:{container.id}"
        api = connect(server)
        bound = BoundScope(
            DockerScope("a", {"base_url": engine.base_url}), "docker", RunMapping(work_pools=frozenset({"pool"}))
        )
        cycle = Cycle(api, Outlook([bound], Memory(), 20.0), Policy(settle_zero=timedelta(0)), wait=lambda _: None)
        planned = cycle.plan()
        assert len(planned.plan.findings) == runs
        assert not planned.problems
        cycle.outlook.close()
        api.close()
        return len(server.requests), len(engine.asked)


def test_calls_grow_with_pages_not_with_healthy_runs() -> None:
    small, large = costs(10), costs(1000)
    print(f"calls to (Prefect, Docker): 10 runs {small}, 1,000 runs {large}")
    pages = 1000 // 200
    assert large[0] - small[0] == pages, "5 more full pages, and nothing else"
    assert large[1] == small[1]


@pytest.mark.parametrize("dead", [1, 20])
def test_each_suspect_costs_a_few_calls(dead: int) -> None:
    healthy, sick = costs(100), costs(100, dead)
    together = 5  # their rows again, their heartbeats, log lines, task runs by their start and by their end
    assert sick[0] - healthy[0] == dead + together, "one history each"
