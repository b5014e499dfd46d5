"""Whose credentials a scope asks with: keys of the environment and of files; and what is said if they are no good."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from reconciler.model import Verdict
from reconciler.ports import Misconfigured
from tests.ecs.asking import OTHER_ACCOUNT, Bind, refusal, soon
from tests.ecs.fake import DEFAULT_KEY, Credentials, FakeAws, FaultKind
from tests.ecs.passes import passes
from tests.ecs.world import EcsWorld

NOBODY = (
    "AWS: it found no credentials; give some: a task's or instance's role, AWS_* variables, or the option `profile`"
)
UNKNOWN_KEY = "was refused with InvalidClientTokenId (The security token included in the request is invalid.); renew "
METADATA = "AWS_EC2_METADATA_SERVICE_ENDPOINT"


def keep(credentials: Credentials, name: str = "p") -> None:
    """Write ~/.aws/credentials."""
    lines = (f"{variable.lower()} = {value}" for variable, value in credentials.environment.items())
    Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).write_text("\n".join([f"[{name}]", *lines]))


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
