"""What would change a verdict that time does not: evidence, or a switch that a person may turn. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from reconciler.evidence import Line
from reconciler.model import Guard, StateType, Verdict
from reconciler.plan import Finding, Mode, Policy
from reconciler.snapshot import Case, Look, Snapshot
from reconciler.weigh import weigh

# No time ends these: whatever comes later must be asked for without them.
ENDLESS = frozenset({Guard.AGAIN, Guard.LISTING, Guard.SELECTION, Guard.OPT_OUT, Guard.TRUST, Guard.MODE})


Switch = Callable[[Line, Finding], tuple[str, Line]]  # what to write in the configuration, and the line under that


def switch_of(line: Line, finding: Finding) -> Switch | None:
    """What a person may switch to have it settled; None: nothing."""
    if finding.guard is not None:
        return SWITCHES.get(finding.guard)
    if finding.verdict is not Verdict.HELD:
        return None
    is_cancelling = finding.run.state_type is StateType.CANCELLING  # also of a subflow: it takes its root's rule
    if finding.rule == "8" and not is_cancelling:
        return _crashing_pending if _judges_pending(_where_it_counts(line)) else None
    may_be_finished = is_cancelling or finding.rule == "9"
    return _finishing if may_be_finished and not line.policy.finish_cancelling else None


def needed_evidence(line: Line, finding: Finding) -> str:
    """What would change a verdict that neither time nor a switch does."""
    if finding.guard is not None:
        return _EVIDENCE.get(finding.guard, f"that nothing speaks against it any more ({finding.guard})")
    if finding.verdict is Verdict.HEALTHY:
        return "an end: nothing is written while its resource, or its parent, lives"
    if finding.verdict is Verdict.UNMANAGED:
        return _managing(finding)
    if finding.verdict is Verdict.UNKNOWN:
        return f"an answer {_silent(line, finding)}"
    if finding.verdict is Verdict.HELD:
        root = f"what its root needs (`reconcile explain {finding.root}`)"
        return root if finding.root else f"a person: what rule {finding.rule} finds is shown, and not written"
    if line.case.history and line.case.history[-1].id != finding.run.state_id:
        return "another look: its state changed while it was looked at"
    return "something else than time: nothing is due within 24 h"


def _managing(finding: Finding) -> str:
    head = finding.inside or finding.run  # a subflow runs where its root does
    if finding.rule == "1" and finding.inside is None:
        return f"nothing that can be configured: {finding.reason}"
    if head.pid is None and head.work_pool is None:
        return "nothing that can be configured: neither pid nor work pool says where it runs"
    return "what its reason says: the configuration, or that its resource is seen once"


def _silent(line: Line, finding: Finding) -> str:
    """Who could not tell: the scopes of which rule 4 says so (of a subflow: about its root), or the history."""
    case, snapshot = line.root or line.case, line.snapshot
    if case.lineage is not None and case.lineage.error is not None:
        return "about the flow run that it runs in"
    names = [look.scope for look in case.looks if any(text in finding.reason for text in _doubts(case, look, snapshot))]
    named = " and ".join(f"scope '{name}'" for name in names)
    return f"of {named}" if named else "about its state history"


def _doubts(case: Case, look: Look, snapshot: Snapshot) -> Iterator[str]:
    """Say what one scope could not tell, before the history was read and after."""
    for history in (case.history, None):
        yield from weigh(replace(case, looks=(look,), history=history), snapshot).blind


_EVIDENCE = {
    Guard.AGAIN: "a person: it was crashed by us in this attempt and came back, and that is done once",
    Guard.LISTING: "a list of flow runs that does not break off",
    Guard.LIFE_SIGN: "an answer about its life signs",
}


def _finishing(line: Line, finding: Finding) -> tuple[str, Line]:
    del finding
    return "finish_cancelling = true under [policy]", replace(line, policy=replace(line.policy, finish_cancelling=True))


def _crashing_pending(line: Line, finding: Finding) -> tuple[str, Line]:
    """All keys at once: one of two does nothing."""
    del finding
    keys = [] if line.policy.crash_pending else ["crash_pending = true under [policy]"]
    changed = replace(line, policy=replace(line.policy, crash_pending=True))
    if not _judges_pending(line):
        changed = _where_it_counts(changed)
        names = [name for name, view in changed.snapshot.scopes.items() if view != line.snapshot.scopes[name]]
        where = " or ".join(f"'{name}'" for name in sorted(names))
        keys.append(f"exclusive = true on scope {where} if its runs can be nowhere else")
    return ", and ".join(keys), changed


def _judges_pending(line: Line) -> bool:
    """Whether not finding it says something."""
    return any(absence.counts for absence in weigh(line.case, line.snapshot).absent)


def _where_it_counts(line: Line) -> Line:
    """The same if the scopes that it is mapped to were exclusive."""
    scopes, mapped = line.snapshot.scopes, {look.scope for look in line.case.looks if look.mapped}
    exclusive = {name: replace(view, exclusive=name in mapped or view.exclusive) for name, view in scopes.items()}
    return replace(line, snapshot=replace(line.snapshot, scopes=exclusive))


def _settling(line: Line, finding: Finding) -> tuple[str, Line]:
    if line.policy.mode is Mode.OBSERVE:
        return 'mode = "settle" under [policy]', replace(line, policy=replace(line.policy, mode=Mode.SETTLE))
    name = finding.scope or ""
    return f"mode = \"settle\" in scope '{name}'", _with_scope(line, name, observes=False)


def _selected(line: Line, finding: Finding) -> tuple[str, Line]:
    del finding
    every = frozenset[Any]()
    return "a pass without --pool and --run", replace(
        line, policy=replace(line.policy, only_pools=every, only_runs=every)
    )


def _taken_in(line: Line, finding: Finding) -> tuple[str, Line]:
    del finding
    none = {one.name: frozenset[str]() for one in fields(Policy) if one.name.startswith(("include_", "exclude_"))}
    changed = replace(line.policy, **none)  # type: ignore[arg-type]
    return "that exclude_* and include_* under [policy] let it be settled", replace(line, policy=changed)


def _trusted(line: Line, finding: Finding) -> tuple[str, Line]:
    name = finding.scope or ""
    return f"`reconcile --trust {name}`", _with_scope(line, name, distrusted_since=None)


def _lost(line: Line, finding: Finding) -> tuple[str, Line]:
    name = finding.scope or ""
    policy = replace(line.policy, accepted_losses=line.policy.accepted_losses | {name})
    return f"`reconcile --accept-scope-loss {name}`, if what ran there is lost", replace(line, policy=policy)


def _with_scope(line: Line, name: str, **changes: Any) -> Line:
    scopes = {**line.snapshot.scopes, name: replace(line.snapshot.scopes[name], **changes)}
    return replace(line, snapshot=replace(line.snapshot, scopes=scopes))


# What a person may switch: told with what would follow.
SWITCHES: Mapping[Guard, Switch] = {
    Guard.MODE: _settling,
    Guard.SELECTION: _selected,
    Guard.OPT_OUT: _taken_in,
    Guard.TRUST: _trusted,
    Guard.BREAKER: _lost,
}
