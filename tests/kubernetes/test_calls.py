"""How many calls a look makes, of which kind, and what comes of calls that are refused, late or spoiled."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from reconciler.model import Condition, FlowRun, Seen
from reconciler.ports import AdapterError, Misconfigured
from reconciler.testing import Fault, flow_run
from reconciler_adapters.kubernetes import calls as kubernetes_calls
from tests.kubernetes.apiserver.faults import FAULTS, Answer, Call, Forward, HowWrong
from tests.kubernetes.apiserver.server import ApiServer
from tests.kubernetes.world import HOME, KubernetesWorld
from tests.rigs.polling import wait_until

JOBS, PODS = "/apis/batch/v1/jobs", "/api/v1/pods"
RUN_LABEL = "prefect.io/flow-run-id"
PAGE, SMALL_PAGE = 500, 10


def soon(seconds: float = 15.0) -> float:
    return time.monotonic() + seconds


def look(world: KubernetesWorld, *runs: FlowRun) -> Seen:
    world.front.calls.clear()
    return world.scope.observe(runs, soon())


def alive(world: KubernetesWorld, count: int) -> list[FlowRun]:
    return [world.place(Condition.ALIVE) for _ in range(count)]


# How many


@pytest.mark.parametrize("count", [0, 1, 7, 30])
def test_healthy_runs_cost_nothing(world: KubernetesWorld, count: int) -> None:
    look(world, *alive(world, count))
    assert [call.path for call in world.front.calls] == [PODS, JOBS]


def test_each_configured_namespace_has_lists_of_its_own(world: KubernetesWorld) -> None:
    world.cluster.create_namespace("other")
    world.scope = world.bind(namespaces=["other", HOME, HOME])
    seen = look(world, run := alive(world, 1)[0])
    assert [one.condition for one in seen.observations[run.id]] == [Condition.ALIVE]
    named = [f"/api/v1/namespaces/{name}/pods" for name in ("other", HOME)]
    named += [f"/apis/batch/v1/namespaces/{name}/jobs" for name in ("other", HOME)]
    assert [call.path for call in world.front.calls] == named


@pytest.mark.parametrize("count", [1, 99, 100])
def test_suspects_cost_three_lists_a_hundred_and_a_look_each(world: KubernetesWorld, count: int) -> None:
    runs = [flow_run(f"{HOME}:otter-{number}") for number in range(count)]
    look(world, *runs, *alive(world, 5))
    paths = [call.path for call in world.front.calls]
    assert paths[:5] == [PODS, JOBS, PODS, JOBS, PODS]
    by_name = world.front.calls[4].query
    assert by_name["labelSelector"] == f"job-name in ({','.join(sorted(str(run.pid)[8:] for run in runs))})"
    assert "fieldSelector" not in by_name
    assert len([path for path in paths if "/jobs/" in path]) == count
    assert paths.count(f"/api/v1/namespaces/{HOME}") == 1, "one look at their namespace is enough"
    assert len(paths) == 5 + count + 1


def test_ended_runs_that_are_listed_are_not_looked_at_again(world: KubernetesWorld) -> None:
    look(world, *(world.place(Condition.EXITED) for _ in range(3)))
    assert [call.path for call in world.front.calls] == [PODS, JOBS, PODS, JOBS]


def test_one_run_without_a_pid_costs_two_lists(world: KubernetesWorld) -> None:
    seen = look(world, run := flow_run())
    assert [call.path for call in world.front.calls] == [PODS, JOBS, PODS, JOBS]
    assert [one.condition for one in seen.observations[run.id]] == [Condition.GONE]


# Of which kind


def test_only_what_lives_is_listed(world: KubernetesWorld) -> None:
    look(world, *alive(world, 1))
    pods, jobs = (call.query for call in world.front.calls)
    assert pods["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"
    assert jobs["fieldSelector"] == "status.successful=0"
    for query in (pods, jobs):
        assert query["labelSelector"] == RUN_LABEL
        assert query["limit"] == str(PAGE)
        assert not {"watch", "resourceVersion"} & set(query)


def test_ended_objects_do_not_come_along(world: KubernetesWorld) -> None:
    bodies: list[bytes] = []

    def note(path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        bodies.append(body)
        return status, headers, body

    for _ in range(3):
        job = world.cluster.job(uuid4())
        world.cluster.pod_terminated(world.cluster.pod(job), 0, reason="Completed", phase="Succeeded")
        world.cluster.job_complete(job)
    [run] = alive(world, 1)
    world.front.rewrite(note)
    look(world, run)
    names = {name for body in bodies for name in re.findall(rb'"name":"(wise-otter-[^"]+)"', body)}
    assert names
    assert all(name.decode().startswith(world.jobs[run]["metadata"]["name"]) for name in names)


def test_the_selector_of_the_options_goes_with_the_bulk_lists(world: KubernetesWorld) -> None:
    world.scope = world.bind(label_selector="team=blue,!old")
    look(world, run := flow_run(f"{HOME}:otter"))
    selectors = [call.query["labelSelector"] for call in world.front.calls[:4]]
    assert selectors[:2] == [f"{RUN_LABEL},team=blue,!old"] * 2
    assert selectors[2:] == [f"{RUN_LABEL} in ({run.id})"] * 2


def test_a_selector_that_the_server_refuses(world: KubernetesWorld) -> None:
    world.scope = world.bind(label_selector="team=(")
    with pytest.raises(Misconfigured, match=r"it answered 400 .*see the option `label_selector`"):
        look(world)


def test_the_headers(api_server: ApiServer, world: KubernetesWorld) -> None:
    answered: list[dict[str, str]] = []

    def note(path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        answered.append(headers)
        return status, headers, body

    world.front.rewrite(note)
    look(world, flow_run(f"{HOME}:otter"))
    for call in world.front.calls:
        sent = {name.lower(): value for name, value in call.headers.items()}
        assert sent["authorization"] == f"Bearer {api_server.token('admin')}"
        assert sent["accept"] == "application/json"
        assert "gzip" not in sent.get("accept-encoding", "identity")
    assert not any("content-encoding" in headers for headers in answered)


def test_a_compressed_answer_is_read_all_the_same(world: KubernetesWorld) -> None:
    import gzip

    def squeezed(path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return status, headers | {"content-encoding": "gzip"}, gzip.compress(body)

    [run] = alive(world, 1)
    world.front.rewrite(squeezed)
    assert [one.condition for one in look(world, run).observations[run.id]] == [Condition.ALIVE]


# Pages that expire


@pytest.fixture
def two_pages(world: KubernetesWorld, monkeypatch: pytest.MonkeyPatch) -> list[FlowRun]:
    """More Jobs than fit on a page (a small one; 500 are in test_absence); what lives, and a failed one on each."""
    monkeypatch.setattr(kubernetes_calls, "_PAGE", SMALL_PAGE)
    runs = [flow_run(f"{HOME}:otter-{number:03d}", id=uuid4()) for number in range(SMALL_PAGE + 5)]
    for run in runs:
        job = world.cluster.job(run.id, name=str(run.pid).partition(":")[2])
        if run in (runs[3], runs[-1]):
            world.cluster.job_failed(job)
    return runs


def is_right(seen: Seen, runs: list[FlowRun]) -> bool:
    """Exactly one observation of each."""
    found = [[one.condition for one in seen.observations[run.id]] for run in runs]
    ended = [[Condition.EXITED] if run in (runs[3], runs[-1]) else [Condition.STARTING] for run in runs]
    return found == ended and not seen.strangers


def test_a_list_that_expires_is_begun_anew(world: KubernetesWorld, two_pages: list[FlowRun]) -> None:
    world.front.inject(Fault.EXPIRED, path=JOBS, having="continue", times=1)
    assert is_right(look(world, *two_pages), two_pages)
    bulk = [call for call in world.front.calls if call.path == JOBS and "fieldSelector" in call.query]
    assert ["continue" in call.query for call in bulk] == [False, True, False, True]


def test_strangers_of_a_list_that_expires_are_not_doubled(world: KubernetesWorld, two_pages: list[FlowRun]) -> None:
    world.front.inject(Fault.EXPIRED, path=JOBS, having="continue", times=1)
    seen = look(world)
    assert len(seen.strangers) == len({resource.id for resource in seen.strangers}) == SMALL_PAGE + 3


def test_a_server_that_forgets_between_two_pages(world: KubernetesWorld, two_pages: list[FlowRun]) -> None:
    """A real compaction while the list is read; a Job is deleted at that moment, too."""
    forgot = threading.Event()

    def forget(_call: Call, forward: Forward) -> Answer:
        if not forgot.is_set():
            forgot.set()
            world.cluster.delete(world.cluster.http.get(f"/apis/batch/v1/namespaces/{HOME}/jobs/otter-000").json())
            world.front.compact()
        return forward()

    world.front.inject(forget, path=JOBS, having="continue")
    seen = look(world, *two_pages)
    assert forgot.is_set()
    assert [one.condition for one in seen.observations[two_pages[0].id]] == [Condition.GONE]
    rest = {run.id: seen.observations[run.id] for run in two_pages[1:]}
    assert {len(many) for many in rest.values()} == {1}
    assert not seen.strangers


def test_a_list_that_always_expires_is_given_up(world: KubernetesWorld, two_pages: list[FlowRun]) -> None:
    world.front.inject(Fault.EXPIRED, path=JOBS, having="continue")
    with pytest.raises(AdapterError, match="it answered 410"):
        look(world, *two_pages)
    assert len(world.front.calls) < 10


# Refused, late, spoiled


@pytest.mark.parametrize(
    "fault", [Fault.THROTTLED, Fault.UNAVAILABLE, Fault.SERVER_ERROR, Fault.RESET, Fault.TRUNCATED]
)
def test_a_failed_call_is_not_made_again(world: KubernetesWorld, fault: Fault) -> None:
    world.front.inject(fault)
    world.front.calls.clear()
    began = time.monotonic()
    with pytest.raises(AdapterError) as caught:
        world.scope.identity(soon())
    assert time.monotonic() - began < 0.9, "a Retry-After of 1 s was obeyed"
    assert len(world.front.calls) == 1
    assert not isinstance(caught.value, Misconfigured)


def retry_after(code: int) -> HowWrong:
    return lambda _call, _forward: Answer(code, b"", {"retry-after": "1", "location": "/api/v1/pods"})


@pytest.mark.parametrize("code", [301, 302, 307, 413, 429, 503])
def test_nothing_is_followed_and_no_wait_is_obeyed(world: KubernetesWorld, code: int) -> None:
    world.front.inject(retry_after(code))
    world.front.calls.clear()
    with pytest.raises(AdapterError, match=f"it answered {code}"):
        world.scope.identity(soon())
    assert len(world.front.calls) == 1


def test_a_silent_server_costs_one_request_and_the_deadline(world: KubernetesWorld) -> None:
    world.front.inject(Fault.TIMEOUT)
    world.front.calls.clear()
    began = time.monotonic()
    with pytest.raises(AdapterError, match=r"timed out after 1\.\d s"):
        world.scope.observe([flow_run()], soon(1.0))
    assert 0.9 < time.monotonic() - began < 2.0
    assert len(world.front.calls) == 1
    world.heal()


def test_a_deadline_is_one_for_all_calls(world: KubernetesWorld) -> None:
    world.front.slow(0.4)
    began = time.monotonic()
    with pytest.raises(AdapterError, match="timed out"):
        world.scope.observe([flow_run(f"{HOME}:otter-{number}") for number in range(20)], soon(1.0))
    assert time.monotonic() - began < 2.0


def test_a_deadline_that_has_passed(world: KubernetesWorld) -> None:
    world.front.calls.clear()
    with pytest.raises(AdapterError, match="timed out"):
        world.scope.identity(time.monotonic() - 1)
    assert not world.front.calls


@pytest.mark.parametrize("rate", [1.0, 15.0, 1000.0])
def test_a_dripping_body_ends_by_the_deadline(world: KubernetesWorld, rate: float) -> None:
    alive(world, 5)
    world.front.drip(rate)
    began = time.monotonic()
    with pytest.raises(AdapterError, match="timed out"):
        world.scope.observe([], soon(1.0))
    assert time.monotonic() - began < 2.5
    world.heal()
    assert world.scope.observe([], soon()).strangers


def test_a_dripping_error_ends_by_the_deadline(world: KubernetesWorld) -> None:
    world.front.inject(Fault.SERVER_ERROR)
    world.front.drip(10.0)
    began = time.monotonic()
    with pytest.raises(AdapterError):
        world.scope.identity(soon(1.0))
    assert time.monotonic() - began < 2.5
    world.heal()


def test_an_endless_error_is_cut_short(world: KubernetesWorld) -> None:
    world.front.inject(lambda _call, _forward: Answer(500, b"x" * 50_000_000, {"content-type": "text/plain"}))
    with pytest.raises(AdapterError, match="it answered 500") as caught:
        world.scope.identity(soon())
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.TIMEOUT])
def test_a_token_is_in_no_error(api_server: ApiServer, world: KubernetesWorld, fault: Fault) -> None:
    world.front.inject(fault)
    with pytest.raises(AdapterError) as caught:
        world.scope.identity(soon())
    error: BaseException | None = caught.value
    while error is not None:
        assert api_server.token("admin") not in f"{error!s} {error!r}"
        error = error.__cause__
    assert world.front.url in str(caught.value), "an error names the server"


def echo(call: Call, _forward: Forward) -> Answer:
    """A proxy that quotes the request in its error page."""
    return Answer(502, repr(dict(call.headers)).encode(), {"content-type": "text/plain"})


def test_a_token_that_a_proxy_quotes_is_in_no_error(api_server: ApiServer, world: KubernetesWorld) -> None:
    world.front.inject(echo)
    with pytest.raises(AdapterError) as caught:
        world.scope.identity(soon())
    assert api_server.token("admin") not in str(caught.value)


def test_after_a_failure_all_is_as_before(world: KubernetesWorld) -> None:
    [run] = alive(world, 1)
    for fault in set(FAULTS) - {Fault.EXPIRED}:  # which has the list begun anew
        world.front.inject(fault, times=1)
        with pytest.raises(AdapterError):
            look(world, run)
        world.heal()
        assert [one.condition for one in look(world, run).observations[run.id]] == [Condition.ALIVE]


def test_connections_are_kept(world: KubernetesWorld) -> None:
    runs = [flow_run(f"{HOME}:otter-{number}") for number in range(20)]
    world.scope.identity(soon())
    for _ in range(3):
        look(world, *runs)
    wait_until(lambda: len(world.front._listener.open) <= 2, "few connections are open", 5)
    world.scope.close()
    wait_until(lambda: not world.front._listener.open, "no connection is open", 5)


# The place's time


def test_the_time_is_the_server_s(world: KubernetesWorld) -> None:
    seen = look(world, *alive(world, 1))
    assert seen.place_time
    assert abs(seen.place_time - datetime.now(UTC)) < timedelta(seconds=1.2)
    assert seen.place_time_within == timedelta(seconds=0.5)


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Nov 2026 10:00:00 GMT"])
def test_a_date_that_is_none(world: KubernetesWorld, date: str) -> None:
    world.front.rewrite(lambda path, status, headers, body: (status, headers | {"date": date}, body))
    assert look(world).place_time is None


def test_a_server_whose_clock_is_wrong(world: KubernetesWorld) -> None:
    said = "Sun, 01 Mar 2026 10:00:00 GMT"
    world.front.rewrite(lambda path, status, headers, body: (status, headers | {"date": said}, body))
    assert look(world).place_time == datetime(2026, 3, 1, 10, 0, 0, 500_000, tzinfo=UTC)
