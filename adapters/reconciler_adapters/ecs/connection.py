"""Connections by boto3's own means: its credentials, its clients, its retries; our deadline, and our decoding."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from reconciler.ports import Misconfigured
from reconciler.words import one_line
from reconciler_adapters.ecs import objects as ecs
from reconciler_adapters.ecs.account import Account, is_region
from reconciler_adapters.ecs.credentials import AGENT, Actor, assume_role, find
from reconciler_adapters.ecs.crew import Bucket
from reconciler_adapters.ecs.names import ClusterName

if TYPE_CHECKING:
    import boto3

_CONNECT_SECONDS, _READ_SECONDS = 5, 10
_ATTEMPTS = 10
_NO_SUCCESS = 300
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
_THROTTLED = ("DescribeTasks", "ListTasks")


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
    session: boto3.Session  # its credentials may not be looked for yet
    region: str  # of the clusters that are named without one
    deadline: float = 0.0
    failure: Exception | None = None  # of the last try of a call, while it is tried again
    _actor: Actor | None = None
    _tokens: deque[str] = field(default_factory=lambda: deque(maxlen=_TOKENS_KEPT), repr=False)  # to be hidden
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    @classmethod
    def open(cls, account: Account, buckets: Buckets) -> Connection:
        """Find the region, as the AWS command line does. Raises botocore's errors, and Misconfigured."""
        import boto3

        session = boto3.Session(profile_name=account.profile)
        # Fargate tells its tasks AWS_REGION, which boto3 does not read (botocore/configprovider.py)
        found = os.environ.get("AWS_REGION") or session.region_name or account.named_region
        region = account.region or found
        if region is None:
            raise Misconfigured(
                "no AWS region is known: set the option `region`, or AWS_REGION, or name the clusters by their ARNs"
            )
        if not is_region(region):
            raise Misconfigured(f"'{one_line(region, 80)}' is no AWS region: see the option `region`, and AWS_REGION")
        # a profile's own role is taken on in the session's region
        return cls(account, buckets, boto3.Session(profile_name=account.profile, region_name=region), region)

    @property
    def is_fresh(self) -> bool:
        """Whether the credentials are good for a whole pass."""
        return self._actor is None or time.monotonic() < self._actor.good_until

    @property
    def is_signed_in(self) -> bool:
        return self._actor is not None

    @property
    def shown(self) -> str:
        """What is asked, for sentences."""
        at = self.hide(f" at {self.account.endpoint_url}") if self.account.endpoint_url else ""
        regions = sorted({region for _, region in self._clients} or {self.region})
        return f"AWS{at} in {' and '.join(regions)}"

    def sign_in(self) -> None:
        """Find credentials, and take on the role if there is one. That may take long, and fails in botocore's ways."""
        find(self.session)
        if self.account.role_arn is None:
            self._actor = Actor(self.session)
            return
        with closing(self._client(self.session, "sts", self.region)) as sts:
            actor, token = assume_role(sts, self.account)
        self._note_token(token)
        self._actor = actor

    def client(self, service: str, region: str | None = None) -> Any:
        key = (service, region or self.region)
        if key not in self._clients:
            assert self._actor, "it was signed in"
            self._clients[key] = self._client(self._actor.session, *key)
        return self._clients[key]

    def _before_send(self, request: Any, **_: object) -> None:
        """Let no request through, nor another try of one, without time left."""
        if time.monotonic() > self.deadline:
            raise TimeoutError
        if token := request.headers.get("X-Amz-Security-Token"):
            self._note_token(token.decode() if isinstance(token, bytes) else token)

    def configured(self, number: str) -> list[ClusterName]:
        """Name the clusters of the options in full; `number`: the account's."""
        partition = self.session.get_partition_for_region(self.region)
        return sorted(
            {
                ClusterName.parse(text) or ClusterName(partition, self.region, number, text)
                for text in self.account.clusters
            }
        )

    def hide(self, text: str) -> str:
        """Take out session tokens, for a proxy may quote what it was sent, and the password of an address."""
        for token in tuple(self._tokens):
            text = text.replace(token, "***")
        return re.sub(r"(?<=//)[^/\s]+@", "", text)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _take_token(self, region: str, **_: object) -> None:
        self.buckets.of(region).wait(self.deadline)

    def _note_failure(self, event_name: str, parsed_response: Any, exception: Exception | None, **_: object) -> None:
        from botocore.exceptions import ClientError

        if isinstance(exception, TimeoutError):
            return  # we gave up: what it failed with before says more
        self.failure = exception
        if parsed_response and "Error" in parsed_response:
            self.failure = ClientError(parsed_response, event_name.rpartition(".")[2])

    def _note_token(self, token: str) -> None:
        token = token.strip()
        if token not in self._tokens:
            self._tokens.append(token)

    def _client(self, session: boto3.Session, service: str, region: str) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=THREADS,
            user_agent_extra=AGENT,
        )
        client = session.client(service, region_name=region, endpoint_url=self.account.endpoint_url, config=config)
        client.meta.events.register("before-send", self._before_send)
        for operation in _THROTTLED:
            client.meta.events.register(f"before-send.ecs.{operation}", partial(self._take_token, region))
        client.meta.events.register("before-parse.ecs", _decode)
        client.meta.events.register("response-received", self._note_failure)
        return client


def _decode(operation_model: Any, response_dict: Any, customized_response_dict: Any, **_: object) -> None:
    """Decode the body ourselves, and give boto3 none: it takes three times as long, and lets other forms pass."""
    decoder = _DECODERS.get(operation_model.name)
    if decoder is not None and response_dict["status_code"] < _NO_SUCCESS:
        customized_response_dict[DECODED] = decoder.decode(response_dict["body"])
        response_dict["body"] = b"{}"
