"""Which account and which clusters a scope asks: its options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler.options import read_options
from reconciler.ports import Misconfigured
from reconciler_adapters.ecs.names import ClusterName, is_cluster_name

_ROLE = re.compile(r"arn:aws[a-z0-9-]*:iam::\d{12}:role/\S+")
_A_ROLE = "arn:aws:iam::123456789012:role/reader"
_TEXTS = ("region", "profile", "role_arn", "external_id", "endpoint_url")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A scope's options, checked. `clusters` are names, or ARNs where they are of another region."""

    scope: str
    clusters: tuple[str, ...] = ("default",)
    region: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    endpoint_url: str | None = None

    @classmethod
    def of(cls, scope: str, options: Mapping[str, object]) -> Account:
        read = read_options(scope, "ecs", options, texts=_TEXTS, lists=("clusters",))
        account = cls(scope=scope, clusters=read.lists.get("clusters", ("default",)), **read.texts)
        for cluster in account.clusters:
            if not (is_cluster_name(cluster) or ClusterName.parse(cluster)):
                raise Misconfigured(
                    f"scope '{scope}': option 'clusters' holds '{cluster}', which is no name or ARN of a cluster"
                )
        if account.external_id and not account.role_arn:
            raise Misconfigured(f"scope '{scope}': option 'external_id' is of use only together with 'role_arn'")
        if account.role_arn and not _ROLE.fullmatch(account.role_arn):
            raise Misconfigured(f"scope '{scope}': option 'role_arn' must be the ARN of a role, such as {_A_ROLE}")
        if account.endpoint_url and not _is_address(account.endpoint_url):
            raise Misconfigured(
                f"scope '{scope}': option 'endpoint_url' must begin with http:// or https:// and a host"
            )
        return account

    @property
    def named_region(self) -> str | None:
        """The region of a cluster that is named by its ARN."""
        return next((name.region for text in self.clusters if (name := ClusterName.parse(text))), None)


def is_region(text: str) -> bool:
    return bool(re.fullmatch("[a-z0-9-]{1,63}", text))


def _is_address(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0 and not re.search(r"\s", text)
    except ValueError:  # of brackets that stay open, or a port that is no number
        return False
