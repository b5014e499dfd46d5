"""The calls that are made of an API server, each within our deadline, and every failure in words."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from reconciler.failures import causes
from reconciler.ports import AdapterError, Misconfigured
from reconciler.words import one_line
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.cluster import Connection

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

ItemT = TypeVar("ItemT")
ObjectT = TypeVar("ObjectT", k8s.Bare, k8s.Job, k8s.Node)
SeenT = TypeVar("SeenT")

_PAGE = 500
_RESTARTS = 3  # of a list whose continue token expired while it was read
_CHUNK = 1 << 16
_LARGEST = 1 << 28  # bytes of a page: 500 objects, of which etcd takes up to 1.5 MiB each, are seldom a tenth
_ERRORS_KEPT = 1 << 14  # bytes of an error's body
_WHOLE = "application/json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
FORBIDDEN, NOT_FOUND = 403, 404
_OK, _CREATED, _BAD, _UNAUTHORIZED, _EXPIRED, _TOO_MANY = 200, 201, 400, 401, 410, 429


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, said: k8s.Status, *, was_anonymous: bool) -> None:
        super().__init__(said.message or said.reason or "without a reason")
        self.status = status
        self.said = said
        self.was_anonymous = was_anonymous


class Conversation:
    """The calls of one question to the scope. `time` is the server's, of the last answer."""

    def __init__(self, connection: Connection, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self.time: datetime | None = None

    def listed(
        self,
        path: str,
        item: type[ItemT],
        take: Callable[[ItemT], SeenT | None],
        **selectors: str,
    ) -> list[SeenT]:
        """Read a list to its end, and keep what `take` makes of each item, unless that is None.

        A token of a list that outlived it (410) has the list begun anew: pages of two moments do not make one list.
        The metadata alone is asked for if `item` is `Bare`.
        """
        for _ in range(_RESTARTS):
            try:
                return list(self._pages(path, item, take, selectors))
            except Refused as error:
                if error.status != _EXPIRED:
                    raise
                expired = error
        raise expired

    def found(self, path: str, name: str, kind: type[ObjectT]) -> ObjectT | None:
        """Look at one object. None: the server says that this very object does not exist."""
        try:
            found = msgspec.json.decode(self._ask("GET", f"{path}/{quote(name)}"), type=kind)
            if found.metadata.name != name:
                raise msgspec.ValidationError(f"'{one_line(found.metadata.name, 80)}' was shown instead of '{name}'")
            return found
        except Refused as error:
            details = error.said.details or k8s.StatusDetails()
            # A proxy, or a wrong path, answers 404 as well; only the API server names the object.
            named = error.said.reason == "NotFound" and (details.kind, details.name) == (path.rpartition("/")[2], name)
            if error.status == NOT_FOUND and named:
                return None
            raise

    def created(self, path: str, body: Mapping[str, object], kind: type[ItemT]) -> ItemT:
        return msgspec.json.decode(self._ask("POST", path, body=json.dumps(body).encode()), type=kind)

    def _pages(
        self, path: str, item: type[ItemT], take: Callable[[ItemT], SeenT | None], selectors: Mapping[str, str]
    ) -> Iterator[SeenT]:
        decoder = msgspec.json.Decoder(k8s.Page[item])  # type: ignore[valid-type]
        query = {"limit": str(_PAGE), **selectors}
        while True:
            page = decoder.decode(self._ask("GET", path, query, accept=_METADATA_ONLY if item is k8s.Bare else _WHOLE))
            if not page.is_list:
                raise msgspec.ValidationError(f"a list was expected, not a {one_line(page.kind, 80)}")
            for one in page.items or ():
                seen = take(one)
                if seen is not None:
                    yield seen
            if not page.metadata.next_page:
                return
            query["continue"] = page.metadata.next_page

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        accept: str = _WHOLE,
    ) -> bytes:
        import urllib3

        url = f"{self._connection.url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept} | self._credentials
        if body is not None:
            headers["Content-Type"] = "application/json"
        # No retries: urllib3 would obey Retry-After and multiply time-outs (4 requests in 4 s for 1 s, client 37).
        response = self._connection.pool.request(
            method, url, headers=headers, body=body, preload_content=False, redirect=False, retries=False,
            timeout=urllib3.Timeout(total=self._seconds_left()),
        )  # fmt: skip
        try:
            self.time = _date(response.headers.get("Date")) or self.time
            failed = response.status not in {_OK, _CREATED}
            text = b"".join(self._chunks(response, _ERRORS_KEPT if failed else None))
        except BaseException:
            response.close()
            raise
        if failed:
            response.close()
            said = _said(self._connection.hide(text.decode(errors="replace")))
            raise Refused(response.status, said, was_anonymous=not self._credentials and not self._connection.files)
        response.release_conn()
        return text

    def _chunks(self, response: BaseHTTPResponse, limit: int | None) -> Iterator[bytes]:
        """The body, read as it comes in, so that one that drips ends by our deadline, and one without end as well."""
        size = 0
        while chunk := response.read1(_CHUNK):
            yield chunk
            size += len(chunk)
            self._seconds_left()
            if limit is not None and size >= limit:
                return
            if size > _LARGEST:
                raise msgspec.ValidationError(f"it is longer than {_LARGEST >> 20} MiB")

    @cached_property
    def _credentials(self) -> dict[str, str]:
        """Asked for once: each time may run a program."""
        return self._connection.headers()

    def _seconds_left(self) -> float:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


def _date(header: str | None) -> datetime | None:
    try:
        when = parsedate_to_datetime(header) if header else None
    except ValueError:
        return None
    return when if when and when.tzinfo else None


def _said(body: str) -> k8s.Status:
    try:
        return msgspec.json.decode(body, type=k8s.Status)
    except msgspec.MsgspecError:
        return k8s.Status(message=one_line(body, 200) or None)


@contextmanager
def conversation(connection: Connection, deadline: float) -> Iterator[Conversation]:
    """Open a conversation. The one place where whatever goes wrong becomes an `AdapterError`."""
    from urllib3.exceptions import HTTPError

    began = time.monotonic()
    try:
        yield Conversation(connection, deadline)
    # ValueError: what cannot be decoded, msgspec's errors among them; RecursionError: what is nested without end.
    except (Refused, HTTPError, OSError, ValueError, RecursionError, OverflowError) as error:
        kind, cause, remedy = explain(error, max(deadline - began, 0.0))
        raise kind(f"Kubernetes API at {connection.shown_url}: {cause}; {remedy}") from error


def explain(error: BaseException, seconds: float) -> tuple[type[AdapterError], str, str]:
    """Put a failure into words: the cause and the remedy. `seconds` is the time that the server had to answer."""
    return _refused(error) if isinstance(error, Refused) else _failed(list(causes(error)), seconds)


def _refused(error: Refused) -> tuple[type[AdapterError], str, str]:
    cause = f"it answered {error.status} ({one_line(error)})"
    if error.was_anonymous and (error.status == _UNAUTHORIZED or "system:anonymous" in str(error)):
        return Misconfigured, cause, "the kubeconfig's user gave no credentials: see whether its program (exec) works"
    if error.status == _UNAUTHORIZED:
        return Misconfigured, cause, "its credentials are not valid (any more): renew the token or the certificate"
    if error.status == FORBIDDEN:
        return Misconfigured, cause, "grant it; `reconcile check` prints the Role"
    if error.status == _BAD and error.said.kind:  # else another server than Kubernetes' speaks, or TLS is expected
        return Misconfigured, cause, "see the option `label_selector`"
    if error.status == _TOO_MANY:
        return AdapterError, cause, "it is overloaded, or limits this account's requests"
    return AdapterError, cause, "see the API server's log"


def _failed(chain: list[BaseException], seconds: float) -> tuple[type[AdapterError], str, str]:
    """No answer, or not a whole one. First match wins."""
    from urllib3.exceptions import NameResolutionError
    from urllib3.exceptions import TimeoutError as HTTPTimeoutError

    running = "see that the API server runs and that its address is right"
    table: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
        (
            (ssl.SSLError,),
            "TLS failed ({error})",
            "check the cluster's certificate authority and the client certificate",
        ),
        ((NameResolutionError,), "its host name cannot be resolved", running),
        ((ConnectionRefusedError,), "the connection was refused", running),
        (
            (TimeoutError, HTTPTimeoutError),
            f"timed out after {seconds:.1f} s",
            "see whether the API server is overloaded",
        ),
        ((ValueError, RecursionError, OverflowError), "its answer cannot be read ({error})", running),
    )
    for kinds, cause, remedy in table:
        for error in chain:
            if isinstance(error, kinds):
                return AdapterError, cause.replace("{error}", one_line(error)), remedy
    return AdapterError, f"the connection broke off ({one_line(chain[-1])})", running
