"""Whose credentials a scope asks with: keys, files, roles, a container's own; and what is said if they are no good."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from reconciler.model import Verdict
from reconciler.ports import AdapterError, Misconfigured
from reconciler_adapters.ecs import EcsScope
from tests.ecs.fake import ACCOUNT, DEFAULT_KEY, REGION, Credentials, FakeAws, FaultKind
from tests.ecs.passes import passes
from tests.ecs.world import EcsWorld
from tests.rigs.polling import wait_until

OTHER_ACCOUNT = "999999999999"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"
OTHER_ROLE = f"arn:aws:iam::{OTHER_ACCOUNT}:role/teams/reader"
NOBODY = (
    "AWS: it found no credentials; give some: a task's or instance's role, AWS_* variables, or the option `profile`"
)
UNKNOWN_KEY = "was refused with InvalidClientTokenId (The security token included in the request is invalid.); renew "
METADATA = "AWS_EC2_METADATA_SERVICE_ENDPOINT"

Bind = Callable[..., EcsScope]


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def refusal(scope: EcsScope) -> str:
    """Why the operator has to act: the same words here and by `reconcile check`. Without the place that was asked."""
    with pytest.raises(Misconfigured) as caught:
        scope.identity(soon())
    [problem] = scope.check()
    assert problem.text == str(caught.value)
    assert not problem.optional
    return re.sub(r"^AWS at http://127\.0\.0\.1:\d+ in us-east-1: ", "AWS: ", problem.text)


@pytest.fixture
def bind(aws: FakeAws) -> Iterator[Bind]:
    scopes: list[EcsScope] = []

    def bind(**options: object) -> EcsScope:
        scopes.append(EcsScope("a", {"endpoint_url": aws.url, "region": REGION, **options}))
        return scopes[-1]

    yield bind
    for scope in scopes:
        scope.close()


@pytest.fixture
def home(aws: FakeAws) -> str:
    return aws.cluster("default")


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEFAULT_KEY.environment:
        monkeypatch.delenv(name)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write ~/.aws/config: this text as the profile "p"."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    def write(text: str) -> None:
        (tmp_path / "config").write_text(f"[profile p]\n{text}\n")

    return write


def keep(credentials: Credentials, name: str = "p") -> None:
    """Write ~/.aws/credentials."""
    lines = (f"{variable.lower()} = {value}" for variable, value in credentials.environment.items())
    Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).write_text("\n".join([f"[{name}]", *lines]))


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def as_process(credentials: Credentials) -> str:
    """What a `credential_process` prints."""
    names = {"AccessKeyId": credentials.access_key, "SecretAccessKey": credentials.secret}
    return json.dumps({"Version": 1, **names} | ({"SessionToken": credentials.token} if credentials.token else {}))


class TestKeys:
    def test_of_the_environment(self, bind: Bind, home: str) -> None:
        scope = bind()
        assert scope.identity(soon()) == home
        assert scope.check() == []
        scope.close()
        assert scope.identity(soon()) == home, "a closed scope opens again"

    def test_of_a_session(self, aws: FakeAws, bind: Bind, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in aws.access_key(expires=timedelta(hours=1)).environment.items():
            monkeypatch.setenv(name, value)
        assert bind().identity(soon()) == home

    def test_of_a_session_that_has_expired(self, aws: FakeAws, bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in aws.access_key(expires=timedelta(0)).environment.items():
            monkeypatch.setenv(name, value)
        assert refusal(bind()) == (
            "AWS: GetCallerIdentity was refused with ExpiredToken (The security token included in the request is "
            "expired); renew the credentials: they have expired"
        )

    def test_that_nobody_knows(self, bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY")
        assert refusal(bind()) == f"AWS: GetCallerIdentity {UNKNOWN_KEY}the credentials: AWS does not know them"

    @pytest.mark.usefixtures("no_keys")
    @pytest.mark.parametrize("option", [True, False], ids=["option", "AWS_PROFILE"])
    def test_of_a_profile(self, bind: Bind, home: str, option: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        keep(DEFAULT_KEY)
        if not option:
            monkeypatch.setenv("AWS_PROFILE", "p")
        assert bind(**({"profile": "p"} if option else {})).identity(soon()) == home

    def test_a_profile_goes_before_the_environment(self, aws: FakeAws, bind: Bind) -> None:
        keep(aws.access_key(OTHER_ACCOUNT))
        other = aws.cluster("default", account=OTHER_ACCOUNT)
        assert bind(profile="p").identity(soon()) == other

    def test_a_profile_that_is_not_there(self, bind: Bind) -> None:
        words = "AWS: The config profile (nobody) could not be found; see the option `profile` and AWS_PROFILE"
        assert refusal(bind(profile="nobody")) == words

    @pytest.mark.usefixtures("no_keys")
    def test_half_of_a_key(self, bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", DEFAULT_KEY.access_key)
        assert refusal(bind()) == (
            "AWS: it got no credentials (Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY); "
            "mend the AWS configuration (`profile`, ~/.aws, AWS_* variables)"
        )

    def test_a_file_that_is_no_configuration(self, bind: Bind, profile: Callable[[str], None]) -> None:
        profile(f"nonsense {DEFAULT_KEY.secret}")
        told = refusal(bind(profile="p"))
        assert told.startswith("AWS: Unable to parse config file: ")
        assert DEFAULT_KEY.secret not in told

    def test_a_file_that_is_not_text(self, bind: Bind, profile: Callable[[str], None]) -> None:
        profile("")
        Path(os.environ["AWS_CONFIG_FILE"]).write_bytes(b"\xff\xfe\x00\x01")
        assert "mend the AWS configuration" in refusal(bind(profile="p"))


class TestRotation:
    def test_a_file_that_is_written_anew(self, aws: FakeAws, world: EcsWorld) -> None:
        """One pass that cannot tell, and the next is good again, without a restart."""
        old, new = aws.access_key(), aws.access_key()
        keep(old)
        task = aws.task(world.cluster, uuid4())
        with passes(world, scope=world.bind(profile="p")) as many:
            run = many.run(task)
            assert many.judged(run).verdict is Verdict.HEALTHY
            keep(new)
            assert many.judged(run).verdict is Verdict.HEALTHY, "nothing is read again while all is well"
            aws.revoke(old)
            found = many.judged(run)
            assert (found.verdict, UNKNOWN_KEY in found.reason) == (Verdict.UNKNOWN, True)
            assert many.judged(run).verdict is Verdict.HEALTHY
            assert many.written == []

    @pytest.mark.parametrize("kind", [FaultKind.EXPIRED, FaultKind.UNRECOGNIZED])
    def test_keys_are_read_again_after_a_refusal(self, aws: FakeAws, bind: Bind, home: str, kind: FaultKind) -> None:
        scope = bind(profile="p")
        keep(aws.access_key(expires=timedelta(hours=1)))
        scope.identity(soon())
        aws.fault(kind, "ecs:DescribeClusters", times=1)
        with pytest.raises(Misconfigured, match="renew the credentials"):
            scope.identity(soon())
        keep(aws.access_key(OTHER_ACCOUNT))
        other = aws.cluster("default", account=OTHER_ACCOUNT)
        assert scope.identity(soon()) == other != home


@pytest.mark.usefixtures("no_keys")
class TestNone:
    def test_it_is_said_at_once(self, bind: Bind) -> None:
        began = time.monotonic()
        assert refusal(bind()) == NOBODY
        assert time.monotonic() - began < 3

    def test_a_metadata_service_that_does_not_answer(self, bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
        """As on a machine that is none of AWS's, where its packets are dropped: one second, twice."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
            monkeypatch.setenv(METADATA, f"http://127.0.0.1:{silent.getsockname()[1]}")
            began = time.monotonic()
            with pytest.raises(Misconfigured, match="it found no credentials; give some: "):
                bind().identity(soon())
            assert time.monotonic() - began < 4

    def test_a_metadata_service_that_is_not_there(self, bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv(METADATA, "http://127.0.0.1:9")
        began = time.monotonic()
        assert refusal(bind()) == NOBODY
        assert time.monotonic() - began < 5

    def test_they_are_found_as_soon_as_there_are_some(self, bind: Bind, home: str) -> None:
        scope = bind()
        refusal(scope)
        keep(DEFAULT_KEY, "default")
        assert scope.identity(soon()) == home


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


class TestRole:
    def test_of_the_same_account(self, aws: FakeAws, bind: Bind, home: str) -> None:
        scope = bind(role_arn=aws.role(ROLE))
        assert scope.identity(soon()) == home
        assert scope.check() == []

    @pytest.mark.parametrize("external_id", [None, "lab-7"])
    def test_of_another_account(self, aws: FakeAws, bind: Bind, external_id: str | None) -> None:
        """Its identity is of the role's account, not the key's."""
        other = aws.cluster("default", account=OTHER_ACCOUNT)
        extra = {"external_id": external_id} if external_id else {}
        scope = bind(role_arn=aws.role(OTHER_ROLE, external_id), **extra)
        assert scope.identity(soon()) == other
        named = bind(role_arn=OTHER_ROLE, clusters=[other], **extra)
        assert named.identity(soon()) == other

    @pytest.mark.parametrize("options", [{}, {"external_id": "wrong"}])
    def test_with_another_external_id(self, aws: FakeAws, bind: Bind, options: Mapping[str, object]) -> None:
        assert "sts:AssumeRole" in refusal(bind(role_arn=aws.role(ROLE, "lab-7"), **options))

    def test_one_that_is_denied(self, bind: Bind) -> None:
        assert refusal(bind(role_arn=ROLE)) == (
            "AWS: AssumeRole was refused with AccessDenied (User: arn:aws:iam::123456789012:user/reconciler is not "
            f"authorized to perform: sts:AssumeRole on resource: {ROLE}); "
            "allow it in their policy, and name their principal in the role's trust policy"
        )

    @pytest.mark.parametrize("role", ["x", "reader", "arn:aws:iam::1:role/reader", f"arn:aws:iam::{ACCOUNT}:user/me"])
    def test_one_that_is_no_role(self, bind: Bind, role: str) -> None:
        """An operator's mistake: it does not get better by itself."""
        with pytest.raises(Misconfigured):
            bind(role_arn=role).identity(soon())

    def test_its_own_rights_are_what_check_names(self, aws: FakeAws, bind: Bind) -> None:
        aws.cluster("default", account=OTHER_ACCOUNT)
        aws.denied = {"ecs:ListTasks"}
        [problem] = bind(role_arn=aws.role(OTHER_ROLE)).check()
        assert problem.text == "missing rights: ecs:ListTasks on cluster default"
        assert f":{OTHER_ACCOUNT}:cluster/default" in problem.remedy

    def test_it_is_taken_on_once(self, aws: FakeAws, bind: Bind) -> None:
        scope = bind(role_arn=aws.role(ROLE))
        for _ in range(5):
            scope.identity(soon())
            scope.observe([], soon())
        assert aws.calls["sts:AssumeRole"] == 1

    def test_it_is_taken_on_anew_in_time(self, aws: FakeAws, bind: Bind, home: str) -> None:
        """After half of the time that its credentials last."""
        aws.now = lambda: datetime.now(UTC) - timedelta(seconds=3600 - 2)
        scope = bind(role_arn=aws.role(ROLE))
        scope.identity(soon())
        first = scope._connection
        assert first is not None
        wait_until(lambda: not first.is_fresh, "half of two seconds to be over", 5)
        assert scope.identity(soon()) == home
        assert aws.calls["sts:AssumeRole"] == 2

    def test_one_whose_credentials_seem_to_have_expired(self, aws: FakeAws, bind: Bind, home: str) -> None:
        """A clock that is ahead of AWS's: it is taken on each time, and works."""
        aws.now = lambda: datetime.now(UTC) - timedelta(hours=2)
        scope = bind(role_arn=aws.role(ROLE))
        for _ in range(2):
            assert scope.identity(soon()) == home
            scope.observe([], soon())

    def test_one_whose_session_was_ended(self, aws: FakeAws, bind: Bind, home: str) -> None:
        scope = bind(role_arn=aws.role(ROLE))
        scope.identity(soon())
        assert scope._connection is not None
        assert scope._connection._actor is not None
        given = scope._connection._actor.session.get_credentials()
        aws.revoke(Credentials(given.access_key, given.secret_key, given.token))
        with pytest.raises(Misconfigured, match="InvalidClientTokenId"):
            scope.identity(soon())
        assert scope.identity(soon()) == home
        assert aws.calls["sts:AssumeRole"] == 2

    @pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.RESET, FaultKind.THROTTLED, FaultKind.DRIP])
    def test_a_role_that_takes_too_long(self, aws: FakeAws, bind: Bind, kind: FaultKind) -> None:
        aws.fault(kind, "sts:AssumeRole")
        began = time.monotonic()
        with pytest.raises(AdapterError):
            bind(role_arn=aws.role(ROLE)).identity(soon(0.5))
        assert time.monotonic() - began < 2.5

    def test_a_profile_s_own_role(
        self, aws: FakeAws, bind: Bind, profile: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is taken on in the scope's region: the profile names none."""
        other = aws.cluster("default", account=OTHER_ACCOUNT)
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        profile(f"role_arn = {aws.role(OTHER_ROLE)}\ncredential_source = Environment")
        scope = bind(profile="p")
        assert scope.identity(soon()) == other
        aws.denied = {"sts:AssumeRole"}
        scope.close()
        assert "sts:AssumeRole" in refusal(scope)


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
