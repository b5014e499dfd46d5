"""The log's form, what it lets through, and that no secret is in it."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina
import stamina.instrumentation
import structlog

from reconciler.logs import Redactor, configure

KEY = "pnu_0123456789"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Put the process's logging back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("reconciler", "reconciler_adapters"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()
    stamina.instrumentation.set_on_retry_hooks(None)


def fail(text: str, local: str) -> None:
    """Fail in a frame that has `local` among its variables."""
    raise RuntimeError(text)


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(level: str = "info", stream: io.StringIO | None = None, *secrets: str) -> io.StringIO:
    stream, redactor = stream or io.StringIO(), Redactor()
    for secret in secrets:
        redactor.redact(secret)
    configure(level, redactor, stream)
    return stream


def test_json_where_nobody_watches() -> None:
    stream = configured()
    structlog.get_logger("reconciler.cycle").info("settled", run="r1", count=2)
    (event,) = events(stream)
    timestamp = str(event.pop("timestamp"))
    assert timestamp.endswith("Z")
    assert event == {"event": "settled", "run": "r1", "count": 2, "level": "info", "logger": "reconciler.cycle"}


def test_words_on_a_terminal() -> None:
    stream = configured(stream=Terminal())
    structlog.get_logger("reconciler.cycle").info("settled", run="r1")
    assert "settled" in stream.getvalue()
    assert "run" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_form_can_be_asked_for() -> None:
    as_json, plain = Terminal(), io.StringIO()
    configure("info", Redactor(), as_json, json=True)
    structlog.get_logger("reconciler").info("one")
    configure("info", Redactor(), plain, json=False)
    structlog.get_logger("reconciler").info("two")
    assert [event["event"] for event in events(as_json)] == ["one"]
    assert "two" in plain.getvalue()
    assert "\x1b" not in plain.getvalue()  # no colours in a file


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", Redactor())
    structlog.get_logger("reconciler").info("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "hello"


def test_libraries_speak_from_warning_up() -> None:
    stream = configured("debug")
    for name in ("httpx", "docker.utils", "urllib3.connectionpool"):
        logging.getLogger(name).info("GET %s", "http://h")
        logging.getLogger(name).warning("slow %s", name)
    logging.getLogger("reconciler.prefect_api").debug("ours by logging")
    structlog.get_logger("reconciler_adapters.docker").debug("ours by structlog")
    assert [(event["event"], event["level"]) for event in events(stream)] == [
        ("slow httpx", "warning"),
        ("slow docker.utils", "warning"),
        ("slow urllib3.connectionpool", "warning"),
        ("ours by logging", "debug"),
        ("ours by structlog", "debug"),
    ]


@pytest.mark.parametrize(("level", "heard"), [("debug", 4), ("info", 3), ("WARNING", 2), ("error", 1), ("critical", 0)])
def test_levels(level: str, heard: int) -> None:
    stream = configured(level)
    log = structlog.get_logger("reconciler")
    for method in (log.debug, log.info, log.warning, log.error):
        method("said")
    logging.getLogger("httpx").warning("said")
    expected = heard + (level.lower() in {"debug", "info", "warning"})
    assert len(events(stream)) == expected


def test_an_unknown_level() -> None:
    with pytest.raises(ValueError, match="there is no log level 'loud'; known are debug, info"):
        configure("loud", Redactor())


@pytest.mark.parametrize(
    "name",
    [
        "key",
        "api_key",
        "Authorization",
        "proxy-authorization",
        "token",
        "X-Prefect-Csrf-Token",
        "password",
        "client_secret",
        "cookies",
    ],
)
def test_values_of_secret_keys_are_hidden(name: str) -> None:
    stream = configured()
    log = structlog.get_logger("reconciler")
    log.info("asked", **{name: "xyzzy1"})
    log.info("asked", headers={name: "xyzzy1", "Accept": "text"}, rows=[{name: "xyzzy1"}])
    assert "xyzzy1" not in stream.getvalue()
    flat, nested = events(stream)
    assert flat[name] == "***"
    assert nested["headers"] == {name: "***", "Accept": "text"}


def test_other_values_stay() -> None:
    stream = configured()
    structlog.get_logger("reconciler").info("read", key_file="/etc/key", token_count=3, key=None, scope="keys-host")
    (event,) = events(stream)
    assert (event["key_file"], event["token_count"], event["key"], event["scope"]) == ("/etc/key", 3, None, "keys-host")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_registered_secret_is_hidden_wherever_it_stands(stream: type[io.StringIO]) -> None:
    log_stream = configured("info", stream(), KEY, 'me:pass"wörd/1')
    log = structlog.get_logger("reconciler")
    log.info(f"asked with {KEY}", url=f"http://h/?k={KEY}", rows=[f"a{KEY}b"], thing=ValueError(KEY))
    log.info("basic", sent=base64.b64encode('me:pass"wörd/1'.encode()).decode(), quoted='me:pass"wörd/1')
    logging.getLogger("httpx").warning("sent %s", KEY)
    try:
        fail(f"refused {KEY}", "")
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("httpx").exception("failed")
    text = log_stream.getvalue()
    assert KEY not in text
    assert "pass" not in text
    assert "bWU6cGFzcy" not in text
    assert "refused ***" in text


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_tracebacks_show_no_local_variables(stream: type[io.StringIO]) -> None:
    log_stream = configured("info", stream())
    try:
        fail("no luck", "-".join(["xyzzy", "local"]))
    except RuntimeError:
        structlog.get_logger("reconciler").exception("failed")
    assert "RuntimeError: no luck" in log_stream.getvalue()
    assert "xyzzy-local" not in log_stream.getvalue()


def test_authorization_in_a_text_is_hidden_unregistered() -> None:
    redactor = Redactor()
    assert redactor.text("sent Authorization: Bearer pnu_ABCdef12") == "sent Authorization: Bearer ***"
    assert redactor.text("Basic bWU6cGFzcw==") == "Basic ***"
    assert redactor.text("basic authentication is off") == "basic authentication is off"
    assert redactor.text("tcp://me:secret@h:1/x http://h/y") == "tcp://***@h:1/x http://h/y"


def test_too_short_a_secret_is_left_alone() -> None:
    redactor = Redactor()
    redactor.redact("1")
    redactor.redact("")
    assert redactor.text("run 1 of 11") == "run 1 of 11"


def test_a_secret_that_is_part_of_another() -> None:
    redactor = Redactor()
    redactor.redact("secret")
    redactor.redact("secret-and-more")
    assert redactor.text("secret-and-more; secret") == "***; ***"


def test_a_retry_is_logged_without_its_arguments() -> None:
    stream = configured("debug")
    calls = []

    @stamina.retry(on=ConnectionError, attempts=2, wait_initial=0, wait_jitter=0)
    def ask(header: str) -> str:
        calls.append(header)
        if len(calls) == 1:
            raise ConnectionError(f"with {header}")
        return "fine"

    assert ask("xyzzy1") == "fine"
    (event,) = events(stream)
    assert "xyzzy1" not in stream.getvalue()
    assert str(event.pop("call")).endswith("ask")
    assert event.pop("timestamp")
    assert event == {
        "event": "retrying",
        "logger": "reconciler.retries",
        "level": "debug",
        "attempt": 1,
        "wait_seconds": 0.0,
        "error": "ConnectionError",
    }


def test_configuring_again_replaces_and_leaves_others() -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    first, second = configured(), configured()
    structlog.get_logger("reconciler").info("once")
    assert first.getvalue() == ""
    assert len(events(second)) == 1
    assert other in logging.getLogger().handlers


def test_the_journal_is_told_the_priority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        there = os.fstat(stream.fileno())
        for named, prefixes in (
            (f"{there.st_dev}:{there.st_ino}", ["<6>", "<4>", "<3>"]),
            ("1:2", ['{"e', '{"e', '{"e']),
        ):
            monkeypatch.setenv("JOURNAL_STREAM", named)
            stream.seek(0)
            stream.truncate()
            configure("info", Redactor(), stream)
            log = structlog.get_logger("reconciler.x")
            log.info("a")
            log.warning("b")
            log.error("c")
            stream.seek(0)
            assert [line[:3] for line in stream] == prefixes
