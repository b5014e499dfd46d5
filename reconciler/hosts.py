"""Under which names the web part shows what it knows.

A web page anywhere may let its own name point to an address that only its reader's browser can reach (DNS rebinding),
and then read what answers there. Such a request carries the page's name in `Host`. A name that nobody can register in
the public DNS cannot be such a page's, nor can an address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

_FORM = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<name>[^:\[\]]*))(?::\d*)?")
_PRIVATE = (".localhost", ".svc", ".svc.cluster.local")  # this machine, and the Services of a Kubernetes cluster


class Hosts:
    """`allowed`: further names; "*.example.com" is every name below that one, "*" is any."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        names = {_plain(name) for name in allowed}
        self._names = frozenset(names)
        self._ends = tuple(name[1:] for name in names if name.startswith("*."))

    def knows(self, header: str | None) -> bool:
        """Whether this `Host` is an address, a name of one part, one of a Kubernetes Service, or an allowed one.

        None: only HTTP/1.0 has none, as some load balancers' probes. Browsers always send it.
        """
        if header is None or "*" in self._names:
            return True
        found = _FORM.fullmatch(header.strip())
        if found is None:
            return False
        name = _plain(found["six"] or found["name"])
        return _is_address(name) or "." not in name or name in self._names or name.endswith((*_PRIVATE, *self._ends))


def _plain(name: str) -> str:
    return name.strip().lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
