"""What we have set to Crashed of late, as the server knows it."""

from __future__ import annotations

from datetime import datetime

import httpx
import msgspec

from reconciler.model import FlowRun, StateType
from reconciler.plan import SIGNATURE
from reconciler.prefect_api.payloads import RunRow, flow_run, wants_pool
from reconciler.prefect_api.pools import read_pools
from reconciler.prefect_api.refusals import ServerFault, TooLarge
from reconciler.prefect_api.transport import Transport

_LONGEST = 10_000  # characters of a message


class _State(msgspec.Struct):
    message: str | None = None


class _Message(msgspec.Struct):
    """A row again, for what a `RunRow` keeps the beginning of only."""

    state: _State


def read_crashed(transport: Transport, since: datetime, limit: int) -> list[tuple[FlowRun, str]]:
    """Flow runs that ended since then with a Crashed that is signed by us, and its message: one call.

    The newest `limit` of all that crashed; fewer, if one among them cannot be read, and none if that is the newest.
    Servers before 3.0 cannot be asked for ends: none. Raises OrchestratorError.
    """
    filters = {"state": {"type": {"any_": [str(StateType.CRASHED)]}}, "end_time": {"after_": since}}
    while limit:
        body = {"flow_runs": filters, "sort": "END_TIME_DESC", "limit": limit}
        try:
            answer = transport.ask("POST", "/flow_runs/filter", body, accept={httpx.codes.UNPROCESSABLE_ENTITY})
        except (ServerFault, TooLarge):
            limit //= 8
            continue
        if answer.status != httpx.codes.OK:
            return []
        rows = transport.decode(answer, list[msgspec.Raw], "a list of flow runs")
        found = [one for row in rows if (one := _ours(row)) is not None]
        pools = read_pools(transport, sorted({row.work_pool_name or "" for row, _ in found if wants_pool(row)}), limit)
        return [(flow_run(row, pools), message) for row, message in found]
    return []


def _ours(row: msgspec.Raw) -> tuple[RunRow, str] | None:
    try:
        known, told = msgspec.json.decode(row, type=RunRow), msgspec.json.decode(row, type=_Message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    message = (told.state.message or "")[-_LONGEST:]
    if known.state.type is not StateType.CRASHED or not message.endswith(SIGNATURE):
        return None
    return known, message
