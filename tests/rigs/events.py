"""Events on a real server, and automations that wait for them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.rigs.polling import wait_until
from tests.rigs.prefect import SeededRun, call

SETTLED = "prefect-reconciler.flow-run.settled"
_FENCE = "rigs.fence"


def emit(api: str, event: str, resource: str, **labels: str) -> str:
    """Send one, and give its id."""
    body = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": {"prefect.resource.id": resource} | labels,
        "related": [],
        "payload": {},
    }
    call(api, "POST", "/events", [body])
    return str(body["id"])


def events(api: str, *resources: str, name: str) -> list[dict[str, Any]]:
    """The events of that name on these resources, as far as the server has written them: see `all_written`."""
    wanted = {"event": {"name": [name]}, "resource": {"id": list(resources)}}
    rows: list[dict[str, Any]] = call(api, "POST", "/events/filter", {"filter": wanted, "limit": 50})["events"]
    return rows


def all_written(api: str) -> None:
    """Wait until the server shows every event that was sent to it before this call.

    It writes them in batches, every 5 s, and in their order (3.8.8): one that is sent now is the last.
    """
    fence = f"{_FENCE}.{uuid.uuid4()}"
    emit(api, _FENCE, fence)
    wait_until(lambda: events(api, fence, name=_FENCE), "the server has written all events", 60, 0.3)


def settlements(*runs: SeededRun) -> list[dict[str, Any]]:
    """The events of settlements of these runs; all of them."""
    all_written(runs[0].api)
    return events(runs[0].api, *(resource_of(run) for run in runs), name=SETTLED)


def resource_of(run: SeededRun) -> str:
    return f"prefect.flow-run.{run.id}"


@contextmanager
def automation(
    api: str, match: Mapping[str, str], action: Mapping[str, object], *, event: str = SETTLED
) -> Iterator[str]:
    """One that does `action` once per flow run with such an event; gives its id."""
    trigger = {
        "type": "event",
        "posture": "Reactive",
        "expect": [event],
        "match": {"prefect.resource.id": "prefect.flow-run.*", **match},
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": 0,
    }
    body = {"name": f"on {event}", "enabled": True, "trigger": trigger, "actions": [dict(action)]}
    made = str(call(api, "POST", "/automations/", body)["id"])
    try:
        yield made
    finally:
        call(api, "DELETE", f"/automations/{made}")


def fired(api: str, automation_id: str) -> int:
    """How many times it has carried its action out, as far as the server has written it."""
    return len(events(api, f"prefect.automation.{automation_id}", name="prefect.automation.action.executed"))
