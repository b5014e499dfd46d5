"""Access keys, whose they are, and roles that can be assumed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from tests.ecs.fake.answers import Call, Refused

INVALID = "The security token included in the request is invalid."
EXPIRED = "The security token included in the request is expired"


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that boto3 reads."""
        said = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret}
        return said | ({"AWS_SESSION_TOKEN": self.token} if self.token else {})


DEFAULT_KEY = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")  # of AWS's documentation


def new_credentials(*, temporary: bool) -> Credentials:
    letters = "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))
    token = secrets.token_urlsafe(120) if temporary else None
    return Credentials(("ASIA" if temporary else "AKIA") + letters, secrets.token_urlsafe(30), token)


@dataclass(frozen=True, slots=True)
class Principal:
    account: str
    arn: str
    user_id: str


@dataclass(frozen=True, slots=True)
class _Key:
    credentials: Credentials
    account: str | None  # None: the fake's own at the time of the call
    session: tuple[str, str]  # role and session name
    expires: datetime | None

    def principal(self, home: str) -> Principal:
        account = self.account or home
        if self.credentials.token is None:
            return Principal(account, f"arn:aws:iam::{account}:user/reconciler", "AIDACKCEVSQ6C2EXAMPLE")
        role, name = self.session
        return Principal(account, f"arn:aws:sts::{account}:assumed-role/{role}/{name}", f"AROADBQP57FF2AEXAMPLE:{name}")


class Keyring:
    """`roles`: the ARN of each role that can be assumed, and the external id that it asks for."""

    def __init__(self, clock: Callable[[], datetime], home: Callable[[], str]) -> None:
        self._clock, self._home = clock, home
        self._keys: dict[str, _Key] = {}
        self.roles: dict[str, str | None] = {}
        self.add(DEFAULT_KEY)

    def add(
        self,
        credentials: Credentials,
        account: str | None = None,
        session: tuple[str, str] = ("reconciler", "x"),
        expires: datetime | None = None,
    ) -> Credentials:
        self._keys[credentials.access_key] = _Key(credentials, account, session, expires)
        return credentials

    def revoke(self, access_key: str) -> None:
        del self._keys[access_key]

    def principal(self, call: Call) -> Principal:
        """Whose key signed the call. Raises Refused, in the words of the call's service. Signatures are not checked."""
        key = self._keys.get(call.access_key)
        if key is None or key.credentials.token != call.token:
            raise unrecognized(call.service)
        if key.expires and self._clock() >= key.expires:
            raise expired(call.service)
        return key.principal(self._home())


def unrecognized(service: str) -> Refused:
    return (
        Refused("InvalidClientTokenId", INVALID, 403)
        if service == "sts"
        else Refused("UnrecognizedClientException", INVALID)
    )


def expired(service: str) -> Refused:
    return Refused("ExpiredToken", EXPIRED, 403) if service == "sts" else Refused("ExpiredTokenException", EXPIRED)
