"""Sightings, times and clock readings as rows of text, and back. What somebody else wrote there may be anything."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.clock import Reading
from reconciler.model import Resource, RunId, Sighting

# whatever stands in a file that somebody else wrote
TROUBLE = (sqlite3.Error, OSError, ValueError, TypeError, AttributeError, OverflowError)
_YEARS = range(1900, 9000)  # the sums of others leave what Python can count
_CENTURY = timedelta(days=36525)


def row_of(sighting: Sighting) -> tuple[str | float | None, ...]:
    resource = sighting.resource
    return (
        *(sighting.scope, sighting.identity, str(resource.run_id), resource.id, resource.title, resource.key),
        *(text_of(resource.created_at), resource.created_within.total_seconds(), resource.node, resource.is_whole),
        *(
            text_of(sighting.first_seen),
            text_of(sighting.last_seen),
            text_of(sighting.live_seen),
            text_of(sighting.ended_seen),
        ),
        sighting.reason,
        sighting.was_mapped,
    )


def sighting_of(row: tuple[Any, ...], run_id: RunId) -> Sighting:
    scope, identity, _, resource_id, title, key, created_at, within, node, whole, *seen = row
    first, last, live, ended, reason, was_mapped = seen
    if not all(isinstance(text, str) for text in (scope, identity, resource_id, title, key, node or "", reason)):
        raise TypeError("a sighting whose words are no text")
    resource = Resource(
        id=resource_id,
        title=title,
        run_id=run_id,
        key=key,
        created_at=time_of(created_at),
        created_within=_length_of(within),
        node=node,
        is_whole=bool(whole),
    )
    return Sighting(
        scope=scope,
        identity=identity,
        resource=resource,
        first_seen=moment_of(first),
        last_seen=moment_of(last),
        live_seen=time_of(live),
        ended_seen=time_of(ended),
        reason=reason,
        was_mapped=bool(was_mapped),
    )


def reading_of(row: tuple[Any, ...]) -> Reading | None:
    """None: what stands there is none."""
    try:
        return Reading(row[0], moment_of(row[1]), _length_of(row[2]))
    except TROUBLE:
        return None


def text_of(time: datetime | None) -> str | None:
    """Every time is written in UTC with microseconds, so that text order is time order."""
    return None if time is None else time.astimezone(UTC).isoformat(timespec="microseconds")


def time_of(text: str | None) -> datetime | None:
    return None if text is None else moment_of(text)


def _length_of(seconds: float) -> timedelta:
    length = timedelta(seconds=seconds)
    if abs(length) > _CENTURY:
        raise ValueError(f"{seconds:g} s are no length of time")
    return length


def moment_of(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.year not in _YEARS:
        raise ValueError(f"a time that no clock shows: {time.year}")
    if time.tzinfo is None:
        raise ValueError(f"a time without a time zone: {text}")
    return time
