"""The fake's memory: objects as JSON bytes with a growing resourceVersion, events for watches, old snapshots."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import msgspec

from tests.kubernetes.apiserver.fake_answers import Refused
from tests.kubernetes.apiserver.fake_resources import STORED, Resource

KEPT_SNAPSHOTS = 64
Kind = Literal["ADDED", "MODIFIED", "DELETED"]
Object = dict[str, Any]


class _Metadata(msgspec.Struct):
    metadata: msgspec.Raw


@dataclass(frozen=True)
class Entry:
    """One object at one revision; never changed. `raw` is its JSON as in a list: without kind and apiVersion."""

    resource: Resource
    key: str
    revision: int
    labels: dict[str, str]
    fields: dict[str, str]
    raw: bytes

    @classmethod
    def of(cls, resource: Resource, obj: Object, revision: int) -> Entry:
        meta = obj["metadata"]
        meta["resourceVersion"] = str(revision)
        raw = msgspec.json.encode({part: value for part, value in obj.items() if part not in {"kind", "apiVersion"}})
        key = key_of(resource, meta.get("namespace"), meta["name"])
        return cls(resource, key, revision, meta.get("labels") or {}, resource.field_values(obj), raw)

    def obj(self) -> Object:
        """A copy that may be changed."""
        start = {"kind": self.resource.kind, "apiVersion": self.resource.api_version}
        return start | msgspec.json.decode(self.raw)

    @property
    def whole(self) -> bytes:
        kind, version = self.resource.kind.encode(), self.resource.api_version.encode()
        return b'{"kind":"%s","apiVersion":"%s",' % (kind, version) + self.raw[1:]

    @property
    def partial(self) -> bytes:
        metadata = bytes(msgspec.json.decode(self.raw, type=_Metadata).metadata)
        return b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":' + metadata + b"}"


@dataclass(frozen=True)
class Event:
    """`entry` is the object after it (a deleted one with the revision of the deletion); `before` as it was."""

    revision: int
    kind: Kind
    entry: Entry
    before: Entry | None


def key_of(resource: Resource, namespace: str | None, name: str) -> str:
    """As etcd orders them: "namespace/name", or "name" where there are no namespaces."""
    return f"{namespace}/{name}" if resource.namespaced else name


def by_key(entry: Entry) -> str:
    return entry.key


class Store:
    """All reads and writes hold `changed`, which is notified by each write."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.revision = 1
        self.compacted = 0
        self._entries: dict[Resource, dict[str, Entry]] = {resource: {} for resource in STORED}
        self._ordered: dict[Resource, list[Entry]] = {}
        self._snapshots: dict[tuple[Resource, int], list[Entry]] = {}
        self._events: list[Event] = []

    def get(self, resource: Resource, key: str) -> Entry | None:
        return self._entries[resource].get(key)

    def ordered(self, resource: Resource) -> list[Entry]:
        """All of them by key; the list is not changed later."""
        if resource not in self._ordered:
            self._ordered[resource] = sorted(self._entries[resource].values(), key=by_key)
        return self._ordered[resource]

    def within(self, resource: Resource, namespace: str | None) -> list[Entry]:
        return _slice(self.ordered(resource), namespace)

    def put(self, resource: Resource, obj: Object) -> Entry:
        with self.changed:
            self.revision += 1
            entry = Entry.of(resource, obj, self.revision)
            before = self._entries[resource].get(entry.key)
            self._entries[resource][entry.key] = entry
            self._note(Event(self.revision, "MODIFIED" if before else "ADDED", entry, before))
            return entry

    def remove(self, resource: Resource, obj: Object) -> Entry:
        with self.changed:
            self.revision += 1
            entry = Entry.of(resource, obj, self.revision)
            before = self._entries[resource].pop(entry.key)
            self._note(Event(self.revision, "DELETED", entry, before))
            return entry

    def _note(self, event: Event) -> None:
        self._ordered.pop(event.entry.resource, None)
        self._events.append(event)
        self.changed.notify_all()

    def keep_snapshot(self, resource: Resource) -> None:
        """What a continue token of this revision goes on in."""
        with self.changed:
            self._snapshots[resource, self.revision] = self.ordered(resource)
            while len(self._snapshots) > KEPT_SNAPSHOTS:
                del self._snapshots[next(iter(self._snapshots))]

    def snapshot(self, resource: Resource, revision: int) -> list[Entry] | None:
        return self._snapshots.get((resource, revision))

    def compact(self) -> None:
        with self.changed:
            self.revision += 1
            self.compacted = self.revision
            self._snapshots.clear()
            self._events.clear()
            self.changed.notify_all()

    def events_after(self, revision: int, resource: Resource) -> list[Event]:
        """Raises Refused when some of them are forgotten."""
        if revision < self.compacted - 1:
            raise Refused(410, "Expired", f"too old resource version: {revision} ({self.compacted})")
        start = bisect_right(self._events, revision, key=lambda event: event.revision)
        return [event for event in islice(self._events, start, None) if event.entry.resource is resource]


def _slice(entries: list[Entry], namespace: str | None) -> list[Entry]:
    if namespace is None:
        return entries
    low = bisect_left(entries, f"{namespace}/", key=by_key)
    return entries[low : bisect_left(entries, f"{namespace}0", key=by_key)]  # "0" follows "/"


def after(entries: list[Entry], namespace: str | None, start: str) -> list[Entry]:
    """Those of the namespace from the key `start` on ("" for all); a token's start lacks the namespace of its list."""
    found = _slice(entries, namespace)
    first = f"{namespace}/{start}" if namespace is not None else start
    return found[bisect_left(found, first, key=by_key) :]
