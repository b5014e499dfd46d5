"""States as a Prefect server of 3.8.8 makes, takes and refuses them, and its task runs; for `fake_prefect`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx

TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
_MOST_RELATED = 100


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def new_state(state_type: str, name: str | None, at: datetime, **details: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "type": state_type,
        "name": name or state_type.capitalize(),
        "timestamp": stamp(at),
        "message": None,
        "state_details": {"scheduled_time": None, "child_flow_run_id": None, "transition_id": str(uuid4())} | details,
    }


def propose(run: dict[str, Any], proposed: dict[str, Any]) -> httpx.Response | None:
    """The refusal; None if the state is taken. Nothing guards Cancelled, and little guards Scheduled."""
    current = run["state"]
    if current["state_details"]["transition_id"] == proposed["state_details"]["transition_id"]:
        return verdict("REJECT", current, "This run has already made this state transition.")
    if proposed["type"] == "CRASHED" and current["type"] in TERMINAL:
        return verdict("ABORT", current, f"Run is already in terminal state {current['type']}.")
    if current["type"] == "CANCELLING" and proposed["type"] != "CANCELLED":
        return verdict("REJECT", current, "Cannot transition to non-terminal state.")
    if proposed["type"] == "SCHEDULED" and current["type"] in TERMINAL and run["deployment_id"] is None:
        return verdict("ABORT", current, "Cannot reschedule a run without an associated deployment.")
    return None


def reschedule(run: dict[str, Any], at: str | None) -> None:
    """What becomes of the row of a run that has ended and is Scheduled again."""
    run["empirical_policy"] = {**(run["empirical_policy"] or {}), "retry_type": "reschedule"}
    run["next_scheduled_start_time"] = at


def propose_to_task_run(row: dict[str, Any] | None, body: dict[str, Any], at: datetime) -> httpx.Response:
    """Unlike that of flow runs, their policy does not look at transition ids."""
    assert body["force"] is False
    if row is None:
        return httpx.Response(404, json={"exception_message": "Task run with id ... not found"})
    if row["state"]["type"] in TERMINAL:
        return verdict("ABORT", row["state"], f"Run is already {row['state']['type']}.")
    proposed = body["state"]
    state = new_state(proposed["type"], proposed["name"], at, **proposed["state_details"])
    row["state"] = state | {"message": proposed["message"]}
    return verdict("ACCEPT", row["state"], None)


def matching_task_runs(rows: list[dict[str, Any]], body: dict[str, Any]) -> list[dict[str, Any]]:
    """By id, or those of flow runs by state type."""
    ids, owners = body["task_runs"].get("id", {}).get("any_"), body.get("flow_runs", {}).get("id", {}).get("any_")
    types = body["task_runs"].get("state", {}).get("type", {}).get("any_")
    found = [
        row
        for row in rows
        if (ids is None or row["id"] in ids)
        and (owners is None or row["flow_run_id"] in owners)
        and (types is None or row["state"]["type"] in types)
    ]
    return sorted(found, key=lambda row: str(row["id"]), reverse=True)


def is_event(event: dict[str, Any]) -> bool:
    """Labels are texts, and each resource has an id."""
    parts = [event["resource"], *event["related"]]
    texts = [text for part in parts for text in part.values()]
    return (
        bool(UUID(event["id"]))
        and all(isinstance(text, str) and text for text in texts)
        and all("prefect.resource.id" in part for part in parts)
        and all("prefect.resource.role" in part for part in event["related"])
        and len(event["related"]) <= _MOST_RELATED
    )


def verdict(status: str, state: dict[str, Any], reason: str | None) -> httpx.Response:
    code = 201 if status == "ACCEPT" else 200
    return httpx.Response(code, json={"status": status, "state": state, "details": {"reason": reason}})
