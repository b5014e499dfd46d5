"""The command that would remove a live resource, for a person."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from uuid import uuid4

import pytest

from reconciler.testing import flow_run
from reconciler_adapters.kubernetes.cluster import Cluster
from reconciler_adapters.kubernetes.resources import Wording
from tests.kubernetes.world import HOME, KubernetesWorld, pid_of


def test_the_command_that_would_delete_it(world: KubernetesWorld, tmp_path: Path) -> None:
    job = world.cluster.job(run_id := uuid4())
    pod, run = world.cluster.pod(job), flow_run(pid_of(job), id=run_id)
    other = world.cluster.job(uuid4())
    bare = world.cluster.pod(run_id=uuid4())
    name, file = job["metadata"]["name"], str(next(tmp_path.glob("*.yaml")))
    begin = ["kubectl", "--kubeconfig", file]
    seen = world.scope.observe([run], time.monotonic() + 20)
    (mine,) = (one.resource for one in seen.observations[run.id])
    assert mine is not None
    assert shlex.split(mine.removal) == [*begin, "delete", "job", "-n", HOME, name]
    assert {one.id: shlex.split(one.removal)[3:] for one in seen.strangers} == {
        other["metadata"]["uid"]: ["delete", "job", "-n", HOME, other["metadata"]["name"]],
        bare["metadata"]["uid"]: ["delete", "pod", "-n", HOME, bare["metadata"]["name"]],
    }
    world.cluster.delete(pod, grace=0)
    world.cluster.delete(job)
    (gone,) = world.scope.observe([run], time.monotonic() + 20).observations[run.id]
    assert gone.resource is not None
    assert gone.resource.removal == "", "there is nothing to remove"


@pytest.mark.parametrize(
    ("options", "begin"),
    [
        ({}, "kubectl"),
        ({"context": "prod"}, "kubectl --context prod"),
        ({"context": "a b; rm"}, "kubectl --context 'a b; rm'"),
        ({"kubeconfig": "~/kube"}, "kubectl --kubeconfig {home}/kube"),
        ({"kubeconfig": "a b", "context": "prod"}, "kubectl --kubeconfig 'a b' --context prod"),
        ({"kubeconfig": f"a{os.pathsep}b", "context": "c"}, f"env KUBECONFIG=a{os.pathsep}b kubectl --context c"),
    ],
)
def test_it_is_for_the_cluster_that_the_scope_asks(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], begin: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ops")
    wording = Wording("prod", Cluster.of("lab", options).kubectl)
    assert wording.removal("Job", "ns", "otter") == begin.format(home="/home/ops") + " delete job -n ns otter"


def test_a_name_that_would_mar_the_line_gives_no_command() -> None:
    assert Wording().removal("pod", "ns", "a\nb") == ""
    assert Wording().removal("pod", "ns", "$(reboot)") == "kubectl delete pod -n ns '$(reboot)'"
