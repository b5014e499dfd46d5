"""What a task's state means: a task as ECS describes it -> what was seen of the run's infrastructure. Pure.

The statuses are those of the "Amazon ECS task lifecycle", the stop codes those of botocore's model (1.44).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.model import Cause, Condition, Observation, Resource, RunId
from reconciler.words import one_line, signal_name
from reconciler_adapters.ecs import objects as ecs
from reconciler_adapters.ecs.names import TaskName

_FLOWS_CONTAINER = "prefect"  # as Prefect's ECS worker names it, unless told otherwise
_STARTING = {
    "PROVISIONING": "is being provisioned",
    "PENDING": "is being started",
    "ACTIVATING": "is being activated",
}
ENDED = "STOPPED"
_STOPPING = frozenset({"DEACTIVATING", "STOPPING", "DEPROVISIONING", "DELETED"})
_OUT_OF_MEMORY = "OutOfMemory"  # "OutOfMemoryError: Container killed due to memory usage" (amazon-ecs-agent)
_SAYS_NOTHING = "Essential container in task exited"  # the stopped reason that goes with that stop code
# ECS takes such tasks for stopped, without having seen them stop: "Container instance deregistration forced by user".
# What they started runs on (DeregisterContainerInstance, `force`).
_FORCED = "deregist"
_LOST_HOST = "InfrastructureHealth"
# A user may write anything as the reason of a stop, so only these very words are ECS's.
_HOST_ENDED = re.compile(
    r"Host EC2 \(instance [^)]*\) (?:terminated|stopped)|Container instance deregistration forced", re.IGNORECASE
)
# A Fargate task that gave way to others says so by TerminationNotice as well (Amazon ECS developer guide).
_SPOT = "Your Spot Task was interrupted"
_BY_CODE = {
    "TaskFailedToStart": Cause.FAILED_TO_START,
    "SpotInterruption": Cause.SPOT_INTERRUPTION,
    _LOST_HOST: Cause.NODE_LOST,
    "UserInitiated": Cause.STOPPED,
    "ServiceSchedulerInitiated": Cause.STOPPED,
}
_GONE = "is not known to ECS (any more): it keeps stopped tasks for about an hour"


def observe(task: ecs.Task, name: TaskName, run_id: RunId) -> Observation:
    """Say what a task shows of that run. Only `lastStatus` STOPPED is an end, whatever its stop code."""
    resource = resource_of(task, name, run_id)
    if task.last_status == ENDED:
        flow = _flows_container(task)
        return Observation(
            condition=Condition.EXITED,
            reason=_end(task, flow),
            resource=resource,
            exit_code=flow.exit_code if flow else None,
            # AWS's clock before the host's
            ended_at=ecs.time_of(task.stopped_at) or ecs.time_of(task.execution_stopped_at),
            unseen_end=_is_out_of_sight(task),
            cause=_why(task, flow),
        )
    condition, reason = _life(task)
    return Observation(condition=condition, reason=reason, resource=resource)


def gone(name: TaskName, run_id: RunId) -> Observation:
    """ECS itself said that it does not know the task (any more): how it ended nobody saw."""
    resource = Resource(id=name.arn, title=name.title, run_id=run_id)
    return Observation(condition=Condition.GONE, reason=_GONE, resource=resource, unseen_end=True)


def resource_of(task: ecs.Task, name: TaskName, run_id: RunId) -> Resource:
    return Resource(
        id=task.task_arn,
        title=name.title,
        run_id=run_id,
        created_at=ecs.time_of(task.created_at),
        node=task.container_instance_arn,
        removal=name.removal,
    )


def _life(task: ecs.Task) -> tuple[Condition, str]:
    if task.last_status in _STARTING:
        return Condition.STARTING, f"{_STARTING[task.last_status]} ({task.last_status})"
    cause = f": {_cause(task)}" if task.stop_code or task.stopped_reason else ""
    if task.last_status in _STOPPING:
        return Condition.STOPPING, f"is stopping ({task.last_status}){cause}"
    if task.last_status != "RUNNING":
        return Condition.UNKNOWN, f"ECS task {task.task_arn} has the status '{one_line(task.last_status, 80)}'"
    if task.desired_status == ENDED or cause:
        return Condition.STOPPING, f"is about to be stopped{cause}"
    flow = _flows_container(task)
    if flow is not None and flow.last_status == ENDED:
        return Condition.STOPPING, f"runs on, but its {_container_end(flow)}"
    return Condition.ALIVE, "is running"


def _flows_container(task: ecs.Task) -> ecs.Container | None:
    """The container that was told which flow run to run, else `prefect`, else the only one."""
    told = {one.name for one in task.container_overrides if one.run_id}
    containers = task.containers or ()
    for names in (told, {_FLOWS_CONTAINER}):
        named = [one for one in containers if one.name in names]
        if len(named) == 1:
            return named[0]
    return containers[0] if len(containers) == 1 else None


def _end(task: ecs.Task, flow: ecs.Container | None) -> str:
    """Say why it ended, the surest first."""
    if _is_starved(task, flow):
        return "; ".join(["ran out of memory", *_container_ends(task, flow)])
    if task.stop_code == "TaskFailedToStart":
        return f"could not be started: {'; '.join(_reasons(task)) or 'ECS does not say why'}"
    return "; ".join([_stop(task), *_container_ends(task, flow)])


def _why(task: ecs.Task, flow: ecs.Container | None) -> Cause | None:
    """The same in one word. What stopped the task goes before the codes of the containers that it stopped."""
    told = task.stopped_reason or ""
    if _is_starved(task, flow):
        return Cause.OOM_KILLED
    if task.stop_code == "TerminationNotice" and _SPOT in told:
        return Cause.SPOT_INTERRUPTION
    by_code = _BY_CODE.get(task.stop_code or "")
    return Cause.NODE_LOST if by_code in {None, Cause.STOPPED} and _HOST_ENDED.match(told) else by_code


def _is_starved(task: ecs.Task, flow: ecs.Container | None) -> bool:
    """Whether the flow's container was killed for want of memory, or any, if it is not known which one that is."""
    starved = [one for one in task.containers or () if _OUT_OF_MEMORY in (one.reason or "") and flow in (one, None)]
    return bool(starved) or _OUT_OF_MEMORY in (task.stopped_reason or "")


def _stop(task: ecs.Task) -> str:
    if task.stop_code == "UserInitiated":
        return f"was stopped by a user{_told(task)}"
    return f"stopped: {_cause(task)}" if task.stop_code or task.stopped_reason else "stopped, and ECS does not say why"


def _cause(task: ecs.Task) -> str:
    return f"{one_line(task.stop_code, 80)}{_told(task)}" if task.stop_code else one_line(task.stopped_reason)


def _told(task: ecs.Task) -> str:
    return f" ({one_line(task.stopped_reason)})" if task.stopped_reason not in {None, "", _SAYS_NOTHING} else ""


def _reasons(task: ecs.Task) -> Iterator[str]:
    """All that ECS says about a start that failed, each thing once."""
    told = [task.stopped_reason, *(one.reason for one in task.containers or ())]
    yield from dict.fromkeys(one_line(reason) for reason in told if reason)


def _container_ends(task: ecs.Task, flow: ecs.Container | None) -> Iterator[str]:
    """How the flow's container ended, and others that failed. Without one that is known: all of them."""
    if flow is not None:
        yield _container_end(flow)
    for one in task.containers or ():
        if one is not flow and (flow is None or one.exit_code or one.reason):
            yield _container_end(one)


def _container_end(container: ecs.Container) -> str:
    code = container.exit_code
    signal = signal_name(code) if code is not None and code != 0 else None
    ended = "ended without an exit code" if code is None else f"exited with code {code}"
    ended += f" ({signal})" if signal else ""
    why = f": {one_line(container.reason)}" if container.reason else ""
    return f"container {one_line(container.name, 80)} {ended}{why}"


def _is_out_of_sight(task: ecs.Task) -> bool:
    """Whether its host was given up rather than seen to stop it."""
    return task.stop_code == _LOST_HOST or _FORCED in (task.stopped_reason or "").lower()
