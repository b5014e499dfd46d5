"""Secrets are never in what a scope says: those it was sent, those it sends, and those that somebody echoes."""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from uuid import uuid4

import pytest

from reconciler.ports import AdapterError
from reconciler_adapters.ecs import EcsScope
from tests.ecs.fake import ACCOUNT, API_KEY, DEFAULT_KEY, REGION, Credentials, FakeAws, FaultKind
from tests.ecs.fake.answers import STS_NAMESPACE
from tests.ecs.world import EcsWorld

ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def told(scope: EcsScope, seconds: float = 1.0) -> str:
    """All that the scope says while everything goes wrong."""
    words = []
    for ask in (lambda: scope.identity(soon(seconds)), lambda: scope.observe([], soon(seconds))):
        with pytest.raises(AdapterError) as caught:
            ask()
        words.append(str(caught.value))
    return " ".join(words)


def sent_with(key: Credentials, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Let the scope ask with that key. Gives what is secret of it."""
    for name, value in key.environment.items():
        monkeypatch.setenv(name, value)
    assert key.token
    return key.secret, key.token


@pytest.fixture
def session(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The secrets of the environment's temporary key."""
    return sent_with(aws.access_key(expires=timedelta(hours=1)), monkeypatch)


# A proxy that echoes


def as_json(headers: str) -> tuple[int, str, str]:
    return 400, "application/x-amz-json-1.1", json.dumps({"__type": "BadRequest", "message": f"you sent {headers}"})


def as_xml(headers: str) -> tuple[int, str, str]:
    error = f"<Error><Type>Sender</Type><Code>BadRequest</Code><Message>you sent {headers}</Message></Error>"
    return 400, "text/xml", f'<ErrorResponse xmlns="{STS_NAMESPACE}">{error}</ErrorResponse>'


def as_page(headers: str) -> tuple[int, str, str]:
    return 403, "text/html", f"<html><body>you sent {headers}</body></html>"


def as_code(headers: str) -> tuple[int, str, str]:
    return 400, "application/x-amz-json-1.1", json.dumps({"__type": headers.replace("\n", " ")})


def as_good(headers: str) -> tuple[int, str, str]:
    return 200, "text/xml", f"<a>{headers}"


def as_wrong_account(headers: str) -> tuple[int, str, str]:
    inner = f"<GetCallerIdentityResult><Account>{headers}</Account></GetCallerIdentityResult>"
    return 200, "text/xml", f'<GetCallerIdentityResponse xmlns="{STS_NAMESPACE}">{inner}</GetCallerIdentityResponse>'


class _Echo(BaseHTTPRequestHandler):
    say: Callable[[str], tuple[int, str, str]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, kind, text = type(self).say("\n".join(f"{name}: {value}" for name, value in self.headers.items()))
        body = text.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@contextmanager
def echo(say: Callable[[str], tuple[int, str, str]]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Echo", (_Echo,), {"say": staticmethod(say)}))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("say", [as_json, as_xml, as_page, as_code, as_good, as_wrong_account])
def test_a_proxy_that_echoes_what_it_was_sent(
    session: tuple[str, ...], say: Callable[[str], tuple[int, str, str]]
) -> None:
    with echo(say) as url:
        scope = EcsScope("a", {"endpoint_url": url, "region": REGION})
        words = told(scope) + " ".join(f"{problem.text} {problem.remedy}" for problem in scope.check())
        scope.close()
    assert words
    for secret in session:
        assert secret not in words


def test_it_is_said_that_something_was_taken_out(session: tuple[str, ...]) -> None:
    with echo(lambda headers: as_xml(token_of(headers))) as url:
        assert "(you sent ***)" in told(EcsScope("a", {"endpoint_url": url, "region": REGION}))


@pytest.mark.parametrize("before", [190, 250, 280])
def test_a_token_is_not_shown_in_part(session: tuple[str, ...], before: int) -> None:
    """What is too long for a sentence is cut, but not before the token was taken out."""
    with echo(lambda headers: as_xml("x" * before + token_of(headers))) as url:
        words = told(EcsScope("a", {"endpoint_url": url, "region": REGION}))
    assert session[1][:10] not in words


@pytest.mark.parametrize("size", [300, 1500])
def test_a_token_of_real_length_is_not_shown_in_part(aws: FakeAws, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """STS gives several hundred characters: more than a sentence has, so what quotes it is cut within it."""
    key = aws.access_key(expires=timedelta(hours=1))
    token = f"IQoJb3JpZ2luX2VjE{uuid4().hex * 50}"[:size]
    sent_with(replace(key, token=token), monkeypatch)
    with echo(lambda headers: as_xml(f"header x-amz-security-token:{token_of(headers)}")) as url:
        words = told(EcsScope("a", {"endpoint_url": url, "region": REGION}))
    assert "header x-amz-security-token:" in words
    assert token[:20] not in words


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.usefixtures("session")
def test_what_has_a_line_break_at_its_end_is_not_quoted(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As of a file that was read whole. http.client would quote the header that it refuses."""
    given = os.environ[name]
    monkeypatch.setenv(name, f"{given}\n")
    words = told(EcsScope("a", {"endpoint_url": aws.url, "region": REGION}))
    assert "they hold blanks or line breaks: write them anew, without" in words
    assert given not in words


@pytest.mark.parametrize("place", ["no-such-host.invalid:1", "127.0.0.1:9"])
def test_a_password_in_an_address_is_not_quoted(place: str) -> None:
    scope = EcsScope("a", {"endpoint_url": f"http://user:hunter2secret@{place}", "region": REGION})
    assert "hunter2secret" not in told(scope, 0.5) + repr(scope._connection)


def token_of(headers: str) -> str:
    return next(line.partition(": ")[2] for line in headers.splitlines() if line.startswith("X-Amz-Security-Token"))


# AWS's own answers


ANY = [
    *(FaultKind.RESET, FaultKind.SERVER_ERROR, FaultKind.UNAVAILABLE, FaultKind.NOT_FOUND, FaultKind.UNRECOGNIZED),
    *(FaultKind.DENIED, FaultKind.TRUNCATED, FaultKind.EMPTY, FaultKind.MALFORMED, FaultKind.DRIP),
]
OF_TASKS = [FaultKind.NULL_LISTS, FaultKind.NO_LAST_STATUS, FaultKind.LEFT_OUT, FaultKind.OTHER_FAILURE]


@pytest.mark.parametrize("kind", ANY, ids=lambda kind: kind.name)
def test_the_answer_to_assume_role_is_quoted_by_nobody(
    aws: FakeAws, kind: FaultKind, session: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = remembered(aws, monkeypatch)
    scope = EcsScope("a", {"endpoint_url": aws.url, "region": REGION, "role_arn": aws.role(ROLE)})
    aws.fault(kind, "sts:AssumeRole", times=12)
    words = []
    for _ in range(2):
        try:
            scope.identity(soon(0.5))
        except AdapterError as error:
            words.append(str(error))
    scope.close()
    for secret in (*session, *given):
        assert secret not in " ".join(words)


def remembered(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The secrets of all keys that are made from now on."""
    secrets: list[str] = []
    add = aws._keys.add

    def noting(credentials: Credentials, *more: object, **named: object) -> Credentials:
        secrets.extend(filter(None, (credentials.secret, credentials.token)))
        return add(credentials, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(aws._keys, "add", noting)
    return secrets


@pytest.mark.parametrize("kind", ANY + OF_TASKS, ids=lambda kind: kind.name)
def test_what_a_task_was_started_with_is_quoted_by_nobody(world: EcsWorld, kind: FaultKind) -> None:
    """Its environment holds the key for Prefect's API."""
    aws = world.aws
    task = aws.task(world.cluster, uuid4())
    runs = [world.run_of(task.pid, task.run_id or uuid4()), world.run_of(None, uuid4())]
    seen = world.scope.observe(runs, soon())
    assert API_KEY in json.dumps(task.body), "it is what AWS says"
    assert API_KEY not in repr(seen) + repr(world.scope.__dict__)
    aws.fault(kind, "ecs:DescribeTasks", times=12)
    said = ""
    try:
        seen = world.scope.observe(runs, soon(0.5))
    except AdapterError as error:
        said = str(error)
    assert API_KEY not in said + repr(seen) + repr(world.scope.__dict__)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body | {"overrides": [API_KEY]},
        lambda body: body | {"overrides": {"containerOverrides": API_KEY}},
        lambda body: body | {"overrides": {"containerOverrides": [{"environment": {"PREFECT_API_KEY": API_KEY}}]}},
        lambda body: body | {"overrides": {"containerOverrides": [{"environment": [{"name": 7, "value": API_KEY}]}]}},
        lambda body: body | {"overrides": {"containerOverrides": [{"environment": [[API_KEY]]}]}},
    ],
)
def test_an_environment_of_another_form_is_not_quoted(
    world: EcsWorld, spoil: Callable[[Mapping[str, object]], dict[str, object]]
) -> None:
    run_id = uuid4()
    task = world.aws.task(world.cluster, run_id)
    world.scope.identity(soon())
    task.body.update(spoil(task.body))
    with pytest.raises(AdapterError, match="its answer cannot be read") as caught:
        world.scope.observe([world.run_of(task.pid, run_id)], soon())
    assert API_KEY not in "".join(traceback.format_exception(caught.value))


# Objects and logs


def test_nothing_that_is_kept_shows_a_secret_as_text(
    aws: FakeAws, session: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours may put an object into a message."""
    given = remembered(aws, monkeypatch)
    scope = EcsScope("a", {"endpoint_url": aws.url, "region": REGION, "role_arn": aws.role(ROLE)})
    scope.identity(soon())
    assert len(given) == 2
    shown = repr(scope.__dict__) + repr(scope._connection)
    for secret in (*session, *given):
        assert secret not in shown
    scope.close()


def test_botocore_tells_its_secrets_to_no_log(
    aws: FakeAws, session: tuple[str, ...], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our own debug level: as `reconciler.logs` sets it, libraries stay at WARNING."""
    given = remembered(aws, monkeypatch)
    caplog.set_level(logging.DEBUG, "reconciler")
    caplog.set_level(logging.DEBUG, "reconciler_adapters")
    scope = EcsScope("a", {"endpoint_url": aws.url, "region": REGION, "role_arn": aws.role(ROLE)})
    scope.identity(soon())
    for kind in (FaultKind.EXPIRED, FaultKind.TRUNCATED, FaultKind.SERVER_ERROR, FaultKind.MALFORMED):
        aws.fault(kind, times=2)
        for _ in range(3):
            try:
                scope.identity(soon(0.5))
            except AdapterError:
                continue
        aws.heal()
    scope.close()
    assert not [record.name for record in caplog.records if record.name.startswith(("boto", "urllib3", "s3transfer"))]
    for secret in (*session, *given, DEFAULT_KEY.secret):
        assert secret not in caplog.text
