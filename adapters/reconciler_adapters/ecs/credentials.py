"""Who asks: credentials, found as the AWS command line finds them, and a role taken on with them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reconciler_adapters.ecs.account import Account

if TYPE_CHECKING:
    import boto3

AGENT = "prefect-reconciler"


class NoCredentials(Exception):
    """They could not be found. The text quotes nothing that a program or a server printed: it may be a secret."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A session with credentials. `good_until` is a `time.monotonic()` value; infinite if boto3 renews them itself."""

    session: boto3.Session
    good_until: float = float("inf")


def find(session: boto3.Session) -> None:
    """Look for credentials, which may run a program, read a file or ask a server; then the session keeps them.

    Raises botocore's errors where they quote nothing, else NoCredentials.
    """
    from botocore import exceptions as boto

    speaking = (boto.ClientError, boto.HTTPClientError, boto.NoCredentialsError, boto.PartialCredentialsError)
    try:
        credentials = session.get_credentials()
        found = credentials.get_frozen_credentials() if credentials else None
    except (*speaking, boto.SSOError, boto.TokenRetrievalError, TimeoutError):
        raise
    except boto.CredentialRetrievalError as error:
        raise NoCredentials(f"from {error.kwargs.get('provider', 'their source')}") from None
    except OSError as error:  # the file of a token, or a program
        raise NoCredentials(f"{error.strerror}: {error.filename}") from None
    except Exception as error:  # noqa: BLE001 - what a program prints, or a file holds, makes botocore fail in any way
        raise NoCredentials(type(error).__name__) from None
    if found is None:
        raise boto.NoCredentialsError
    if not all(part is None or (part.isascii() and part.isprintable() and " " not in part) for part in found[:3]):
        # http.client refuses what holds a line break, and quotes it
        raise NoCredentials("they hold blanks or line breaks: write them anew, without")


def assume_role(sts: Any, account: Account) -> tuple[Actor, str]:
    """Take on the role. Gives the session token too, to be hidden.

    Its credentials last for an hour, unless the role says less; half of that is used.
    """
    import boto3

    extra = {"ExternalId": account.external_id} if account.external_id else {}
    given = sts.assume_role(RoleArn=account.role_arn, RoleSessionName=AGENT, **extra)["Credentials"]
    session = boto3.Session(
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
        profile_name=account.profile,  # it may say endpoints
    )
    seconds = (given["Expiration"] - datetime.now(UTC)).total_seconds()
    return Actor(session, time.monotonic() + max(0.0, seconds) / 2), given["SessionToken"]
