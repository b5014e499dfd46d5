"""The conformance tests that every adapter must pass, ours and third parties'."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import pytest

from reconciler.model import (
    Cause,
    Condition,
    FlowRun,
    Place,
    Resource,
    RunId,
    Seen,
)
from reconciler.ports import AdapterError, Reminded, Scope, lists_everything
from reconciler.testing.fakes import flow_run


class Fault(StrEnum):
    """What goes wrong between a scope and its place."""

    TIMEOUT = "timeout"
    RESET = "connection reset"
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    PARENT_NOT_FOUND = "404 of the parent"
    EXPIRED = "410"
    THROTTLED = "429"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    TRUNCATED = "truncated body"
    EMPTY = "empty 200"
    MALFORMED = "malformed payload"


class World(Protocol):
    """A place with one scope bound to it, that a test can furnish and break."""

    scope: Scope

    has_exited: bool  # False: an ended resource leaves nothing to look at

    def place(self, condition: Condition) -> FlowRun:
        """Furnish a resource in that condition (GONE: none, with a pid of this adapter's form) and return its run."""

    def inject(self, fault: Fault) -> bool:
        """From now on every call meets the fault. False if the platform cannot have it."""

    def heal(self) -> None: ...

    def slow_down(self, seconds: float) -> bool:
        """From now on every answer takes that long. False if the platform cannot be made to."""

    def replace_identity(self) -> None:
        """Another place answers at the same address."""

    def replace_resource(self, run: FlowRun) -> None:
        """The run's resource is gone; another one of the same name, or pid number, belongs to someone else."""

    def unlabel(self, run: FlowRun) -> bool:
        """The live resource, named by the run's pid, no longer carries the run's id. False if the platform cannot."""


def conditions(seen: Seen, run: FlowRun) -> set[Condition]:
    """Every condition the scope reports of a run; UNKNOWN if it says nothing."""
    return {observation.condition for observation in seen.observations.get(run.id, ())} or {Condition.UNKNOWN}


def _resources(seen: Seen) -> list[Resource]:
    return [one.resource for many in seen.observations.values() for one in many if one.resource] + list(seen.strangers)


def _one_of_each(world: World) -> list[FlowRun]:
    """Furnish what a look may show, the live one first."""
    placed = [Condition.ALIVE, Condition.GONE] + [Condition.EXITED] * world.has_exited
    return [world.place(condition) for condition in placed]


def _deadline(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


class AdapterContract:
    """What the core relies on. Give a `world` fixture that returns a `World`."""

    @pytest.mark.parametrize("condition", [Condition.ALIVE, Condition.EXITED, Condition.GONE])
    def test_tells_what_is_there(self, world: World, condition: Condition) -> None:
        if condition is Condition.EXITED and not world.has_exited:
            return
        run = world.place(condition)
        assert conditions(world.scope.observe([run], _deadline()), run) == {condition}

    def test_a_gone_run_among_living_ones(self, world: World) -> None:
        alive, gone = world.place(Condition.ALIVE), world.place(Condition.GONE)
        seen = world.scope.observe([alive, gone], _deadline())
        assert conditions(seen, alive) == {Condition.ALIVE}
        assert conditions(seen, gone) == {Condition.GONE}

    @pytest.mark.parametrize("fault", list(Fault))
    def test_a_fault_is_never_an_answer(self, world: World, fault: Fault) -> None:
        """Nor may an end rest on half a look, unless the answer says that it is half a look."""
        placed = [Condition.ALIVE, Condition.GONE] + [Condition.EXITED] * world.has_exited
        runs = {condition: world.place(condition) for condition in placed}
        if not world.inject(fault):
            return
        try:
            world.scope.identity(_deadline())
            seen = world.scope.observe(list(runs.values()), _deadline())
        except AdapterError as error:
            assert str(error), "an error says what failed"
        else:
            for condition, run in runs.items():
                said = conditions(seen, run)
                assert said <= {Condition.UNKNOWN, Condition.ALIVE} or seen.incomplete, f"{fault} became {said}"
                assert Condition.EXITED not in said or condition is Condition.EXITED, f"{fault} ended what had not"
        finally:
            world.heal()
        healed = world.scope.observe(list(runs.values()), _deadline())
        assert {condition: conditions(healed, run) for condition, run in runs.items()} == {
            condition: {condition} for condition in runs
        }

    def test_a_slow_place_is_still_told_right(self, world: World) -> None:
        alive, gone = world.place(Condition.ALIVE), world.place(Condition.GONE)
        if world.slow_down(0.2):
            seen = world.scope.observe([alive, gone], _deadline())
            assert conditions(seen, alive) == {Condition.ALIVE}
            assert conditions(seen, gone) == {Condition.GONE}

    def test_gone_and_alive_name_the_resource_as_a_pid_does(self, world: World) -> None:
        alive, gone = world.place(Condition.ALIVE), world.place(Condition.GONE)
        seen = world.scope.observe([alive, gone], _deadline())
        for run in (alive, gone):
            resources = [one.resource for one in seen.observations[run.id] if one.resource]
            assert run.pid
            assert any(resource.is_named_by(run.pid) for resource in resources)

    def test_a_cause_is_of_an_end_only(self, world: World) -> None:
        """What the platform says of it: that a parent ended before is not an adapter's to know."""
        seen = world.scope.observe(_one_of_each(world), _deadline())
        for one in (one for many in seen.observations.values() for one in many if one.cause is not None):
            assert one.cause in set(Cause) - {Cause.PARENT_ENDED}
            assert one.condition in {Condition.EXITED, Condition.GONE}

    def test_a_removal_is_one_line_of_quoted_words(self, world: World) -> None:
        """It is shown to be pasted into a shell, and names may be a flow's author's: write it by `shlex.join`."""
        runs = _one_of_each(world)
        asked_for, as_strangers = (world.scope.observe(asked, _deadline()) for asked in (runs, runs[1:]))
        for resource in _resources(asked_for) + _resources(as_strangers):
            assert resource.removal.isprintable()
            assert shlex.join(shlex.split(resource.removal)) == resource.removal

    def test_gives_up_by_its_deadline(self, world: World) -> None:
        run = world.place(Condition.ALIVE)
        if not world.inject(Fault.TIMEOUT):
            return
        began = time.monotonic()
        with pytest.raises(AdapterError):
            world.scope.observe([run], _deadline(1.0))
        world.heal()
        assert time.monotonic() - began < 4.0

    def test_another_place_has_another_identity(self, world: World) -> None:
        before = world.scope.identity(_deadline())
        assert before == world.scope.identity(_deadline())
        world.replace_identity()
        assert world.scope.identity(_deadline()) != before

    def test_identity_not_name(self, world: World) -> None:
        run = world.place(Condition.ALIVE)
        world.replace_resource(run)
        assert conditions(world.scope.observe([run], _deadline()), run) <= {Condition.GONE, Condition.UNKNOWN}

    def test_a_removed_label_is_not_absence(self, world: World) -> None:
        run = world.place(Condition.ALIVE)
        if world.unlabel(run):
            assert Condition.GONE not in conditions(world.scope.observe([run], _deadline()), run)

    def test_nor_is_it_without_a_pid(self, world: World) -> None:
        """What was seen alive by its label is looked up by its name: see `Reminded`."""
        placed = world.place(Condition.ALIVE)
        run = replace(placed, pid=None)
        [before] = world.scope.observe([run], _deadline()).observations[run.id]
        if not world.unlabel(placed):
            return
        if isinstance(world.scope, Reminded) and before.resource:
            world.scope.remind({run.id: before.resource})
        assert Condition.GONE not in conditions(world.scope.observe([run], _deadline()), run)

    def test_live_resources_of_others_are_strangers(self, world: World) -> None:
        run = world.place(Condition.ALIVE)
        seen = world.scope.observe([], _deadline())
        assert not seen.observations
        if not lists_everything(world.scope):
            seen = world.scope.observe([world.place(Condition.GONE)], _deadline())
        assert run.id in {resource.run_id for resource in seen.strangers}

    @pytest.mark.parametrize(
        "pid", ["", ":", "::", "x" * 10_000, "\x00", "ns:job", "4294967296", "-1", "http://[", "é:1"]
    )
    def test_any_string_may_be_a_pid(self, world: World, pid: str) -> None:
        run = flow_run(pid)
        assert world.scope.locate(run) in Place
        assert Condition.ALIVE not in conditions(world.scope.observe([run], _deadline()), run)

    def test_says_the_place_s_time(self, world: World) -> None:
        seen = world.scope.observe([], _deadline())
        assert seen.place_time is not None
        assert seen.place_time.tzinfo is not None

    def test_only_asked_runs_are_answered(self, world: World) -> None:
        runs: list[FlowRun] = [world.place(Condition.ALIVE), world.place(Condition.EXITED)]
        asked: set[RunId | UUID] = {runs[0].id}
        assert set(world.scope.observe(runs[:1], _deadline()).observations) <= asked
