"""Faults at the worst moment, for `FakePrefect.faults`."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from tests.fake_prefect import FakePrefect, Fault


def lost(server: FakePrefect, path: str, answer: httpx.Response | Exception) -> Fault:
    """The next request whose path ends so is carried out, and answered otherwise."""
    left = [answer]

    def fault(request: httpx.Request) -> httpx.Response | Exception | None:
        if not left or not request.url.path.endswith(path):
            return None
        server._route(request)
        return left.pop()

    return fault


def meanwhile(path: str, then: Callable[[], object]) -> Fault:
    """What happens just before the next request whose path ends so is answered."""
    left = [then]

    def fault(request: httpx.Request) -> None:
        if left and request.url.path.endswith(path):
            left.pop()()

    return fault
