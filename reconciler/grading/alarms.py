"""The sentences about false crashes."""

from __future__ import annotations

from datetime import datetime

from reconciler.aftermath import written
from reconciler.grading.cases import DISTRUST_COUNT, Case
from reconciler.words import dated


def false_crash_sentence(case: Case, count: int) -> str:
    """Say it loud; `count` are the scope's of the last 24 h."""
    trust = (
        f"{count} of {DISTRUST_COUNT} within 24 h that make scope '{case.scope}' untrusted"
        if count < DISTRUST_COUNT
        else f"{count} within 24 h, so scope '{case.scope}' is not trusted any more: nothing is settled there until "
        f"`reconcile --trust {case.scope}`"
    )
    resource = f"its resource was {case.resource}" if case.resource else "its resource was never seen"
    return f"FALSE CRASH: {_settled(case)}, and {case.why}; {resource}; it was judged on: {case.died}; {trust}"


def uncounted_sentence(case: Case) -> str:
    """Say that a settlement that rests on no scope's word was wrong."""
    return f"false crash, counted against no scope: {_settled(case)}, and {case.why}; it was judged on: {case.died}"


def unclear_sentence(case: Case) -> str:
    return f"perhaps a false crash, which is not counted: {_settled(case)}, and {case.why}"


def distrusted_sentence(scope: str, since: datetime) -> str:
    return (
        f"scope '{scope}' is not trusted since {dated(since)}, for false crashes were found: nothing is settled "
        f"there until `reconcile --trust {scope}` (see `reconcile report`)"
    )


def _settled(case: Case) -> str:
    return f"flow run {case.run_id} ({case.name}) was {written(case.action)} by us at {dated(case.judged_at)}"
