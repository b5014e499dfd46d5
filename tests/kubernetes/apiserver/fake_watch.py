"""Watches of the fake: events since a resourceVersion, bookmarks, 410 as an event, and an end in time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from math import inf

from tests.kubernetes.apiserver.fake_answers import Refused
from tests.kubernetes.apiserver.fake_lists import Wanted, whole_number
from tests.kubernetes.apiserver.fake_store import Entry, Event, Store

BOOKMARK_BEFORE_END = 2.0  # seconds, as the real one does
LOOK = 0.5  # seconds between looks at whether anybody listens


def watch(store: Store, wanted: Wanted, params: Mapping[str, str]) -> Iterator[bytes]:
    """JSON lines, b"" while nothing happens. The end is the caller's `close`, or timeoutSeconds."""
    timeout = whole_number(params, "timeoutSeconds")
    deadline = time.monotonic() + timeout if timeout else inf
    bookmark_at = deadline - BOOKMARK_BEFORE_END if timeout > BOOKMARK_BEFORE_END else inf
    if params.get("allowWatchBookmarks") not in {"true", "1"}:
        bookmark_at = inf
    at_start = store.revision
    revision = whole_number(params, "resourceVersion")
    if not revision:
        with store.changed:
            revision = store.revision
            present = [entry for entry in store.within(wanted.resource, wanted.namespace) if wanted.selects(entry)]
        yield from (_line("ADDED", entry, wanted) for entry in present)
    while time.monotonic() < deadline:
        try:
            events, seen = _next(store, wanted, revision, min(deadline, bookmark_at))
        except Refused as refusal:
            yield _raw_line("ERROR", json.dumps(refusal.body, separators=(",", ":")).encode())
            return
        yield from (line for event in events if (line := _told(event, wanted)))
        revision = max(revision, seen)
        if time.monotonic() >= bookmark_at:
            bookmark_at = inf
            if revision > at_start:  # the real one has nothing to mark before
                yield _bookmark(wanted, revision)
        yield b""


def _next(store: Store, wanted: Wanted, revision: int, until: float) -> tuple[list[Event], int]:
    """Events after `revision`, waiting a little for the first; and the revision now."""
    with store.changed:
        events = store.events_after(revision, wanted.resource)
        if not events:
            store.changed.wait(max(0, min(LOOK, until - time.monotonic())))
            events = store.events_after(revision, wanted.resource)
        return events, store.revision


def _told(event: Event, wanted: Wanted) -> bytes:
    """One that stops to match is DELETED to this watch, and one that starts is ADDED."""
    before = event.before is not None and wanted.covers(event.before)
    now = event.kind != "DELETED" and wanted.covers(event.entry)
    if now:
        return _line("MODIFIED" if before else "ADDED", event.entry, wanted)
    if not before or event.before is None:
        return b""
    # The last object that matched, at the revision of the change.
    last = event.entry if event.kind == "DELETED" else Entry.of(wanted.resource, event.before.obj(), event.revision)
    return _line("DELETED", last, wanted)


def _bookmark(wanted: Wanted, revision: int) -> bytes:
    kind, version = wanted.resource.kind, wanted.resource.api_version
    if wanted.partial:
        kind, version = "PartialObjectMetadata", "meta.k8s.io/v1"
    metadata = {"resourceVersion": str(revision), "creationTimestamp": None}
    body = {"kind": kind, "apiVersion": version, "metadata": metadata}
    return _raw_line("BOOKMARK", json.dumps(body, separators=(",", ":")).encode())


def _line(kind: str, entry: Entry, wanted: Wanted) -> bytes:
    return _raw_line(kind, entry.partial if wanted.partial else entry.whole)


def _raw_line(kind: str, body: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)
