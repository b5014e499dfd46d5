"""Roles that a scope takes on: of its own account or another, renewed in time, or denied."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.ports import AdapterError, Misconfigured
from tests.ecs.asking import OTHER_ACCOUNT, ROLE, Bind, refusal, soon
from tests.ecs.fake import ACCOUNT, Credentials, FakeAws, FaultKind
from tests.rigs.polling import wait_until

OTHER_ROLE = f"arn:aws:iam::{OTHER_ACCOUNT}:role/teams/reader"


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
