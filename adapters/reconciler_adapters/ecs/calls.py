"""The calls that are made of ECS and STS, each within our deadline, and what they answered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import msgspec

from reconciler.ports import AdapterError, Misconfigured
from reconciler.words import one_line
from reconciler_adapters.ecs import objects as ecs
from reconciler_adapters.ecs.connection import DECODED, Connection
from reconciler_adapters.ecs.credentials import NoCredentials
from reconciler_adapters.ecs.crew import Crew
from reconciler_adapters.ecs.failures import explain
from reconciler_adapters.ecs.names import ClusterName, TaskName

T = TypeVar("T")

_AT_ONCE = 100  # tasks in one DescribeTasks, clusters in one DescribeClusters, names on one page of ListTasks
_NEVER_SEEN = "0" * 32  # the form of a task's id
_MISSING, _ACTIVE, _POISONED = "MISSING", "ACTIVE", "InvalidParameterException"


@dataclass(slots=True)
class Described:
    """What ECS said of the tasks that were asked for, by ARN: each is in one of the three."""

    tasks: dict[str, ecs.Task] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)  # ECS says that it does not know them
    untold: dict[str, str] = field(default_factory=dict)  # why it did not tell


class Conversation:
    """The calls of one question to the scope. `time` is AWS's, of the last answer."""

    def __init__(self, connection: Connection, crew: Crew, deadline: float) -> None:
        self._connection = connection
        self._crew = crew
        self._deadline = deadline
        self.time: datetime | None = None

    @property
    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    def account(self) -> str:
        """The number of the account that the credentials are of. Needs no right."""
        (answer,) = self._together([partial(self._call, self._connection.client("sts"), "get_caller_identity")])
        return str(answer["Account"])

    def active(self, clusters: Sequence[ClusterName]) -> list[ClusterName]:
        """Describe clusters. Raises Misconfigured unless all of them are there, and at work."""
        regions = sorted({cluster.region for cluster in clusters})
        calls = [
            partial(self._call, self._connection.client("ecs", region), "describe_clusters", clusters=some)
            for region in regions
            for some in _parts([cluster.arn for cluster in clusters if cluster.region == region])
        ]
        answers: list[ecs.Clusters] = [answer[DECODED] for answer in self._together(calls)]
        status = {one.cluster_arn: one.status for answer in answers for one in answer.clusters}
        for cluster in clusters:
            if cluster.arn not in status:
                raise Misconfigured(
                    f"cluster '{cluster.name}' does not exist in {cluster.region} of account {cluster.account}: "
                    "see the options `clusters`, `region` and `role_arn`"
                )
            if status[cluster.arn] != _ACTIVE:
                raise Misconfigured(
                    f"cluster '{cluster.name}' is {one_line(status[cluster.arn], 80)}: "
                    "take it out of the option `clusters`, or make it anew"
                )
        return list(clusters)

    def describe(self, arns: Mapping[ClusterName, Collection[str]]) -> Described:
        """Describe tasks, each in its cluster."""
        chunks = [(cluster, some) for cluster, many in arns.items() for some in _parts(sorted(many))]
        described = Described()
        answers = self._together([partial(self._describe, *chunk) for chunk in self._with_clients(chunks)])
        for (_, asked), answer in zip(chunks, answers, strict=True):
            _sort(described, asked, answer)
        return described

    def listed(self, clusters: Sequence[ClusterName]) -> dict[TaskName, bool]:
        """List all tasks: True for those that ECS wants to run, False for those that are to stop, or have.

        Those are listed last, so that a task which stops meanwhile is on one list at least.
        """
        calls = [partial(self._list_both, self._connection.client("ecs", one.region), one) for one in clusters]
        return {name: is_wanted for listed in self._together(calls) for name, is_wanted in listed.items()}

    def try_describing(self, cluster: ClusterName) -> None:
        """Ask for a task that never was."""
        client = self._connection.client("ecs", cluster.region)
        self._together([partial(self._describe, client, cluster.arn, [_NEVER_SEEN])])

    def try_listing(self, cluster: ClusterName) -> None:
        client = self._connection.client("ecs", cluster.region)
        self._together([partial(self._call, client, "list_tasks", cluster=cluster.arn, maxResults=1)])

    def configured(self, account: str) -> list[ClusterName]:
        """Name the clusters of the options in full, without asking whether they are there. Raises Misconfigured."""
        clusters = self._connection.configured(account)
        for cluster in clusters:
            if cluster.account != account:
                raise Misconfigured(
                    f"cluster '{cluster.arn}' is not of account {account}, of which the credentials are: "
                    "set the option `role_arn` to a role of the cluster's account"
                )
        return clusters

    def _with_clients(self, chunks: Sequence[tuple[ClusterName, list[str]]]) -> Iterator[tuple[Any, str, list[str]]]:
        """Clients are made here, by one thread."""
        for cluster, some in chunks:
            yield self._connection.client("ecs", cluster.region), cluster.arn, some

    def _describe(self, client: Any, cluster: str, arns: list[str]) -> ecs.Tasks:
        """Describe at most 100 tasks. One that AWS will not hear of would have it refuse all: it is found by halves."""
        from botocore.exceptions import ClientError

        try:
            answer = self._call(client, "describe_tasks", cluster=cluster, tasks=arns, include=["TAGS"])
        except ClientError as error:
            said = error.response.get("Error", {})
            if said.get("Code") != _POISONED:
                raise
            if len(arns) == 1:
                return ecs.Tasks((), (ecs.Failure(arns[0], self._connection.hide(str(said.get("Message")))),))
            halves = arns[: len(arns) // 2], arns[len(arns) // 2 :]
            parts = [self._describe(client, cluster, half) for half in halves]
            return ecs.Tasks(parts[0].tasks + parts[1].tasks, parts[0].failures + parts[1].failures)
        tasks: ecs.Tasks = answer[DECODED]
        return tasks

    def _list_both(self, client: Any, cluster: ClusterName) -> dict[TaskName, bool]:
        listed = dict.fromkeys(self._list(client, cluster, "RUNNING"), True)
        return dict.fromkeys(self._list(client, cluster, "STOPPED"), False) | listed

    def _list(self, client: Any, cluster: ClusterName, desired: str) -> Iterator[TaskName]:
        more: dict[str, str] = {}
        while True:
            answer = self._call(
                client, "list_tasks", cluster=cluster.arn, desiredStatus=desired, maxResults=_AT_ONCE, **more
            )
            page: ecs.TaskArns = answer[DECODED]
            yield from (TaskName(cluster, arn) for arn in page.task_arns)
            if not page.next_token:
                return
            if page.next_token == more.get("nextToken"):
                raise msgspec.ValidationError("its list does not end")
            more = {"nextToken": page.next_token}

    def _call(self, client: Any, method: str, **parameters: object) -> Any:
        answer = getattr(client, method)(**parameters)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        self.time = parsedate_to_datetime(date).replace(tzinfo=UTC) if date else self.time  # it is always GMT
        return answer

    def _together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        return self._crew.together(calls, self._deadline)


@contextmanager
def conversation(connection: Connection, crew: Crew, door: Crew, deadline: float) -> Iterator[Conversation]:
    """Open a conversation. Everything that goes wrong in it becomes an AdapterError.

    `door` is the crew that finds credentials: a program that hangs over it keeps nobody of `crew` busy.
    """
    began = time.monotonic()
    connection.deadline, connection.failure = deadline, None
    with explained(connection, max(deadline - began, 0.0)):
        talk = Conversation(connection, crew, deadline)
        if not connection.is_signed_in:
            _sign_in(connection, door, deadline)
        yield talk


def _sign_in(connection: Connection, door: Crew, deadline: float) -> None:
    try:
        door.together([connection.sign_in], deadline)
    except TimeoutError:
        if connection.failure is not None:  # of STS
            raise
        raise NoCredentials("they were not found in time: a program, or the metadata server, hangs") from None


@contextmanager
def explained(connection: Connection | None, seconds: float) -> Iterator[None]:
    """Put what goes wrong into words. `seconds` is the time that there was to answer."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    asked = (BotoCoreError, ClientError, NoCredentials)
    answered = (ResponseParserError, OSError, EOFError, ValueError, KeyError, RecursionError)
    try:
        yield
    except AdapterError:
        raise
    except (*asked, *answered) as error:
        again = connection.failure if connection and isinstance(error, TimeoutError) else None
        kind, cause, remedy = explain(again or error, seconds, connection.hide if connection else str)
        cause += f", again and again for {seconds:.0f} s" if again else ""
        raise kind(f"{connection.shown if connection else 'AWS'}: {cause}; {remedy}") from error


def _sort(described: Described, asked: Sequence[str], answer: ecs.Tasks) -> None:
    """Note what one answer says of the tasks that it was asked for, and of no others."""
    tasks = {task.task_arn: task for task in answer.tasks}
    failures = {failure.arn: failure for failure in answer.failures}
    times = Counter(task.task_arn for task in answer.tasks)
    for arn in asked:
        failure = failures.get(arn)
        if times[arn] > 1:
            described.untold[arn] = "ECS described it twice in one answer"
        elif arn in tasks and failure is None:
            described.tasks[arn] = tasks[arn]
        elif failure is None:
            described.untold[arn] = "ECS did not answer for it"
        elif arn not in tasks and failure.reason == _MISSING:
            described.missing.add(arn)
        else:
            described.untold[arn] = f"ECS did not describe it ({one_line(failure.reason or 'without a reason')})"


def _parts(many: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(many)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
