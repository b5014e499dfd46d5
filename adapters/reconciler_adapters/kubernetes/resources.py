"""The Jobs and pods behind runs as resources: their titles, and the commands that would delete them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from reconciler.model import Resource, RunId
from reconciler_adapters.kubernetes import objects as k8s
from reconciler_adapters.kubernetes.pods import PodSight

_HALF_A_SECOND = timedelta(seconds=0.5)  # creation times are whole seconds, cut off: the middle is meant


@dataclass(frozen=True, slots=True)
class Wording:
    """What sentences and commands say of one cluster.

    `cluster`: its name, if it has one. `client`: the words that begin a `kubectl` command for it.
    """

    cluster: str | None = None
    client: Sequence[str] = ("kubectl",)

    def title(self, kind: str, namespace: str, name: str) -> str:
        """Such as "Kubernetes Job prefect/otter on cluster prod"."""
        place = f" on cluster {self.cluster}" if self.cluster else ""
        return f"Kubernetes {kind} {namespace}/{name}{place}"

    def removal(self, kind: str, namespace: str, name: str) -> str:
        """The command that deletes it; none, if a name would mar the line."""
        line = shlex.join([*self.client, "delete", kind.lower(), "-n", namespace, name])
        return line if line.isprintable() else ""


def of_pod(pod: PodSight, wording: Wording) -> Resource:
    return Resource(
        id=pod.uid,
        title=wording.title("pod", pod.namespace, pod.name),
        run_id=pod.run_id,
        key=f"{pod.namespace}:{pod.job_name}" if pod.job_name else "",
        created_at=pod.created_at + _HALF_A_SECOND if pod.created_at else None,
        created_within=_HALF_A_SECOND,
        node=pod.node,
        removal=wording.removal("pod", pod.namespace, pod.name),
    )


def of_job(job: k8s.Job, run_id: RunId, wording: Wording, node: str | None) -> Resource:
    meta = job.metadata
    return Resource(
        id=meta.uid,
        title=wording.title("Job", meta.namespace, meta.name),
        run_id=run_id,
        key=f"{meta.namespace}:{meta.name}",
        created_at=meta.creation_timestamp + _HALF_A_SECOND if meta.creation_timestamp else None,
        created_within=_HALF_A_SECOND,
        node=node,
        removal=wording.removal("job", meta.namespace, meta.name),
    )
