"""What we have set to Crashed of late, as the server knows it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from reconciler.model import FlowRun, StateType
from reconciler.plan import SIGNATURE
from reconciler.prefect_api.payloads import RunRow, flow_run
from reconciler.prefect_api.transport import Transport

_LONGEST = 10_000  # characters of a message


class _State(msgspec.Struct):
    message: str | None = None


class _Message(msgspec.Struct):
    """A row again, for what a `RunRow` keeps the beginning of only."""

    state: _State


def read_crashed(transport: Transport, since: datetime, limit: int) -> list[tuple[FlowRun, str]]:
    """Flow runs that ended since then with a Crashed that is signed by us, and its message: one call.

    The newest `limit` of all that crashed. Servers before 3.0 cannot be asked for ends: none. Raises OrchestratorError.
    """
    filters = {"state": {"type": {"any_": [str(StateType.CRASHED)]}}, "end_time": {"after_": since}}
    body = {"flow_runs": filters, "sort": "END_TIME_DESC", "limit": limit}
    answer = transport.ask("POST", "/flow_runs/filter", body, accept={422})
    if answer.status != 200:  # noqa: PLR2004
        return []
    rows = transport.decode(answer, list[RunRow], "a list of flow runs")
    messages = transport.decode(answer, list[_Message], "a list of flow runs")
    told = ((row, (one.state.message or "")[-_LONGEST:]) for row, one in zip(rows, messages, strict=True))
    return [
        (flow_run(row, {}), message)
        for row, message in told
        if row.state.type is StateType.CRASHED and message.endswith(SIGNATURE)
    ]
