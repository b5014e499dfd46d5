"""Where one cluster is and how to reach it: a scope's options, and a connection by the official client's own means."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reconciler.options import read_options
from reconciler.ports import Misconfigured
from reconciler.words import one_line

if TYPE_CHECKING:
    from kubernetes.client import Configuration
    from urllib3 import PoolManager

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MAX_AGE = 300.0  # seconds; then the kubeconfig, and the token files that it names, are read again
_NAMESPACE = re.compile("[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_TEXTS = ("kubeconfig", "context", "label_selector", "cluster_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A scope's options, checked.

    `namespaces`: none means all of them. `label_selector` narrows the bulk lists in a cluster that several Prefect
    servers share; look-ups of single runs do without it. `cluster_name` is for sentences.
    """

    scope: str
    kubeconfig: str | None = None  # None: the account of this pod, else $KUBECONFIG, else ~/.kube/config
    context: str | None = None  # of the kubeconfig; None: its current one
    namespaces: tuple[str, ...] = ()
    label_selector: str | None = None
    cluster_name: str | None = None

    @classmethod
    def of(cls, scope: str, options: Mapping[str, object]) -> Cluster:
        read = read_options(scope, "kubernetes", options, texts=_TEXTS, lists=("namespaces",))
        cluster = cls(scope=scope, namespaces=tuple(sorted(set(read.lists.get("namespaces", ())))), **read.texts)
        for namespace in cluster.namespaces:
            if not _NAMESPACE.fullmatch(namespace):
                raise Misconfigured(
                    f"scope '{scope}': option 'namespaces' holds '{namespace}', which is no name of one"
                )
        return cluster

    @property
    def uses_own_account(self) -> bool:
        """Whether the account that Kubernetes gives to this pod is meant."""
        return not (self.kubeconfig or self.context) and has_own_account()

    @property
    def kubectl(self) -> tuple[str, ...]:
        """The words that begin a command to this very cluster, for a person: without them it may be to another."""
        file = str(Path(self.kubeconfig).expanduser()) if self.kubeconfig else ""
        context = ("--context", self.context) if self.context else ()
        if os.pathsep in file:  # the flag takes one file only
            return ("env", f"KUBECONFIG={file}", "kubectl", *context)
        return ("kubectl", *(("--kubeconfig", file) if file else ()), *context)

    def connect(self) -> Connection:
        """Read the credentials anew. Raises Misconfigured."""
        from kubernetes.client import Configuration
        from kubernetes.client.rest import RESTClientObject
        from kubernetes.config import ConfigException
        from yaml import YAMLError

        configuration = Configuration()
        try:
            context = self._load(configuration)
            pool = RESTClientObject(configuration).pool_manager
        # TypeError and the like: the client walks the file's values without looking at what they are
        except (ConfigException, YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            source = "the account of this pod" if self.uses_own_account else self.kubeconfig or kubeconfig_path()
            raise Misconfigured(
                f"the Kubernetes credentials in {source} cannot be used: {_why(error)}; "
                "see the options `kubeconfig` and `context`"
            ) from error
        return Connection(configuration, pool, self.cluster_name or context)

    def _load(self, configuration: Configuration) -> str | None:
        """Fill the configuration in. Gives the name of the context."""
        from kubernetes.config import (
            ConfigException,
            list_kube_config_contexts,
            load_incluster_config,
            load_kube_config,
        )

        if self.uses_own_account:
            load_incluster_config(configuration)
            return None
        file = str(Path(self.kubeconfig).expanduser()) if self.kubeconfig else kubeconfig_path()
        load_kube_config(file, self.context, configuration, persist_config=False)  # else it may write to that file
        if not configuration.host.startswith(("https://", "http://")):  # urllib3 would send the token in the clear
            raise ConfigException(f"'{one_line(configuration.host)}' is no address of a server")
        return self.context or str(list_kube_config_contexts(file)[1]["name"])


@dataclass(frozen=True, slots=True)
class Connection:
    """Credentials and a pool of connections. Shared by the calls of a few minutes; safe for several threads."""

    configuration: Configuration
    pool: PoolManager
    cluster_name: str | None
    made_at: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        return str(self.configuration.host).rstrip("/")

    @property
    def shown_url(self) -> str:
        """The address for sentences, without what may be a password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.made_at < _MAX_AGE

    def headers(self) -> dict[str, str]:
        """The credentials. The client's own hook renews a token that expires; that may run a program or read a file."""
        token = self.configuration.auth_settings().get("BearerToken") or {}
        # client 36.0.0 keeps the token under a name that its own settings do not look for
        told = token.get("value") or self.configuration.get_api_key_with_prefix("authorization") or ""
        value = str(told).strip()  # a file with a token may end in a line break
        if not (value.isascii() and value.isprintable()):  # http.client refuses it, and quotes it
            raise Misconfigured("the Kubernetes token holds what cannot be sent: write it anew, on one line")
        return {"Authorization": value} if value else {}

    @property
    def files(self) -> tuple[str, ...]:
        """The client certificate and its key, if there are."""
        return tuple(filter(None, [self.configuration.cert_file, self.configuration.key_file]))

    def hide(self, text: str) -> str:
        """Take the token out: a proxy may quote what it was sent."""
        for value in self.configuration.api_key.values():
            secret = str(value).strip().rpartition(" ")[2]
            text = text.replace(secret, "***") if secret else text
        return text

    def close(self) -> None:
        self.pool.clear()

    def drop_files(self, successor: Connection) -> None:
        """Remove the client's temporary files with keys that its successor does not use.

        The client keeps them, by content, until the process ends, and a plugin may give a new certificate each time.
        Another scope with the same certificate fails once, and then has its file made anew.
        """
        from kubernetes.config import kube_config

        files = set(self.files) - set(successor.files)
        kept = getattr(kube_config, "_temp_files", {})
        for content, path in list(kept.items()):  # other scopes' threads change it too
            if path in files:
                kept.pop(content, None)
                Path(path).unlink(missing_ok=True)


def _why(error: Exception) -> str:
    """What is wrong with a kubeconfig, without what stands in it: the client and YAML quote users with their keys."""
    from kubernetes.config import ConfigException
    from yaml import MarkedYAMLError

    if isinstance(error, ConfigException):
        return one_line(str(error).partition(" in ")[0])
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1} is not YAML"
    return one_line(error) if isinstance(error, OSError) else "it is not of the expected form"


def kubeconfig_path() -> str:
    """One path, or several with a colon between them."""
    return os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def has_kubeconfig() -> bool:
    return any(Path(path).is_file() for path in kubeconfig_path().split(os.pathsep))


def has_own_account() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (_SERVICE_ACCOUNT / "token").is_file()


def own_namespace() -> str | None:
    """The namespace of this pod, if it says."""
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None
