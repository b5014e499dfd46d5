"""What we have set to Crashed of late, as the server tells it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from tests.fake_prefect import FakePrefect, connect, failing, judged, stamp

HOUR = timedelta(hours=1)


def test_what_we_crashed_of_late_is_told_with_its_message(server: FakePrefect) -> None:
    api = connect(server)
    first, second = judged(server), judged(server)
    for finding in (first, second):
        api.settle(finding)
    other = server.add("CRASHED")["id"]
    server.runs[other]["state"]["message"] = "Flow run infrastructure exited with non-zero status code 1."
    again = judged(server)
    api.settle(again)
    server.enter(str(again.run.id), "COMPLETED")
    old = judged(server)
    api.settle(old)
    server.runs[str(old.run.id)]["end_time"] = stamp(datetime.now(UTC) - 2 * HOUR)
    before = api.calls
    told = {run.id: message for run, message in api.crashed_by_us(HOUR)}
    assert told == {finding.run.id: finding.message for finding in (first, second)}
    assert api.calls - before == 1


def test_a_server_that_cannot_be_asked_for_ends_tells_nothing(server: FakePrefect) -> None:
    """Prefect 2.20."""
    server.faults.append(failing("/flow_runs/filter", httpx.Response(422, json={"exception_message": "no"})))
    assert list(connect(server).crashed_by_us(HOUR)) == []
