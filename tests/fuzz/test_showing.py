"""What is told: nothing steers a terminal or a browser, nothing is endless, no secret is in it."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reconciler import checking
from reconciler.decide import decide
from reconciler.logs import Redactor, configure, trace
from reconciler.model import OutcomeKind, Verdict
from reconciler.news import News, Newsroom
from reconciler.pages import status_page
from reconciler.plan import CycleReport, Outcome
from reconciler.report import lines, table
from reconciler.shown import NO_PASS_YET, Shown, last_pass, newest, settlements_of
from tests.fuzz.effort import fuzz
from tests.fuzz.spoiling import HTML, STEERING
from tests.spec import POLICY, case, exited, history, look, run, scope, snapshot
from tests.test_logs import Terminal, as_before, fail

__all__ = ["as_before"]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
WORDS = st.one_of(st.sampled_from([STEERING, HTML, "\ud800"]), st.text(max_size=30))


def steers(text: str) -> bool:
    """Whether anything is left that is no plain sign, apart from line ends and our own colours."""
    return any(not COLOURS.sub("", line).isprintable() for line in text.split("\n"))


def logged(write: Any, stream: io.StringIO) -> str:
    configure("debug", Redactor(), stream)
    try:
        write(structlog.get_logger("reconciler.test"))
    finally:
        structlog.reset_defaults()
    return stream.getvalue()


@given(event=WORDS, name=WORDS, value=WORDS)
@fuzz(60)
def test_log_lines_on_a_terminal(as_before: None, event: str, name: str, value: str) -> None:
    def write(log: Any) -> None:
        log.warning(event, **{f"k{name}": value, "problems": [value, {name: value}], "other": Path(value)})

    text = logged(write, Terminal())
    assert not steers(text)
    assert text.count("\n") == 1


def test_a_traceback_on_a_terminal(as_before: None) -> None:
    def write(log: Any) -> None:
        try:
            fail(STEERING + "\nsecond line", "")
        except RuntimeError:
            log.exception("it failed", scope=STEERING)

    text = logged(write, Terminal())
    assert not steers(text)
    assert "second line" in text
    assert "RuntimeError" in text


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_huge_value_makes_no_huge_line(as_before: None, stream: type[io.StringIO]) -> None:
    huge = "h" * 3_000_000
    text = logged(lambda log: log.warning(huge, name=huge, many=[huge, {"a": huge}]), stream())
    assert len(text) < 30_000


def test_a_bug_is_told_without_secrets() -> None:
    redactor = Redactor()
    redactor.redact("s3cret-key-0123")
    try:
        fail(f"sent s3cret-key-0123 to https://user:pa/ss@w0rd@host/x {STEERING}", "")
    except RuntimeError as error:
        text = trace(error, redactor.text)
    assert "s3cret" not in text
    assert "w0rd" not in text
    assert "https://***@host/x" in text
    assert "test_a_bug_is_told_without_secrets" in text
    assert not steers(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("at https://user:pass@host/api: refused", "at https://***@host/api: refused"),
        ("at https://user:pa/ss@host/api", "at https://***@host/api"),
        ("at https://user:p@ss@host", "at https://***@host"),
        ("at https://token@host and http://u:p@other", "at https://***@host and http://***@other"),
        ("see https://host/a@b", "see https://host/a@b"),
        ("mail me@host", "mail me@host"),
        ("at https://host:4200/api: 3", "at https://host:4200/api: 3"),
    ],
)
def test_users_and_passwords_in_addresses(text: str, told: str) -> None:
    assert Redactor().text(text) == told


def test_hiding_takes_time_in_proportion_to_the_text() -> None:
    for text in ("://a:" * 400_000, "://a@" * 400_000, "://" * 700_000 + "@", "bearer " * 300_000):
        assert Redactor().text(text)


def test_check_prints_nothing_that_steers(monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = f"{STEERING} http://u:topsecret@h/ " + "n" * 100_000
    monkeypatch.setattr(checking, "_configuration", lambda parts: iter([nasty]))
    monkeypatch.setattr(checking, "_api", lambda parts: ([nasty], True))
    monkeypatch.setattr(checking, "cautions", lambda loaded: [nasty], raising=False)
    monkeypatch.setattr(checking, "look", lambda askers, runs, deadline: {})
    monkeypatch.setattr(checking, "_times", lambda parts, answers: iter([nasty]))
    parts: Any = SimpleNamespace(bounds=(), notes=(nasty,), loaded=None, deadline=1.0, redact=Redactor().text)
    checked = checking.check(parts)
    assert not any(steers(line) for line in checked.lines)
    assert not any("\n" in line or "topsecret" in line or len(line) > 5000 for line in checked.lines)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def news_of(word: str) -> News:
    """One report with the word in every place that comes from outside."""
    of = run(name=word, work_pool=word, state_name=word, pid=word)
    seen = exited(of)
    assert seen.resource
    seen = replace(seen, reason=word, resource=replace(seen.resource, title=word, node=word, key=word))
    one = snapshot(case(of, look(seen), past=history(of)), scopes=(replace(scope("a"), identity=word),))
    plan = decide(one, POLICY)
    report = CycleReport(
        taken_at=one.taken_at,
        duration=timedelta(seconds=1),
        api_url="http://h/api",
        api_calls=1,
        server_version=word,
        scopes=(replace(scope("a", error=word), identity=word), scope("b", incomplete=word)),
        plan=plan,
        outcomes={of.id: Outcome(OutcomeKind.FAILED, word, alarm=word)},
        problems=(word,),
        warnings=(word,),
        dry_run=False,
        was_listed=True,
        snapshot=one,
    )
    return Newsroom().news(report)


def page_of(word: str) -> str:
    news = news_of(word)
    shown = Shown(
        last=last_pass(news),
        ago=None,
        failure=word,
        settlements=newest(settlements_of(news.report), ()),
        configuration_problems=(word,),
        readiness=replace(NO_PASS_YET, reasons=(word,)),
        api_url="http://h/api",
        ui_url=word,
    )
    return status_page(shown, news.report.ended_at)


@given(word=WORDS)
@fuzz(60)
def test_the_page_has_the_same_elements_whatever_the_names_are(word: str) -> None:
    plain, odd = _Tags(), _Tags()
    plain.feed(page_of("otter"))
    page = page_of(word)
    odd.feed(page)
    page.encode("utf-8")
    ours = [tag for tag, _ in plain.seen]
    assert {tag for tag, _ in odd.seen} <= {*ours, "a"}
    assert "<script" not in page
    for _, attributes in odd.seen:
        assert not any(name.startswith("on") for name in attributes)
        assert str(attributes.get("href", "")).partition(":")[0] in {
            "",
            "http",
            "https",
            "status",
            "metrics",
            "readyz",
            "healthz",
            "None",
        }
    assert not any(not line.isprintable() for line in page.split("\n"))


@given(word=WORDS)
@fuzz(60)
def test_the_table_and_the_lines(word: str) -> None:
    news = news_of(word)
    stream = io.StringIO()
    Console(file=stream, width=120, force_terminal=True).print(table(news.report))
    assert not steers(stream.getvalue())
    assert not any(not line.isprintable() for line in lines(news.report))
    assert news.report.plan.findings[0].verdict in Verdict


def test_huge_names_make_no_huge_page() -> None:
    assert len(page_of("n" * 300_000)) < 100_000
