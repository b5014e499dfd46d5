"""The log: structlog, for people on a terminal and as JSON elsewhere; libraries' records go the same way.

No secret is in it, and no traceback shows local variables. Nothing in it steers the terminal, and no line is endless:
names and messages come from outside. All of it goes to stderr: stdout carries only results.
"""

from __future__ import annotations

import base64
import json as json_module
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TextIO, cast
from urllib.parse import quote

import stamina.instrumentation
import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from reconciler.words import clipped, legible

LEVELS = ("debug", "info", "warning", "error", "critical")
_OURS = ("reconciler", "reconciler_adapters")
_TELLTALES = ("botocore.credentials",)  # quotes what a program printed instead of credentials; the scope says the rest
_HIDDEN = "***"
_SECRET_KEY = re.compile(
    r"(key|token|authorization|password|passwd|secret|auth_string|cookie|credential)s?$", re.IGNORECASE
)
_AUTHORIZATION = re.compile(r"\b((?i:bearer|basic))\s+(?=\S*[A-Z0-9=])[\w.~+/=-]{6,}")
_WORD = re.compile(r"\S+")
_END_OF_USER = re.compile(r"[/:@]")
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
_LONGEST = 5000  # characters of a text in an event
_READ = 1_000_000  # of it that is read for secrets
_LONGEST_TRACE = 50_000
_SHORTEST = 6  # hiding a shorter string would blank half the log


def _without_user(word: re.Match[str]) -> str:
    """Hide what stands before the host of an address. A password may hold a bare "/" or "@", so up to the last "@"."""
    text = word[0]
    end, start = text.rfind("@"), text.find("://")
    while 0 <= start < end:
        stop = _END_OF_USER.search(text, start + 3)
        if stop is not None and stop[0] != "/":
            return f"{text[: start + 3]}{_HIDDEN}{text[end:]}"
        start = text.find("://", start + 3)
    return text


class Redactor:
    """Replaces secrets by "***": the values of keys that name one, and every registered string wherever it stands."""

    def __init__(self) -> None:
        self._secrets: list[str] = []

    def redact(self, secret: str) -> None:
        """Hide this string from now on, also as base64 (Basic authentication), quoted for a URL or escaped in JSON."""
        if len(secret) < _SHORTEST:
            return
        encoded = base64.b64encode(secret.encode()).decode()
        forms = {secret, encoded, quote(secret, safe=""), json_module.dumps(secret)[1:-1], repr(secret)[1:-1]}
        # the longest first: a secret may be part of another
        self._secrets = sorted({*self._secrets, *forms}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Hide what is secret in a text."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        text = _AUTHORIZATION.sub(rf"\1 {_HIDDEN}", text)
        return _WORD.sub(_without_user, text) if "://" in text and "@" in text else text

    def values(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Hide secrets in an event, in tables within it too. A structlog processor."""
        del logger, method
        return {key: self._value(key, value) for key, value in event.items()}

    def line(self, logger: WrappedLogger, method: str, line: EventDict | str) -> str:
        """Hide secrets in a finished line, tracebacks included. A structlog processor, after the renderer."""
        del logger, method
        return self.text(cast("str", line))

    def _value(self, key: object, value: object) -> object:
        if isinstance(key, str) and key != "event" and value is not None and _SECRET_KEY.search(key):
            return _HIDDEN
        if isinstance(value, str):
            return self.text(value[:_READ])
        if isinstance(value, Mapping):
            return {inner: self._value(inner, item) for inner, item in value.items()}
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return [self._value(None, item) for item in value]
        return value


def bounded(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Cut what is endless. A structlog processor, after secrets were hidden: half of one would not be known."""
    del logger, method
    return {key: _cut(value) for key, value in event.items()}


def _cut(value: object) -> object:
    if isinstance(value, str):
        return clipped(value, _LONGEST)
    if isinstance(value, Mapping):
        return {inner: _cut(item) for inner, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list) else value


def clean(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Let nothing steer the terminal. A structlog processor, before the one that adds colours."""
    del logger, method
    return {legible(key): _cleaned(value) for key, value in event.items()}


def _cleaned(value: object) -> object:
    """Of what is no text, the text that would be written."""
    if value is None or isinstance(value, bool | int | float | tuple | BaseException):
        return value  # a tuple or exception: `exc_info`
    if isinstance(value, Mapping):
        return {legible(str(inner)): _cleaned(item) for inner, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else legible(str(value))


def trace(error: BaseException, redact: Callable[[str], str] = str) -> str:
    """The traceback of a bug: without variables, without secrets, with nothing that steers a terminal."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    text = "\n".join(legible(line) for line in lines)
    return redact(text if len(text) <= _LONGEST_TRACE else f"{text[:2000]}\n...\n{text[2000 - _LONGEST_TRACE :]}")


def _plain_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    stream.write(trace(exc_info[1]))


def configure(level: str, redactor: Redactor, stream: TextIO | None = None, *, json: bool | None = None) -> None:
    """Set up logging for the process. `json` None: JSON unless the stream (default: stderr) is a terminal.

    `level` is for our own records; libraries speak from WARNING up. May be called again.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"there is no log level '{level}'; known are {', '.join(LEVELS)}")
    stream = stream or sys.stderr
    as_json = not stream.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    kind = _ForJournal if as_json and _is_journal(stream) else structlog.stdlib.ProcessorFormatter
    formatter = kind(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            redactor.values,
            bounded,
            *_renderers(as_json=as_json, colors=stream.isatty()),
            cast("Processor", redactor.line),
        ],
    )
    _install(formatter, stream, getattr(logging, level.upper()))
    stamina.instrumentation.set_on_retry_hooks([_log_retry])


class _ForJournal(structlog.stdlib.ProcessorFormatter):
    """Begins each line with its priority (sd-daemon(3)), so that `journalctl -p warning` finds it."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in _PRIORITIES.items() if record.levelno >= level), 7)
        return f"<{priority}>{super().format(record)}"


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd connected the stream to its journal: $JOURNAL_STREAM names it (systemd.exec(5))."""
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def _renderers(*, as_json: bool, colors: bool) -> list[Processor]:
    if as_json:  # a traceback as plain text: the structured one carries local variables
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    return [clean, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_plain_traceback)]


def _install(formatter: logging.Formatter, stream: TextIO, level: int) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    others = [one for one in root.handlers if not isinstance(one.formatter, structlog.stdlib.ProcessorFormatter)]
    root.handlers = [*others, handler]  # at once: a record of another thread must not fall between two of ours
    root.setLevel(max(level, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    for name in _TELLTALES:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Log a retry without its arguments: stamina's own hook writes them out, headers and keys included."""
    structlog.get_logger("reconciler.retries").debug(
        "retrying",
        call=details.name,
        attempt=details.retry_num,
        wait_seconds=round(details.wait_for, 2),
        error=type(details.caused_by).__name__,
    )
