"""Addresses of the web part: where it listens, and where the Prefect UI is."""

from __future__ import annotations

from typing import NamedTuple, Self
from urllib.parse import urlsplit

_HIGHEST_PORT = 65535


class Address(NamedTuple):
    """A host ("127.0.0.1", "::1") and a port."""

    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read "127.0.0.1:9464" or "[::1]:9464". Raises ValueError."""
        parts = urlsplit(f"//{text}")
        port = parts.port  # may raise
        if not parts.hostname or port is None or parts.netloc != text or parts.username is not None:
            raise ValueError(text)
        return cls(parts.hostname, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen_address(value: str) -> str:
    """Check "host:port"; an empty one stays so."""
    if not value:
        return value
    try:
        return str(Address.read(value))
    except ValueError:
        host = "" if ":" in value or value.isdigit() else value
        port = value.rpartition(":")[2]
        good = port.isdigit() and 0 < int(port) <= _HIGHEST_PORT
        meant = f"{host or '127.0.0.1'}:{port if good else 9464}"
        raise ValueError(f'is not an address and a port; did you mean "{meant}"?') from None


def page_address(value: str) -> str:
    """Check the address of a web page and drop a trailing slash; an empty one stays so."""
    if not value:
        return value
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in value or any(sign.isspace() for sign in value):
        raise ValueError('is not the address of a web page; write for example "http://127.0.0.1:4200"')
    return value.rstrip("/")
