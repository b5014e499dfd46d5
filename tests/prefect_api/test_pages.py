from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
import stamina

from reconciler.ports import OrchestratorError
from tests.fake_prefect import (
    START,
    FakePrefect,
    always,
    connect,
    failing,
    ids,
    record_waits,
    stamp,
)


@pytest.mark.parametrize("most", [200, 50, 3, 1])
def test_every_page_is_read_whatever_the_server_allows(server: FakePrefect, most: int) -> None:
    server.most = most
    expected = {server.add()["id"] for _ in range(401 if most > 10 else 30)}
    listing = connect(server).in_flight()
    assert ids(listing) == expected
    assert listing.problems == ()


def test_1000_runs_take_ten_calls(server: FakePrefect) -> None:
    for _ in range(1000):
        server.add()
    api = connect(server)
    assert len(api.in_flight().runs) == 1000
    # 2 counts, 6 pages, 1 page of those that await a retry, 1 version
    assert api.calls == 10
    api.in_flight()
    assert api.calls == 19


@pytest.mark.parametrize(("tied", "most"), [(450, 200), (7, 2), (5, 1)])
def test_runs_of_one_expected_start_are_not_lost_at_page_ends(server: FakePrefect, tied: int, most: int) -> None:
    server.most = most
    expected = {server.add()["id"] for _ in range(3)}
    expected |= {server.add(expected_start_time=stamp(START + timedelta(hours=1)))["id"] for _ in range(tied)}
    expected |= {server.add(expected_start_time=stamp(START + timedelta(hours=2)))["id"] for _ in range(3)}
    listing = connect(server).in_flight()
    assert ids(listing) == expected
    assert listing.problems == ()


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(seconds=1)])
def test_runs_that_end_while_pages_are_read_hide_no_others(server: FakePrefect, apart: timedelta) -> None:
    runs = [server.add(expected_start_time=stamp(START + apart * number)) for number in range(450)]

    def finish_fifty(request: httpx.Request) -> None:
        if server.count("/flow_runs/filter") == 2:
            for run in runs[:50]:
                server.enter(run["id"], "COMPLETED")

    server.faults.append(finish_fifty)
    listing = connect(server).in_flight()
    assert ids(listing) >= {run["id"] for run in runs[50:]}
    assert listing.problems == ()


def test_a_short_answer_is_listed_again_and_then_told(server: FakePrefect) -> None:
    for _ in range(10):
        server.add()
    short = lambda request: httpx.Response(200, json=list(server.runs.values())[:7])  # noqa: E731
    server.faults.append(failing("/flow_runs/filter", short(None)))
    listing = connect(server).in_flight()
    assert len(listing.runs) == 10
    assert listing.problems == ()

    server.faults[:] = [always("/flow_runs/filter", short)]
    listing = connect(server).in_flight()
    assert len(listing.runs) == 7
    assert "7 were listed, and the server counts 10" in listing.problems[0]


def test_a_dropped_filter_is_noticed_and_its_rows_are_not_judged(server: FakePrefect) -> None:
    server.ignores_filter = True
    running = server.add()["id"]
    for _ in range(5):
        server.add("COMPLETED")
    listing = connect(server).in_flight()
    assert ids(listing) == {running}
    assert "returned 5 flow runs outside the filter" in listing.problems[0]
    assert "ignores the filter" in listing.problems[0]


def test_a_dropped_filter_does_not_make_us_read_the_whole_database(server: FakePrefect) -> None:
    server.ignores_filter = True
    for _ in range(5000):
        server.add("COMPLETED")
    api = connect(server)
    listing = api.in_flight()
    assert listing.runs == ()
    assert "reading stopped there" in listing.problems[0]
    assert server.count("/flow_runs/filter") < 16


def test_a_server_that_ignores_the_key_does_not_keep_us_for_ever(server: FakePrefect) -> None:
    for _ in range(200):
        server.add()
    rows = list(server.runs.values())
    server.faults.append(always("/flow_runs/filter", lambda request: httpx.Response(200, json=rows)))
    listing = connect(server).in_flight()
    assert len(listing.runs) == 200
    assert "did not end" in listing.problems[0]
    assert server.count("/flow_runs/filter") < 20


@pytest.mark.parametrize("positions", [[0], [137], [199], [200], [449], [3, 4, 398]])
@pytest.mark.parametrize("has_ui", [True, False])
def test_poisoned_rows_are_isolated_and_the_rest_is_listed(
    server: FakePrefect, positions: list[int], *, has_ui: bool
) -> None:
    server.has_ui = has_ui
    runs = [server.add() for _ in range(450)]
    server.poisoned = {runs[position]["id"] for position in positions}
    api = connect(server)

    listing = api.in_flight()

    assert ids(listing) == {run["id"] for run in runs} - server.poisoned
    assert len(listing.problems) == len(positions)
    assert all("labels" in problem for problem in listing.problems)
    for problem, position in zip(listing.problems, positions, strict=True):
        good = next((run["id"] for run in reversed(runs[:position]) if run["id"] not in server.poisoned), None)
        if has_ui:
            assert f"PATCH /flow_runs/{runs[position]['id']}/labels" in problem
        else:
            assert (f"right after flow run {good}" if good else "first of all") in problem
    assert api.calls < 50 * len(positions) + 10


def test_a_poisoned_row_in_a_tie(server: FakePrefect) -> None:
    runs = [server.add(expected_start_time=stamp(START)) for _ in range(250)]
    server.poisoned = {runs[100]["id"]}
    listing = connect(server).in_flight()
    assert ids(listing) == {run["id"] for run in runs} - server.poisoned
    assert len(listing.problems) == 1


@pytest.mark.parametrize("has_ui", [True, False])
def test_the_poisoned_rows_of_one_tenant_hide_no_others(server: FakePrefect, *, has_ui: bool) -> None:
    server.has_ui = has_ui
    server.poisoned = {server.add()["id"] for _ in range(60)}
    expected = {server.add()["id"] for _ in range(340)}
    server.poisoned |= {server.add()["id"] for _ in range(10)}
    api = connect(server)
    listing = api.in_flight()
    assert ids(listing) == expected
    assert len(listing.problems) == 70
    assert listing.is_whole, "single rows are missing, and all of them are told"
    assert api.calls < 600


def test_where_no_row_can_be_read_the_server_fails(server: FakePrefect) -> None:
    server.poisoned = {server.add()["id"] for _ in range(300)}
    api = connect(server)
    with pytest.raises(OrchestratorError, match="status 500 for every flow run that was tried: see the server's log"):
        api.in_flight()
    assert api.calls < 200


def test_the_search_for_poisoned_rows_takes_its_share_of_the_pass(server: FakePrefect) -> None:
    """Then what fails is stepped over, page by page; what can be read is still judged."""
    runs = [server.add() for _ in range(1000)]
    server.poisoned = {run["id"] for run in runs[:800:5]}
    ticks = iter(range(1_000_000))
    api = connect(server, monotonic=lambda: next(ticks) / 20)
    api.begin(deadline=200.0)
    listing = api.in_flight()
    assert {run["id"] for run in runs[800:]} <= ids(listing) <= {run["id"] for run in runs} - server.poisoned
    assert not listing.is_whole
    assert "were stepped over" in listing.problems[0]
    assert len(server.requests) < 4000


def test_an_answer_that_is_too_long_is_asked_for_by_halves(
    server: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.prefect_api.transport._LARGEST", 200_000)
    expected = {server.add(parameters="x" * 3000)["id"] for _ in range(150)}
    huge = server.add(parameters="x" * 300_000)["id"]
    expected |= {server.add()["id"] for _ in range(60)}
    listing = connect(server).in_flight()
    assert ids(listing) == expected
    assert listing.is_whole
    assert len(listing.problems) == 1
    assert f"flow run {huge} cannot be read: the Prefect API at" in listing.problems[0]


def test_a_passing_500_is_no_poisoned_row(server: FakePrefect) -> None:
    expected = {server.add()["id"] for _ in range(250)}
    server.faults.append(failing("/flow_runs/filter", httpx.Response(500, json={})))
    listing = connect(server).in_flight()
    assert ids(listing) == expected
    assert listing.problems == ()


def test_the_reset_that_follows_a_500_costs_no_wait(server: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = record_waits(monkeypatch)
    server.add()
    server.faults.append(failing("/flow_runs/filter", httpx.Response(500, json={})))
    with stamina.set_testing(False):
        assert len(connect(server).in_flight().runs) == 1
    assert waits == []


def test_nothing_read_is_an_error_never_an_empty_list(server: FakePrefect) -> None:
    server.add()
    server.faults.append(always("/flow_runs/filter", lambda request: httpx.ConnectTimeout("slow")))
    with pytest.raises(OrchestratorError, match="did not answer within 30 s"):
        connect(server).in_flight()


@pytest.mark.parametrize("body", [b"", b"null", b'[{"id": "', b'{"results": []}'])
def test_a_mangled_page_is_an_error(server: FakePrefect, body: bytes) -> None:
    server.add()
    answer = lambda request: httpx.Response(200, content=body, headers={"Content-Type": "application/json"})  # noqa: E731
    server.faults.append(always("/flow_runs/filter", answer))
    with pytest.raises(OrchestratorError, match="something else than a list of flow runs"):
        connect(server).in_flight()


def test_a_list_that_breaks_off_is_told(server: FakePrefect) -> None:
    for _ in range(450):
        server.add()
    server.faults.append(
        lambda request: httpx.ReadTimeout("slow") if server.count("/flow_runs/filter") > 1 else None,
    )
    listing = connect(server).in_flight()
    assert len(listing.runs) == 200
    assert "broke off" in listing.problems[0]
