"""What goes wrong on the way to AWS, or in what it says, is no absence and no end: whole passes over each fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from botocore.retries.standard import ExponentialBackoff

from reconciler.model import FlowRun, Verdict
from reconciler.plan import CycleReport
from tests.ecs.fake import FakeTask, FaultKind
from tests.ecs.fake import aws as fake_aws
from tests.ecs.passes import Passes, passes
from tests.ecs.test_scenarios import running, settled, title
from tests.ecs.world import EcsWorld
from tests.rigs.polling import wait_until

ACTIONS = ("sts:GetCallerIdentity", "ecs:DescribeClusters", "ecs:DescribeTasks", "ecs:ListTasks")
UNREAD, LATE = "its answer cannot be read", "within|timed out|still has not answered|again and again"
WORDS = {
    FaultKind.HANG: LATE,
    FaultKind.RESET: "the connection broke off",
    FaultKind.UNRECOGNIZED: "AWS does not know them",
    FaultKind.EXPIRED: "they have expired",
    FaultKind.DENIED: "AccessDenied",
    FaultKind.THROTTLED: "Rate exceeded",
    FaultKind.SERVER_ERROR: "answered 500",
    FaultKind.UNAVAILABLE: "answered 503",
    FaultKind.NOT_FOUND: "answered 404",
    FaultKind.TRUNCATED: f"the connection broke off|{UNREAD}",
    FaultKind.DRIP: LATE,
    FaultKind.EMPTY: UNREAD,
    FaultKind.MALFORMED: UNREAD,
    FaultKind.NULL_LISTS: UNREAD,
    FaultKind.NO_LAST_STATUS: UNREAD,
    FaultKind.CLUSTER_NOT_FOUND: "ClusterNotFoundException|cluster 'default' does not exist",
    FaultKind.LEFT_OUT: "ECS did not answer for it|does not describe what it lists",
    FaultKind.OTHER_FAILURE: "ECS did not describe it (INTERNAL)|does not describe what it lists",
    FaultKind.LISTED_MISSING: "does not describe what it lists",
    FaultKind.ENDLESS_PAGES: "its list does not end",
}
SLOW = (FaultKind.HANG, FaultKind.DRIP)
ABOUT_SINGLE_TASKS = (FaultKind.LEFT_OUT, FaultKind.OTHER_FAILURE, FaultKind.LISTED_MISSING)
ONE_ACTION = (*ABOUT_SINGLE_TASKS, FaultKind.NO_LAST_STATUS, FaultKind.ENDLESS_PAGES)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's retries without its pauses of up to 20 s."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.01)


def three(world: EcsWorld, many: Passes) -> list[FlowRun]:
    """Of three runs that were seen alive, one lives, the task of one is gone, and that of one has ended."""
    tasks = [world.aws.task(world.cluster, uuid4()) for _ in range(3)]
    runs = [many.run(task) for task in tasks]
    wait_until(lambda: {each.verdict for each in many.look()} == {Verdict.HEALTHY}, "the first look")
    tasks[1].forget()
    tasks[2].stop(exits={"prefect": 1})
    many.later(600)
    return runs


def one_pass(many: Passes) -> CycleReport:
    planned = many.cycle.plan()
    return many.cycle.report(planned, many.cycle.settle(planned))


def nobody_knows(many: Passes, kind: FaultKind, lives: FlowRun) -> None:
    """Neither the one that is gone nor the one that ended is written; the one that lives is not doubted in vain."""
    report = one_pass(many)
    assert many.written == []
    assert len(report.plan.findings) == 3
    for found in report.plan.findings:
        assert found.verdict is Verdict.UNKNOWN or (found.run.id == lives.id and found.verdict is Verdict.HEALTHY)
        if found.verdict is Verdict.UNKNOWN:
            assert found.rule == "4"
            assert any(words in found.reason for words in WORDS[kind].split("|")), found.reason
            assert "AKIA" not in found.reason
    assert not report.is_complete


def healed(world: EcsWorld, many: Passes, runs: list[FlowRun]) -> None:
    """So it was for nothing but the fault."""
    world.aws.heal()
    wait_until(lambda: many.look() and many.written, "the zombies are settled")
    wait_until(lambda: [each.verdict for each in many.look()] == [Verdict.HEALTHY], "one lives")
    assert {each.run.id for each in many.api.written} == {run.id for run in runs[1:]}
    assert len(many.api.written) == 2


@pytest.mark.parametrize("kind", FaultKind)
def test_no_fault_is_an_absence(world: EcsWorld, kind: FaultKind) -> None:
    with passes(world, deadline=_deadline(kind)) as many:
        runs = three(world, many)
        world.aws.fault(kind)
        for _ in range(1 if kind in SLOW else 2):
            nobody_knows(many, kind, runs[0])
            many.later(600)
        healed(world, many, runs)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in ONE_ACTION])
def test_nor_if_only_one_action_has_it(world: EcsWorld, kind: FaultKind) -> None:
    with passes(world, deadline=_deadline(kind)) as many:
        runs = three(world, many)
        for action in ACTIONS:
            world.aws.reset_counts()
            world.aws.fault(kind, action)
            if _meets(kind, action):
                nobody_knows(many, kind, runs[0])
                assert world.aws.calls[action] > 0
            world.aws.heal()
            many.later(60)
            if kind in SLOW:  # the call that hangs is to return first
                wait_until(lambda: Verdict.HEALTHY in {each.verdict for each in many.look(dry=True)}, "it answers")
        healed(world, many, runs)


def _deadline(kind: FaultKind) -> float:
    """In seconds. Below 6 a listed task is not waited for that is not described at once."""
    return 0.8 if kind in SLOW else 5.0


def _meets(kind: FaultKind, action: str) -> bool:
    spared = (FaultKind.DENIED, FaultKind.NULL_LISTS, FaultKind.CLUSTER_NOT_FOUND)
    return action != "sts:GetCallerIdentity" or kind not in spared


@pytest.mark.parametrize("kind", [FaultKind.EXPIRED, FaultKind.NOT_FOUND, FaultKind.LEFT_OUT, FaultKind.EMPTY])
def test_only_between_the_two_looks(world: EcsWorld, kind: FaultKind) -> None:
    with passes(world, deadline=5.0) as many:
        runs = three(world, many)
        many.api.before_reread = lambda: world.aws.fault(kind, "ecs:DescribeTasks")
        report = one_pass(many)
        verdicts = {found.run.id: found.verdict for found in report.plan.findings}
        assert verdicts == {runs[0].id: Verdict.HEALTHY, runs[1].id: Verdict.UNKNOWN, runs[2].id: Verdict.UNKNOWN}
        assert many.written == []
        many.api.before_reread = lambda: None
        healed(world, many, runs)


@pytest.mark.parametrize("behind", [0, 1])
def test_only_in_the_reading_of_the_identity(world: EcsWorld, many: Passes, behind: int) -> None:
    """Before the look, or after it."""
    runs = three(world, many)
    if behind:
        observe = world.scope.observe

        def spoil(asked: Any, deadline: float) -> Any:
            seen = observe(asked, deadline)
            world.aws.fault(FaultKind.NOT_FOUND, "sts:GetCallerIdentity")
            return seen

        world.scope.observe = spoil  # type: ignore[assignment, method-assign]
    else:
        world.aws.fault(FaultKind.NOT_FOUND, "sts:GetCallerIdentity")
    assert {found.verdict for found in one_pass(many).plan.findings} == {Verdict.UNKNOWN}
    assert many.written == []
    if behind:
        world.scope.observe = observe  # type: ignore[method-assign]
    healed(world, many, runs)


@pytest.mark.parametrize("kind", [FaultKind.LEFT_OUT, FaultKind.OTHER_FAILURE])
def test_one_task_of_which_nothing_is_said(world: EcsWorld, kind: FaultKind) -> None:
    with passes(world, deadline=5.0) as many:
        (task, run), (_, other) = running(world, many), running(world, many)
        world.aws.fault(kind, about=task.arn)
        many.later(600)
        found = {each.run.id: each.verdict for each in one_pass(many).plan.findings}
        assert found == {run.id: Verdict.UNKNOWN, other.id: Verdict.HEALTHY}
        assert many.written == []


# --- Odd answers


Spoil = Callable[[dict[str, Any], FakeTask], dict[str, Any]]


def spoil(monkeypatch: pytest.MonkeyPatch, change: Spoil, task: FakeTask) -> None:
    """Change what DescribeTasks answers."""
    real = fake_aws._ECS["DescribeTasks"]
    monkeypatch.setitem(fake_aws._ECS, "DescribeTasks", lambda asked: change(real(asked), task))


FOREIGN = f"arn:aws:ecs:us-east-1:123456789012:task/default/{'f' * 32}"
WRONG: dict[str, Spoil] = {
    "another task": lambda body, _: body | {"tasks": [task | {"taskArn": FOREIGN} for task in body["tasks"]]},
    "an older ARN": lambda body, task: body | {"failures": [{"arn": task.id, "reason": "MISSING"}], "tasks": []},
    "both": lambda body, task: body | {"failures": [{"arn": task.arn, "reason": "MISSING"}]},
    "no reason": lambda body, task: {"tasks": [], "failures": [{"arn": task.arn}]},
    "other case": lambda body, task: {"tasks": [], "failures": [{"arn": task.arn, "reason": "missing"}]},
    "failure of nothing": lambda body, _: {"tasks": [], "failures": [{"reason": "MISSING"}]},
    "no lists": lambda *_: {},
    "no failures": lambda body, _: {"tasks": []},
}


@pytest.mark.parametrize("how", WRONG)
def test_an_answer_that_does_not_fit_the_question(world: EcsWorld, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    with passes(world, deadline=5.0) as many:
        task, run = running(world, many)
        spoil(monkeypatch, WRONG[how], task)
        many.later(600)
        assert many.judged(run).verdict is Verdict.UNKNOWN
        assert many.written == []


@pytest.mark.parametrize(
    "members",
    [
        {"containers": [{"name": "prefect", "exitCode": "0"}]},
        {"containers": [{"name": "prefect", "exitCode": True}]},
        {"lastStatus": 7},
        {"stoppedAt": "2026-01-01T00:00:00Z"},
        {"tags": {"prefect.io/flow-run-id": "x"}},
        {"lastStatus": "HIBERNATING"},
        {"lastStatus": "stopped"},
        {"lastStatus": ""},
    ],
)
def test_values_of_another_form_are_no_end(world: EcsWorld, many: Passes, members: dict[str, object]) -> None:
    task, run = running(world, many)
    task.stop(exits={"prefect": 1})
    task.body.update(members)
    many.later(600)
    assert many.judged(run).verdict is Verdict.UNKNOWN
    assert many.written == []


ODD_TAGS = [{"key": f"label-{number}", "value": "ü" * 200} for number in range(49)]


@pytest.mark.parametrize(
    "tags",
    [
        None,
        [{"key": None, "value": None}, {"key": "prefect.io/flow-run-id", "value": None}],
        [{"key": "prefect.io/flow-run-id", "value": "not-an-id"}],
        [{"key": "prefect.io/flow-run-id"}],
        ODD_TAGS,
    ],
    ids=["null", "values null", "no id", "no value", "fifty"],
)
def test_odd_tags_of_a_task_that_the_pid_names(world: EcsWorld, many: Passes, tags: object) -> None:
    """An ARN is never used again, so it is the run's own."""
    task, run = running(world, many)
    task.body |= {"tags": tags, "futureMember": {"deep": [1, {"x": None}]}}
    many.later(60)
    assert many.judged(run).verdict is Verdict.HEALTHY
    task.stop(exits={"prefect": 2**40}, reasons={"prefect": "ж\n" * 4000}, ago=60)
    message = settled(many)
    assert message.startswith(f"{title(task)} stopped: EssentialContainerExited; container prefect exited with code ")
    assert len(message) < 1000
    assert "\n" not in message
