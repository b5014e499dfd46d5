"""Credentials that something gives: a program, the agent of a container, STS for a web identity."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from botocore.utils import ContainerMetadataFetcher

from reconciler.ports import AdapterError, Misconfigured
from tests.ecs.asking import ROLE, Bind, refusal, soon
from tests.ecs.fake import ACCOUNT, DEFAULT_KEY, Credentials, FakeAws


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def as_process(credentials: Credentials) -> str:
    """What a `credential_process` prints."""
    names = {"AccessKeyId": credentials.access_key, "SecretAccessKey": credentials.secret}
    return json.dumps({"Version": 1, **names} | ({"SessionToken": credentials.token} if credentials.token else {}))


@pytest.mark.usefixtures("no_keys")
class TestProcess:
    def test_its_credentials_are_used(
        self, aws: FakeAws, bind: Bind, home: str, tmp_path: Path, profile: Callable[[str], None]
    ) -> None:
        said = as_process(aws.access_key(expires=timedelta(hours=1)))
        profile(f"credential_process = {program(tmp_path / 'give', f'''echo '{said}' ''')}")
        assert bind(profile="p").identity(soon()) == home

    @pytest.mark.parametrize(
        "script",
        [
            "exit 3",
            "kill -9 $$",
            "echo nonsense",
            "true",
            "echo '{\"Version\": 2}'",
            "echo '{\"Version\": 1}'",
            "echo '[1]'",
        ],
    )
    def test_one_that_gives_none(self, bind: Bind, tmp_path: Path, profile: Callable[[str], None], script: str) -> None:
        profile(f"credential_process = {program(tmp_path / 'give', script)}")
        told = refusal(bind(profile="p"))
        assert told.startswith("AWS: it got no credentials")
        assert told.endswith("mend the AWS configuration (`profile`, ~/.aws, AWS_* variables)")

    def test_one_that_hangs_keeps_the_deadline(self, bind: Bind, profile: Callable[[str], None]) -> None:
        profile("credential_process = sleep 3")
        began = time.monotonic()
        with pytest.raises(AdapterError, match="they were not found in time: a program"):
            bind(profile="p").identity(soon(0.5))
        assert time.monotonic() - began < 1.5

    def test_one_that_is_not_there(self, bind: Bind, profile: Callable[[str], None]) -> None:
        profile("credential_process = /nowhere/give")
        told = refusal(bind(profile="p"))
        assert told.startswith("AWS: it got no credentials")
        assert told.endswith("mend the AWS configuration (`profile`, ~/.aws, AWS_* variables)")

    @pytest.mark.parametrize(
        "script",
        [
            f"echo {DEFAULT_KEY.secret}",
            f"echo {DEFAULT_KEY.secret} >&2; exit 3",
            f'echo \'{{"a": "{DEFAULT_KEY.secret}"}}\'',
            f'echo \'{{"Version": "{DEFAULT_KEY.secret}"}}\'',
            f"""echo '{as_process(DEFAULT_KEY)[:-1]}, "Expiration": "{DEFAULT_KEY.secret}"}}'""",
        ],
        ids=["out", "err", "json", "version", "expiration"],
    )
    def test_no_word_of_it_is_quoted(
        self, bind: Bind, tmp_path: Path, profile: Callable[[str], None], script: str
    ) -> None:
        profile(f"credential_process = {program(tmp_path / 'give', script)}")
        scope = bind(profile="p")
        with pytest.raises(AdapterError) as caught:
            scope.identity(soon())
        [problem] = scope.check()
        assert DEFAULT_KEY.secret not in str(caught.value) + problem.text + problem.remedy

    def test_a_session_that_is_not_signed_in(self, bind: Bind, profile: Callable[[str], None]) -> None:
        where = "sso_start_url = https://sso.example\nsso_region = us-east-1"
        profile(f"{where}\nsso_account_id = {ACCOUNT}\nsso_role_name = reader")
        told = refusal(bind(profile="p"))
        assert told.startswith("AWS: it got no token (")
        assert told.endswith("; sign in anew: aws sso login")


class _Metadata(BaseHTTPRequestHandler):
    """Gives what `answers` holds: a body by path, or the status 404."""

    answers: dict[str, bytes]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers.get('Authorization')}")
        body = self.answers.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@contextmanager
def metadata(answers: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """The agent of a container, or another giver of credentials: its address, and what it was asked."""
    asked: list[str] = []
    handler = type("Handler", (_Metadata,), {"answers": answers, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def of_container(credentials: Credentials) -> bytes:
    until = f"{datetime.now(UTC) + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}"
    names = {"AccessKeyId": credentials.access_key, "SecretAccessKey": credentials.secret}
    return json.dumps(names | {"Token": credentials.token, "Expiration": until}).encode()


@pytest.mark.usefixtures("no_keys")
class TestContainer:
    def test_its_role(self, aws: FakeAws, bind: Bind, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
        key = aws.access_key(expires=timedelta(hours=6))
        with metadata({"/role": of_container(key)}) as (url, asked):
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/role")
            monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let-me-in")
            scope = bind()
            for _ in range(3):
                assert scope.identity(soon()) == home
            assert asked == ["/role let-me-in"]

    def test_its_role_is_asked_for_again_after_a_refusal(
        self, aws: FakeAws, bind: Bind, home: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = (aws.access_key(expires=timedelta(hours=6)) for _ in range(2))
        answers = {"/role": of_container(old)}
        with metadata(answers) as (url, asked):
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/role")
            scope = bind()
            scope.identity(soon())
            answers["/role"] = of_container(new)
            aws.revoke(old)
            with pytest.raises(Misconfigured, match=r"renew the credentials"):
                scope.identity(soon())
            assert scope.identity(soon()) == home
            assert len(asked) == 2

    def test_an_agent_that_gives_none(self, bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0.01)
        with metadata({}) as (url, _):
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/role")
            with pytest.raises(Misconfigured, match=r"it got no credentials \("):
                bind().identity(soon())

    def test_an_agent_elsewhere(self, bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
        """boto3 asks nobody whom it does not know for one."""
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://agent.example/role")
        assert refusal(bind()).startswith("AWS: it got no credentials (")

    def test_a_web_identity(
        self, aws: FakeAws, bind: Bind, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on EKS: a token in a file, for which STS gives a role."""
        key = aws.access_key(expires=timedelta(hours=1))
        (tmp_path / "token").write_text("web-token")
        until = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
        given = f"<AccessKeyId>{key.access_key}</AccessKeyId><SecretAccessKey>{key.secret}</SecretAccessKey>"
        given += f"<SessionToken>{key.token}</SessionToken><Expiration>{until}</Expiration>"
        name = "AssumeRoleWithWebIdentity"
        result = f"<{name}Result><Credentials>{given}</Credentials></{name}Result>"
        answer = f'<{name}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{result}</{name}Response>'
        with metadata({"/": answer.encode()}) as (url, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
            monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
            monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
            scope = bind()
            for _ in range(3):
                assert scope.identity(soon()) == home
            assert asked == ["/ None"], "asked once, and unsigned"

    def test_a_web_identity_without_its_file(self, bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")
        monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
        with pytest.raises(Misconfigured, match="/nowhere/token"):
            bind().identity(soon())
