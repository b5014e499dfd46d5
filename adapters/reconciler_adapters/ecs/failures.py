"""What AWS refused, and what went wrong on the way, in the words of a sentence with its remedy."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from reconciler.failures import causes
from reconciler.ports import AdapterError, Misconfigured
from reconciler.words import one_line
from reconciler_adapters.ecs.credentials import NoCredentials

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

Explained = tuple[type[AdapterError], str, str]
Quote = Callable[[object], str]

_MEND = "mend the AWS configuration (`profile`, ~/.aws, AWS_* variables)"
_LOOKS = frozenset({"DescribeClusters", "DescribeTasks", "ListTasks"})
_DENIED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"})
_EXPIRED = frozenset({"ExpiredTokenException", "ExpiredToken", "RequestExpired"})
_NOT_KNOWN = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
    }
)
_NOT_SIGNED = frozenset({"InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed"})
_NOT_ENABLED = frozenset({"OptInRequired", "SubscriptionRequiredException", "RegionDisabledException"})
_LIMITED = frozenset({"ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException"})
_REFUSALS: tuple[tuple[frozenset[str], type[AdapterError], str], ...] = (
    (_DENIED, Misconfigured, "grant it; `reconcile check` prints the policy"),
    (_EXPIRED, Misconfigured, "renew the credentials: they have expired"),
    (_NOT_KNOWN, Misconfigured, "renew the credentials: AWS does not know them"),
    (_NOT_SIGNED, Misconfigured, "see that the secret key is right, and that this machine's clock is"),
    (_NOT_ENABLED, Misconfigured, "enable the region, or the service, for this account"),
    (frozenset({"ClusterNotFoundException"}), Misconfigured, "see the options `clusters` and `region`"),
    (frozenset({"ValidationError"}), Misconfigured, "see the options `role_arn` and `external_id`"),
    (
        _LIMITED,
        AdapterError,
        "the account's calls are limited (100 at once, 20 a second for all its tools): look less often, see `interval`",
    ),
)


def explain(error: BaseException, seconds: float, hide: Callable[[str], str]) -> Explained:
    """Put a failure into words: its kind, the cause and the remedy.

    `seconds`: the time that there was to answer. `hide` takes out what must not be quoted, before anything is cut.
    """
    from botocore.exceptions import ClientError

    def quote(value: object) -> str:
        return one_line(hide(str(value)))

    if isinstance(error, ClientError):
        return _refused(error, quote)
    return _without_credentials(error, quote) or _failed(list(causes(error)), seconds, quote)


def denied_action(error: BaseException | None) -> str | None:
    """Name the action that the policy lacks: "ecs:ListTasks". None: it was something else that failed."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError) or error.operation_name not in _LOOKS:
        return None
    return f"ecs:{error.operation_name}" if error.response.get("Error", {}).get("Code") in _DENIED else None


def _refused(error: ClientError, quote: Quote) -> Explained:
    said = error.response.get("Error", {})
    code, operation = str(said.get("Code") or "no code"), error.operation_name
    message = quote(said.get("Message") or "without a reason")
    cause = f"{operation} was refused with {quote(code)} ({message})"
    if operation.startswith("AssumeRole") and code in _DENIED:
        return Misconfigured, cause, "allow it in their policy, and name their principal in the role's trust policy"
    for codes, kind, remedy in _REFUSALS:
        if code in codes:
            return kind, cause, remedy
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    cause = f"{operation} answered {status}, {quote(code)} ({message})" if status else cause
    return AdapterError, cause, "see whether a proxy is in between, and the AWS Health Dashboard"


def _without_credentials(error: BaseException, quote: Quote) -> Explained | None:
    """What went wrong before anything was asked. What a program printed instead of credentials is not quoted."""
    from botocore import exceptions as boto

    if isinstance(error, boto.NoCredentialsError):
        remedy = "give some: a task's or instance's role, AWS_* variables, or the option `profile`"
        return Misconfigured, "it found no credentials", remedy
    if isinstance(error, boto.ProfileNotFound):
        return Misconfigured, quote(error), "see the option `profile` and AWS_PROFILE"
    if isinstance(error, boto.ConfigParseError | boto.ConfigNotFound):
        return Misconfigured, quote(error), _MEND
    if isinstance(error, boto.SSOError | boto.TokenRetrievalError):
        return Misconfigured, f"it got no token ({quote(error)})", "sign in anew: aws sso login"
    if isinstance(error, NoCredentials | boto.CredentialRetrievalError | boto.PartialCredentialsError | EOFError):
        why = quote(error) if isinstance(error, NoCredentials | boto.PartialCredentialsError) else type(error).__name__
        return Misconfigured, f"it got no credentials ({why})", _MEND
    return None


def _filled(cause: str, error: BaseException, quote: Quote) -> str:
    return cause.replace("{type}", type(error).__name__).replace("{error}", quote(error)).removesuffix(" ()")


def _failed(chain: list[BaseException], seconds: float, quote: Quote) -> Explained:
    """No answer, or not a whole one. First match wins."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    running = "see that the region and `endpoint_url` are right, and that the network reaches them"
    slow = "see whether the network is slow or the account's calls are limited, and raise `policy.scope_deadline`"
    unread = "its answer cannot be read"  # botocore quotes what it cannot parse, and that of AssumeRole is secret
    table: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
        ((ssl.SSLError, boto.SSLError), "TLS failed ({error})", "check AWS_CA_BUNDLE and the proxy"),
        ((boto.ProxyConnectionError,), "the proxy could not be reached", "check HTTPS_PROXY"),
        ((ConnectionRefusedError,), "the connection was refused", running),
        (
            (TimeoutError, boto.ConnectTimeoutError, boto.ReadTimeoutError),
            f"timed out after {seconds:.1f} s ({{error}})",
            slow,
        ),
        ((ResponseParserError,), unread, running),
        ((msgspec.ValidationError, msgspec.DecodeError), f"{unread} ({{error}})", running),
        ((ValueError, KeyError, RecursionError), f"{unread} ({{type}})", running),  # http.client quotes headers
        ((boto.EndpointConnectionError,), "{error}", running),
        ((boto.HTTPClientError, OSError), "the connection broke off ({error})", running),
    )
    for kinds, cause, remedy in table:
        for error in chain:
            if isinstance(error, kinds):
                return AdapterError, _filled(cause, error, quote), remedy
    return Misconfigured, quote(chain[0]), _MEND
