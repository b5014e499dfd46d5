"""Addresses in the Prefect UI. Only http and https ones: any other would be a link that does something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from reconciler.model import RunId


@dataclass(frozen=True, slots=True)
class Links:
    """Where the Prefect UI is ("": not known), and where in it a flow run is."""

    ui_url: str
    folder: str = "runs"

    @classmethod
    def to(cls, ui_url: str, api_url: str, server_version: str | None) -> Self:
        """Take the UI's address, or derive it from the API's. The folders are routes of the UIs of 2.20 and 3.8.8."""
        base = ui_url.rstrip("/") if _is_page(ui_url) else ui_of(api_url)
        return cls(base, "flow-runs" if (server_version or "").startswith("2.") else "runs")

    def run(self, run_id: RunId) -> str:
        """Address of the flow run's page, or ""."""
        return f"{self.ui_url}/{self.folder}/flow-run/{run_id}" if self.ui_url else ""


def ui_of(api_url: str) -> str:
    """Derive the Prefect UI's address as Prefect 3.8.8 does (`default_ui_url`); "" if it is no web address."""
    if not _is_page(api_url):
        return ""
    parts = urlsplit(api_url)
    host, path = parts.netloc.rpartition("@")[2], parts.path.rstrip("/")
    if "/accounts/" in path and host.startswith("api."):
        host = "app." + host.removeprefix("api.")
    path = path.removesuffix("/api").replace("/api/", "/")
    path = path.replace("/accounts/", "/account/").replace("/workspaces/", "/workspace/")
    return urlunsplit((parts.scheme, host, path, "", ""))


def _is_page(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)
