"""What is told and shown of a cycle, without secrets."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from reconciler.hiding import hidden
from reconciler.logs import Redactor
from reconciler.model import OutcomeKind, Resource, StateType, TaskRun, Verdict
from reconciler.plan import Orphan, Outcome, Settled
from reconciler.report import as_json, lines
from reconciler.snapshot import ScopeView
from reconciler.testing import flow_run
from tests.spec import NOW
from tests.test_telling import finding, report

SECRET = "pnu_0123456789"


def test_every_sentence_is_seen_to() -> None:
    redactor = Redactor()
    redactor.redact(SECRET)
    one = finding(flow_run(), Verdict.UNKNOWN, reason=f"it said {SECRET}")
    told = report(
        one,
        problems=(f"refused {SECRET}",),
        warnings=("http://user:hunter22@proxy is slow",),
        scopes=(ScopeView(name="a", adapter="x", error=SECRET), ScopeView(name="b", adapter="x", incomplete=SECRET)),
        outcomes={one.run.id: Outcome(OutcomeKind.FAILED, f"with {SECRET}", alarm=f"look at {SECRET}")},
    )
    safe = hidden(told, redactor.text)
    assert SECRET not in repr(safe) + str(as_json(safe))
    assert "hunter22" not in repr(safe)
    assert safe.plan.findings[0].reason == "it said ***"
    assert replace(safe.plan.findings[0], reason=one.reason) == one
    assert hidden(safe, redactor.text) == safe


def test_nor_do_task_runs_resumptions_and_orphans_tell_one() -> None:
    redactor = Redactor()
    redactor.redact(SECRET)
    run = flow_run()
    told_it = Outcome(OutcomeKind.FAILED, f"with {SECRET}", alarm=f"look at {SECRET}")
    task_run = TaskRun(id=uuid4(), name="t", flow_run_id=run.id, state_id=uuid4(), state_type=StateType.RUNNING)
    settled = Settled(
        outcomes={run.id: told_it},
        task_runs=((task_run, told_it),),
        resumed={run.id: told_it},
        problems=(f"no answer to {SECRET}",),
    )
    resource = Resource(
        id="c-1", title=f"container {SECRET}", run_id=run.id, removal=f"docker -H tcp://{SECRET} rm -f c-1"
    )
    orphan = Orphan(resource=resource, run=run, since=NOW)
    safe = hidden(report(settled=settled, orphans={"a": (orphan,)}), redactor.text)
    assert SECRET not in repr(safe) + repr(safe.orphans) + str(as_json(safe)) + "".join(lines(safe))
    assert safe.orphans is not None
    assert safe.orphans["a"][0].resource.removal == "docker -H tcp://*** rm -f c-1"
    assert safe.settled.task_runs[0] == (task_run, Outcome(OutcomeKind.FAILED, "with ***", alarm="look at ***"))
    assert safe.settled.problems == ("no answer to ***",)
    assert hidden(safe, redactor.text) == safe
    assert hidden(report(orphans={}), redactor.text).orphans == {}
    assert hidden(report(), redactor.text).orphans is None
