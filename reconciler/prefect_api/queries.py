"""The two questions that together give every in-flight flow run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reconciler.model import StateType
from reconciler.prefect_api.payloads import RunRow


@dataclass(frozen=True, slots=True)
class Query:
    """A filter, and the same filter for the rows that come back.

    Rows are checked because servers drop a filter silently and answer with every run there is: `any_` together with
    `not_any_` (3.1.9 to 3.8.8), an unknown top-level key (all versions).
    """

    title: str
    filter: dict[str, object]
    admits: Callable[[RunRow], bool]


_BEFORE_THE_END = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)

WITH_INFRASTRUCTURE = Query(
    "pending, running and cancelling flow runs",
    {"state": {"type": {"any_": [str(kind) for kind in _BEFORE_THE_END]}}},
    admits=lambda row: row.state.type in _BEFORE_THE_END,
)
AWAITING_RETRY = Query(
    "flow runs that await a retry",
    {"state": {"type": {"any_": ["SCHEDULED"]}, "name": {"any_": ["AwaitingRetry"]}}},
    admits=lambda row: row.state.type is StateType.SCHEDULED and row.state.name == "AwaitingRetry",
)
