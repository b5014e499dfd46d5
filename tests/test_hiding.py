"""What is told and shown of a cycle, without secrets."""

from __future__ import annotations

from dataclasses import replace

from reconciler.hiding import hidden
from reconciler.logs import Redactor
from reconciler.model import OutcomeKind, Verdict
from reconciler.plan import Outcome
from reconciler.report import as_json
from reconciler.snapshot import ScopeView
from reconciler.testing import flow_run
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
