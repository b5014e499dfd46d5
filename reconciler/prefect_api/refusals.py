"""Errors of the HTTP exchange, turned into one sentence that names the address and the remedy. No secrets in any."""

from __future__ import annotations

import base64
import re
from urllib.parse import urlsplit

import httpx
import msgspec

from reconciler.ports import OrchestratorError
from reconciler.prefect_api.connection import Connection
from reconciler.words import clipped, legible

_PUBLIC_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length"}
)
_SHORTEST_SECRET = 6
_WORDS = 100_000  # characters of the server's words that are looked at
_SCHEMES = frozenset({"Bearer", "Basic"})


class ServerFault(OrchestratorError):
    """The server answered 500: it met something that it cannot handle, and asking again would not help."""


class Unreachable(OrchestratorError):
    """There was no answer, or none but to come back later, for as long as was waited."""


class TooLarge(OrchestratorError):
    """The answer was longer than any that is read."""


class TryAgain(Exception):
    """An answer that asks to come back later."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"status {response.status_code}")
        self.response = response


class Stale(Exception):
    """The time by which a request had to be sent has passed; it was not sent."""


class _Problem(msgspec.Struct):
    detail: object = None
    exception_message: object = None


def reason_given(response: httpx.Response) -> str:
    """The server's own words about an error, one line, at most 200 characters, without our secrets; may be empty."""
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    words = problem.detail or problem.exception_message
    if not isinstance(words, str):
        return ""
    return legible(_without_secrets(" ".join(words[:_WORDS].split()), response.request)[:200])


def _without_secrets(words: str, request: httpx.Request) -> str:
    """An answer, or a proxy's, may quote what it was sent; these words go to logs, pages and the service manager."""
    values = [value for name, value in request.headers.items() if name.lower() not in _PUBLIC_HEADERS]
    parts = {part for value in values for part in (value, *value.split(), *re.split(r"[\s;,=]+", value))} - _SCHEMES
    secrets = {secret for part in parts for secret in (part, *_decoded(part)) if len(secret) >= _SHORTEST_SECRET}
    for secret in sorted(secrets, key=len, reverse=True):  # one may begin another
        words = words.replace(secret, "***")
    return words


def _decoded(credential: str) -> tuple[str, ...]:
    """The user and password of Basic authentication, together and apart."""
    try:
        both = base64.b64decode(credential, validate=True).decode()
    except ValueError:
        return ()
    return both, both.partition(":")[2]


def is_route_missing(response: httpx.Response) -> bool:
    """A 404 about the address, not about the object. Servers answer the one with a bare "Not Found"."""
    return response.status_code == httpx.codes.NOT_FOUND and reason_given(response) in {"", "Not Found"}


def refusal(settings: Connection, response: httpx.Response) -> OrchestratorError:
    """The error for an answer that nobody was prepared for."""
    status = response.status_code
    if httpx.codes.is_redirect(status):
        return _redirect(settings, response)
    if status == httpx.codes.INTERNAL_SERVER_ERROR:
        return ServerFault(f"the Prefect API at {settings.address} failed with status 500: see the server's log")
    said = reason_given(response)
    if status == httpx.codes.UNAUTHORIZED:
        return _unauthorized(settings)
    if status == httpx.codes.FORBIDDEN:
        return _forbidden(settings, said)
    if is_route_missing(response):
        return no_api(settings)
    route = urlsplit(str(response.request.url)).path
    return OrchestratorError(
        f"the Prefect API at {settings.address} answered status {status} to {response.request.method} {route}"
        + (f": {said}" if said else "")
    )


def unreachable(settings: Connection, error: httpx.HTTPError | TryAgain) -> Unreachable:
    """The error when every attempt met a network error or was asked to come back later."""
    if isinstance(error, TryAgain):
        said = reason_given(error.response)
        why = f"status {error.response.status_code}" + (f" ({said})" if said else "")
        return Unreachable(f"the Prefect API at {settings.address} is not available: it keeps answering {why}")
    if is_distrust(error):
        return Unreachable(
            f"the certificate of the Prefect API at {settings.address} is not trusted: give its authority as "
            "PREFECT_API_SSL_CERT_FILE"
        )
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(
            f"the Prefect API at {settings.address} did not answer within {settings.timeout:g} s ({_kind(error)})"
        )
    return Unreachable(f"the Prefect API at {settings.address} cannot be reached ({_kind(error)})")


def no_api(settings: Connection) -> OrchestratorError:
    """The error when something answers, and it is not a Prefect API."""
    return OrchestratorError(f"there is no Prefect API at {settings.address}: does the address end in /api?")


def is_distrust(error: Exception) -> bool:
    return isinstance(error, httpx.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(error)


def _kind(error: httpx.HTTPError) -> str:
    # the words of a protocol error may quote a header, hence a secret; those of the network do not
    words = str(error) if isinstance(error, httpx.NetworkError) else ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _redirect(settings: Connection, response: httpx.Response) -> OrchestratorError:
    # the rest of the location may carry a token of a login page
    try:
        target = urlsplit(response.headers.get("Location", ""))
        host = legible(clipped(target.hostname or "", 300))
    except ValueError:
        host = ""
    where = f"{target.scheme}://{host}" if host and target.scheme in {"http", "https"} else "another path of its own"
    return OrchestratorError(
        f"the Prefect API at {settings.address} redirects to {where}: set PREFECT_API_URL to the API's own address"
    )


def _unauthorized(settings: Connection) -> OrchestratorError:
    if settings.credential:
        return OrchestratorError(
            f"the Prefect API at {settings.address} refuses the credentials (401): check {settings.credential}"
        )
    return OrchestratorError(
        f"the Prefect API at {settings.address} asks for credentials (401): set PREFECT_API_KEY or "
        "PREFECT_API_AUTH_STRING"
    )


def _forbidden(settings: Connection, said: str) -> OrchestratorError:
    who = f"the account behind {settings.credential}" if settings.credential else "a caller without credentials"
    remedy = "" if settings.credential else ", or set PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
    return OrchestratorError(
        f"the Prefect API at {settings.address} forbids this to {who} (403{': ' + said if said else ''}): give it the "
        f"right to read and change flow runs{remedy}"
    )
