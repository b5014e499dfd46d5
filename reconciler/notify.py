"""Tells the service manager how the daemon fares (sd_notify(3)). Without one, nothing is sent."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

import structlog

_log = structlog.get_logger(__name__)


def watchdog(environ: Mapping[str, str]) -> timedelta | None:
    """After how much silence the service manager restarts this process; None if it does not watch it."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return timedelta(microseconds=int(microseconds)) if microseconds.isdecimal() and int(microseconds) else None


class Notifier:
    """Sends single datagrams to `$NOTIFY_SOCKET`; one that cannot be sent is forgotten."""

    def __init__(self, environ: Mapping[str, str], redact: Callable[[str], str] = str) -> None:
        """`redact` hides secrets in what is sent."""
        self._redact = redact
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self, status: str) -> None:
        """The daemon is up; also ends `reloading`."""
        self._send("READY=1", _status(status))

    def status(self, status: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(_status(status))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The daemon was told to end."""
        self._send("STOPPING=1", _status("stopping"))

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(1.0)  # a full queue must not hold a cycle up
                channel.sendto(self._redact("\n".join(lines)).encode(), self._address)
        except OSError as error:
            _log.debug("the service manager could not be told", error=str(error))


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())
