"""One HTTP exchange with the Prefect API: retries, CSRF tokens, the server's clock, the count of calls."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from uuid import uuid4

import httpx
import msgspec
import stamina
import structlog

from reconciler.clock import since_boot
from reconciler.ports import OrchestratorError
from reconciler.prefect_api.connection import Connection, open_client
from reconciler.prefect_api.refusals import (
    Stale,
    TooLarge,
    TryAgain,
    is_distrust,
    is_route_missing,
    no_api,
    reason_given,
    refusal,
    unreachable,
)
from reconciler.prefect_api.server_clock import ServerClock, retry_after
from reconciler.words import legible, one_line

T = TypeVar("T")

_ATTEMPTS = 6
_LONGEST_RETRY_AFTER = 30.0
_LARGEST = 64 * 2**20  # bytes of an answer, unpacked: 200 rows of 300 KiB
_COME_BACK_LATER = frozenset({429, 502, 503, 504})  # 503: usual on SQLite ("database is locked")
_OF_THE_WIRE = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
_PASSING = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that the caller is prepared for. `sent` is `since_boot()` when its request went out."""

    status: int
    body: bytes
    sent: float
    asked_at: datetime
    answered_at: datetime
    response: httpx.Response

    @property
    def is_route_missing(self) -> bool:
        return is_route_missing(self.response)

    @property
    def reason(self) -> str:
        return reason_given(self.response)


class Transport:
    """Sends requests, one at a time. Every error is an OrchestratorError with a sentence."""

    def __init__(
        self,
        settings: Connection,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = since_boot,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.settings = settings
        self.calls = 0
        self.errors = 0
        self.deadline = math.inf  # of `since_boot()`; nothing is sent after it
        self.server_clock = ServerClock()
        self.now = clock
        self.monotonic = monotonic
        self._client = open_client(settings, transport)
        self._csrf_client = str(uuid4())  # a shared one would make two processes replace each other's tokens
        self._connection_is_doomed = False

    def ask(self, method: str, path: str, body: object = None, *, accept: Collection[int] = ()) -> Answer:
        """Send until answered. Statuses outside 2xx and `accept` raise."""
        return self.retrying(lambda: self.once(method, path, body, accept=accept))

    def retrying(self, attempt: Callable[[], T]) -> T:
        """Run `attempt` until it is through with network errors and TryAgain, within bounds of number and time."""
        retry_for = min(self.settings.retry_for, self.deadline - self.monotonic())
        patient = retry_for > 0
        try:
            for each in stamina.retry_context(
                on=self._back_off,
                attempts=_ATTEMPTS if patient else 1,
                timeout=retry_for if patient else None,
                wait_initial=0.2,
            ):
                with each:
                    return attempt()
        except (httpx.HTTPError, TryAgain) as error:
            raise unreachable(self.settings, error) from None
        raise AssertionError("a retry context ends by returning or raising")

    def once(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        accept: Collection[int] = (),
        send_by: float | None = None,
    ) -> Answer:
        """One attempt, for use inside `retrying`. Raises Stale instead of sending after `send_by` (monotonic)."""
        answer = self._send(method, path, body, send_by)
        if method != "GET" and answer.status == httpx.codes.FORBIDDEN and _is_about_csrf(answer.reason):
            self._fetch_csrf_token()
            answer = self._send(method, path, body, send_by)
        if answer.status in accept:
            return answer
        self.errors += not answer.response.is_success
        if answer.status in _COME_BACK_LATER:
            raise TryAgain(answer.response)
        if not answer.response.is_success:
            raise refusal(self.settings, answer.response)
        if answer.body and "json" not in answer.response.headers.get("Content-Type", ""):
            raise no_api(self.settings)
        return answer

    def decode(self, answer: Answer, shape: type[T], what: str) -> T:
        """The answer's body as `shape`. Raises OrchestratorError naming `what` it should have been."""
        try:
            return msgspec.json.decode(answer.body, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            why = legible(one_line(error))  # it quotes what it met
            raise OrchestratorError(
                f"the Prefect API at {self.settings.address} answered something else than {what}: {why}"
            ) from None

    def close(self) -> None:
        self._client.close()

    def _send(self, method: str, path: str, body: object, send_by: float | None) -> Answer:
        content = None if body is None else msgspec.json.encode(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        request = self._client.build_request(method, path.lstrip("/"), content=content, headers=headers)
        doomed, self._connection_is_doomed = self._connection_is_doomed, False
        try:
            answer = self._exchange(request, send_by)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            if not doomed:
                raise
            answer = self._exchange(request, send_by)
        # after a 500 the server closes the connection without a word (3.4.25, 3.8.8), so the next request is not heard
        self._connection_is_doomed = answer.status == httpx.codes.INTERNAL_SERVER_ERROR
        _log.debug("asked the Prefect API", method=method, path=path, status=answer.status)
        return answer

    def _exchange(self, request: httpx.Request, send_by: float | None) -> Answer:
        started, sent = self.now(), self.monotonic()
        if send_by is not None and sent > send_by:
            raise Stale
        self._limit(request, self.deadline - sent)
        self.calls += 1
        try:
            response = self._whole(self._client.send(request, stream=True))
        except httpx.HTTPError:
            self.errors += 1
            raise
        answered = self.now()
        self.server_clock.observe_header(response.headers, started, answered)
        return Answer(response.status_code, response.content, sent, started, answered, response)

    def _whole(self, response: httpx.Response) -> httpx.Response:
        """Read the body. httpx bounds each wait for a piece of it, not their number, nor what it unpacks to."""
        with closing(response):
            pieces, size = list[bytes](), 0
            for piece in response.iter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > _LARGEST:
                    self.errors += 1
                    raise TooLarge(
                        f"the Prefect API at {self.settings.address} gave an answer of more than {_LARGEST >> 20} MiB"
                    )
                if self.monotonic() > self.deadline:
                    self.errors += 1
                    raise OrchestratorError(
                        f"the Prefect API at {self.settings.address} did not answer to the end before the deadline "
                        "of the pass (cycle_deadline)"
                    )
        plain = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_WIRE]
        return httpx.Response(response.status_code, headers=plain, content=b"".join(pieces), request=response.request)

    def _limit(self, request: httpx.Request, left: float) -> None:
        """Begin nothing after the pass's deadline, and let no single wait outlast it."""
        if left <= 0:
            raise OrchestratorError("it was not asked: the pass had reached its deadline (cycle_deadline)")
        if left < self.settings.timeout:
            request.extensions["timeout"] = httpx.Timeout(left).as_dict()

    def _fetch_csrf_token(self) -> None:
        """Every fetch replaces the token. A wrong credential shows itself only here: CSRF is checked before it."""
        answer = self.once("GET", f"/csrf-token?client={self._csrf_client}", accept={404, 422})
        if answer.status == httpx.codes.OK:
            token = self.decode(answer, _CsrfToken, "a CSRF token").token
            if not (token.isascii() and token.isprintable()):  # it would spoil every later request
                raise OrchestratorError(
                    f"the Prefect API at {self.settings.address} gave a CSRF token that no header can carry"
                )
            self._client.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": self._csrf_client})

    def _back_off(self, error: Exception) -> bool | float:
        """For stamina: False to give up, True for its own growing wait, or a wait in seconds."""
        if isinstance(error, TryAgain):
            asked = retry_after(error.response.headers, self.now())
            if asked is None:
                return True
            wait = min(asked, _LONGEST_RETRY_AFTER) + random.uniform(0, 1)
            return wait if self.monotonic() + wait < self.deadline else False
        if not isinstance(error, _PASSING):
            return False
        _log.debug("the Prefect API could not be reached", error=type(error).__name__)
        return not is_distrust(error)


class _CsrfToken(msgspec.Struct):
    token: Annotated[str, msgspec.Meta(max_length=4000)]


def _is_about_csrf(reason: str) -> bool:
    return "csrf" in reason.lower() or "client identifier" in reason.lower()
