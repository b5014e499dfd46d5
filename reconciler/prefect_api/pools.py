"""What is asked of work pools: their type, and whether their job template names a cluster by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from reconciler.prefect_api.transport import Transport

KUBERNETES = "kubernetes"  # the one worker type whose job template may carry a cluster_config

_VARIABLE = re.compile(r"\s*\{\{\s*(\w+)\s*\}\}\s*")


class _Row(msgspec.Struct):
    name: str
    type: str
    base_job_template: object = None


@dataclass(frozen=True, slots=True)
class WorkPool:
    """The little that is kept of a pool: its template may hold secrets, such as a whole kubeconfig."""

    type: str
    names_cluster: bool = False


def read_pools(transport: Transport, names: Sequence[str], limit: int) -> dict[str, WorkPool]:
    """These work pools, by name; `limit` names per call. Raises OrchestratorError."""
    pools: dict[str, WorkPool] = {}
    for start in range(0, len(names), limit):
        body = {"work_pools": {"name": {"any_": names[start : start + limit]}}, "limit": limit}
        answer = transport.ask("POST", "/work_pools/filter", body)
        rows = transport.decode(answer, list[_Row], "a list of work pools")
        pools |= {row.name: WorkPool(row.type, names_cluster(row.base_job_template)) for row in rows}
    return pools


def names_cluster(template: object) -> bool:
    """Whether a base job template gives its jobs a cluster_config when nobody else does.

    The value is the template's own (a literal, or a placeholder such as "{{ prefect.blocks.x.y }}"), or the default of
    the variable that its placeholder names: by default "{{ cluster_config }}", whose default is absent or null
    (collections of 3.8.8). Prefect reads only variables that a placeholder names (`from_template_and_values`).
    """
    value = _within(template, "job_configuration", "cluster_config")
    variable = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
    if variable is not None:
        value = _within(template, "variables", "properties", variable[1], "default")
    return value is not None


def _within(value: object, *keys: str) -> object:
    """Follow the keys; None where they lead nowhere. A template is whatever its author wrote."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
