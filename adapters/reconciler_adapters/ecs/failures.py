"""What AWS refused, and what went wrong on the way, in the words of a sentence with its remedy."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from reconciler.failures import causes
from reconciler.ports import AdapterError, Misconfigured
from reconciler.words import one_line

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

Explained = tuple[type[AdapterError], str, str]

_RENEW = "renew the credentials"
_GRANT = "grant it; `reconcile check` prints the policy"
_ASSUME_ROLE = "AssumeRole"
_DENIED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"})
_REFUSALS: tuple[tuple[frozenset[str], type[AdapterError], str], ...] = (
    (_DENIED, Misconfigured, _GRANT),
    (
        frozenset({"ExpiredTokenException", "ExpiredToken", "RequestExpired"}),
        Misconfigured,
        f"{_RENEW}: they have expired",
    ),
    (
        frozenset(
            {
                "UnrecognizedClientException",
                "InvalidClientTokenId",
                "IncompleteSignature",
                "IncompleteSignatureException",
                "MissingAuthenticationToken",
                "MissingAuthenticationTokenException",
            }
        ),
        Misconfigured,
        f"{_RENEW}: AWS does not know them",
    ),
    (
        frozenset({"InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed"}),
        Misconfigured,
        "see that the secret key is right, and that this machine's clock is",
    ),
    (
        frozenset({"ClusterNotFoundException"}),
        Misconfigured,
        "see the options `clusters` and `region`",
    ),
    (
        frozenset({"OptInRequired", "SubscriptionRequiredException", "RegionDisabledException"}),
        Misconfigured,
        "enable the region, or the service, for this account",
    ),
    (
        frozenset({"ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException"}),
        AdapterError,
        "the account's calls are limited (100 at once, 20 a second for all its tools): look less often, see `interval`",
    ),
)


def explain(error: BaseException, seconds: float) -> Explained:
    """Put a failure into words: its kind, the cause and the remedy. `seconds`: the time that there was to answer."""
    from botocore.exceptions import ClientError

    return _refused(error) if isinstance(error, ClientError) else _failed(list(causes(error)), seconds)


def denied_action(error: BaseException | None) -> str | None:
    """Name the action that the policy lacks: "ecs:ListTasks". None: it was something else that failed."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError) or error.operation_name == _ASSUME_ROLE:
        return None
    if error.response.get("Error", {}).get("Code") not in _DENIED:
        return None
    return f"ecs:{error.operation_name}"


def _refused(error: ClientError) -> Explained:
    said = error.response.get("Error", {})
    code, operation = str(said.get("Code") or "no code"), error.operation_name
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    message = one_line(said.get("Message") or "without a reason")
    cause = f"{operation} was refused with {code} ({message})"
    if operation == _ASSUME_ROLE and code in _DENIED:
        return Misconfigured, cause, "allow it in their policy, and name their principal in the role's trust policy"
    for codes, kind, remedy in _REFUSALS:
        if code in codes:
            return kind, cause, remedy
    cause = f"{operation} answered {status}, {one_line(code)} ({message})" if status else cause
    return AdapterError, cause, "see whether a proxy is in between, and the AWS Health Dashboard"


def _failed(chain: list[BaseException], seconds: float) -> Explained:
    """No answer, or not a whole one, or nothing could be asked. First match wins."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    running = "see that the region and `endpoint_url` are right, and that the network reaches them"
    nobody = "give some: a task's or instance's role, AWS_* variables, or the option `profile`"
    mend = "mend the AWS configuration (`profile`, ~/.aws, AWS_* variables)"
    unread = "its answer cannot be read"  # botocore quotes what it cannot parse, and that of AssumeRole is secret
    sso = (boto.SSOError, boto.TokenRetrievalError)
    table: tuple[tuple[tuple[type[BaseException], ...], type[AdapterError], str, str], ...] = (
        ((boto.NoCredentialsError,), Misconfigured, "it found no credentials", nobody),
        ((boto.ProfileNotFound,), Misconfigured, "{error}", "see the option `profile` and AWS_PROFILE"),
        (sso, Misconfigured, "it got no token ({error})", "sign in anew: aws sso login"),
        (
            (boto.PartialCredentialsError, boto.CredentialRetrievalError, EOFError),
            Misconfigured,
            "it got no credentials ({error})",
            mend,
        ),
        ((ssl.SSLError, boto.SSLError), AdapterError, "TLS failed ({error})", "check AWS_CA_BUNDLE and the proxy"),
        ((boto.ProxyConnectionError,), AdapterError, "the proxy could not be reached", "check HTTPS_PROXY"),
        ((ConnectionRefusedError,), AdapterError, "the connection was refused", running),
        (
            (TimeoutError, boto.ConnectTimeoutError, boto.ReadTimeoutError),
            AdapterError,
            f"timed out after {seconds:.1f} s ({{error}})",
            "see whether the network is slow or the account's calls are limited, and raise `policy.scope_deadline`",
        ),
        ((ResponseParserError,), AdapterError, unread, running),
        ((ValueError, KeyError, RecursionError), AdapterError, f"{unread} ({{error}})", running),
        ((boto.EndpointConnectionError,), AdapterError, "{error}", running),
        ((boto.HTTPClientError, OSError), AdapterError, "the connection broke off ({error})", running),
    )
    for kinds, kind, cause, remedy in table:
        for error in chain:
            if isinstance(error, kinds):
                return kind, cause.replace("{error}", one_line(error)).removesuffix(" ()"), remedy
    return Misconfigured, one_line(chain[0]), mend
