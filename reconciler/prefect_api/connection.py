"""Where the Prefect API is and how to get in: the settings of a connection and the HTTP client made from them."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from reconciler import __version__
from reconciler.ports import OrchestratorError

_RESERVED = frozenset({"user-agent", "prefect-csrf-token", "prefect-csrf-client"})

# The server closes an idle connection after 5 s; re-use right at that moment met a reset 1 time in 14 (3.8.8).
_KEEPALIVE = 3.0


@dataclass(frozen=True, slots=True, repr=False)
class Connection:
    """Settings of the connection, already resolved. `timeout` and `retry_for` are seconds.

    `url` ends in `/api`. `auth_string` ("user:password") wins over `api_key`; an `Authorization` among `headers` wins
    over both, as in Prefect's own client.
    """

    url: str
    api_key: str | None = None
    auth_string: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tls_verify: bool = True
    ca_file: str | None = None
    timeout: float = 30.0
    retry_for: float = 45.0

    @property
    def address(self) -> str:
        """The URL without user, password, query and trailing slash; fit for sentences and for requests."""
        parts = urlsplit(self.url.strip())
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))

    @property
    def credential(self) -> str:
        """The name of the setting that the credentials come from, for sentences."""
        if any(name.lower() == "authorization" for name in self.headers):
            return "the Authorization header of PREFECT_CLIENT_CUSTOM_HEADERS"
        if self.auth_string:
            return "PREFECT_API_AUTH_STRING"
        if self.api_key:
            return "PREFECT_API_KEY"
        return "the user and password in the address" if self._userinfo else ""

    @property
    def _userinfo(self) -> str | None:
        userinfo, at, _ = urlsplit(self.url.strip()).netloc.rpartition("@")
        return unquote(userinfo) if at else None

    def request_headers(self) -> dict[str, str]:
        """Every header that is the same for all requests."""
        headers = {"Accept-Encoding": "gzip", "Accept": "application/json"}
        if basic := self.auth_string or (None if self.api_key else self._userinfo):
            headers["Authorization"] = f"Basic {base64.b64encode(basic.encode()).decode()}"
        elif self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        own = {name.lower(): name for name in headers}
        for name, value in self.headers.items():
            if name.lower() not in _RESERVED:
                headers[own.get(name.lower(), name)] = value
        # never "prefect/...": the server takes that for a client's version and handles leases differently
        return headers | {"User-Agent": f"prefect-reconciler/{__version__}"}

    def __repr__(self) -> str:
        return f"Connection(url={self.address!r}, credentials from {self.credential or 'nowhere'})"


def open_client(settings: Connection, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """The client for these settings. Raises OrchestratorError for settings that no request could be made with."""
    _check(settings)
    return httpx.Client(
        base_url=settings.address,
        headers=settings.request_headers(),
        timeout=settings.timeout,
        verify=_trust(settings),
        limits=httpx.Limits(max_connections=4, keepalive_expiry=_KEEPALIVE),
        follow_redirects=False,
        trust_env=True,
        transport=transport,
    )


def _check(settings: Connection) -> None:
    try:
        parts = urlsplit(settings.url.strip())
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        httpx.URL(settings.address)
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable:
        raise OrchestratorError(
            "the address of the Prefect API is not usable: give one like http://host:4200/api as PREFECT_API_URL"
        )
    for name, value in settings.request_headers().items():
        if not (name + value).isascii() or not (name + value).isprintable():
            # the library's own message would quote the value, which may be a secret
            source = settings.credential if name == "Authorization" else f"the custom header {name!r}"
            raise OrchestratorError(f"{source} holds a line break or another character that no header can carry")


def _trust(settings: Connection) -> ssl.SSLContext | bool:
    if not settings.tls_verify:
        return False
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # SSLError is one
        reason = error.strerror or str(error)
        raise OrchestratorError(
            f"the certificate file {settings.ca_file} of the Prefect API cannot be used ({reason}): "
            "check PREFECT_API_SSL_CERT_FILE"
        ) from None
