"""What every test of the Kubernetes adapter stands on: an API server, in-process or real."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class ApiServer(Protocol):
    """A Kubernetes API on loopback that nobody but the test writes to.

    Users: "admin" (group system:masters, may do all) and "reader" (may do what RBAC objects made through the API say).
    """

    url: str  # "http://127.0.0.1:PORT" or "https://..."
    ca_file: Path | None

    def token(self, user: str) -> str:
        """The bearer token of "admin" or "reader"."""
        ...

    def compact(self) -> None:
        """From now on every continue token given so far is 410 Expired, and so are watches from old versions."""
        ...

    def close(self) -> None: ...
