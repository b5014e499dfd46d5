"""What goes wrong on purpose between a client and AWS, or in what AWS says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import uuid4

from tests.ecs.fake.answers import Answer, Call, Refused, as_html, as_json, refusal
from tests.ecs.fake.keys import expired, unrecognized
from tests.ecs.fake.task_shape import Body


class FaultKind(StrEnum):
    HANG = "no answer until healed"
    RESET = "the connection is reset"
    UNRECOGNIZED = "the key is not known any more"
    EXPIRED = "the session token has expired"
    DENIED = "every action but GetCallerIdentity is denied"
    THROTTLED = "Rate exceeded, always"
    SERVER_ERROR = "500 ServerException"
    UNAVAILABLE = "503 of a load balancer, in HTML"
    NOT_FOUND = "404 of a proxy, in HTML"
    TRUNCATED = "the body ends in its middle"
    DRIP = "the body comes byte by byte"
    EMPTY = "200 without a body"
    MALFORMED = "200 with broken JSON or XML"
    NULL_LISTS = "200 with null for every list"
    NO_LAST_STATUS = "a task without lastStatus"
    CLUSTER_NOT_FOUND = "ClusterNotFoundException; MISSING of DescribeClusters"
    LEFT_OUT = "a task is neither among the tasks nor among the failures"
    OTHER_FAILURE = "a task fails with another reason than MISSING"
    LISTED_MISSING = "a listed task that is MISSING when it is described"
    ENDLESS_PAGES = "there is always a next page, and it is the first"


Truth = Callable[[Call], Answer]


@dataclass(slots=True)
class _Fault:
    kind: FaultKind
    action: str | None  # "ecs:DescribeTasks"; None: every one that can meet it
    times: int | None
    about: str | None  # the ARN of the task; None: every task

    def takes(self, call: Call) -> bool:
        fits = self.action in {None, call.action, call.operation} and self.times != 0
        only = _ONLY.get(self.kind, (call.action,))
        spared = self.kind is FaultKind.DENIED and call.operation == "GetCallerIdentity"
        return fits and call.action in only and not spared


class Faults:
    """Of several that fit a call the first wins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self.healed = threading.Event()

    def add(self, kind: FaultKind, action: str | None, times: int | None, about: str | None) -> None:
        with self._lock:
            self._faults.append(_Fault(kind, action, times, about))

    def heal(self) -> None:
        """Nothing goes wrong any more; answers that are held go out."""
        with self._lock:
            self._faults = []
            self.healed.set()
            self.healed = threading.Event()

    def answer(self, call: Call, true: Truth, deny: Callable[[], Refused]) -> Answer | None:
        """The answer, spoiled if a fault takes it; None: reset the connection."""
        with self._lock:
            fault = next((one for one in self._faults if one.takes(call)), None)
            healed = self.healed
            if fault and fault.times is not None:
                fault.times -= 1
        if fault is None:
            return true(call)
        if fault.kind is FaultKind.HANG:
            healed.wait()
            return true(call)
        if fault.kind is FaultKind.DENIED:
            return refusal(call.service, deny())
        if instead := _INSTEAD.get(fault.kind):
            return instead(call)
        if spoil := _SPOIL.get(fault.kind):
            asked = _first_page(call) if fault.kind is FaultKind.ENDLESS_PAGES else call
            return _spoiled(true(asked), lambda body: spoil(body, fault.about))
        return _mangled(fault.kind, true(call))


def _first_page(call: Call) -> Call:
    return replace(call, params={name: value for name, value in call.params.items() if name != "nextToken"})


def _mangled(kind: FaultKind, answer: Answer) -> Answer | None:
    if kind is FaultKind.RESET:
        return None
    if kind is FaultKind.EMPTY:
        return replace(answer, status=200, body=b"")
    if kind is FaultKind.MALFORMED:
        return replace(answer, status=200, body=answer.body[:-2].replace(b":", b";", 1))
    return replace(answer, cut=kind is FaultKind.TRUNCATED, drips=kind is FaultKind.DRIP)


def _spoiled(answer: Answer, spoil: Callable[[Body], Body]) -> Answer:
    return as_json(spoil(json.loads(answer.body))) if answer.status == 200 else answer


def _throttled(call: Call) -> Answer:
    return refusal(call.service, throttling(call.service))


def throttling(service: str) -> Refused:
    return Refused("Throttling" if service == "sts" else "ThrottlingException", "Rate exceeded")


def _server_error(call: Call) -> Answer:
    code = "InternalFailure" if call.service == "sts" else "ServerException"
    return refusal(call.service, Refused(code, "Service Unavailable. Please try again later.", 500))


def _no_cluster(call: Call) -> Answer:
    if call.operation == "DescribeClusters":
        failures = [{"arn": each, "reason": "MISSING"} for each in call.params.get("clusters") or ["default"]]
        return as_json({"clusters": [], "failures": failures})
    return refusal(call.service, Refused("ClusterNotFoundException", "Cluster not found."))


_INSTEAD: dict[FaultKind, Callable[[Call], Answer]] = {
    FaultKind.UNRECOGNIZED: lambda call: refusal(call.service, unrecognized(call.service)),
    FaultKind.EXPIRED: lambda call: refusal(call.service, expired(call.service)),
    FaultKind.THROTTLED: _throttled,
    FaultKind.SERVER_ERROR: _server_error,
    FaultKind.UNAVAILABLE: lambda _: as_html(503, "503 Service Temporarily Unavailable"),
    FaultKind.NOT_FOUND: lambda _: as_html(404, "404 Not Found"),
    FaultKind.CLUSTER_NOT_FOUND: _no_cluster,
}


def _kept(body: Body, about: str | None) -> Body:
    """What remains when the task is taken out of both lists."""
    tasks = [task for task in body["tasks"] if about not in {None, task["taskArn"]}]
    return {"tasks": tasks, "failures": [each for each in body["failures"] if about not in {None, each["arn"]}]}


def _other_failure(body: Body, about: str | None) -> Body:
    kept = _kept(body, about)
    arns = [task["taskArn"] for task in body["tasks"]] + [each["arn"] for each in body["failures"]]
    failed = [{"arn": arn, "reason": "INTERNAL"} for arn in arns if about in {None, arn}]
    return kept | {"failures": kept["failures"] + failed}


def _no_last_status(body: Body, about: str | None) -> Body:
    for task in body["tasks"]:
        if about in {None, task["taskArn"]}:
            del task["lastStatus"]
    return body


def _another_task(body: Body, about: str | None) -> Body:
    """`about` is not asked: the task is one that never was."""
    arns = body["taskArns"]
    made = arns[0].rpartition("/")[0] if arns else "arn:aws:ecs:us-east-1:123456789012:task/default"
    return body | {"taskArns": [*arns, f"{made}/{uuid4().hex}"]}


_SPOIL: dict[FaultKind, Callable[[Body, str | None], Body]] = {
    FaultKind.NULL_LISTS: lambda body, _: {
        name: None if isinstance(each, list) else each for name, each in body.items()
    },
    FaultKind.NO_LAST_STATUS: _no_last_status,
    FaultKind.LEFT_OUT: _kept,
    FaultKind.OTHER_FAILURE: _other_failure,
    FaultKind.LISTED_MISSING: _another_task,
    FaultKind.ENDLESS_PAGES: lambda body, _: body | {"nextToken": "bmV4dA=="},
}
_READS = ("ecs:DescribeTasks", "ecs:ListTasks", "ecs:DescribeClusters")
_ONLY: dict[FaultKind, tuple[str, ...]] = {
    FaultKind.NULL_LISTS: _READS,
    FaultKind.CLUSTER_NOT_FOUND: (*_READS, "ecs:RunTask", "ecs:StopTask"),
    FaultKind.NO_LAST_STATUS: ("ecs:DescribeTasks",),
    FaultKind.LEFT_OUT: ("ecs:DescribeTasks",),
    FaultKind.OTHER_FAILURE: ("ecs:DescribeTasks",),
    FaultKind.LISTED_MISSING: ("ecs:ListTasks",),
    FaultKind.ENDLESS_PAGES: ("ecs:ListTasks",),
}
