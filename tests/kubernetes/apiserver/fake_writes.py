"""Creating, changing and deleting as the API server does it: subresources, grace periods, finalizers, namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.kubernetes.apiserver.fake_answers import bad_request, conflict, details, exists, not_found, terminating
from tests.kubernetes.apiserver.fake_defaults import complete, instant
from tests.kubernetes.apiserver.fake_lists import Wanted, whole_number
from tests.kubernetes.apiserver.fake_resources import JOBS, NAMESPACES, PODS, Resource
from tests.kubernetes.apiserver.fake_store import Entry, Object, Store, key_of

SYSTEM_FIELDS = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
GC_FINALIZERS = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}


def create(store: Store, resource: Resource, namespace: str | None, obj: Object) -> Entry:
    """Raises Refused: 404 of the namespace, 403 while it is terminating, 409, 422."""
    given = (obj.get("metadata") or {}).get("namespace")
    if given and namespace and given != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    with store.changed:
        name = (obj.get("metadata") or {}).get("name") or ""
        if namespace:
            home = store.get(NAMESPACES, namespace)
            if home is None:
                raise not_found(NAMESPACES, namespace)
            if "deletionTimestamp" in home.obj()["metadata"]:
                raise terminating(resource, name, namespace)
        new = complete(resource, namespace, obj)
        name = new["metadata"]["name"]
        if there := store.get(resource, key_of(resource, namespace, name)):
            raise exists(resource, name, deleting="deletionTimestamp" in there.obj()["metadata"])
        return store.put(resource, new)


def merged(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def update(store: Store, entry: Entry, new: Object, subresource: str) -> Entry:
    """Store `new` as far as this path may change it. Raises Refused (409)."""
    resource, old = entry.resource, entry.obj()
    given = new.get("metadata") or {}
    if given.get("resourceVersion", "") not in {"", str(entry.revision)}:
        raise conflict(resource, old["metadata"]["name"])
    kept = {field: old["metadata"][field] for field in SYSTEM_FIELDS if field in old["metadata"]}
    dropped = {key: value for key, value in given.items() if key not in SYSTEM_FIELDS}
    new = new | {"metadata": dropped | kept, "kind": resource.kind, "apiVersion": resource.api_version}
    if resource.subresources:
        _keep_parts(new, old, subresource)
    return _settled(store, entry, new)


def _keep_parts(new: Object, old: Object, subresource: str) -> None:
    kept = {"status": ["spec"], "finalize": ["status"], "": ["status"]}[subresource]
    if old["kind"] == NAMESPACES.kind and subresource == "":
        kept = ["status", "spec"]
    for part in kept:
        new.pop(part, None)
        if part in old:
            new[part] = old[part]


def _settled(store: Store, entry: Entry, new: Object) -> Entry:
    """Stored; or gone, when it was only waiting for its finalizers; or as it was, when nothing changes."""
    meta = new["metadata"]
    waiting = meta.get("finalizers") or (new.get("spec") or {}).get("finalizers")
    if "deletionTimestamp" in meta and not waiting and meta.get("deletionGracePeriodSeconds", 0) == 0:
        return store.remove(entry.resource, new)
    meta["resourceVersion"] = str(entry.revision)
    if new == entry.obj():
        return entry
    return store.put(entry.resource, new)


def delete(store: Store, entry: Entry, options: Mapping[str, str]) -> Entry | Object:
    """What the answer carries: the object where it stays or is a pod, else a Status."""
    obj, resource = entry.obj(), entry.resource
    if resource is NAMESPACES:
        return _delete_namespace(store, entry, obj)
    meta = obj["metadata"]
    meta["finalizers"] = _finalizers(resource, meta.get("finalizers") or [], options.get("propagationPolicy"))
    if not meta["finalizers"]:
        del meta["finalizers"]
    grace = _grace(obj, options) if resource is PODS else 0
    if "deletionTimestamp" in meta:
        grace = min(grace, meta.get("deletionGracePeriodSeconds", 0))
    if grace != meta.get("deletionGracePeriodSeconds"):
        meta["deletionTimestamp"] = instant(grace)
        meta["deletionGracePeriodSeconds"] = grace
    left = _settled(store, entry, obj)
    if resource is PODS or store.get(resource, entry.key):
        return left
    deleted = details(resource, meta["name"], uid=meta["uid"])
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": deleted}


def _delete_namespace(store: Store, entry: Entry, obj: Object) -> Entry:
    """It stays, Terminating, until its finalizer is taken away through /finalize."""
    if "deletionTimestamp" not in obj["metadata"]:
        obj["metadata"]["deletionTimestamp"] = instant()
        obj["status"] = {"phase": "Terminating"}
    return _settled(store, entry, obj)


def _finalizers(resource: Resource, present: list[str], policy: str | None) -> list[str]:
    """batch/v1 orphans the pods unless told otherwise; the garbage collector takes the finalizer away when done."""
    if policy is None and not set(present) & set(GC_FINALIZERS.values()):
        policy = "Orphan" if resource is JOBS else "Background"
    if policy is None:
        return present
    others = [finalizer for finalizer in present if finalizer not in GC_FINALIZERS.values()]
    return [*others, GC_FINALIZERS[policy]] if policy in GC_FINALIZERS else others


def _grace(pod: Object, options: Mapping[str, str]) -> int:
    if not pod["spec"].get("nodeName") or pod["status"].get("phase") in {"Failed", "Succeeded"}:
        return 0
    if "gracePeriodSeconds" in options:
        return whole_number(options, "gracePeriodSeconds")
    return int(pod["spec"].get("terminationGracePeriodSeconds", 30))


def delete_collection(store: Store, wanted: Wanted, options: Mapping[str, str]) -> None:
    """All that the selectors select."""
    with store.changed:
        for entry in store.within(wanted.resource, wanted.namespace):
            if wanted.selects(entry):
                delete(store, entry, options)
