"""What the address of a Prefect API looks like, and what an operator most likely meant when it does not."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_CLOUD = "prefect.cloud"
_CLOUD_API = "https://api.prefect.cloud/api/accounts/{account}/workspaces/{workspace}"
_CLOUD_PAGE = re.compile(r"/account/(?P<account>[^/]+)/workspace/(?P<workspace>[^/]+)")


def api_url(value: str) -> str:
    """Check the address and drop a trailing slash. A ValueError says what to write, and never shows a password."""
    if "@" in value:
        raise ValueError(
            'must not carry a user or password; move "user:password" to a file and name it in api.auth_string_file'
        )
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or any(sign.isspace() for sign in value):
        raise ValueError('is not a URL; write for example "http://127.0.0.1:4200/api"')
    meant = _meant(parts, host)
    if parts.scheme not in {"http", "https"} or "://" not in value:
        raise ValueError(f'must begin with http:// or https://; did you mean "{meant}"?')
    if meant != value.rstrip("/"):
        raise ValueError(f'is not the address of a Prefect API; did you mean "{meant}"?')
    return meant


def _meant(parts: SplitResult, host: str) -> str:
    """Write the nearest address of a Prefect API: a server's ends in /api, Cloud's names account and workspace."""
    path = parts.path.rstrip("/")
    if (host == _CLOUD or host.endswith(f".{_CLOUD}")) and "/workspaces/" not in path:
        page = _CLOUD_PAGE.search(f"{path}/{parts.fragment}")
        return _CLOUD_API.format(**(page.groupdict() if page else {"account": "ACCOUNT", "workspace": "WORKSPACE"}))
    scheme = parts.scheme if parts.scheme in {"http", "https"} else "http"
    return f"{scheme}://{parts.netloc}{path if '/api/' in f'{path}/' else f'{path}/api'}"
