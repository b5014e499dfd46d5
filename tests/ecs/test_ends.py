"""Why a task ended, in a sentence and in one word, as a table: pure, without any server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.model import Cause, Condition
from reconciler_adapters.ecs.meaning import gone
from tests.ecs.shapes import ENDED, NAME, RUN, seen, task, told

ESSENTIAL = {"stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited"}
SPOT = {"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted."}
OOM = "OutOfMemoryError: Container killed due to memory usage"
PULL = "CannotPullContainerError: pull image manifest has been retried 1 time(s)"
TWO = [{"name": "prefect", "exitCode": 0}, {"name": "log", "exitCode": 137}]

HOST = "Host EC2 (instance i-0abc) terminated."

ENDS = [
    (137, ESSENTIAL, 137, "stopped: EssentialContainerExited; container prefect exited with code 137 (SIGKILL)", None),
    (0, ESSENTIAL, 0, "stopped: EssentialContainerExited; container prefect exited with code 0", None),
    (3, {}, 3, "stopped, and ECS does not say why; container prefect exited with code 3", None),
    (
        [{"name": "prefect"}],
        SPOT,
        None,
        "stopped: SpotInterruption (Your Spot Task was interrupted.); container prefect ended without an exit code",
        Cause.SPOT_INTERRUPTION,
    ),
    (
        143,
        {"stopCode": "UserInitiated", "stoppedReason": "Task stopped by user"},
        143,
        "was stopped by a user (Task stopped by user); container prefect exited with code 143 (SIGTERM)",
        Cause.STOPPED,
    ),
    (
        [],
        {"stopCode": "TaskFailedToStart", "stoppedReason": "RESOURCE:GPU"},
        None,
        "could not be started: RESOURCE:GPU",
        Cause.FAILED_TO_START,
    ),
    (
        [{"name": "prefect", "reason": PULL}],
        {"stopCode": "TaskFailedToStart", "stoppedReason": "Task failed to start"},
        None,
        f"could not be started: Task failed to start; {PULL}",
        Cause.FAILED_TO_START,
    ),
    (
        [{"name": "prefect", "reason": PULL}],
        {"stopCode": "TaskFailedToStart", "stoppedReason": PULL},
        None,
        f"could not be started: {PULL}",
        Cause.FAILED_TO_START,
    ),
    ([], {"stopCode": "TaskFailedToStart"}, None, "could not be started: ECS does not say why", Cause.FAILED_TO_START),
    (
        [{"name": "prefect", "exitCode": 137, "reason": OOM}],
        ESSENTIAL,
        137,
        f"ran out of memory; container prefect exited with code 137 (SIGKILL): {OOM}",
        Cause.OOM_KILLED,
    ),
    (
        [{"name": "a", "exitCode": 143}, {"name": "b", "exitCode": 137, "reason": OOM}],
        ESSENTIAL,
        None,
        (
            "ran out of memory; container a exited with code 143 (SIGTERM); "
            f"container b exited with code 137 (SIGKILL): {OOM}"
        ),
        Cause.OOM_KILLED,
    ),
    (
        [{"name": "prefect", "exitCode": 143}, {"name": "log", "exitCode": 137, "reason": OOM}],
        ESSENTIAL,
        143,
        (
            "stopped: EssentialContainerExited; container prefect exited with code 143 (SIGTERM); "
            f"container log exited with code 137 (SIGKILL): {OOM}"
        ),
        None,
    ),
    (
        TWO,
        ESSENTIAL,
        0,
        (
            "stopped: EssentialContainerExited; container prefect exited with code 0; "
            "container log exited with code 137 (SIGKILL)"
        ),
        None,
    ),
    (
        [{"name": "prefect", "exitCode": 137}, {"name": "log", "exitCode": 0}],
        ESSENTIAL,
        137,
        "stopped: EssentialContainerExited; container prefect exited with code 137 (SIGKILL)",
        None,
    ),
    (
        [{"name": "mine", "exitCode": 4}],
        ESSENTIAL,
        4,
        "stopped: EssentialContainerExited; container mine exited with code 4",
        None,
    ),
    (
        [{"name": "one", "exitCode": 0}, {"name": "two", "exitCode": 1}],
        {"stopCode": "NewCode", "stoppedReason": "never heard of"},
        None,
        "stopped: NewCode (never heard of); container one exited with code 0; container two exited with code 1",
        None,
    ),
    ([], {"stoppedReason": "gone with the wind"}, None, "stopped: gone with the wind", None),
    (
        [{"name": "prefect"}],
        {"stopCode": "TerminationNotice", "stoppedReason": "Your Spot Task was interrupted."},
        None,
        "stopped: TerminationNotice (Your Spot Task was interrupted.); container prefect ended without an exit code",
        Cause.SPOT_INTERRUPTION,
    ),
    (
        1,
        SPOT,
        1,
        "stopped: SpotInterruption (Your Spot Task was interrupted.); container prefect exited with code 1",
        Cause.SPOT_INTERRUPTION,
    ),
    ([], {"stopCode": "TerminationNotice"}, None, "stopped: TerminationNotice", None),
    (
        [],
        {"stopCode": "TerminationNotice", "stoppedReason": HOST},
        None,
        f"stopped: TerminationNotice ({HOST})",
        Cause.NODE_LOST,
    ),
    (
        143,
        {"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Scaling activity initiated"},
        143,
        (
            "stopped: ServiceSchedulerInitiated (Scaling activity initiated); "
            "container prefect exited with code 143 (SIGTERM)"
        ),
        Cause.STOPPED,
    ),
    (
        137,
        {"stopCode": "UserInitiated", "stoppedReason": "to deregister its host; Your Spot Task was interrupted"},
        137,
        (
            "was stopped by a user (to deregister its host; Your Spot Task was interrupted); "
            "container prefect exited with code 137 (SIGKILL)"
        ),
        Cause.STOPPED,
    ),
    (
        [{"name": "prefect", "exitCode": 137, "reason": OOM}],
        SPOT,
        137,
        f"ran out of memory; container prefect exited with code 137 (SIGKILL): {OOM}",
        Cause.OOM_KILLED,
    ),
    ([], {"stoppedReason": OOM}, None, "ran out of memory", Cause.OOM_KILLED),
]


@pytest.mark.parametrize(("containers", "members", "code", "reason", "cause"), ENDS)
def test_why_it_ended(
    containers: object, members: dict[str, object], code: int | None, reason: str, cause: Cause | None
) -> None:
    found = seen(task("STOPPED", containers, stoppedAt=ENDED, executionStoppedAt=ENDED - 900, **members))
    assert (found.condition, found.exit_code, found.reason) == (Condition.EXITED, code, reason)
    assert (found.cause, found.unseen_end) == (cause, "deregister" in reason)
    assert found.ended_at == datetime.fromtimestamp(ENDED, UTC), "by AWS's clock: that of the host may be wrong"


def test_a_task_that_never_worked_ended_when_it_was_stopped() -> None:
    assert seen(task("STOPPED", [], stoppedAt=ENDED)).ended_at == datetime.fromtimestamp(ENDED, UTC)
    assert seen(task("STOPPED", [], executionStoppedAt=ENDED)).ended_at == datetime.fromtimestamp(ENDED, UTC)
    assert seen(task("STOPPED", [])).ended_at is None
    assert seen(task("STOPPED", [], stoppedAt=1e20)).ended_at is None


def test_the_flow_s_container_is_the_one_that_was_told_which_run_to_run() -> None:
    rows = [{"name": "prefect", "exitCode": 0}, {"name": "mine", "exitCode": 9}]
    assert seen(task("STOPPED", rows, overrides=told("mine"))).exit_code == 9
    assert seen(task("STOPPED", rows, overrides=told("not there"))).exit_code == 0


@pytest.mark.parametrize(
    "members",
    [
        {"stopCode": "UserInitiated", "stoppedReason": "Container instance deregistration forced by user"},
        {"stopCode": "InfrastructureHealth", "stoppedReason": "host is impaired"},
    ],
)
def test_an_end_that_ecs_only_infers_is_one_that_nobody_saw(members: dict[str, object]) -> None:
    found = seen(task("STOPPED", [{"name": "prefect"}], **members))
    assert found.unseen_end
    assert found.cause is Cause.NODE_LOST


@pytest.mark.parametrize("code", [None, "UserInitiated", "NewCode"])
def test_a_host_that_was_terminated_took_its_tasks_along(code: str | None) -> None:
    found = seen(task("STOPPED", [{"name": "prefect", "exitCode": 137}], stopCode=code, stoppedReason=HOST))
    assert not found.unseen_end
    assert found.cause is Cause.NODE_LOST


def test_the_word_for_what_no_platform_caused_is_the_exit_code_s() -> None:
    words = {code: seen(task("STOPPED", code, **ESSENTIAL)).why for code in (0, 1, 137)}
    assert words == {0: Cause.NOT_REPORTED, 1: Cause.EXITED, 137: Cause.KILLED}
    assert gone(NAME, RUN).why is Cause.REMOVED
