"""What a pass costs: calls grow with chunks of 100 and with suspects, never with healthy runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from uuid import uuid4

import pytest

from reconciler.model import Condition, FlowRun, Resource, RunId, Seen
from reconciler_adapters.ecs.crew import Bucket, Crew
from tests.ecs.passes import Passes
from tests.ecs.world import EcsWorld
from tests.rigs.polling import wait_until

IDENTITY = Counter({"sts:GetCallerIdentity": 2, "ecs:DescribeClusters": 2})  # before and after each look
DESCRIBE, LIST = "ecs:DescribeTasks", "ecs:ListTasks"
SOON = 5.0


def one_pass(world: EcsWorld, runs: list[FlowRun], seen_before: dict[RunId, Resource] | None = None) -> Seen:
    """As the core asks."""
    deadline = time.monotonic() + SOON
    world.scope.identity(deadline)
    world.scope.remind(seen_before or {})
    seen = world.scope.observe(runs, deadline)
    world.scope.identity(deadline)
    return seen


def cost(world: EcsWorld, runs: list[FlowRun], seen_before: dict[RunId, Resource] | None = None) -> Counter[str]:
    """The calls of one pass."""
    world.aws.reset_counts()
    one_pass(world, runs, seen_before)
    return Counter(world.aws.calls)


def alive(world: EcsWorld, count: int) -> list[FlowRun]:
    return [world.place(Condition.ALIVE) for _ in range(count)]


def without_pid(world: EcsWorld, runs: list[FlowRun]) -> list[FlowRun]:
    return [world.run_of(None, run.id) for run in runs]


@pytest.mark.parametrize(("runs", "chunks"), [(1, 1), (100, 1), (101, 2), (250, 3)])
def test_healthy_runs_cost_a_call_per_hundred(world: EcsWorld, runs: int, chunks: int) -> None:
    assert cost(world, alive(world, runs)) == IDENTITY + Counter({DESCRIBE: chunks})


def test_no_runs_cost_no_call_that_is_limited(world: EcsWorld) -> None:
    """The time is read from a call to STS."""
    assert cost(world, []) == IDENTITY + Counter({"sts:GetCallerIdentity": 1})


def test_runs_without_a_pid_cost_a_list_and_a_call_per_hundred_tasks(world: EcsWorld) -> None:
    runs = without_pid(world, alive(world, 250))
    lists = 3 + 1  # pages of RUNNING, and an empty one of STOPPED
    assert cost(world, runs) == IDENTITY + Counter({LIST: lists, DESCRIBE: 3})


def test_one_suspect_costs_a_list_and_no_other_task_is_described_again(world: EcsWorld) -> None:
    runs = alive(world, 249)
    lost = world.place(Condition.GONE)
    listed = IDENTITY + Counter({LIST: 3 + 1})
    assert cost(world, [*runs, lost]) == listed + Counter({DESCRIBE: 3})
    assert cost(world, [lost]) == listed + Counter({DESCRIBE: 1}), "the second look: whose the others are is known"


def test_many_suspects_cost_no_more_lists_than_one(world: EcsWorld) -> None:
    alive(world, 150)
    lost = [world.place(Condition.GONE) for _ in range(120)]
    first = cost(world, lost)
    assert first == IDENTITY + Counter({LIST: 2 + 1, DESCRIBE: 2 + 2})
    assert cost(world, lost) == IDENTITY + Counter({LIST: 2 + 1, DESCRIBE: 2})


def test_a_task_that_is_remembered_needs_no_list(world: EcsWorld) -> None:
    runs = without_pid(world, alive(world, 250))
    seen = one_pass(world, runs)
    before = {run_id: many[0].resource for run_id, many in seen.observations.items() if many[0].resource}
    assert len(before) == 250
    assert cost(world, runs, before) == IDENTITY + Counter({DESCRIBE: 3})


def test_a_zombie_costs_two_looks(many: Passes, world: EcsWorld) -> None:
    """A whole cycle of the core, which looks twice: at all, then at the suspect."""
    tasks = [world.aws.task(world.cluster, uuid4()) for _ in range(151)]
    zombie, *_ = [many.run(task) for task in tasks]
    tasks[0].stop(exits={"prefect": 137}, ago=60)
    world.scope.identity(time.monotonic() + SOON)
    world.aws.reset_counts()
    many.look()
    assert [finding.run.id for finding in many.api.written] == [zombie.id]
    lists = Counter({LIST: 2 + 1})
    assert Counter(world.aws.calls) == IDENTITY + lists + Counter({DESCRIBE: 2}) + IDENTITY + lists + Counter(
        {DESCRIBE: 1}
    )
    assert world.aws.throttled == 0


# The crew


def hold(until: threading.Event, made: list[int], number: int) -> int:
    made.append(number)
    until.wait(SOON)
    return number


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def at_work() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ecs call"]


def idle() -> bool:
    return not at_work()


def soon() -> float:
    return time.monotonic() + SOON


def test_results_come_in_the_order_of_the_calls() -> None:
    second = threading.Event()

    def first_call() -> str:
        assert second.wait(SOON)
        return "first"

    def second_call() -> str:
        second.set()
        return "second"

    assert Crew(2).together([first_call, second_call], soon()) == ["first", "second"]
    assert Crew(2).together([], soon()) == []
    assert Crew(3).together([partial(int, number) for number in range(50)], soon()) == list(range(50))


def test_none_is_a_result() -> None:
    calls: list[Callable[[], None]] = [lambda: None] * 3
    assert Crew(2).together(calls, soon()) == [None] * 3


def test_the_first_error_wins_and_ends_the_work(released: threading.Event) -> None:
    made: list[int] = []

    def fails() -> int:
        raise KeyError("first")

    calls: list[Callable[[], int]] = [fails, *(partial(hold, released, made, number) for number in range(5))]
    with pytest.raises(KeyError, match="first"):
        Crew(2).together(calls, soon())
    released.set()
    wait_until(idle, "the threads to end")
    assert len(made) <= 1, "what had begun meanwhile; nothing else"


def test_a_later_error_does_not_take_the_place_of_the_first() -> None:
    failed, both = threading.Event(), threading.Barrier(2)

    def first() -> None:
        both.wait(SOON)
        failed.set()
        raise KeyError("first")

    def later() -> None:
        both.wait(SOON)
        wait_until(lambda: len(at_work()) == 1, "the first to have ended")
        raise ValueError("later")

    with pytest.raises(KeyError, match="first"):
        Crew(2).together([first, later], soon())
    assert failed.is_set()
    wait_until(idle, "the threads to end")


def test_at_the_deadline_it_gives_up_and_begins_nothing_more(released: threading.Event) -> None:
    made: list[int] = []
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        Crew(2).together([partial(hold, released, made, number) for number in range(6)], began + 0.1)
    assert 0.1 <= time.monotonic() - began < 1
    released.set()
    wait_until(idle, "the threads to end")
    assert sorted(made) == [0, 1]


def test_hung_calls_keep_their_threads_and_no_others_are_made_for_them(released: threading.Event) -> None:
    crew, made = Crew(3), list[int]()
    with pytest.raises(TimeoutError):
        crew.together([partial(hold, released, made, number) for number in range(2)], time.monotonic() + 0.05)
    assert len(at_work()) == 2
    names = crew.together([lambda: threading.current_thread().ident] * 5, soon())
    assert len(set(names)) == 1, "one was free"
    with pytest.raises(TimeoutError):
        crew.together([partial(hold, released, made, number) for number in range(5)], time.monotonic() + 0.05)
    assert len(at_work()) == 3
    with pytest.raises(TimeoutError, match="have not returned yet"):
        crew.together([lambda: 1], time.monotonic() + 0.3)
    assert len(at_work()) == 3
    threading.Timer(0.2, released.set).start()
    assert crew.together([lambda: 1], soon()) == [1], "it waits until somebody is free"
    wait_until(idle, "the threads to end")
    assert crew.together([lambda: 1] * 4, soon()) == [1] * 4, "it is whole again"
    assert len(made) == 3


# The bucket


def test_the_bucket_gives_its_burst_at_once_then_its_rate() -> None:
    bucket, began, rate = Bucket(10, 50), time.monotonic(), 50
    took: list[float] = []
    for _ in range(25):
        bucket.wait(began + SOON)
        took.append(time.monotonic() - began)
    assert took[9] < 0.1
    for number, at in enumerate(took[10:], start=1):
        assert at >= number / rate - 0.005, f"call {10 + number} came after {at:.3f} s: that is more than the rate"
    assert took[-1] < 0.3 + 0.2


def test_threads_share_the_rate() -> None:
    bucket, began, took = Bucket(5, 50), time.monotonic(), list[float]()

    def call() -> None:
        bucket.wait(began + SOON)
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=call) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(took) == 20
    for number, at in enumerate(sorted(took)[5:], start=1):
        assert at >= number / 50 - 0.005
    assert max(took) < 0.3 + 0.3


def test_what_would_wait_beyond_the_deadline_is_refused_at_once_and_takes_nothing() -> None:
    bucket, began = Bucket(1, 2), time.monotonic()
    bucket.wait(began + SOON)
    for _ in range(5):
        with pytest.raises(TimeoutError, match="limit of calls"):
            bucket.wait(began + 0.3)
    assert time.monotonic() - began < 0.2
    bucket.wait(began + SOON)
    assert 0.45 <= time.monotonic() - began < 0.9, "five refusals have not made it later"


def test_it_holds_no_more_than_its_burst() -> None:
    bucket = Bucket(2, 1000)
    bucket.wait(soon())
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.05, "time for 50 tokens")
    began = time.monotonic()
    for _ in range(22):
        bucket.wait(soon())
    assert time.monotonic() - began >= 0.019, "20 of them waited"
