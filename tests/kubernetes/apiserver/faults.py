"""What can be done to a call: the true answer, a failure as kube-apiserver and its filters word it, or none at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.testing import Fault

EXPIRED = "The provided continue parameter is too old to display a consistent list result."
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Call:
    """One request that came in, spoiled or not. `path` is without the query, `target` with it as it was sent."""

    method: str
    path: str
    query: dict[str, str]
    target: str = field(repr=False)
    headers: dict[str, str] = field(repr=False, compare=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def watches(self) -> bool:
        return self.query.get("watch") in {"1", "true"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of headers in small letters. `cut`: the connection ends in the middle of the body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    cut: bool = False
    chunked: bool = False


Forward = Callable[[], Answer]
HowWrong = Callable[[Call, Forward], Answer | None]  # None: reset the connection without an answer


def status(code: int, reason: str, message: str, **headers: str) -> Answer:
    """A failure as kube-apiserver words it."""
    said: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    said |= {"message": message, "reason": reason, "code": code}
    return Answer(code, json.dumps(said).encode(), JSON | headers)


def plain(code: int, text: str, **headers: str) -> Answer:
    """A failure as filters and ingresses word it."""
    return Answer(code, text.encode(), {"content-type": "text/plain; charset=utf-8"} | headers)


def always(answer: Answer | None) -> HowWrong:
    return lambda _call, _forward: answer


def truncated(_call: Call, forward: Forward) -> Answer:
    """The true answer up to its middle, under its full Content-Length."""
    return replace(forward(), cut=True)


def truncated_chunks(_call: Call, forward: Forward) -> Answer:
    """The same in chunks: the last one never comes."""
    return replace(forward(), cut=True, chunked=True)


def malformed(_call: Call, forward: Forward) -> Answer:
    """JSON with 200 that is no answer: a list whose items are none, else a Status in place of the object."""
    try:
        body = json.loads(forward().body)
    except ValueError:
        body = {}
    is_list = isinstance(body, dict) and "items" in body
    said: object = body | {"items": {}} if is_list else {"kind": "Status", "apiVersion": "v1", "status": "Success"}
    return Answer(200, json.dumps(said).encode())


empty_object = always(Answer(200, b"{}"))
FAULTS: dict[Fault, HowWrong] = {
    Fault.RESET: always(None),
    Fault.UNAUTHORIZED: always(status(401, "Unauthorized", "Unauthorized")),
    Fault.FORBIDDEN: lambda call, _: status(
        403, "Forbidden", f'forbidden: User "reader" cannot get path "{call.path}"'
    ),
    Fault.PARENT_NOT_FOUND: always(plain(404, "404 page not found\n")),
    Fault.EXPIRED: always(status(410, "Expired", EXPIRED)),
    Fault.THROTTLED: always(plain(429, "Too many requests, please try again later.\n", **{"retry-after": "1"})),
    Fault.SERVER_ERROR: always(status(500, "InternalError", "Internal error occurred: etcdserver: request timed out")),
    Fault.UNAVAILABLE: always(
        status(503, "ServiceUnavailable", "the server is currently unable to handle the request")
    ),
    Fault.TRUNCATED: truncated,
    Fault.EMPTY: always(Answer(200, b"")),
    Fault.MALFORMED: malformed,
}
