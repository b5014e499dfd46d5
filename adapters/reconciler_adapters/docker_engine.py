"""Asking one Docker engine: options, the calls that are used, and every failure in words."""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.failures import causes
from reconciler.model import RunId
from reconciler.options import read_options
from reconciler.ports import AdapterError, Misconfigured, Problem
from reconciler.words import one_line
from reconciler_adapters.docker_meaning import (
    RUN_LABEL,
    Container,
    Engine,
    Unreadable,
    read_engine,
    read_inspection,
    read_list,
)

if TYPE_CHECKING:
    from docker import APIClient
    from docker.tls import TLSConfig

_BOTTOMLESS = (RecursionError, OverflowError)
DEFAULT_BASE_URL = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a scope's engine is and how to reach it: the scope's options, checked."""

    scope: str
    base_url: str
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    host_name: str | None = None  # for sentences, instead of the engine's own name

    @classmethod
    def of(cls, scope: str, options: Mapping[str, object]) -> Address:
        known = [name for name in cls.__dataclass_fields__ if name != "scope"]
        values = dict(read_options(scope, "docker", options, texts=known).texts)
        values.setdefault("base_url", os.environ.get("DOCKER_HOST") or DEFAULT_BASE_URL)
        address = cls(scope=scope, **values)
        address._check()
        return address

    @property
    def shown(self) -> str:
        """The address for sentences: what stands before an @ may be a password."""
        return re.sub(r"(?s)://[^:/@]*:.*@", "://***@", self.base_url)

    @property
    def client(self) -> Sequence[str]:
        """The words that begin a `docker` command for this engine, typed by a person with certificates of their own."""
        if self.base_url == DEFAULT_BASE_URL:
            return ("docker",)
        host = re.sub(r"^https?://", "tcp://", self.shown)  # docker-py takes http://, the client does not (20.10)
        secured = self.tls_ca or self.tls_cert or self.base_url.startswith("https://")
        return ("docker", "-H", host, *(["--tlsverify"] if secured else []))

    def _check(self) -> None:
        from docker.errors import DockerException
        from docker.utils import parse_host

        if bool(self.tls_cert) != bool(self.tls_key):
            raise Misconfigured(f"scope '{self.scope}': options 'tls_cert' and 'tls_key' must be given together")
        try:
            # ssh:// is refused because docker-py cannot bound the time of its calls.
            if self.base_url.startswith(("unix:///", "tcp://", "http://", "https://")):
                parse_host(self.base_url)
                return
        except (DockerException, ValueError):
            pass
        examples = "'unix:///var/run/docker.sock' or 'tcp://host:2376'"
        raise Misconfigured(f"scope '{self.scope}': option 'base_url' is {self.shown!r}; write it like {examples}")

    def tls(self) -> TLSConfig | bool:
        from docker.tls import TLSConfig

        if not (self.tls_ca or self.tls_cert):
            return False
        pair = (self.tls_cert, self.tls_key) if self.tls_cert and self.tls_key else None
        return TLSConfig(client_cert=pair, ca_cert=self.tls_ca, verify=True)


class Conversation:
    """The calls of one question to the scope. Never shared: what hung past its deadline cannot touch the next one."""

    def __init__(self, client: APIClient, deadline: float) -> None:
        self._client = client
        self._deadline = deadline

    def engine(self) -> Engine:
        return read_engine(self._in_time().info())

    def live(self) -> list[Container]:
        """Every live container of any flow run."""
        # Not "created": one that failed to start stays so until it is pruned, and is not alive.
        wanted = {"label": [RUN_LABEL], "status": ["running", "paused", "restarting"]}
        return [container for container in self._list(wanted) if container.is_live]

    def of_any_run(self) -> list[Container]:
        """Every container of any flow run, ended ones too."""
        return self._list({"label": [RUN_LABEL]})

    def of_run(self, run_id: RunId) -> list[Container]:
        """Every container of one flow run, ended ones too."""
        return [found for found in self._list({"label": [f"{RUN_LABEL}={run_id}"]}) if found.run_id == run_id]

    def inspect(self, container_id: str) -> Container | None:
        """Look at one container. None: the engine says that it has no container of this id."""
        from docker.errors import NotFound

        try:
            container = read_inspection(self._in_time().inspect_container(container_id))
        except NotFound as error:
            said = str(error.explanation)
            # A proxy, or a wrong path, answers 404 as well; only the engine names the container.
            if "no such container" in said.lower() and container_id in said:
                return None
            raise
        if container.id != container_id:
            raise Unreadable("another container was shown than the one asked for")
        return container

    def _list(self, filters: Mapping[str, list[str]]) -> list[Container]:
        return read_list(self._in_time().containers(all=True, filters=filters))

    def _in_time(self) -> APIClient:
        self._client.timeout = _seconds_until(self._deadline)  # type: ignore[assignment]  # requests takes a float
        return self._client


def _seconds_until(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _knock(address: Address, deadline: float) -> None:
    """Try the Unix socket first: docker-py 7 never closes the one on which its own connect failed."""
    if address.base_url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_seconds_until(deadline))
            door.connect(address.base_url.removeprefix("unix://"))


@contextmanager
def conversation(address: Address, deadline: float) -> Iterator[Conversation]:
    """Open a conversation. The one place where whatever goes wrong becomes an `AdapterError`.

    The API version is agreed on each time: no fixed one suits both Docker 20.10 (at most 1.41) and 29 (at least
    1.44), and an engine may be upgraded while we run.
    """
    import docker
    from docker.errors import DockerException
    from urllib3.exceptions import HTTPError

    began = time.monotonic()
    try:
        _knock(address, deadline)
        seconds = _seconds_until(deadline)
        with docker.APIClient(address.base_url, "auto", seconds, tls=address.tls()) as client:  # type: ignore[arg-type]
            yield Conversation(client, deadline)
    # KeyError and TypeError: docker-py takes `["message"]` of any error body. requests' own errors are OSErrors.
    except (DockerException, HTTPError, OSError, ValueError, KeyError, TypeError, *_BOTTOMLESS) as error:
        kind, problem = explain(error, address, deadline - began)
        raise kind(f"{problem.text}; {problem.remedy}") from error


def explain(error: BaseException, address: Address, seconds: float) -> tuple[type[AdapterError], Problem]:
    """Put a failure into words; `seconds` is the time that the engine had to answer."""
    chain = list(causes(error))
    kind, cause, remedy = _refused(chain) or _failed(chain, max(seconds, 0.0))
    return kind, Problem(f"Docker engine at {address.shown}: {cause}", remedy)


def _refused(chain: list[BaseException]) -> tuple[type[AdapterError], str, str] | None:
    """Answers with an HTTP error status."""
    for error in chain:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int) and status >= 400:  # noqa: PLR2004
            said = getattr(error, "explanation", None)
            cause = f"it answered {status}" + (f" ({one_line(said)})" if said else "")
            if status in {401, 403}:
                remedy = "let the reconciler read /version, /info and /containers (docker-socket-proxy: INFO=1, "
                return Misconfigured, cause, remedy + "CONTAINERS=1)"
            return AdapterError, cause, "see the engine's log"
    return None


def _failed(chain: list[BaseException], seconds: float) -> tuple[type[AdapterError], str, str]:
    """No answer, or not a whole one. First match wins."""
    from docker.errors import TLSParameterError
    from requests import Timeout

    running = "see that the engine runs and that base_url is right"
    table: tuple[tuple[tuple[type[BaseException], ...], type[AdapterError], str, str], ...] = (
        ((TLSParameterError,), Misconfigured, "{error}", "check tls_ca, tls_cert and tls_key"),
        (
            (PermissionError,),
            Misconfigured,
            "permission denied on the socket",
            "add the reconciler's user to the group 'docker', or mount the socket with that group",
        ),
        ((FileNotFoundError,), AdapterError, "there is no such socket", "start the engine, or mount its socket here"),
        ((ConnectionRefusedError,), AdapterError, "the connection was refused", running),
        ((socket.gaierror,), AdapterError, "its host name cannot be resolved", running),
        (
            (TimeoutError, Timeout),
            AdapterError,
            f"timed out after {seconds:.1f} s",
            "see whether the engine is overloaded",
        ),
        ((ssl.SSLError,), AdapterError, "TLS failed ({error})", "check tls_ca, tls_cert and tls_key"),
        (
            (ValueError, KeyError, TypeError, *_BOTTOMLESS),
            AdapterError,
            "its answer cannot be read ({error})",
            running,
        ),
    )
    for kinds, kind, cause, remedy in table:
        for error in chain:
            if isinstance(error, kinds):
                return kind, cause.replace("{error}", one_line(error)), remedy
    return AdapterError, f"the connection broke off ({one_line(chain[-1])})", running
