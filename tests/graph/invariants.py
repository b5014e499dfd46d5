"""What must hold of every pass, whatever came before. Said again here, from DESIGN 6 and 9, not read off the code."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model import AbsenceCounts, Place, Verdict
from reconciler.plan import Finding

from .node import OURS, Node
from .passes import Passes, Result
from .picture import end_of
from .scene import BEATS, OTHER_ENDED, Answer, Rest
from .setting import LAG, POLICY
from .wary import Wary

Claim = tuple[str, bool]
QUIET = POLICY.quiet.total_seconds()  # the same in every setting


def check(passes: Passes, node: Node, facts: Wary, result: Result, rest: Rest | None, found: Finding) -> None:
    """Check one pass: its verdict as the guards have left it."""
    for name, holds in _claims(passes, node, facts, result, rest, found):
        if not holds:
            told = f"{found.verdict} {found.rule} {found.guard}: {found.reason}"
            raise AssertionError(f"{name}\n{told}\n{node}\n{facts}\n{result.facts}")


def _claims(
    passes: Passes, node: Node, facts: Wary, result: Result, rest: Rest | None, found: Finding
) -> Iterator[Claim]:
    before = result.finding
    yield "it has a reason", bool(found.reason and found.rule)
    held = before.verdict is Verdict.ZOMBIE and found.verdict is Verdict.HELD
    yield (
        "a guard holds zombies, and does nothing else",
        found is before or (found.guard is None and found == before) or held,
    )
    yield "what is held has the guard's name", (found.guard is not None) == held
    if rest is None:
        yield "alive is healthy", not result.answer.is_live or found.verdict is Verdict.HEALTHY
        yield "nothing is settled after one look", found.verdict is not Verdict.ZOMBIE
        doubt = result.answer.doubt not in ("", "not asked") and not result.answer.is_live
        yield "doubt is UNKNOWN", not doubt or found.verdict is Verdict.UNKNOWN
        return
    yield from _after_two_looks(passes, node, result.answer, rest, found)
    if found.verdict is Verdict.ZOMBIE:
        yield from _guards_let_through(node, facts, rest, found)
        yield from _settled(passes, node, facts, result, rest, found)


def _after_two_looks(passes: Passes, node: Node, first: Answer, rest: Rest, found: Finding) -> Iterator[Claim]:
    second = rest.second
    doubt = (second.doubt and not second.is_live) or rest.history == "error"
    yield "alive at the second look is healthy", not second.is_live or found.verdict is Verdict.HEALTHY
    yield "doubt at either look is UNKNOWN", not doubt or found.verdict is Verdict.UNKNOWN
    concerned = passes.setting.other == "twin" or bool(node.other or node.other_ever)
    blind = second.other == "error" and concerned and not second.is_live
    yield "one blind scope is enough", not blind or found.verdict is Verdict.UNKNOWN


def _guards_let_through(node: Node, facts: Wary, rest: Rest, found: Finding) -> Iterator[Claim]:
    yield "our own clock's amnesty dominates", facts.jumped is None
    yield "never twice in one attempt", node.left != OURS
    yield "life signs can be read", "error" not in (rest.beat, rest.sign)
    yield "a sign of life of now wins", "now" not in (rest.beat, rest.sign)
    elsewhere = found.scope == "b" and rest.closed in ("scope", "distrusted")  # that is said of the first scope
    yield "who is taken out stays out", not rest.closed or elsewhere


def _settled(passes: Passes, node: Node, facts: Wary, result: Result, rest: Rest, found: Finding) -> Iterator[Claim]:
    yield "no doubt at the first look", result.answer.doubt not in ("incomplete", "error", "unknown", "alive?")
    yield "alive at no look", not result.answer.is_live
    yield (
        "not cancelling, and awake",
        node.state != "CANCELLING" and (node.state != "ASLEEP" or result.facts.should_run),
    )
    yield "its state is the one that was judged", not rest.changed and rest.history == "read"
    if found.rule == "6":
        yield from _an_end(passes, result, rest, found)
    else:
        yield "only an end or an absence is settled", found.rule == "7"
        yield from _an_absence(passes, result, rest, found)
        if found.scope == "a":
            yield from _absence_guards(passes, facts, result, rest, found)


def _an_end(passes: Passes, result: Result, rest: Rest, found: Finding) -> Iterator[Claim]:
    second, facts, policy = rest.second, result.facts, passes.policy
    if found.scope == "b":
        yield "an end was seen there", second.other == "EXITED"
        ended: float | None = OTHER_ENDED
    elif second.part and second.exited is None:
        # what ended is not what the pid names: believed only where that one was once, or must be
        yield "what the pid names is not said to be gone", not second.gone or facts.attempt > 1
        return
    else:
        yield "an end was seen", second.exited is not None
        nowhere_else = passes.setting.place is Place.HERE or (passes.setting.exclusive and passes.setting.mapped)
        yield "what ended is what the pid names", passes.setting.pid != "other" or nowhere_else
        yield "of this attempt, since its state was reported", second.exited != "early" or facts.state == "PENDING"
        ended = end_of(facts, second.later(result.wait))
        ended = (facts.mine.ended if facts.mine else None) if ended is None else ended
    settle = policy.settle_zero if second.code == 0 and found.scope == "a" else policy.settle_failed
    settle = policy.settle_starting if facts.state == "PENDING" else settle
    yield "longer ago than it takes to settle", ended is not None and ended >= settle.total_seconds()
    if second.exited == "untimed" and found.scope == "a":
        yield "an end without a time is seen twice", result.answer.exited is not None
    for told in (rest.beat, rest.sign):
        yield "no later sign of life", told not in BEATS or ended is None or BEATS[told] >= min(ended, QUIET)
    yield "an unseen end needs quiet", not second.unseen or _silent(rest)


def _silent(rest: Rest) -> bool:
    return rest.beat not in BEATS or BEATS[rest.beat] >= QUIET


def _an_absence(passes: Passes, result: Result, rest: Rest, found: Finding) -> Iterator[Claim]:
    facts, second, setting, policy = result.facts, rest.second, passes.setting, passes.policy
    first, in_b = result.answer, found.scope == "b"
    sighted, seen = found.absence is AbsenceCounts.SIGHTED, facts.other if in_b else facts.mine
    twice = first.other == second.other == "GONE" if in_b else first.is_absent and second.is_absent
    yield "gone at both looks", twice
    yield "no end was seen", second.exited is None and second.other != "EXITED"
    yield "twice, confirm_after apart", result.wait >= policy.confirm_after.total_seconds()
    yield "absence counts", found.absence is not None and (in_b or setting.place is not Place.ELSEWHERE)
    yield "sighted: of this attempt, since it was resumed", not sighted or (seen is not None and not seen.stale)
    yield "sighted: what ended before its state was reported is not what runs", not sighted or not (seen and seen.early)
    weak = "weak" in (first.gone, second.gone)
    there = setting.place is Place.HERE or (setting.exclusive and setting.mapped)
    only = setting.pid is not None and facts.attempt == 1 and there and not weak and not in_b
    yield "else it can be nowhere else, and the pid is this attempt's", sighted or only
    credible = setting.mapped or setting.place is Place.HERE or not setting.chosen_names
    yield "sighted: not by a name that anyone may choose", not sighted or in_b or credible
    grace = policy.grace.total_seconds()
    yield "its state outlived grace", facts.age >= grace and (facts.due is None or facts.due >= grace)
    yield "the scope shows all that is so old", not setting.lag or facts.age >= LAG


def _absence_guards(passes: Passes, facts: Wary, result: Result, rest: Rest, found: Finding) -> Iterator[Claim]:
    sighted, setting, mine = found.absence is AbsenceCounts.SIGHTED, passes.setting, result.facts.mine
    release = passes.policy.breaker_release.total_seconds()
    released = sighted and facts.breaker is not None and facts.breaker >= release and mine is not None
    free = rest.accepted or (released and mine is not None and mine.last >= release)
    yield "the breaker dominates", not rest.herd or free
    yield "half a list condemns nobody", rest.whole
    yield "the scope's amnesty dominates", facts.back is None
    young = (facts.known < QUIET or rest.swapped) and not setting.pinned
    yield "a changed identity is not believed", not (young and (facts.former or rest.swapped))
    yield "nor a new one with what it never showed", not young or sighted
    yield "never sighted, or gone out of sight: quiet", (sighted and rest.second.gone != "unseen") or _silent(rest)
