"""Who runs inside whom: the way from each subflow up to its root, asked for in batches, and remembered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

import pytest

from reconciler.families import Families, newest_of_family
from reconciler.model import FlowRun, LifeSign, RunId
from reconciler.ports import OrchestratorError, Unreadable
from reconciler.snapshot import Case, Lineage
from reconciler.testing import FakeOrchestrator

from .spec import ago, over, run, subflow


@dataclass
class Tree(FakeOrchestrator):
    """A Prefect API that knows whose task runs are whose. `asked` is what was asked of it, in order."""

    owners: dict[UUID, RunId] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    fails: str = ""

    def child(self, parent: FlowRun, **changes: object) -> FlowRun:
        kid = subflow(**changes)  # type: ignore[arg-type]
        self.runs.append(kid)
        assert kid.parent_task_run_id
        self.owners[kid.parent_task_run_id] = parent.id
        return kid

    def add(self, one: FlowRun) -> FlowRun:
        self.runs.append(one)
        return one

    @property
    def listed(self) -> list[FlowRun]:
        return [one for one in self.runs if one.is_in_flight]

    def parents(self, task_run_ids: Collection[UUID]) -> Mapping[UUID, RunId]:
        self._asked("parents", task_run_ids)
        return {one: self.owners[one] for one in task_run_ids if one in self.owners}

    def reread(self, run_ids: Collection[RunId]) -> Mapping[RunId, FlowRun]:
        self._asked("reread", run_ids)
        return super().reread(run_ids)

    def _asked(self, what: str, ids: Collection[UUID]) -> None:
        self.asked.append((what, len(ids)))
        if self.fails == what:
            raise OrchestratorError("503 Service Unavailable")


@pytest.fixture
def tree() -> Tree:
    return Tree()


def test_a_run_with_infrastructure_of_its_own_has_no_lineage(tree: Tree) -> None:
    tree.add(run())
    tree.add(run(parent_task_run_id=uuid4(), deployment_id=uuid4()))
    kinship = Families(tree).resolve(tree.listed)
    assert (dict(kinship.lineages), dict(kinship.roots), tree.asked) == ({}, {}, [])


def test_three_levels(tree: Tree) -> None:
    r = tree.add(run())
    a = tree.child(r)
    b = tree.child(a)
    c = tree.child(b)
    kinship = Families(tree).resolve(tree.listed)
    assert kinship.lineages[c.id] == Lineage(ancestors=(b.id, a.id, r.id))
    assert [kinship.lineages[one.id].depth for one in (a, b, c)] == [1, 2, 3]
    assert {kinship.lineages[one.id].root_id for one in (a, b, c)} == {r.id}
    assert not kinship.roots, "it is among the runs given"
    assert tree.asked == [("parents", 3)]


def test_the_nearest_with_infrastructure_is_the_root(tree: Tree) -> None:
    r = tree.add(run())
    own = replace(tree.child(r), work_pool="pool")
    tree.runs[-1] = own
    kid = tree.child(own)
    assert Families(tree).resolve(tree.listed).lineages[kid.id].ancestors == (own.id,)


def test_ten_thousand_in_three_levels_cost_a_call_and_then_none(tree: Tree) -> None:
    """A call of the port: it asks a page at a time. Of healthy families nothing is asked twice."""
    for _ in range(10):
        r = tree.add(run())
        for _ in range(10):
            a = tree.child(r)
            for _ in range(9):
                b = tree.child(a)
                for _ in range(10):
                    tree.child(b)
    families, listed = Families(tree), tree.listed
    assert sum(one.is_in_process_subflow for one in listed) == 10_000
    kinship = families.resolve(listed)
    assert len(kinship.lineages) == 10_000
    assert {len(one.ancestors) for one in kinship.lineages.values()} == {1, 2, 3}
    assert tree.asked == [("parents", 10_000)]
    assert families.resolve(listed) == kinship
    assert len(tree.asked) == 1, "links never change"
    tree.child(r)
    families.resolve(tree.listed)
    assert tree.asked[1:] == [("parents", 1)], "only what is new is asked for"


def test_roots_that_are_not_in_flight_are_read_once_a_pass(tree: Tree) -> None:
    ended, paused, hidden = tree.add(over()), tree.add(run("PAUSED")), run()
    kids = [tree.child(one) for one in (ended, ended, paused, hidden)]
    tree.runs.append(hidden)
    families, listed = Families(tree), [one for one in tree.listed if one is not hidden]
    kinship = families.resolve(listed)
    assert kinship.roots == {one.id: one for one in (ended, paused, hidden)}
    assert kinship.lineages[kids[3].id].root_id == hidden.id
    assert tree.asked == [("parents", 4), ("reread", 3)]
    again = replace(ended, state_id=uuid4())
    tree.runs[tree.runs.index(ended)] = again
    assert families.resolve(listed).roots[ended.id] == again
    assert tree.asked[2:] == [("reread", 3)], "what they are may change"


def test_through_a_subflow_that_has_ended(tree: Tree) -> None:
    r = tree.add(run())
    middle = tree.child(r, state="COMPLETED")
    kid = tree.child(middle)
    kinship = Families(tree).resolve(tree.listed)
    assert kinship.lineages[kid.id].ancestors == (middle.id, r.id)
    assert not kinship.roots


def test_the_top_one_is_the_root_though_it_has_no_infrastructure(tree: Tree) -> None:
    script = tree.add(run(pid=None, work_pool=None))
    kid = tree.child(script)
    assert Families(tree).resolve(tree.listed).lineages[kid.id].root_id == script.id


@pytest.mark.parametrize("what", ["task run", "flow run", "grandparent"])
def test_what_was_deleted_leaves_no_ancestors(tree: Tree, what: str) -> None:
    """None at all: what is left of them is not the root."""
    r = run()
    middle = tree.child(r)
    kid = tree.child(middle)
    healthy = tree.child(tree.add(run()))
    if what == "task run":
        del tree.owners[kid.parent_task_run_id]  # type: ignore[arg-type]
        tree.add(r)
    elif what == "flow run":
        tree.runs.remove(middle)
        tree.add(r)
    kinship = Families(tree).resolve(tree.listed)
    assert kinship.lineages[kid.id] == Lineage()
    assert kinship.lineages[healthy.id].depth == 1
    assert kid.id not in kinship.roots


def test_rings(tree: Tree) -> None:
    """They cannot be, and nobody knows what an API answers."""
    one, two = subflow(), subflow()
    tree.runs += [one, two]
    tree.owners |= {one.parent_task_run_id: two.id, two.parent_task_run_id: one.id}  # type: ignore[dict-item]
    itself = subflow()
    tree.runs.append(itself)
    tree.owners[itself.parent_task_run_id] = itself.id  # type: ignore[index]
    below = tree.child(one)
    kid = tree.child(tree.add(run()))
    kinship = Families(tree).resolve(tree.listed)
    for each in (one, two, itself, below):
        lineage = kinship.lineages[each.id]
        assert (lineage.ancestors, lineage.root_id) == ((), None)
        assert "ring" in (lineage.error or "")
    assert kinship.lineages[kid.id].error is None
    assert not kinship.roots


def test_deeper_than_can_be(tree: Tree) -> None:
    top = tree.add(run())
    for _ in range(150):
        top = tree.child(top)
    kinship = Families(tree).resolve(tree.listed)
    depths = sorted(one.depth for one in kinship.lineages.values())
    assert depths[-1] == 100
    assert depths.count(0) == 50
    assert all((one.error is not None) == (one.depth == 0) for one in kinship.lineages.values())


@pytest.mark.parametrize("what", ["parents", "reread"])
def test_what_cannot_be_read_is_an_error_and_is_asked_for_again(tree: Tree, what: str) -> None:
    kid, ended = tree.child(tree.add(over())), tree.runs[0]
    families, tree.fails = Families(tree), what
    lineage = families.resolve(tree.listed).lineages[kid.id]
    assert lineage.root_id is None
    assert lineage.error == "the flow run that it runs in could not be read: 503 Service Unavailable"
    tree.fails = ""
    kinship = families.resolve(tree.listed)
    assert kinship.lineages[kid.id] == Lineage(ancestors=(ended.id,))
    assert set(kinship.roots) == {ended.id}


def test_an_error_does_not_spoil_what_is_known(tree: Tree) -> None:
    known = tree.child(tree.add(run()))
    families = Families(tree)
    families.resolve(tree.listed)
    unknown = tree.child(tree.add(over()))
    tree.fails = "reread"
    kinship = families.resolve(tree.listed)
    assert kinship.lineages[unknown.id].error is not None
    assert kinship.lineages[known.id].error is not None or kinship.lineages[known.id].depth == 1


def test_one_root_that_cannot_be_read_spoils_no_other_family(tree: Tree) -> None:
    """The API says which rows it cannot read, and gives the others (`rereading.Unreadable.rows`)."""
    poisoned, ended = tree.add(over()), tree.add(over())
    spoilt, kid = tree.child(poisoned), tree.child(ended)
    healthy = tree.child(tree.add(run()))
    tree.reread = lambda run_ids: _unreadable(tree, run_ids, poisoned)  # type: ignore[method-assign]
    lineages = Families(tree).resolve(tree.listed).lineages
    assert lineages[spoilt.id].error is not None
    assert lineages[healthy.id].depth == 1
    assert lineages[kid.id].depth == 1


def _unreadable(tree: Tree, run_ids: Collection[RunId], poisoned: FlowRun) -> Mapping[RunId, FlowRun]:
    rows = FakeOrchestrator.reread(tree, run_ids)
    if poisoned.id in run_ids:
        raise Unreadable({poisoned.id: "nested labels"}, {one: row for one, row in rows.items() if one != poisoned.id})
    return rows


def test_what_is_over_is_forgotten(tree: Tree) -> None:
    for _ in range(50):
        tree.child(tree.add(run()))
    families = Families(tree)
    families.resolve(tree.listed)
    assert len(families._parents) == 50
    families.resolve(tree.listed[:10])
    assert len(families._parents) == 5
    families.resolve([])
    assert not families._parents


class TestNewestOfFamily:
    def test_each_has_the_newest_of_all(self) -> None:
        r, a, b, alone = run(), subflow(), subflow(), run()
        cases = [
            Case(run=r),
            Case(run=a, lineage=Lineage(ancestors=(r.id,))),
            Case(run=b, lineage=Lineage(ancestors=(a.id, r.id))),
            Case(run=alone),
        ]
        old, new = LifeSign("log line", ago(90)), LifeSign("task run", ago(5))

        def at(sign: LifeSign) -> datetime:
            return sign.at

        assert newest_of_family({a.id: old, b.id: new}, cases, at) == dict.fromkeys((r.id, a.id, b.id), new)
        assert newest_of_family({r.id: new, b.id: old}, cases, at) == dict.fromkeys((r.id, a.id, b.id), new)
        assert newest_of_family({alone.id: old}, cases, at) == {alone.id: old}
        assert newest_of_family({}, cases, at) == {}

    def test_without_a_root_it_is_its_own(self) -> None:
        a, b = subflow(), subflow()
        cases = [Case(run=one, lineage=Lineage(error="503")) for one in (a, b)]
        signs = {a.id: LifeSign("log line", ago(5))}
        assert newest_of_family(signs, cases, lambda sign: sign.at) == signs
