"""Who may do what, from the RBAC objects in the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.apiserver.fake_answers import Refused, details
from tests.kubernetes.apiserver.fake_resources import (
    ACCESS_REVIEWS,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ROLE_BINDINGS,
    ROLES,
    Resource,
)
from tests.kubernetes.apiserver.fake_store import Store, key_of


@dataclass(frozen=True)
class Attempt:
    """As the API server sees a request; a GET of namespace x is in the namespace x."""

    user: str
    verb: str
    group: str
    resource: str  # with its subresource: "pods/status"
    namespace: str = ""  # "": at the cluster scope
    name: str = ""


def may(store: Store, attempt: Attempt) -> str | None:
    """The reason why it is allowed, or None. "admin" is of system:masters."""
    if attempt.user == "admin":
        return ""
    if (attempt.verb, attempt.resource) == ("create", ACCESS_REVIEWS.plural) and attempt.user != "system:anonymous":
        return ""  # the ClusterRole system:basic-user
    for binding, rules in _bound(store, attempt):
        if any(_allows(rule, attempt) for rule in rules):
            role = binding["roleRef"]
            name = binding["metadata"]["name"]
            namespace = binding["metadata"].get("namespace")
            named = f'"{name}/{namespace}"' if namespace else f'"{name}"'
            return (
                f'RBAC: allowed by {binding["kind"]} {named} of {role["kind"]} "{role["name"]}" '
                f'to User "{attempt.user}"'
            )
    return None


def check(store: Store, attempt: Attempt, resource: Resource) -> None:
    """Raises Refused (403)."""
    if may(store, attempt) is not None:
        return
    where = f'in the namespace "{attempt.namespace}"' if attempt.namespace else "at the cluster scope"
    named = f' "{attempt.name}"' if attempt.name else ""
    message = (
        f'{resource.qualified}{named} is forbidden: User "{attempt.user}" cannot {attempt.verb} resource '
        f'"{attempt.resource}" in API group "{attempt.group}" {where}'
    )
    raise Refused(403, "Forbidden", message, details=details(resource, attempt.name))


def review(store: Store, user: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The status of a SelfSubjectAccessReview; "*" or nothing as namespace asks for all of them."""
    asked = spec.get("resourceAttributes")
    if asked is None:
        return {"allowed": user == "admin"}
    plural = asked.get("resource", "")
    subresource = asked.get("subresource", "")
    attempt = Attempt(
        user=user,
        verb=asked.get("verb", ""),
        group=asked.get("group", ""),
        resource=f"{plural}/{subresource}" if subresource else plural,
        namespace=asked.get("namespace", ""),
        name=asked.get("name", ""),
    )
    reason = may(store, attempt)
    return {"allowed": reason is not None} | ({"reason": reason} if reason else {})


def _bound(store: Store, attempt: Attempt) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Bindings of the user that count there, with the rules of their roles."""
    with store.changed:
        entries = list(store.within(CLUSTER_ROLE_BINDINGS, None))
        entries += store.within(ROLE_BINDINGS, attempt.namespace) if attempt.namespace else []
        for binding in (entry.obj() for entry in entries):
            subjects = binding.get("subjects") or []
            if any(subject["kind"] == "User" and subject["name"] == attempt.user for subject in subjects):
                yield binding, _rules(store, binding)


def _rules(store: Store, binding: dict[str, Any]) -> list[dict[str, Any]]:
    role = binding["roleRef"]
    resource = CLUSTER_ROLES if role["kind"] == CLUSTER_ROLES.kind else ROLES
    entry = store.get(resource, key_of(resource, binding["metadata"].get("namespace"), role["name"]))
    return (entry.obj().get("rules") or []) if entry else []


def _allows(rule: dict[str, Any], attempt: Attempt) -> bool:
    subresource = attempt.resource.partition("/")[2]
    resources = rule.get("resources") or []
    names = rule.get("resourceNames") or []
    return (
        _any_of(rule.get("verbs"), attempt.verb)
        and _any_of(rule.get("apiGroups"), attempt.group)
        and (_any_of(resources, attempt.resource) or (bool(subresource) and f"*/{subresource}" in resources))
        and (not names or attempt.name in names)
    )


def _any_of(values: list[str] | None, value: str) -> bool:
    return bool(values) and ("*" in values or value in values)
