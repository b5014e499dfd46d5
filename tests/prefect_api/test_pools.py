"""Whether a work pool's job template names the cluster of its runs, and what it costs to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reconciler.prefect_api.pools import names_cluster
from tests.fake_prefect import FakePrefect, connect

BLOCK = {"$ref": {"block_document_id": "6f0d9d0e-5a7c-4c3e-9d55-7d1d9a3b8f10"}}
LABELS = {"prefect.worker.type": "kubernetes"}


def template(value: object = "{{ cluster_config }}", **defaults: object) -> dict[str, Any]:
    """As the collections of Prefect 3.8.8 have it, cut down: there the variable has no default."""
    properties: dict[str, Any] = {"cluster_config": {"title": "Cluster Config", "allOf": [{"$ref": "#/definitions/K"}]}}
    for name, default in defaults.items():
        properties[name] = properties.get(name, {}) | {"default": default}
    job = {"namespace": "{{ namespace }}", "cluster_config": value}
    return {"job_configuration": job, "variables": {"type": "object", "properties": properties}}


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (template(), False),
        (template("{{cluster_config}}"), False),
        (template(" {{  cluster_config }} "), False),
        (template(cluster_config=None), False),
        (template(None), False),
        (template(None, cluster_config=BLOCK), False),  # no placeholder names the variable, so nobody reads it
        (template("{{ where }}"), False),
        (template("{{ where }}", cluster_config=BLOCK), False),
        (template(cluster_config=BLOCK), True),
        (template(cluster_config={"config": {"apiVersion": "v1"}, "context_name": "prod"}), True),
        (template("{{where}}", where=BLOCK), True),
        (template("{{ prefect.blocks.kubernetes-cluster-config.prod }}"), True),
        (template("{{ prefect.variables.cluster }}"), True),
        (template("{{ $CLUSTER }}"), True),
        (template("{{ a }}{{ b }}"), True),
        (template(BLOCK), True),
        ({}, False),
        (None, False),
        ("text", False),
        ({"job_configuration": []}, False),
        ({"job_configuration": {"cluster_config": "{{ x }}"}, "variables": {"properties": {"x": "text"}}}, False),
    ],
)
def test_a_template(base: object, expected: bool) -> None:
    assert names_cluster(base) is expected


def add(server: FakePrefect, pool: str, *, labels: Mapping[str, object] = LABELS, **fields: object) -> None:
    server.add(work_pool_name=pool, labels=labels, **fields)


def test_runs_are_told_apart_by_their_pools_in_one_call(server: FakePrefect) -> None:
    server.pools = dict.fromkeys(("plain", "own"), "kubernetes") | {"docker-pool": "docker"}
    server.templates = {"own": template(cluster_config=BLOCK), "docker-pool": template(cluster_config=BLOCK)}
    for _ in range(3):
        add(server, "plain")
        add(server, "own")
    add(server, "own", labels={})
    add(server, "docker-pool", labels={})
    add(server, "deleted")

    api = connect(server)
    runs = api.in_flight().runs

    assert [(run.work_pool, run.worker_type) for run in runs if run.pool_names_place] == [("own", "kubernetes")] * 4
    assert server.count("/work_pools/filter") == 1
    again = api.reread({run.id for run in runs})
    assert {run_id for run_id, run in again.items() if run.pool_names_place} == {
        run.id for run in runs if run.pool_names_place
    }
    assert server.count("/work_pools/filter") == 1


def test_a_run_may_name_its_cluster_itself(server: FakePrefect) -> None:
    server.pools = {"plain": "kubernetes"}
    own: dict[str, Any] = {"cluster_config": BLOCK, "image": "x"}
    add(server, "plain", job_variables=own)
    add(server, "docker-pool", labels={"prefect.worker.type": "docker"}, job_variables=own)
    api = connect(server)
    assert [run.pool_names_place for run in api.in_flight().runs] == [True, False]
    assert server.count("/work_pools/filter") == 0, "the rows tell all"

    for variables in ({"cluster_config": None}, {"image": "x"}, {}, None):
        add(server, "plain", job_variables=variables)
    assert [run.pool_names_place for run in api.in_flight().runs] == [True, False, False, False, False, False]


def test_what_a_template_holds_is_not_kept(server: FakePrefect) -> None:
    server.pools = {"own": "kubernetes"}
    server.templates = {"own": template({"config": {"users": [{"token": "very-secret"}]}})}
    add(server, "own")
    (run,) = connect(server).in_flight().runs
    assert run.pool_names_place
    assert "very-secret" not in repr(run)
