"""Files of ours that somebody else wrote: evidence, what is known of it, and the memory."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from reconciler.clock import Reading
from reconciler.evidence import encoded, lines_of, read, rejudge
from reconciler.evidence_file import Evidence
from reconciler.memory import Memory
from reconciler.model import Resource, Sighting
from tests.fuzz.effort import fuzz
from tests.fuzz.spoiling import STRINGS, bodies
from tests.fuzz.test_showing import news_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CELLS = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary(max_size=20), st.text(max_size=20), STRINGS
)


def a_line() -> bytes:
    report = news_of("otter").report
    ids = [finding.run.id for finding in report.plan.findings]
    (line,) = lines_of(report, ids, written_at=NOW, reconciler="1", configuration="c")
    return encoded(line, str)


TRUE = a_line()


@given(body=bodies(json.loads(TRUE)))
@fuzz(200)
def test_any_evidence_line(body: bytes) -> None:
    """A line is read and judged, or skipped and counted."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "evidence.jsonl"
        file.write_bytes(TRUE + body + b"\n" + TRUE)
        reading = read(file)
        for line in reading:
            rejudge(line)
        assert reading.skipped <= body.count(b"\n") + 1


@given(known=st.binary(max_size=60), evidence=st.binary(max_size=60))
@fuzz(60)
def test_evidence_goes_on_over_rubbish(known: bytes, evidence: bytes) -> None:
    report = news_of("otter").report
    with TemporaryDirectory() as folder:
        (Path(folder) / "evidence.known").write_bytes(known)
        (Path(folder) / "evidence.jsonl").write_bytes(evidence)
        keeper = Evidence(Path(folder), configuration="c", version="1")
        keeper.note(report)
        assert keeper.problems == ()
        assert TRUE.count(b"\n") == 1


def use(path: Path) -> list[str]:
    """All that a pass does with a memory."""
    finding = news_of("otter").report.plan.findings[0]
    resource = Resource(id="r", title="t", run_id=finding.run.id)
    sighting = Sighting(scope="a", identity="i", resource=resource, first_seen=NOW, last_seen=NOW, reason="is running")
    with closing(Memory(path)) as memory:
        memory.keep_time(Reading("boot", NOW, NOW - NOW), NOW)
        memory.note([sighting])
        memory.recall([finding.run.id])
        memory.learn("a", "i", NOW)
        memory.breakers()
        memory.note_breakers(["a"], NOW)
        memory.note_away("a")
        memory.note_back("a", NOW)
        memory.forget([], NOW)
        return list(memory.problems)


@given(rubbish=st.binary(max_size=200), keep=st.integers(0, 8000))
@fuzz(40)
def test_any_bytes_for_a_memory(rubbish: bytes, keep: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "memory.sqlite3"
        use(path)
        path.write_bytes(path.read_bytes()[:keep] + rubbish)
        use(path)


@given(table=st.sampled_from(["sightings", "identities", "breakers", "outages", "clock"]), data=st.data())
@fuzz(60)
def test_any_cell_of_a_memory(table: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "memory.sqlite3"
        use(path)
        with closing(sqlite3.connect(path)) as database, database:
            columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
            column = data.draw(st.sampled_from(columns))
            value = data.draw(CELLS)
            try:
                database.execute(f"update or ignore {table} set {column} = ?", (value,))
            except (sqlite3.Error, OverflowError, UnicodeEncodeError):
                return
        use(path)
