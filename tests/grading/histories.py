"""State histories as real servers showed them (see the real tests), written in one line each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from reconciler.model import StateRecord, StateType
from reconciler.plan import resumption_id, transition_id

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class History:
    """States of one run, a second apart. `run("RUNNING")` is reported by Prefect's client, `hand("RUNNING")` is not."""

    def __init__(self, run_id: UUID | None = None) -> None:
        self.run_id = run_id or uuid4()
        self.records: list[StateRecord] = []
        self.judged = UUID(int=0)

    def run(self, type_: str, name: str | None = None) -> History:
        return self._add(type_, name, uuid4())

    def hand(self, type_: str, name: str | None = None) -> History:
        return self._add(type_, name, None)

    def judge(self) -> History:
        """The newest state is the one that is judged."""
        self.judged = self.records[-1].id
        return self

    def crash(self) -> History:
        """Judge, and set to Crashed by us."""
        self.judge()
        return self._add("CRASHED", None, transition_id(self.run_id, self.judged))

    def crash_again(self) -> History:
        """Crash a later attempt by us; the judged state stays that of the first."""
        return self._add("CRASHED", None, transition_id(self.run_id, self.records[-1].id))

    def cancel(self) -> History:
        """Judge, and set to Cancelled by us."""
        self.judge()
        return self._add("CANCELLED", None, transition_id(self.run_id, self.judged))

    def resume(self) -> History:
        """Schedule it again by us, after our own Crashed."""
        return self._add("SCHEDULED", "AwaitingRetry", resumption_id(self.run_id, self.records[-1].id))

    def _add(self, type_: str, name: str | None, transition: UUID | None) -> History:
        self.records.append(
            StateRecord(
                id=uuid4(),
                type=StateType(type_),
                name=name or type_.capitalize(),
                timestamp=START + timedelta(seconds=len(self.records)),
                transition_id=transition,
            )
        )
        return self


def started() -> History:
    """A run that a worker has submitted and that reports."""
    return History().hand("SCHEDULED").run("PENDING").run("PENDING", "Submitting").run("RUNNING")
