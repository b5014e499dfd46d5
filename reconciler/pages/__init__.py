"""The status page: one template with its style inside, no script, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reconciler import __version__
from reconciler.aftermath import written
from reconciler.model import OutcomeKind, Verdict
from reconciler.orphans import NEVER_REMOVED
from reconciler.pages.links import Links
from reconciler.report import summary
from reconciler.shown import NO_PASS_YET, SETTLEMENTS, LastPass, Shown
from reconciler.snapshot import ScopeView
from reconciler.words import clipped, legible, moment, span

__all__ = ["REFRESH", "STYLE", "STYLE_SOURCE", "legible", "status_page"]

REFRESH = 15  # seconds
STYLE = resources.files(__name__).joinpath("status.css").read_text(encoding="utf-8")
STYLE_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"  # for the CSP

# a symbol beside each word: nothing is said by colour alone
_VERDICTS = {
    Verdict.ZOMBIE: ("\u2715", "dead, and to be settled"),
    Verdict.HELD: ("\u2016", "may be dead, held back"),
    Verdict.UNKNOWN: ("?", "a scope could not tell"),
    Verdict.WAITING: ("\u2026", "a grace time is running"),
    Verdict.UNMANAGED: ("\u25cb", "nothing to judge by"),
    Verdict.HEALTHY: ("\u2713", "alive"),
}
_OUTCOMES = {
    OutcomeKind.ACCEPTED: ("\u2713", "accepted"),
    OutcomeKind.SETTLED_ELSEWHERE: ("=", "settled elsewhere"),
    OutcomeKind.STATE_CHANGED: ("~", "left alone, its state changed"),
    OutcomeKind.REFUSED: ("!", "refused"),
    OutcomeKind.FAILED: ("\u2715", "failed"),
}


def status_page(shown: Shown, now: datetime) -> str:
    """Render the page as of `now` (ours)."""
    last = shown.last
    return _TEMPLATE.render(
        shown=shown,
        last=last,
        now=now,
        refresh=REFRESH,
        style=Markup(STYLE),  # noqa: S704 - our own file
        version=__version__,
        verdicts=_VERDICTS,
        outcomes=_OUTCOMES,
        headline=_headline(shown),
        written=written,
        never_removed=NEVER_REMOVED,
        most=SETTLEMENTS,
        sentence=summary(last.report) if last else "",
        problems=_other_problems(shown, last) if last else [],
        scopes=sorted(last.report.scopes, key=lambda scope: (_sight(scope), scope.name)) if last else [],
        links=Links.to(shown.ui_url, shown.api_url, last.report.server_version if last else None),
        ago=span(shown.ago) if shown.ago is not None else "",
        age=lambda time: span(now - time),
        at=lambda time: moment(time, now),
        iso=lambda time: time.astimezone(UTC).isoformat(timespec="seconds"),
    )


@dataclass(frozen=True, slots=True)
class _Headline:
    tone: str  # a class of the style
    symbol: str
    text: str


_GREEN = _Headline("green", "\u2713", "Everything is in view")
_RED = _Headline("red", "\u2715", "Not everything is in view")
_BEGUN = _Headline("begun", "\u2026", "The first pass is under way")


def _headline(shown: Shown) -> _Headline:
    if shown.readiness.ok:
        return _GREEN
    return _BEGUN if shown.readiness == NO_PASS_YET else _RED


def _other_problems(shown: Shown, last: LastPass) -> list[str]:
    """What the pass could not read or write, without what readiness says already."""
    said = shown.readiness.reasons
    return [problem for problem in last.report.problems if not any(problem in reason for reason in said)]


def _sight(scope: ScopeView) -> int:
    return 0 if scope.error else 1 if scope.incomplete else 2


def _finalize(value: object) -> object:
    """Applied to every value that the template writes."""
    return legible(clipped(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


_TEMPLATE = Environment(
    loader=PackageLoader("reconciler", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_finalize,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
).get_template("status.html")
