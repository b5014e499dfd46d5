"""GONE is said only of what is truly gone: each single thing that is not certain takes it back."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import pytest

from reconciler.model import Condition, FlowRun, Observation, Place, Seen
from reconciler.ports import AdapterError, Misconfigured
from reconciler.testing import Fault, flow_run
from reconciler_adapters.kubernetes import KubernetesScope
from tests.kubernetes.apiserver.cluster_objects import Object
from tests.kubernetes.apiserver.faults import FAULTS, Answer, Call, Forward, HowWrong, always, plain, status
from tests.kubernetes.world import HOME, KubernetesWorld, pid_of

RUN_LABEL = "prefect.io/flow-run-id"
JOBS, PODS, ONE_JOB = "/apis/batch/v1/jobs", "/api/v1/pods", f"/apis/batch/v1/namespaces/{HOME}/jobs/.+"
READ_ALL: list[Object] = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
]


def soon(seconds: float = 15.0) -> float:
    return time.monotonic() + seconds


def look(scope: KubernetesScope, *runs: FlowRun) -> Seen:
    return scope.observe(runs, soon())


def said(scope: KubernetesScope, run: FlowRun) -> list[Observation]:
    return list(look(scope, run).observations[run.id])


def conditions(scope: KubernetesScope, run: FlowRun) -> set[Condition]:
    return {one.condition for one in said(scope, run)}


def job_of(world: KubernetesWorld, run: FlowRun) -> Object:
    return world.jobs[run]


def remove(world: KubernetesWorld, run: FlowRun) -> None:
    """The Job and its pods, at once."""
    for pod in world.pods(job_of(world, run)):
        world.cluster.delete(pod, grace=0)
    world.cluster.delete(job_of(world, run))


def cluster_uid(world: KubernetesWorld) -> str:
    return str(world.cluster.namespace("kube-system")["metadata"]["uid"])


# Everything that GONE needs


def test_all_of_it_makes_gone(world: KubernetesWorld) -> None:
    run = world.place(Condition.ALIVE)
    assert conditions(world.scope, run) == {Condition.ALIVE}
    remove(world, run)
    [seen] = said(world.scope, run)
    assert (seen.condition, seen.reason) == (Condition.GONE, "no longer exists")
    assert not seen.needs_sighting
    assert seen.resource
    assert seen.resource.node == "node-1"
    assert run.pid
    assert seen.resource.is_named_by(run.pid)
    asked = [call.path for call in world.front.calls[2:]]  # after the first look
    one_job = f"/apis/batch/v1/namespaces/{HOME}/jobs/{seen.resource.key.partition(':')[2]}"
    assert asked == [PODS, JOBS, PODS, JOBS, PODS, one_job, "/api/v1/nodes/node-1", f"/api/v1/namespaces/{HOME}"]


def only(wrong: HowWrong, *, suspects: bool) -> HowWrong:
    """Spoil the lists of single runs, or the bulk ones."""

    def spoil(call: Call, forward: Forward) -> Answer | None:
        asks_for_suspects = " in (" in call.query.get("labelSelector", "")
        return wrong(call, forward) if asks_for_suspects is suspects else forward()

    return spoil


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.TIMEOUT])
@pytest.mark.parametrize("path", [PODS, JOBS])
@pytest.mark.parametrize("suspects", [False, True], ids=["bulk", "suspects"])
def test_no_gone_without_a_whole_list(world: KubernetesWorld, path: str, fault: Fault, suspects: bool) -> None:
    runs = world.place(Condition.ALIVE), world.place(Condition.GONE)
    world.front.inject(only(FAULTS[fault], suspects=suspects), path=path)
    with pytest.raises(AdapterError):
        look(world.scope, *runs)
    world.heal()
    assert conditions(world.scope, runs[1]) == {Condition.GONE}


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.TIMEOUT])
@pytest.mark.parametrize("path", [ONE_JOB, f"/api/v1/namespaces/{HOME}"], ids=["job", "namespace"])
def test_no_gone_without_the_word_on_the_job_and_its_namespace(world: KubernetesWorld, path: str, fault: Fault) -> None:
    run = world.place(Condition.GONE)
    world.front.inject(fault, path=path)
    with pytest.raises(AdapterError):
        look(world.scope, run)


def named(name: str, kind: str) -> Answer:
    answer = status(404, "NotFound", f'{kind} "{name}" not found')
    return Answer(404, json.dumps(json.loads(answer.body) | {"details": {"name": name, "kind": kind}}).encode())


@pytest.mark.parametrize(
    "answer",
    [
        plain(404, "404 page not found\n"),
        Answer(404, b""),
        Answer(404, b"<html>no such backend</html>", {"content-type": "text/html"}),
        status(404, "NotFound", "the server could not find the requested resource"),
        named("another-job", "jobs"),
        named("wise-otter-zzzzz", "pods"),
        named("prefect", "namespaces"),
    ],
    ids=["mux", "empty", "proxy", "no such resource", "another name", "another kind", "namespace"],
)
def test_a_404_that_does_not_name_the_job_is_no_absence(world: KubernetesWorld, answer: Answer) -> None:
    run = world.place(Condition.GONE)
    world.front.inject(always(answer), path=ONE_JOB)
    with pytest.raises(AdapterError, match="it answered 404"):
        look(world.scope, run)


def test_another_job_than_was_asked_for_is_no_answer(world: KubernetesWorld) -> None:
    run, other = world.place(Condition.GONE), world.cluster.job(uuid4(), name="another")
    world.front.inject(always(Answer(200, json.dumps(other).encode())), path=ONE_JOB)
    with pytest.raises(AdapterError, match="'another' was shown instead of 'wise-otter-zzzzz'"):
        look(world.scope, run)


def test_a_namespace_that_does_not_exist_says_nothing_by_itself(world: KubernetesWorld) -> None:
    run = flow_run("elsewhere:wise-otter-zzzzz")
    [seen] = said(world.scope, run)
    assert seen.condition is Condition.GONE
    assert seen.needs_sighting
    assert seen.reason.endswith("nor does its namespace elsewhere")


def test_a_configured_namespace_that_does_not_exist(world: KubernetesWorld) -> None:
    scope = world.bind(namespaces=[HOME, "nowhere"])
    with pytest.raises(AdapterError, match="namespace 'nowhere' does not exist"):
        scope.identity(soon())
    assert world.bind(namespaces=[HOME]).identity(soon())


def test_no_identity_without_the_right_to_read_it(world: KubernetesWorld) -> None:
    world.cluster.grant("reader", READ_ALL[:2])
    with pytest.raises(Misconfigured, match=r"it answered 403 .*kube-system"):
        world.bind("reader").identity(soon())


def test_a_namespaced_account_is_known_by_its_namespace(world: KubernetesWorld) -> None:
    world.cluster.grant("reader", READ_ALL, HOME)
    own = world.cluster.namespace(HOME)["metadata"]["uid"]
    assert world.bind("reader", namespaces=[HOME]).identity(soon()) == f"{HOME}:{own}"
    assert world.bind(namespaces=[HOME]).identity(soon()) == f"{cluster_uid(world)},{HOME}:{own}"


def test_a_namespace_made_anew_is_another_place(world: KubernetesWorld) -> None:
    world.cluster.create_namespace("passing")
    scope = world.bind(namespaces=["passing"])
    before = scope.identity(soon())
    world.cluster.remove_namespace("passing")
    world.cluster.create_namespace("passing")
    assert scope.identity(soon()) != before


# Labels


@pytest.mark.parametrize(
    ("job", "pods", "expected"),
    [
        (True, False, {Condition.ALIVE}),
        (False, True, {Condition.STARTING}),
        (True, True, {Condition.ALIVE, Condition.UNKNOWN}),  # by its name; yet whose it is, nobody says
    ],
    ids=["on the Job", "on the pod", "on both"],
)
def test_a_label_edited_away(world: KubernetesWorld, job: bool, pods: bool, expected: set[Condition]) -> None:
    run = world.place(Condition.ALIVE)
    for one in [job_of(world, run)] * job + world.pods(job_of(world, run)) * pods:
        world.cluster.label(one, **{RUN_LABEL: None})
    assert conditions(world.scope, run) == expected


def test_a_job_without_its_label_is_named(world: KubernetesWorld) -> None:
    run = world.place(Condition.ALIVE)
    world.unlabel(run)
    lives, unknown = said(world.scope, run)
    assert lives.resource
    assert lives.resource.title.startswith(f"Kubernetes pod {HOME}/{job_of(world, run)['metadata']['name']}-")
    assert f"Job {HOME}/{job_of(world, run)['metadata']['name']}, which the run's pid names," in unknown.reason
    assert unknown.condition is Condition.UNKNOWN


def test_a_label_of_another_value_than_a_run(world: KubernetesWorld) -> None:
    run = world.place(Condition.ALIVE)
    for one in (job_of(world, run), *world.pods(job_of(world, run))):
        world.cluster.label(one, **{RUN_LABEL: "no-uuid"})
    assert conditions(world.scope, run) == {Condition.ALIVE, Condition.UNKNOWN}


def test_the_additional_selector_narrows_the_bulk_lists_only(world: KubernetesWorld) -> None:
    mine, stranger = flow_run(id=uuid4()), uuid4()
    job = world.cluster.job(mine.id)
    for owner in (job, world.cluster.job(stranger), world.cluster.job(uuid4(), labels={"team": "blue"})):
        world.cluster.pod(owner)
    scope = world.bind(label_selector="team=blue")
    run = flow_run(pid_of(job), id=mine.id)
    assert conditions(scope, run) == {Condition.ALIVE}
    assert conditions(scope, mine) == {Condition.ALIVE}
    strangers = {resource.run_id for resource in look(scope, run).strangers}
    assert len(strangers) == 1
    assert stranger not in strangers
    assert conditions(scope, world.place(Condition.GONE)) == {Condition.GONE}


def test_another_run_has_the_name_now(world: KubernetesWorld) -> None:
    run, other = world.place(Condition.ALIVE), uuid4()
    remove(world, run)
    world.cluster.job(other, name=job_of(world, run)["metadata"]["name"])
    [seen] = said(world.scope, run)
    assert seen.condition is Condition.GONE
    assert seen.reason == f"no longer exists: that name is now of a Job of flow run {other}"
    assert seen.resource
    assert seen.resource.run_id == run.id


# Pids


def test_both_forms_of_a_pid_find_the_job(world: KubernetesWorld) -> None:
    run = world.place(Condition.ALIVE)
    for pid in (run.pid, f"{cluster_uid(world)}:{run.pid}"):
        assert pid
        [seen] = said(world.scope, flow_run(pid, id=run.id))
        assert seen.condition is Condition.ALIVE
        assert seen.resource
        assert seen.resource.is_named_by(pid)
        [missing] = said(world.scope, flow_run(f"{pid}-x", id=uuid4()))
        assert missing.condition is Condition.GONE
        assert missing.resource
        assert missing.resource.is_named_by(f"{pid}-x")


@pytest.mark.parametrize(
    "pid", ["127.0.0.1", "a:b:c:d", "arn:aws:ecs:eu-west-1:1:task/x/y", "UPPER:case", "a:b/c", "a:b\n", "4242", "é:a"]
)
def test_a_pid_of_another_form_is_elsewhere(world: KubernetesWorld, pid: str) -> None:
    run = flow_run(pid)
    world.scope.identity(soon())
    assert world.scope.locate(run) is Place.ELSEWHERE
    [seen] = said(world.scope, run)
    assert seen.resource is None
    assert not [call for call in world.front.calls if call.path.count("/jobs/")]


def test_a_pid_of_another_namespace(world: KubernetesWorld) -> None:
    world.cluster.create_namespace("other")
    job = world.cluster.job(uuid4(), namespace="other")
    scope = world.bind(namespaces=[HOME])
    assert scope.locate(flow_run(pid_of(job))) is Place.ELSEWHERE
    assert scope.locate(flow_run(f"{HOME}:otter")) is Place.UNSAID
    assert world.scope.locate(flow_run(pid_of(job))) is Place.UNSAID
    assert scope.locate(flow_run()) is Place.UNSAID


def test_a_pid_that_names_its_cluster(world: KubernetesWorld) -> None:
    mine, others = (flow_run(f"{uid}:{HOME}:otter") for uid in (cluster_uid(world), str(uuid4())))
    assert [world.scope.locate(run) for run in (mine, others)] == [Place.UNSAID, Place.UNSAID]
    world.scope.identity(soon())
    assert [world.scope.locate(run) for run in (mine, others)] == [Place.HERE, Place.ELSEWHERE]
    [seen] = said(world.scope, others)
    assert seen.resource is None, "what another cluster's pid names was not looked at"
    world.replace_identity()
    world.scope.identity(soon())
    assert world.scope.locate(mine) is Place.ELSEWHERE


def test_an_account_that_may_not_know_its_cluster(world: KubernetesWorld) -> None:
    world.cluster.grant("reader", READ_ALL, HOME)
    scope = world.bind("reader", namespaces=[HOME])
    scope.identity(soon())
    assert scope.locate(flow_run(f"{uuid4()}:{HOME}:otter")) is Place.UNSAID


# Many


def test_more_than_a_hundred_names(world: KubernetesWorld) -> None:
    lost = [world.place(Condition.GONE) for _ in range(120)]
    lost = [flow_run(f"{HOME}:otter-{number}", id=run.id) for number, run in enumerate(lost)]
    unlabelled = world.place(Condition.ALIVE)
    world.unlabel(unlabelled)
    world.front.calls.clear()
    seen = look(world.scope, *lost, unlabelled)
    assert {one.condition for run in lost for one in seen.observations[run.id]} == {Condition.GONE}
    assert [one.condition for one in seen.observations[unlabelled.id]] == [Condition.ALIVE, Condition.UNKNOWN]
    looks = [call for call in world.front.calls if "/jobs/" in call.path]
    assert [call.path.rpartition("/")[2] for call in looks] == [job_of(world, unlabelled)["metadata"]["name"]]
    # live, two batches, their pods by name, the names of all Jobs, that Job, its namespace
    assert len(world.front.calls) == 2 + 2 * 2 + 2 + 1 + 1 + 1


@pytest.mark.parametrize("namespaces", [None, [HOME]])
def test_more_than_a_hundred_names_and_no_job_at_all(world: KubernetesWorld, namespaces: list[str] | None) -> None:
    scope = world.bind(namespaces=namespaces) if namespaces else world.scope
    runs = [flow_run(f"{HOME}:otter-{number}") for number in range(101)]
    seen = look(scope, *runs)
    assert {one.condition for run in runs for one in seen.observations[run.id]} == {Condition.GONE}
    assert set(seen.observations) == {run.id for run in runs}


def test_more_jobs_than_a_page(world: KubernetesWorld) -> None:
    runs = [flow_run(id=uuid4()) for _ in range(505)]
    for run in runs:
        world.cluster.job(run.id)
    seen = look(world.scope, *runs, lost := world.place(Condition.GONE))
    found = [one.condition for run in runs for one in seen.observations[run.id]]
    assert found == [Condition.STARTING] * 505
    assert [one.condition for one in seen.observations[lost.id]] == [Condition.GONE]
    assert [call.query.get("continue") is not None for call in world.front.calls if call.path == JOBS][:2] == [
        False,
        True,
    ]


def test_more_suspects_than_a_selector_holds(world: KubernetesWorld) -> None:
    runs = [flow_run(id=uuid4()) for _ in range(250)]
    ended = [runs[0], runs[99], runs[100], runs[249]]
    for run in ended:
        world.cluster.job_failed(world.cluster.job(run.id))
    world.front.calls.clear()
    seen = look(world.scope, *runs)
    found = {run.id for run in runs if [one.condition for one in seen.observations[run.id]] == [Condition.EXITED]}
    assert found == {run.id for run in ended}
    rest = [seen.observations[run.id] for run in runs if run not in ended]
    assert {one.condition for many in rest for one in many} == {Condition.GONE}
    batches = [call.path for call in world.front.calls if f"{RUN_LABEL} in (" in call.query.get("labelSelector", "")]
    assert sorted(batches) == [PODS] * 3 + [JOBS] * 3
    by_name = [call for call in world.front.calls if "job-name in (" in call.query.get("labelSelector", "")]
    assert len(by_name) == 1, "only of Jobs that there are, or that pids name"


# Nodes


def gone_from_node(world: KubernetesWorld, scope: KubernetesScope) -> Observation:
    """A run is seen alive on node-1; then its Job and pod are no longer there."""
    run = world.place(Condition.ALIVE)
    assert conditions(scope, run) == {Condition.ALIVE}
    remove(world, run)
    [seen] = said(scope, run)
    assert seen.condition is Condition.GONE
    return seen


@pytest.mark.parametrize(("ready", "unseen"), [("True", False), ("False", True), ("Unknown", True), (None, True)])
def test_a_node_vouches_for_an_end_only_while_it_is_heard_of(
    world: KubernetesWorld, ready: str | None, unseen: bool
) -> None:
    if ready is None:
        world.cluster.http.delete("/api/v1/nodes/node-1").raise_for_status()
    else:
        world.cluster.node("node-1", ready)
    assert gone_from_node(world, world.scope).unseen_end is unseen


def test_a_new_process_is_reminded_of_the_node(world: KubernetesWorld) -> None:
    run = world.place(Condition.ALIVE)
    [alive] = said(world.scope, run)
    remove(world, run)
    fresh = world.bind()
    assert said(fresh, run)[0].unseen_end
    assert alive.resource
    fresh.remind({run.id: alive.resource})
    assert not said(fresh, run)[0].unseen_end


def test_a_node_that_may_not_be_read_vouches_for_nothing(world: KubernetesWorld) -> None:
    world.cluster.node("node-1")
    world.cluster.grant("reader", READ_ALL)
    assert gone_from_node(world, world.bind("reader")).unseen_end


def test_a_node_that_cannot_be_asked_makes_nothing_gone(world: KubernetesWorld) -> None:
    run = world.place(Condition.ALIVE)
    look(world.scope, run)
    remove(world, run)
    world.front.inject(Fault.SERVER_ERROR, path="/api/v1/nodes/.+")
    with pytest.raises(AdapterError):
        look(world.scope, run)


def test_a_run_that_was_never_seen_on_a_node_has_an_unseen_end(world: KubernetesWorld) -> None:
    world.cluster.node("node-1")
    [seen] = said(world.scope, world.place(Condition.GONE))
    assert seen.unseen_end


@pytest.mark.parametrize("exists", [True, False], ids=["node silent", "node gone"])
def test_a_pod_on_a_lost_node(world: KubernetesWorld, exists: bool) -> None:
    if exists:
        world.cluster.node("node-1", "Unknown")
    else:
        world.cluster.http.delete("/api/v1/nodes/node-1").raise_for_status()
    run = world.place(Condition.ALIVE)
    [pod] = world.pods(job_of(world, run))
    world.cluster.pod_node_lost(pod)
    world.cluster.job_failed(job_of(world, run))
    [seen] = said(world.scope, run)
    assert "node-1" in seen.reason
    if exists:
        assert seen.condition is Condition.UNKNOWN
    else:
        assert (seen.condition, seen.unseen_end, seen.exit_code) == (Condition.EXITED, True, None)
