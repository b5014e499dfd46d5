"""Connections by boto3's own means: its credentials, its clients, its retries; our deadline, and our decoding."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from reconciler.ports import Misconfigured
from reconciler_adapters.ecs import objects as ecs
from reconciler_adapters.ecs.account import Account
from reconciler_adapters.ecs.crew import Bucket
from reconciler_adapters.ecs.names import ClusterName

if TYPE_CHECKING:
    import boto3

_AGENT = "prefect-reconciler"
_CONNECT_SECONDS, _READ_SECONDS = 5, 10
_ATTEMPTS = 10
_FAILED = 300
_TOKENS_KEPT = 4
_DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = {
    "DescribeTasks": msgspec.json.Decoder(ecs.Tasks),
    "ListTasks": msgspec.json.Decoder(ecs.TaskArns),
    "DescribeClusters": msgspec.json.Decoder(ecs.Clusters),
}
DECODED = "reconciler"  # under this name an answer holds what a decoder made of it
THREADS = 4
# AWS lets an account make 100 of these calls at once and 20 a second in each region, for all its tools together
# (Amazon ECS API reference, "Request throttling"): some are left for the others.
_BURST, _RATE = 80, 15
_THROTTLED = frozenset({"DescribeTasks", "ListTasks"})


@dataclass(slots=True)
class Buckets:
    """What a scope may call, by region. Outlives connections."""

    by_region: dict[str, Bucket] = field(default_factory=dict)

    def of(self, region: str) -> Bucket:
        return self.by_region.setdefault(region, Bucket(_BURST, _RATE))


@dataclass(slots=True)
class Connection:
    """Credentials with the clients that use them: one for each service and region.

    Making a client is not safe for several threads; using one is. `deadline` is a `time.monotonic()` value.
    """

    account: Account
    buckets: Buckets
    session: boto3.Session
    region: str  # of the clusters that are named without one
    deadline: float = 0.0
    failure: Exception | None = None  # of the last try of a call, while it is tried again
    _tokens: deque[str] = field(default_factory=lambda: deque(maxlen=_TOKENS_KEPT))  # session tokens, to be hidden
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)
    _assumed: boto3.Session | None = None
    _good_until: float = float("inf")  # `time.monotonic()`

    @classmethod
    def open(cls, account: Account, buckets: Buckets) -> Connection:
        """Find credentials and region, as the AWS command line does. Raises botocore's errors, and Misconfigured."""
        import boto3

        session = boto3.Session(profile_name=account.profile)
        # Fargate tells its tasks AWS_REGION, which boto3 does not read (botocore/configprovider.py)
        found = os.environ.get("AWS_REGION") or session.region_name or account.named_region
        region = account.region or found
        if region is None:
            raise Misconfigured(
                "no AWS region is known: set the option `region`, or AWS_REGION, or name the clusters by their ARNs"
            )
        return cls(account, buckets, session, region)

    @property
    def is_fresh(self) -> bool:
        """Whether the role's credentials, if there is one, are good for a whole pass."""
        return time.monotonic() < self._good_until

    @property
    def shown(self) -> str:
        """What is asked, for sentences."""
        parts = urlsplit(self.account.endpoint_url or "")
        at = f" at {parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""  # no password
        return f"AWS{at} in {self.region}"

    @property
    def needs_role(self) -> bool:
        return self.account.role_arn is not None and self._assumed is None

    def assume_role(self) -> None:
        """Take on the role. Its credentials last for an hour, unless the role says less; half of that is used."""
        import boto3

        account = self.account
        extra = {"ExternalId": account.external_id} if account.external_id else {}
        with closing(self._client(self.session, "sts", self.region)) as client:
            given = client.assume_role(RoleArn=account.role_arn, RoleSessionName=_AGENT, **extra)["Credentials"]
        self.note_token(given["SessionToken"])
        self._assumed = boto3.Session(
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            profile_name=account.profile,  # it may say endpoints
        )
        self._good_until = time.monotonic() + max(0.0, (given["Expiration"] - datetime.now(UTC)).total_seconds()) / 2

    def client(self, service: str, region: str | None = None) -> Any:
        key = (service, region or self.region)
        if key not in self._clients:
            self._clients[key] = self._client(self._assumed or self.session, *key)
        return self._clients[key]

    def note_token(self, token: str) -> None:
        if token not in self._tokens:
            self._tokens.append(token)

    def configured(self, number: str) -> list[ClusterName]:
        """Name the clusters of the options in full; `number`: the account's."""
        partition = self.session.get_partition_for_region(self.region)
        return [
            ClusterName.parse(text) or ClusterName(partition, self.region, number, text)
            for text in sorted(set(self.account.clusters))
        ]

    def hide(self, text: str) -> str:
        """Take the session token out: a proxy may quote what it was sent."""
        for token in tuple(self._tokens):
            text = text.replace(token, "***")
        return text

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _note_failure(self, event_name: str, parsed_response: Any, exception: Exception | None, **_: object) -> None:
        from botocore.exceptions import ClientError

        if isinstance(exception, TimeoutError):
            return  # we gave up: what it failed with before says more
        self.failure = exception
        if parsed_response and "Error" in parsed_response:
            self.failure = ClientError(parsed_response, event_name.rpartition(".")[2])

    def _client(self, session: boto3.Session, service: str, region: str) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=THREADS,
            user_agent_extra=_AGENT,
        )
        client = session.client(service, region_name=region, endpoint_url=self.account.endpoint_url, config=config)
        client.meta.events.register("before-send", _Gate(self, region))
        client.meta.events.register("before-parse.ecs", _decode)
        client.meta.events.register("response-received", self._note_failure)
        return client


@dataclass(frozen=True, slots=True)
class _Gate:
    """Lets no request through, nor another try of one, without time left and a token in the bucket."""

    connection: Connection
    region: str

    def __call__(self, event_name: str, request: Any, **_: object) -> None:
        connection = self.connection
        if time.monotonic() > connection.deadline:
            raise TimeoutError
        if event_name.rpartition(".")[2] in _THROTTLED:
            connection.buckets.of(self.region).wait(connection.deadline)
        if token := request.headers.get("X-Amz-Security-Token"):
            connection.note_token(token)


def _decode(operation_model: Any, response_dict: Any, customized_response_dict: Any, **_: object) -> None:
    """Decode the body ourselves, and give boto3 none: it takes twenty times as long, and lets other forms pass."""
    decoder = _DECODERS.get(operation_model.name)
    if decoder is not None and response_dict["status_code"] < _FAILED:
        customized_response_dict[DECODED] = decoder.decode(response_dict["body"])
        response_dict["body"] = b"{}"
