"""What works and is not safe: secrets in the clear, answers that anybody may forge, files that others may change.

Each is a sentence with its remedy. None is an error: a lab may want it, and a network may be safe for other reasons.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.settings.loading import Loaded
from reconciler.settings.model import ApiSettings, ScopeSettings

_SECRETS = ("key", "auth_string")
_PLAIN = frozenset({"http", "tcp"})
_CERTIFICATES = frozenset({"tls_ca", "tls_cert"})  # with one of these `tcp://` means TLS
_ROOT = 0


def cautions(loaded: Loaded) -> Iterator[str]:
    """Look at the settings and at the modes of the files that they name; nothing is read or asked. Never raises."""
    api = loaded.settings.api
    yield from _about_api(api)
    for scope in loaded.settings.scopes:
        yield from _about_scope(scope)
    for name in _SECRETS:
        path = getattr(api, f"{name}_file")
        if path is not None:
            yield from _about_file(path, f"api.{name}_file", is_secret=True)
    if api.ca_file is not None:
        yield from _about_file(api.ca_file, "api.ca_file", is_secret=False)
    if loaded.file is not None:
        yield from _about_file(loaded.file, "the configuration", is_secret=_holds_a_secret(loaded))


def _about_api(api: ApiSettings) -> Iterator[str]:
    sent = [what for what, given in (("key", api.key), ("auth string", api.auth_string)) if given is not None]
    sent += ["headers"] if api.headers else []
    if sent and _is_plain(api.url):
        yield (
            f"api.url: {_host(api.url)} is sent the API {' and '.join(sent)} unencrypted, and whoever is on the way "
            "can read and use that: write https://, or go through a proxy that does"
        )
    if not api.tls_verify and api.url.startswith("https:"):
        yield (
            "api.tls_verify: any certificate is accepted, so whoever is on the way can read the key and invent flow "
            "runs: take it out, and name the authority in api.ca_file"
        )


def _about_scope(scope: ScopeSettings) -> Iterator[str]:
    if _CERTIFICATES & scope.options.keys():
        return
    for name, value in sorted(scope.options.items()):
        if isinstance(value, str) and _is_plain(value):
            yield (
                f"scopes[{scope.name}].options.{name}: {_host(value)} is asked without TLS, and whoever is on the way "
                "can invent ends of runs: use TLS, a socket, or a tunnel that ends on this machine"
            )


def _is_plain(url: str) -> bool:
    """Whether it leaves this machine, and in the clear."""
    try:
        parts = urlsplit(url)
        return parts.scheme in _PLAIN and not _is_loopback(parts.hostname or "")
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host in {"", "localhost"} or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host(url: str) -> str:
    """Without a user or a password."""
    return urlsplit(url).hostname or ""


def _holds_a_secret(loaded: Loaded) -> bool:
    origins: Mapping[str, str] = loaded.origins
    return any(origins.get(f"api.{name}") == f"file {loaded.file}" for name in (*_SECRETS, "headers"))


def _about_file(path: Path, what: str, *, is_secret: bool) -> Iterator[str]:
    """Our own group, and root's, count as us: a Secret of Kubernetes comes with the pod's `fsGroup`."""
    try:
        found = path.stat()
    except OSError:  # told elsewhere
        return
    owners, groups = {_ROOT, os.geteuid()}, {_ROOT, os.getegid()}
    others = stat.S_IRWXO | (0 if found.st_gid in groups else stat.S_IRWXG)
    if found.st_uid not in owners:
        yield f"{what}: {path} belongs to another user (uid {found.st_uid}), who may change it: chown it"
    elif found.st_mode & others & (stat.S_IWGRP | stat.S_IWOTH):
        yield f"{what}: {path} can be changed by other users: chmod go-w"
    if is_secret and found.st_mode & others & (stat.S_IRGRP | stat.S_IROTH):
        yield f"{what}: {path} holds a secret and can be read by other users: chmod 600"
