"""What Docker's answers mean. Pure: JSON values in, frozen values out; nothing here asks the engine."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from reconciler.model import Cause, Condition, Observation, Resource, RunId
from reconciler.words import one_line, signal_name

RUN_LABEL = "io.prefect.flow-run-id"

_PID = re.compile(r"(?s).+://.*:([0-9a-f]{64})")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_LIVE = {"running": "is running", "paused": "is paused", "restarting": "is restarting"}
_NO_CODE, _NO_LIMIT = 2**32, 2**60
_FOUND_DEAD = 255  # set by Docker for containers that it finds dead when it starts; a program may end with it, too
_NOT_STARTED = "created"
REMOVED = "removed"  # no word of Docker's: there is no such container any more
_HALF_A_SECOND = timedelta(seconds=0.5)
_ENDED = frozenset({"exited", "dead", "removing"})


class Unreadable(ValueError):
    """The answer has not the shape that Docker's API promises, so it says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container, from a list (no `state`) or from an inspection. Times are the engine's."""

    id: str
    status: str
    name: str = ""
    run_id: RunId | None = None  # None: no label, or one that is no UUID
    created_at: datetime | None = None
    created_within: timedelta = timedelta(0)
    memory_limit: int = 0  # bytes; 0: none, or not known
    state: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Whether the state alone says so; a created or removing one has to be inspected."""
        return self.status in _LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What `/info` says of the engine itself."""

    id: str
    name: str
    time: datetime | None


@dataclass(frozen=True, slots=True)
class Wording:
    """What sentences and commands say of one engine: its name, and the words that begin a `docker` command for it."""

    engine: str
    client: Sequence[str]

    def removal(self, container: Container) -> str:
        """The command that removes the container; none for one that is gone, or if an address would mar the line."""
        line = shlex.join([*self.client, "rm", "-f", container.id[:12]])
        return line if container.status != REMOVED and line.isprintable() else ""


def container_id_in(pid: str | None) -> str | None:
    """The container's id in a pid of prefect-docker, `<base_url>:<64 hex digits>`, or None.

    The base URL is docker-py's own; for any Unix socket it is `http+docker://localhost`, so it names no host.
    """
    match = _PID.fullmatch(pid or "")
    return match[1] if match else None


def read_engine(answer: object) -> Engine:
    """Read `/info`."""
    info = _mapping(answer, "the engine's information")
    return Engine(id=_text(info, "ID"), name=_text(info, "Name"), time=instant(info.get("SystemTime")))


def read_list(answer: object) -> list[Container]:
    """Read `/containers/json`. Anything but a list of containers is an error: it must not pass for an empty list."""
    if not isinstance(answer, list):
        raise Unreadable(f"a list of containers was expected, not {_kind(answer)}")
    return [_listed(_mapping(entry, "a container")) for entry in answer]


def _listed(entry: Mapping[str, object]) -> Container:
    names = entry.get("Names")
    own = [name for name in names if isinstance(name, str) and "/" not in name[1:]] if isinstance(names, list) else []
    return Container(
        id=_id(entry),
        status=_text(entry, "State"),
        name=own[0].lstrip("/") if own else "",
        run_id=_run_id(entry),
        created_at=_since_1970(entry.get("Created")),
        created_within=_HALF_A_SECOND,
    )


def read_inspection(answer: object) -> Container:
    """Read `/containers/{id}/json`."""
    body = _mapping(answer, "a container")
    state = _mapping(body.get("State"), "a container's state")
    name, host = body.get("Name"), body.get("HostConfig")
    limit = host.get("Memory") if isinstance(host, dict) else None
    return Container(
        id=_id(body),
        status=_text(state, "Status"),
        name=name.lstrip("/") if isinstance(name, str) else "",
        run_id=_run_id(_mapping(body.get("Config"), "a container's configuration")),
        created_at=instant(body.get("Created")),
        memory_limit=limit if type(limit) is int and limit < _NO_LIMIT else 0,
        state=state,
    )


def describe(container: Container, wording: Wording, run_id: RunId) -> Resource:
    name = f" ({container.name})" if container.name else ""
    title = f"Docker container {container.id[:12]}{name} on engine {wording.engine}"
    return Resource(
        id=container.id,
        title=title,
        run_id=run_id,
        created_at=container.created_at,
        created_within=container.created_within,
        removal=wording.removal(container),
    )


def judge(container: Container, resource: Resource) -> Observation:
    """Say what was seen of one container. States as seen on Docker 20.10."""
    if container.is_live:
        return Observation(condition=Condition.ALIVE, reason=_LIVE[container.status], resource=resource)
    if container.status == _NOT_STARTED:
        return _not_started(container, resource)
    if container.status not in _ENDED:
        reason = f"is in the state {one_line(container.status, 80)!r}, which this version does not know"
        return Observation(condition=Condition.UNKNOWN, reason=reason, resource=resource)
    if container.state.get("Running") is True:
        return Observation(condition=Condition.STOPPING, reason="is being removed", resource=resource)
    return _ended(container, resource, _how_it_ended(container), _why_it_ended(container))


def _not_started(container: Container, resource: Resource) -> Observation:
    # A command that cannot be started leaves the state "created" for ever, with the exit code 127 and the error.
    error, code = container.state.get("Error"), _exit_code(container)
    if not error and not code:
        return Observation(
            condition=Condition.STARTING, reason="was created and has not started yet", resource=resource
        )
    said = one_line(error) if error else f"exit code {code}"
    return _ended(container, resource, f"failed to start: {said}", Cause.FAILED_TO_START)


def _ended(container: Container, resource: Resource, reason: str, cause: Cause | None) -> Observation:
    return Observation(
        condition=Condition.EXITED,
        reason=reason,
        resource=resource,
        exit_code=_exit_code(container),
        ended_at=instant(container.state.get("FinishedAt")),
        cause=cause,
    )


def _why_it_ended(container: Container) -> Cause | None:
    """Say what Docker knows beyond the exit code. Who stopped a container is in its events only, not in its state."""
    code = _exit_code(container)
    if code and container.state.get("OOMKilled") is True:
        return Cause.OOM_KILLED  # also with 255: what Docker finds dead never has the flag (seen on 20.10)
    return Cause.HOST_RESTART if code == _FOUND_DEAD else None


def _how_it_ended(container: Container) -> str:
    code, is_oom = _exit_code(container), container.state.get("OOMKilled") is True
    if code is None:
        return "has ended, with no exit code known"
    if code == 128 + signal.SIGKILL and is_oom:
        limit = f" (limit {_size(container.memory_limit)})" if container.memory_limit else ""
        return f"was killed: out of memory{limit}, exit code 137"
    # The flag alone is no cause of death: it also stands when a child was killed and the main process ended well.
    memory = ", although a child ran out of memory" if is_oom else ""
    return f"exited with code {code}{_meaning_of(code)}{memory}"


def _meaning_of(code: int) -> str:
    if code == 128 + signal.SIGKILL:
        return " (SIGKILL; Docker recorded no out-of-memory)"
    if code == _FOUND_DEAD:
        return " (stopped by a restart of the engine or the host)"
    name = signal_name(code)
    return f" ({name})" if name else ""


def instant(value: object) -> datetime | None:
    """Parse RFC 3339 with nanoseconds. None for anything else and for Go's zero time, which means "never"."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time and time.tzinfo and time.year > 1 else None


def _since_1970(seconds: object) -> datetime | None:
    """A list tells whole seconds, cut off: the middle is meant."""
    try:
        return datetime.fromtimestamp(seconds, UTC) + _HALF_A_SECOND if isinstance(seconds, int) else None
    except (OverflowError, OSError, ValueError):
        return None


def _exit_code(container: Container) -> int | None:
    code = container.state.get("ExitCode")
    return code if type(code) is int and abs(code) < _NO_CODE else None


def _size(count: int) -> str:
    gibi, mebi = count / 2**30, count / 2**20
    return f"{gibi:.4g} GiB" if gibi >= 1 else f"{mebi:.4g} MiB"


def _run_id(holder: Mapping[str, object]) -> RunId | None:
    if "Labels" not in holder:
        raise Unreadable("a container without labels")
    labels = _mapping(holder["Labels"] or {}, "a container's labels")
    try:
        return UUID(str(labels.get(RUN_LABEL)))
    except ValueError:
        return None  # labels are data from outside: anyone may write anything


def _id(holder: Mapping[str, object]) -> str:
    value = _text(holder, "Id")
    if not _CONTAINER_ID.fullmatch(value):
        raise Unreadable(f"{one_line(value, 80)!r} is no container id")
    return value


def _text(holder: Mapping[str, object], key: str) -> str:
    value = holder.get(key)
    if not isinstance(value, str) or not value:
        raise Unreadable(f"{key} is missing")
    return value


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Unreadable(f"{what} was expected, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
