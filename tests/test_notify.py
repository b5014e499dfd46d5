"""What the service manager is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.notify import Notifier, watchdog


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A listening socket, and its address as `$NOTIFY_SOCKET` writes it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@reconciler-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(1)
        yield name, listening


def test_messages(manager: tuple[str, socket.socket]) -> None:
    address, listening = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    heard = []
    for say in (
        lambda: notifier.ready("two\nlines"),
        notifier.alive,
        lambda: notifier.status("fine"),
        notifier.stopping,
    ):
        say()
        heard.append(listening.recv(4096).decode())
    assert heard == ["READY=1\nSTATUS=two lines", "WATCHDOG=1", "STATUS=fine", "STOPPING=1\nSTATUS=stopping"]
    notifier.reloading()
    reloading, since = listening.recv(4096).decode().splitlines()
    assert reloading == "RELOADING=1"
    assert int(since.removeprefix("MONOTONIC_USEC=")) > 0


def test_nobody_listens(tmp_path: Path) -> None:
    Notifier({}).ready("x")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "300000000"}, timedelta(minutes=5)),
        ({"WATCHDOG_USEC": "300000000", "WATCHDOG_PID": str(os.getpid())}, timedelta(minutes=5)),
        ({"WATCHDOG_USEC": "300000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog(environ: dict[str, str], expected: timedelta | None) -> None:
    assert watchdog(environ) == expected
