"""One SQLite file in the state folder, shared by the daemon and the one-shot command. What it holds may be lost."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.rows import TROUBLE
from reconciler.state_files import distrusted, open_private

_PATIENT, _HASTY = "pragma busy_timeout = 3000", "pragma busy_timeout = 0"  # milliseconds
_MAY_ONLY_READ = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class StateDatabase:
    """Never raises: what cannot be read or kept becomes one of `problems`, and is then as if it were lost."""

    def __init__(
        self,
        path: Path | None,
        prepare: Callable[[sqlite3.Connection], object],
        *,
        title: str,
        loss: str,
        unreadable: str = "",
    ) -> None:
        """`prepare` makes the tables; `loss` says what comes of it if it cannot be kept. Without a path: in memory.

        `unreadable` says what comes of it if there is a file that cannot be opened, where that is not `loss`.
        """
        self.problems: list[str] = []  # of this pass
        self._path, self._prepare, self._title, self._loss = path, prepare, title, loss
        self._unreadable = unreadable
        self._is_shut = False  # there is a file, and it could not be opened
        self._is_kept = path is None  # what is written lasts: in the file, or in memory if nothing else was wanted
        self._database = self._open()
        self._lasting = tuple(self.problems)

    def begin(self) -> None:
        """Begin a pass: its problems are told anew, and it waits for the file again, or opens it if it was shut."""
        if self._is_shut:
            self._reopen()
        self.problems = list(self._lasting)
        with self.trying(f"open the {self._title}"):
            self._database.execute(_PATIENT)

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Turn what goes wrong into a problem: "could not `what` in ..."."""
        try:
            yield
        except TROUBLE as error:
            if "locked" in str(error):  # somebody holds the file: this pass does not wait for it again
                self._database.execute(_HASTY)
            self._note_problem(what, error)

    def _reopen(self) -> None:
        self.problems = []
        self._database.close()
        self._database = self._open()
        self._lasting = tuple(self.problems)

    def _open(self) -> sqlite3.Connection:
        self._is_shut = False
        try:
            if self._path is not None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if forgeable := distrusted(self._path.parent):
                    self.problems.append(f"{forgeable}; until then nothing is kept there, {self._loss}")
                    return self._connected(None)
                _make_private(self._path)
                database = self._connected(self._path)
                self._is_kept = True
                return database
        except TROUBLE as error:
            self._is_shut = self._path is not None and os.path.lexists(self._path)
            self._note_problem(f"open the {self._title}", error)
        return self._connected(None)

    def _connected(self, path: Path | None) -> sqlite3.Connection:
        database = sqlite3.connect(path or ":memory:", timeout=3.0, check_same_thread=False)
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _note_problem(self, what: str, error: BaseException) -> None:
        where = self._path or "the state"
        comes_of_it = self._unreadable if self._is_shut and self._unreadable else f"going on without, {self._loss}"
        problem = f"could not {what} in {where} ({error}): {comes_of_it}"
        if problem not in self.problems:
            self.problems.append(problem)


def _make_private(path: Path) -> None:
    try:
        os.close(open_private(path, os.O_RDWR))
    except OSError as error:
        if error.errno not in _MAY_ONLY_READ:  # SQLite reads it all the same
            raise
