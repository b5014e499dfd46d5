"""Live resources whose flow run has ended: whose are told, when, and how many runs are read for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from reconciler.model import EXACT, ClockOffset, FlowRun, Resource, RunId, StateType
from reconciler.orphans import Orphans, oldest_first, orphan_sentence
from reconciler.plan import Orphan, Policy
from reconciler.ports import OrchestratorError
from reconciler.testing import flow_run
from tests.spec import NOW, ago

QUIET = Policy(quiet=timedelta(seconds=200))
HOUR = 3600.0


def ended(seconds: float = HOUR, state: StateType = StateType.COMPLETED, **changes: object) -> FlowRun:
    """A flow run that is in this state for so long."""
    values = {"state_type": state, "state_name": state.title(), "state_since": ago(seconds)} | changes
    return flow_run(**values)  # type: ignore[arg-type]


def container(run: FlowRun, name: str | None = None) -> Resource:
    name = name or f"c-{run.id}"
    return Resource(id=name, title=f"container {name}", run_id=run.id, removal=f"docker rm -f {name}")


@dataclass
class Place:
    """A server with these flow runs, and one scope in which a container of each is alive."""

    runs: list[FlowRun]
    orphans: Orphans = field(default_factory=Orphans)
    asked: list[list[RunId]] = field(default_factory=list)
    unknown: set[RunId] = field(default_factory=set)  # to the server
    error: OrchestratorError | None = None

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        self.asked.append(list(run_ids))
        if self.error is not None:
            raise self.error
        return {run.id: run for run in self.runs if run.id in set(run_ids) - self.unknown}

    def told(self, after: float = 0, clock: ClockOffset = EXACT) -> tuple[Orphan, ...]:
        strangers = {"a": tuple(container(run) for run in self.runs)}
        found = self.orphans.told(strangers, self.reread, clock, NOW + timedelta(seconds=after), QUIET)
        assert found.keys() == {"a"}
        return found["a"]


@pytest.mark.parametrize("state", StateType)
def test_only_what_has_ended_is_an_orphan(state: StateType) -> None:
    assert bool(Place([ended(state=state)]).told()) is state.is_terminal


def test_a_container_needs_a_moment_to_end_after_its_flow() -> None:
    run = ended(150)
    place = Place([run])
    assert place.told(after=50) == ()
    (orphan,) = place.told(after=51)
    assert orphan == Orphan(resource=container(run), run=run, since=ago(150))


def test_the_age_is_from_the_end_of_the_run_in_our_clock() -> None:
    place = Place([ended(100)])
    assert place.told(clock=ClockOffset(timedelta(seconds=90))) == ()
    (orphan,) = place.told(clock=ClockOffset(timedelta(seconds=110)))
    assert orphan.since == ago(210)


def test_a_run_that_this_server_does_not_know_is_another_s_or_was_deleted() -> None:
    known, other = ended(), ended()
    place = Place([known, other], unknown={other.id})
    assert [one.run for one in place.told()] == [known]
    place.unknown.add(known.id)
    assert place.told() == (), "it was deleted since"


def test_a_run_that_was_started_again_is_none_any_more() -> None:
    run = ended()
    place = Place([run])
    assert place.told()
    place.runs = [replace(run, state_type=StateType.SCHEDULED)]
    assert place.told() == ()


def test_every_resource_of_a_run_in_every_scope_oldest_first() -> None:
    old, young = ended(2 * HOUR), ended(HOUR)
    strangers = {
        "a": (container(young, "y1"), container(old, "o2"), container(old, "o1")),
        "b": (container(old, "o3"),),
        "c": (),
    }
    rows = {old.id: old, young.id: young}
    found = Orphans().told(strangers, lambda ids: {one: rows[one] for one in ids}, EXACT, NOW, QUIET)
    assert {scope: [one.resource.id for one in many] for scope, many in found.items()} == {
        "a": ["o1", "o2", "y1"],
        "b": ["o3"],
        "c": [],
    }
    assert [(scope, one.resource.id) for scope, one in oldest_first(found)] == [
        ("a", "o1"),
        ("a", "o2"),
        ("b", "o3"),
        ("a", "y1"),
    ]


def test_without_strangers_nobody_is_asked() -> None:
    place = Place([])
    assert place.told() == ()
    assert place.asked == []


def test_four_hundred_are_read_in_a_pass_the_others_by_turns() -> None:
    place = Place([ended() for _ in range(900)])
    assert [len(place.told()) for _ in range(4)] == [400, 800, 900, 900]
    assert [len(ids) for ids in place.asked] == [400] * 4
    assert len({run_id for ids in place.asked[:3] for run_id in ids}) == 900


def test_what_is_told_of_one_scope_is_bounded_the_oldest_stay() -> None:
    place = Place([ended(HOUR + number) for number in range(1100)])
    for _ in range(3):
        told = place.told()
    assert len(told) == 1000
    assert told[0].since == ago(HOUR + 1099)
    assert told[-1].since == ago(HOUR + 100)


def test_nothing_is_kept_of_what_is_no_stranger_any_more() -> None:
    place = Place([ended() for _ in range(50)])
    place.told()
    place.runs = place.runs[:1]
    place.told()
    assert len(place.orphans._ended) == len(place.orphans._asked) == 1


def test_what_cannot_be_read_is_said_and_forgets_nothing() -> None:
    place = Place([ended()], error=OrchestratorError("http://h/api answered 503"))
    with pytest.raises(OrchestratorError, match="503"):
        place.told()
    place.error = None
    assert place.told()


class TestTheSentence:
    RUN = UUID("11111111-2222-3333-4444-555555555555")

    def orphan(self, removal: str = "docker rm -f 016aa6b2b5b6") -> Orphan:
        title = "Docker container 016aa6b2b5b6 (stereotyped-otter) on engine prod-7"
        resource = Resource(id="016aa6b2b5b6", title=title, run_id=self.RUN, removal=removal)
        return Orphan(resource=resource, run=ended(id=self.RUN, name="stereotyped-otter"), since=ago(2 * HOUR))

    def test_names_what_lives_whose_it_is_since_when_and_the_command(self) -> None:
        assert orphan_sentence("prod-7", self.orphan(), NOW) == (
            "prod-7: Docker container 016aa6b2b5b6 (stereotyped-otter) on engine prod-7 is alive; flow run "
            "11111111-2222-3333-4444-555555555555 (stereotyped-otter) is Completed since 10:00:00 UTC (2 h); "
            "remove it with: docker rm -f 016aa6b2b5b6"
        )

    def test_leaves_the_command_out_where_there_is_none(self) -> None:
        assert orphan_sentence("prod-7", self.orphan(""), NOW).endswith("is Completed since 10:00:00 UTC (2 h)")


def test_the_ids_of_runs_are_read_once_each() -> None:
    run = ended()
    place = Place([run])
    strangers = {"a": [container(run, str(uuid4())) for _ in range(5)], "b": [container(run)]}
    found = place.orphans.told(strangers, place.reread, EXACT, NOW, QUIET)
    assert {scope: len(many) for scope, many in found.items()} == {"a": 5, "b": 1}
    assert place.asked == [[run.id]]
