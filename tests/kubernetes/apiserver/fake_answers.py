"""Refusals of the fake, with the texts of a real server (seen on 1.20.2)."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.apiserver.fake_resources import Resource

EXPIRED_TOKEN = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class Refused(Exception):
    """An answer that is a Status with `code`."""

    def __init__(self, code: int, reason: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.body = status(code, reason, message, **more)


def status(
    code: int,
    reason: str,
    message: str,
    details: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": metadata or {}, "status": "Failure"}
    body |= {"message": message, "reason": reason} | ({} if details is None else {"details": details})
    return body | {"code": code}


def details(resource: Resource, name: str = "", **more: Any) -> dict[str, Any]:
    named = {"name": name} if name else {}
    grouped = {"group": resource.group} if resource.group else {}
    return named | grouped | {"kind": resource.plural} | more


def not_found(resource: Resource, name: str) -> Refused:
    return Refused(404, "NotFound", f'{resource.qualified} "{name}" not found', details=details(resource, name))


def no_such_path() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource", details={})


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def exists(resource: Resource, name: str, *, deleting: bool) -> Refused:
    start = "object is being deleted: " if deleting else ""
    message = f'{start}{resource.qualified} "{name}" already exists'
    return Refused(409, "AlreadyExists", message, details=details(resource, name))


def conflict(resource: Resource, name: str) -> Refused:
    message = (
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return Refused(409, "Conflict", message, details=details(resource, name))


def invalid(resource: Resource, name: str, field: str, problem: str) -> Refused:
    cause = {"reason": "FieldValueRequired", "message": f"Required value: {problem}", "field": field}
    named = {"name": name} if name else {}
    grouped = {"group": resource.group} if resource.group else {}
    more = named | grouped | {"kind": resource.kind, "causes": [cause]}
    message = f'{resource.qualified_kind} "{name}" is invalid: {field}: Required value: {problem}'
    return Refused(422, "Invalid", message, details=more)


def terminating(resource: Resource, name: str, namespace: str) -> Refused:
    message = (
        f'{resource.qualified} "{name}" is forbidden: unable to create new content in namespace {namespace} '
        "because it is being terminated"
    )
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    return Refused(403, "Forbidden", message, details=details(resource, name, causes=[cause]))


def expired_token(fresh: str) -> Refused:
    """`fresh` is a token that goes on from the same place, over the objects as they are now."""
    return Refused(410, "Expired", EXPIRED_TOKEN, metadata={"continue": fresh})
