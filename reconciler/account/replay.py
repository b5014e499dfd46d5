"""`reconcile replay`: decide again what evidence lines tell of, and ask what another policy would have decided.

A line is reproduced if the recomputed one has the same bytes. What a line was decided from is in it; what came of it
(outcome, times of writing) is taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from reconciler.account.policies import Effect, judged_under
from reconciler.account.resemblance import differ_only_where_hidden
from reconciler.evidence import Line, decoded, encoded, rejudge
from reconciler.plan import Finding, Policy
from reconciler.settings.model import PolicySettings
from reconciler.settings.problems import in_words, similar

_FILE = "evidence.jsonl"
KEYS = tuple(one.name for one in fields(Policy) if one.name in PolicySettings.model_fields)
_LISTS = frozenset(key for key in KEYS if isinstance(getattr(Policy(), key), frozenset))


class BadChange(ValueError):
    """A `--with` that cannot be used. The text is one sentence with the remedy."""


class NoEvidence(Exception):
    """There is nothing to replay. The text is one sentence with the remedy."""


class Result(StrEnum):
    SAME = "same"  # byte for byte
    HIDDEN = "differs by redaction"  # the same decision; its text was hidden otherwise as a whole than in its parts
    DIFFERENT = "not reproduced"


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a file, as it is there."""

    path: Path
    number: int
    text: bytes

    def line(self) -> Line | None:
        """None: torn, foreign, or of another version of the format."""
        return decoded(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One line, decided again."""

    record: Record
    line: Line
    again: Finding  # under the line's own policy
    result: Result
    differences: tuple[str, ...] = ()  # "verdict: WAITING, now ZOMBIE"
    other: Finding | None = None  # under the other policy, if one was asked for
    effect: Effect = Effect.NONE
    settled_at: datetime | None = None  # ours: when the other policy would have settled it, if later
    other_policy: Policy | None = None


def changes_of(texts: Iterable[str]) -> dict[str, object]:
    """Read "grace=120s", "mode=settle", "exclude_tags=a,b" as the configuration is read. Raises BadChange."""
    changes: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().removeprefix("policy.")
        if not equals or key not in KEYS:
            what = f"there is no '{key[:60]}' in a policy" if equals else f"'{text[:60]}' is not KEY=VALUE"
            raise BadChange(f"{what}{similar(key, KEYS)} (known are {', '.join(KEYS)})")
        given = [part.strip() for part in value.split(",") if part.strip()] if key in _LISTS else value.strip()
        try:
            changes[key] = getattr(PolicySettings.model_validate({key: given}), key)
        except ValidationError as error:
            raise BadChange("; ".join(in_words(error, {}, lambda location: (str(location[0]), "--with")))) from None
    return changes


def files(path: Path) -> list[Path]:
    """Choose what to read: the file, or the folder's evidence, oldest first. Raises NoEvidence."""
    if not path.is_dir():
        if not path.exists():
            raise NoEvidence(f"there is no file {path}: give an evidence file, or the state folder (`state_dir`)")
        return [path]
    rotated = (each for each in path.glob(f"{_FILE}.*") if each.suffix[1:].isdecimal())
    found = [*sorted(rotated, key=lambda each: -int(each.suffix[1:])), path / _FILE]
    if there := [each for each in found if each.exists()]:
        return there
    raise NoEvidence(f"there is no {_FILE} in {path}: it is written when a run is neither healthy nor unmanaged")


def records(paths: Iterable[Path]) -> Iterator[Record]:
    """Read files whole lines at a time. All are opened at once: one may be rotated meanwhile. Raises OSError."""
    with ExitStack() as stack:
        handles = [(path, stack.enter_context(path.open("rb"))) for path in paths]
        for path, handle in handles:
            for number, text in enumerate(handle, start=1):
                if text.strip():
                    yield Record(path, number, text)


@dataclass
class Replay:
    """Decides each line of these files again, in their order. `changes`: what another policy would have otherwise.

    Iterating raises OSError. `redact` is what the lines were written with, as far as it is known.
    """

    paths: Iterable[Path]
    changes: Mapping[str, object] = field(default_factory=dict)
    redact: Callable[[str], str] = str
    skipped: int = field(default=0, init=False)  # torn, foreign, of another version

    def __iter__(self) -> Iterator[Replayed]:
        self.skipped = 0
        for record in records(self.paths):
            line = record.line()
            replayed = self._attempted(record, line) if line else None
            if replayed is None:
                self.skipped += 1
            else:
                yield replayed

    def _attempted(self, record: Record, line: Line) -> Replayed | None:
        """None: its values are none that a pass has, and cannot be reckoned with, such as a century's `grace`."""
        try:
            return self._replayed(record, line)
        except (OverflowError, ValueError):
            return None

    def _replayed(self, record: Record, line: Line) -> Replayed:
        again = rejudge(line)
        plain = _document(line, again, str, record)
        recorded = record.text.rstrip(b"\r\n")
        same = recorded in (plain, _document(line, again, self.redact, record))
        hidden = not same and differ_only_where_hidden(recorded, plain)
        replayed = Replayed(
            record=record,
            line=line,
            again=again,
            result=Result.SAME if same else Result.HIDDEN if hidden else Result.DIFFERENT,
            differences=() if same else tuple(_differences(recorded, plain)),
        )
        return self._under_another(replayed) if self.changes else replayed

    def _under_another(self, replayed: Replayed) -> Replayed:
        changed: Any = self.changes
        policy = replace(replayed.line.policy, **changed)
        other, effect, then = judged_under(policy, replayed.line, replayed.again)
        return replace(replayed, other=other, effect=effect, settled_at=then, other_policy=policy)


def _document(line: Line, again: Finding, redact: Callable[[str], str], record: Record) -> bytes:
    """Write the line anew, without the settings that were unknown when it was written: they have their defaults."""
    seen = again.observation
    line = replace(
        line,
        name=again.run.name,
        verdict=again.verdict,
        rule=again.rule,
        guard=again.guard,
        reason=again.reason,
        scope=again.scope,
        condition=seen.condition if seen else None,
        resource=seen.resource.id if seen and seen.resource else None,
    )
    text = encoded(line, redact).rstrip(b"\n")
    known = msgspec.json.decode(record.text)["policy"]
    if len(known) == len(fields(Policy)):
        return text
    document = msgspec.json.decode(text)
    document["policy"] = {key: value for key, value in document["policy"].items() if key in known}
    return msgspec.json.encode(document)


def _differences(recorded: bytes, again: bytes) -> Iterator[str]:
    """Name what differs, as JSON has it."""
    before, now = msgspec.json.decode(recorded), msgspec.json.decode(again)
    different = [key for key in (before | now) if before.get(key) != now.get(key)]
    for key in different:
        known = key not in ("snapshot", "policy")
        yield f"{key}: {before.get(key)!s:.200}, now {now.get(key)!s:.200}" if known else f"{key} is not as we write it"
    if not different:
        yield "its bytes are not as we write them"
