"""`evidence.jsonl` in one folder, shared by several processes: whole lines only, rotated by size, never torn twice.

`evidence.known` beside it is the lock, and holds what the last line of each run said, so that neither a restart, nor
another process, nor a rotation repeats a line. It may be lost: then each standing decision is written once more.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from uuid import UUID

import msgspec

from reconciler.evidence import encoded, lines_of
from reconciler.news import is_telling, key_of
from reconciler.plan import CycleReport
from reconciler.state_files import open_private

_BATCH = 1_000_000  # bytes of one write
_STRINGS = 10_000  # redacted once per pass
_PATIENCE = 5.0  # seconds; longer than any pass holds the lock, unless it is stopped or its disk hangs

Known = dict[str, str]  # run id -> what its last line said


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """The current file and up to `keep - 1` older ones, `.1` the youngest. Every method raises OSError."""

    folder: Path
    limit: int  # bytes of one file
    keep: int  # files, the current one among them

    @property
    def path(self) -> Path:
        return self.folder / "evidence.jsonl"

    @property
    def memory(self) -> Path:
        return self.folder / "evidence.known"

    @contextmanager
    def held(self, unsaved: Known) -> Iterator[Known]:
        """Keep other processes out, and keep what the caller changes in what is known.

        `unsaved` is what an earlier call could not keep.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = open_private(self.memory, os.O_RDWR)
        try:
            _lock(handle, self.memory)
            # who removes the evidence wants it written anew
            before = _load(handle) if self.path.exists() else {}
            known = before | unsaved
            try:
                yield known
            finally:
                if known != before:
                    _save(handle, known)
        finally:
            os.close(handle)

    def append(self, lines: bytes) -> None:
        """Write whole lines, all or none. Only while `held`."""
        if self._size() and self._size() + len(lines) > self.limit:
            self._rotate()
        handle = open_private(self.path, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"  # by a crash: begin on a line of our own
            _write_all(handle, b"\n" + lines if torn else lines, size)
        finally:
            os.close(handle)

    def batches(self, lines: Iterable[tuple[str, bytes]]) -> Iterator[tuple[list[str], bytes]]:
        """Join lines for one write each, no longer than a file may be (unless one line is)."""
        names, text = list[str](), bytearray()
        for name, line in lines:
            if names and len(text) + len(line) > min(_BATCH, self.limit):
                yield names, bytes(text)
                names, text = [], bytearray()
            names.append(name)
            text += line
        if names:
            yield names, bytes(text)

    def _part(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _rotate(self) -> None:
        if self.keep == 1:
            self.path.unlink()
        for number in range(self.keep - 1, 0, -1):
            if self._part(number - 1).exists():
                self._part(number - 1).replace(self._part(number))


class Evidence:
    """Writes the lines of each cycle to `folder`/evidence.jsonl. `limit` is in bytes; `keep` counts the current file.

    `configuration` may be set anew when the settings are. `redact` hides what must not be in a line.
    """

    def __init__(
        self,
        folder: Path,
        *,
        configuration: str,
        version: str,
        limit: int = 10_000_000,
        keep: int = 5,
        redact: Callable[[str], str] = str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.configuration = configuration
        self._version = version
        self._file = EvidenceFile(folder, limit, keep)
        self._redact = redact
        self._now = now
        self._unsaved: Known = {}
        self._problems: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What the last `note` could not write, each with a remedy; it is tried again with the next."""
        return self._problems

    def note(self, report: CycleReport) -> None:
        """Write the decisions that are not those of the run's last line. Never raises."""
        self._problems = ()
        try:
            self._note(report)
        except OSError as error:
            remedy = "make room there, make its folder writable for this user, or end the process that holds it"
            self._problems = (f"evidence could not be written to {self._file.path} ({error}): {remedy}",)
        except Exception as error:  # noqa: BLE001 - the account of a decision must never stop decisions
            bug = f"a bug of ours ({type(error).__name__}: {error}): please report it; decisions go on without evidence"
            self._problems = (f"evidence could not be written to {self._file.path}: {bug}",)

    def _note(self, report: CycleReport) -> None:
        telling = {finding.run.id: finding for finding in report.plan.findings if is_telling(finding)}
        if report.snapshot is None or not (telling or self._unsaved or self._file.memory.exists()):
            return
        keys = {str(run_id): fingerprint("\n".join(key_of(report, one))) for run_id, one in telling.items()}
        well = {str(finding.run.id) for finding in report.plan.findings} - keys.keys()
        known = self._unsaved
        try:
            with self._file.held(self._unsaved) as known:
                over = known.keys() - keys.keys() if report.snapshot.is_whole else known.keys() & well
                for run_id in over:
                    del known[run_id]
                fresh = {run_id for run_id, key in keys.items() if known.get(run_id) != key}
                for run_ids, text in self._file.batches(self._lines(report, fresh)):
                    self._file.append(text)
                    known.update((run_id, keys[run_id]) for run_id in run_ids)
        except BaseException:
            self._unsaved = known
            raise
        self._unsaved = {}

    def _lines(self, report: CycleReport, fresh: set[str]) -> Iterator[tuple[str, bytes]]:
        made = lines_of(
            report,
            {UUID(run_id) for run_id in fresh},
            written_at=self._now(),
            reconciler=self._version,
            configuration=self.configuration,
        )
        redact = lru_cache(maxsize=_STRINGS)(self._redact)  # most strings are in many lines
        return ((str(line.run_id), encoded(line, redact)) for line in made)


def fingerprint(text: str) -> str:
    """Name a text by 16 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _lock(handle: int, path: Path) -> None:
    """Wait for the lock, but not for a process that was stopped while it had it."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"another process has held {path} for more than {_PATIENCE:.0f} s") from None
            time.sleep(0.01)


def _load(handle: int) -> Known:
    text = os.pread(handle, os.fstat(handle).st_size, 0)
    try:
        return msgspec.json.decode(text, type=Known) if text else {}
    except ValueError:
        return {}


def _save(handle: int, known: Known) -> None:
    os.ftruncate(handle, 0)
    _write_all(handle, msgspec.json.encode(known), 0)


def _write_all(handle: int, text: bytes, size: int) -> None:
    """Write in one call; a full disk takes a part of it, which is taken back."""
    if os.write(handle, text) < len(text):
        os.ftruncate(handle, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
