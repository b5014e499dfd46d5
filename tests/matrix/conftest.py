"""The fault matrix is printed at the end of the session, as far as it was filled."""

from __future__ import annotations

import pytest

from tests.matrix.table import Matrix

_MATRIX = pytest.StashKey[Matrix]()


@pytest.fixture(scope="session")
def matrix(pytestconfig: pytest.Config) -> Matrix:
    """The cells that this session fills."""
    return pytestconfig.stash.setdefault(_MATRIX, Matrix())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the table, "false crashes / zombies settled" in each cell, in every log, failed or not."""
    filled = config.stash.get(_MATRIX, None)
    if filled is None or not filled.cells:
        return
    terminalreporter.section("fault matrix: false crashes / zombies settled after the fault")
    for line in filled.lines():
        terminalreporter.write_line(line)
