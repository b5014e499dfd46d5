"""Reads flow runs by their ids, whatever their state, and never lets one that cannot be read look deleted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from reconciler.model import FlowRun, RunId
from reconciler.ports import Unreadable
from reconciler.prefect_api.payloads import RowEdge, RunRow, flow_run
from reconciler.prefect_api.pools import WorkPool
from reconciler.prefect_api.refusals import ServerFault, TooLarge
from reconciler.prefect_api.transport import Transport
from reconciler.words import legible, one_line

_MOST_EXTRA = 60  # calls in search of the rows that spoil a page
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def reread(
    transport: Transport, run_ids: Collection[RunId], pools: Mapping[str, WorkPool], limit: int
) -> dict[RunId, FlowRun]:
    """These runs as they are now, `limit` a call; deleted ones are missing. Raises OrchestratorError.

    Raises `Unreadable` if rows are left over that cannot be read, since a row that is left out would be taken for
    deleted. One row that the server cannot serialise spoils the page (see `reading.py`), so that is halved.
    """
    rows, unread, extra, ids = dict[RunId, FlowRun](), dict[RunId, str](), 0, sorted(set(run_ids))
    chunks = [ids[start : start + limit] for start in range(0, len(ids), limit)]
    while chunks:
        chunk = chunks.pop()
        try:
            found = _read(transport, chunk, unread)
        except (ServerFault, TooLarge) as error:
            if len(chunk) == 1 or extra >= _MOST_EXTRA:
                unread |= dict.fromkeys(chunk, _why(error))
                continue
            extra, middle = extra + 2, len(chunk) // 2
            chunks += [chunk[middle:], chunk[:middle]]
            continue
        rows |= {row.id: flow_run(row, pools) for row in found}
    if unread:
        raise Unreadable(unread, rows)
    return rows


def _read(transport: Transport, chunk: Sequence[RunId], unread: dict[RunId, str]) -> list[RunRow]:
    answer = transport.ask("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": chunk}}, "limit": len(chunk)})
    found, odd, asked = list[RunRow](), dict[RunId | None, str](), set(chunk)
    for raw in transport.decode(answer, list[msgspec.Raw], "a list of flow runs"):
        try:
            row = msgspec.json.decode(raw, type=RunRow)
        except _UNREADABLE as error:
            odd[_id_of(raw)] = f"its data are not understood: {legible(one_line(error))}"
        else:
            found += [row] if row.id in asked else []
    if None in odd:  # it may be any of them
        missing = asked - {row.id for row in found}
        unread |= dict.fromkeys(missing, odd[None])
    unread |= {run_id: why for run_id, why in odd.items() if run_id in asked}
    return found


def _id_of(raw: msgspec.Raw) -> RunId | None:
    try:
        return msgspec.json.decode(raw, type=RowEdge).id
    except _UNREADABLE:
        return None


def _why(error: ServerFault | TooLarge) -> str:
    if isinstance(error, ServerFault):
        return (
            f"{error}; its labels may hold null or nested values: replace those by texts, numbers or booleans with "
            "PATCH /flow_runs/<id>/labels"
        )
    return str(error)
