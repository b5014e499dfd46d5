"""What a pass may meet: the answers of the scopes, and the heartbeats and lists that come with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from .node import Node, concrete, upper
from .setting import Setting

OTHER_ENDED = 45.0  # seconds ago, in the second scope


@dataclass(frozen=True, slots=True)
class Answer:
    """What the scope says: of this attempt's resource, of an earlier attempt's, and of something else."""

    name: str
    live: str = ""  # "ALIVE" and so on: this attempt's resource
    exited: float | str | None = None  # seconds ago, "early" (before the present state) or "untimed"
    code: int | None = 137
    unseen: bool = False
    gone: str = ""  # "gone", "weak" (needs a sighting), "unseen"
    old: str = ""  # the earlier attempt's resource: "ALIVE", "EXITED"
    part: bool = False  # something else of this attempt has ended
    doubt: str = ""  # "unknown", "alive?", "error", "silent", "incomplete", "not asked"
    other: str = ""  # the second scope: "ALIVE", "EXITED", "GONE", "error"; else it was not asked

    @property
    def is_live(self) -> bool:
        return bool(self.live) or self.old == "ALIVE" or self.other == "ALIVE"

    @property
    def is_absent(self) -> bool:
        return bool(self.gone or self.old == "EXITED") and self.exited is None

    @property
    def is_blind(self) -> bool:
        """It says nothing of the run, so the memory learns nothing."""
        return self.doubt in ("error", "silent", "not asked")

    @property
    def leaves(self) -> tuple[object, ...]:
        """All of it that the rules' memory keeps."""
        return self.is_blind, bool(self.live), bool(self.old), self.exited, self.other

    @property
    def is_many(self) -> bool:
        """Of more than one resource or scope: their order must not matter."""
        return sum(map(bool, (self.live, self.exited is not None, self.gone, self.old, self.part, self.other))) > 1

    def later(self, by: float) -> Answer:
        return replace(self, exited=self.exited + by) if by and isinstance(self.exited, float | int) else self

    def fits(self, node: Node, setting: Setting) -> bool:
        """Whether this can be seen in that node at all."""
        if self.old and (node.attempt == 1 or (self.gone and setting.pid == "first")):
            return False  # the earlier one is what the pid names: it is gone, or it is there
        if self.part and (setting.pid is None or not (setting.mapped or self.gone or self.live)):
            return False  # what ended is all there is; or what the pid names must have been looked at too (`ports`)
        return self.needs_age < upper(node, setting)

    @property
    def needs_age(self) -> float:
        """How old the run's state must be for it."""
        ended = self.exited + 1 if isinstance(self.exited, float | int) else 0.0
        return max(ended, OTHER_ENDED + 1 if self.other == "EXITED" else 0.0)


ALIVE, GONE, ERROR = Answer("alive", live="ALIVE"), Answer("gone", gone="gone"), Answer("error", doubt="error")
SILENT, NOT_ASKED = Answer("silent", doubt="silent"), Answer("not asked", doubt="not asked")
CUT_SHORT = Answer("gone, incomplete", gone="gone", doubt="incomplete")
GONE_UNSEEN = Answer("gone unseen", gone="unseen")
EXITED = {
    (code, ended): Answer(f"exited {code} {ended}", exited=ended, code=code)
    for code, many in ((137, (0, 10, 45, "early", "untimed")), (0, (10, 30, "untimed")), (None, (10,)))
    for ended in many
}
DEAD, UNTIMED = EXITED[137, 45], EXITED[137, "untimed"]
OLD_EXITED = Answer("old exited", old="EXITED")
ANSWERS = (
    ALIVE,
    Answer("starting", live="STARTING"),
    Answer("stopping", live="STOPPING"),
    *EXITED.values(),
    Answer("exited unseen", exited=45, unseen=True),
    GONE,
    Answer("gone weak", gone="weak"),
    GONE_UNSEEN,
    Answer("part ended", part=True),
    Answer("part ended, mine gone", part=True, gone="gone"),
    Answer("mine and part ended", part=True, exited=45),
    Answer("part ended, mine alive", part=True, live="ALIVE"),
    OLD_EXITED,
    Answer("old exited, mine gone", old="EXITED", gone="gone"),
    Answer("old exited, mine too", old="EXITED", exited=45),
    Answer("old alive", old="ALIVE"),
    Answer("old alive, mine exited", old="ALIVE", exited=45),
    Answer("unknown", doubt="unknown"),
    Answer("exited, and unknown", exited=45, doubt="unknown"),
    Answer("gone, and unknown", gone="gone", doubt="unknown"),
    Answer("alive elsewhere?", doubt="alive?"),
    ERROR,
    SILENT,
    CUT_SHORT,
    Answer("exited, incomplete", exited=45, doubt="incomplete"),
)
_OTHERS = ("", "ALIVE", "EXITED", "GONE", "error")
_BASE = (ALIVE, DEAD, UNTIMED, GONE, SILENT, ERROR)


def _pair(one: Answer, there: str) -> Answer:
    return replace(one, name=f"{one.name}; 2nd {there or 'silent'}", other=there)


PAIRED = tuple(_pair(one, there) for one in _BASE for there in _OTHERS)
SECONDS = (ALIVE, GONE, EXITED[137, 10], ERROR, CUT_SHORT)
_SECOND_PAIRS = (
    *(_pair(GONE, there) for there in ("", "ALIVE", "GONE", "error")),
    *(_pair(one, "GONE") for one in (ALIVE, DEAD)),
)


@dataclass(frozen=True, slots=True)
class Rest:
    """What a pass meets after the first look: only suspects come that far."""

    second: Answer
    history: str = "read"  # "error": it could not be read; "unread": there was no time for it
    changed: bool = False  # the run has another state by now
    swapped: bool = False  # the second look finds another identity
    herd: bool = False  # three others vanish from the scope with it
    accepted: bool = False  # ... and a person said that they are lost
    whole: bool = True  # False: the list of runs broke off
    beat: str = ""  # of `BEATS`; "error": they cannot be read; else the run never beat
    sign: str = ""  # ditto: its newest log line
    closed: str = ""  # "scope", "all": only observed; "distrusted", "excluded", "not included", "not chosen"

    def __str__(self) -> str:
        flags = [name for name in ("changed", "swapped", "herd", "accepted") if getattr(self, name)]
        flags += [f"history {self.history}"] if self.history != "read" else []
        flags += [] if self.whole else ["list broke off"]
        told = [f"{name} {value}" for name in ("beat", "sign", "closed") if (value := getattr(self, name))]
        return ", ".join([f"then {self.second.name}", *flags, *told])


BEATS = {"now": 0.0, "of late": 150.0, "long ago": 5000.0}
CLOSED = ("scope", "all", "distrusted", "excluded", "not included", "not chosen")


def answers(node: Node, setting: Setting) -> Iterator[Answer]:
    """What the first look may meet. A scope that has nothing to do with the run is not asked, and may still show it."""
    if setting.other:
        asked = setting.other != "stranger" or bool(node.other or node.other_ever)
        yield from (one for one in PAIRED if one.fits(node, setting) and (asked or one.other in ("", "ALIVE")))
    elif setting.mapped or node.mine or node.old or node.ever:
        yield from (answer for answer in ANSWERS if answer.fits(node, setting))
    else:
        yield from (NOT_ASKED, ALIVE)


@cache
def plain_rests(first: Answer, setting: Setting) -> tuple[Rest, ...]:
    """Each turn that the rest of a pass may take, as far as the rules read it; the first is that nothing happens.

    What makes the first look's answer void, whatever it was, is tried with the plain ones.
    """
    same, is_plain = Rest(first), first in (GONE, DEAD)
    seconds = _SECOND_PAIRS if setting.other else SECONDS if is_plain else SECONDS[:3]
    rests = [same, *(Rest(second) for second in seconds if second != first)]
    if is_plain:
        rests += [replace(same, changed=True), replace(same, history="error"), replace(same, history="unread")]
    if is_plain and not setting.pinned:  # else that is an error
        rests.append(Rest(GONE, swapped=True))
    return tuple(rests)


@cache
def guard_rests(first: Answer, plain: Rest, *, is_absent: bool) -> tuple[Rest, ...]:
    """What else may come to light of a zombie: only guards read it, and of the answers no more than the verdict's."""
    if plain.second != first:
        return (replace(plain, beat="now"),)
    rests = [replace(plain, whole=False)] if is_absent else []
    rests += [replace(plain, beat=told) for told in (*BEATS, "error")]
    rests += [replace(plain, sign=told) for told in ("now", "of late", "error")]
    return (*rests, *(replace(plain, closed=why) for why in CLOSED))


def ready(node: Node, answer: Answer) -> Node:
    """Ages for this node in which the answer can be met."""
    return concrete(node, answer.needs_age)
