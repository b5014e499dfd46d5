"""Kubernetes: one cluster, asked about the Jobs and pods that Prefect's Kubernetes workers start.

Job and pod carry their flow run's id in the label `prefect.io/flow-run-id`; the run's pid is `<namespace>:<job>`, and
before prefect-kubernetes 0.6.0 had the cluster's UID in front. Ended Jobs stay for ever unless the pool sets
`finished_job_ttl`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta

from reconciler.model import FlowRun, Place, Resource, RunId, Seen
from reconciler.options import needed_sdk
from reconciler.ports import AdapterError, Misconfigured, Problem
from reconciler_adapters.kubernetes.calls import FORBIDDEN, Conversation, Refused, conversation
from reconciler_adapters.kubernetes.cluster import Cluster, Connection, has_kubeconfig, has_own_account, own_namespace
from reconciler_adapters.kubernetes.live import see_live
from reconciler_adapters.kubernetes.lookup import LookUp
from reconciler_adapters.kubernetes.meaning import JobName
from reconciler_adapters.kubernetes.nodes import LastNode
from reconciler_adapters.kubernetes.objects import Bare
from reconciler_adapters.kubernetes.reader import NAMESPACES, Reader
from reconciler_adapters.kubernetes.remembered import Remembered
from reconciler_adapters.kubernetes.resources import Wording
from reconciler_adapters.kubernetes.rights import missing_rights

_DISCOVERY_SECONDS = 2.0
_CHECK_SECONDS = 10.0
_HALF_A_SECOND = timedelta(seconds=0.5)  # the header Date is cut to seconds: the middle is meant


class KubernetesScope:
    """One cluster, or some namespaces of it.

    Options, texts unless said otherwise: `kubeconfig` and `context` (default: the account of this pod, else $KUBECONFIG
    or ~/.kube/config and its current context), `namespaces` (a list; default: all), `label_selector` (narrows the bulk
    lists in a cluster that several Prefect servers share), `cluster_name` (for sentences).
    """

    worker_types = frozenset({"kubernetes"})

    def __init__(self, name: str, options: Mapping[str, object]) -> None:
        with needed_sdk(name, "kubernetes", extra="kubernetes"):
            import kubernetes  # noqa: F401
        self.name = name
        self._cluster = Cluster.of(name, options)
        self._connection: Connection | None = None
        self._latest: Connection | None = None  # the same, or the one that was closed last
        self._cluster_uid: str | None = None  # as last read; None: not read yet, or this account may not
        self._nodes: dict[RunId, LastNode] = {}  # where a pod of each run was last seen alive
        self._remembered: Mapping[RunId, Resource] = {}  # what was last seen alive of each

    @classmethod
    def discover(cls) -> Mapping[str, object] | None:
        """Find a cluster through this pod's account, or the current context of a kubeconfig, that answers soon."""
        if not (has_own_account() or has_kubeconfig()):
            return None
        choices: list[dict[str, object]] = [{}]
        if has_own_account() and (mine := own_namespace()):
            choices.append({"namespaces": [mine]})
        with suppress(Misconfigured):
            for options in choices:
                scope = cls("kubernetes", options)
                if scope._can_be_asked():
                    return options
        return None

    def identity(self, deadline: float) -> str:
        """Read the UID of kube-system; with configured namespaces theirs as well, or alone if it may not be read.

        A namespace that does not exist has empty lists, as if everything had vanished: it is an error.
        """
        with self._conversation(deadline) as talk:
            self._cluster_uid = cluster_uid = self._uid_of_cluster(talk)
            uids = [f"{name}:{_uid_of(talk, name)}" for name in self._cluster.namespaces]
        return ",".join(filter(None, [cluster_uid, *uids]))

    def locate(self, run: FlowRun) -> Place:
        """Only a pid of before 0.6.0 names its cluster; that is compared with the cluster's UID as last read."""
        if run.pid is None:
            return Place.UNSAID
        name = self._name_in(run)
        if name is None:
            return Place.ELSEWHERE
        return Place.HERE if name.cluster_uid and name.cluster_uid == self._cluster_uid else Place.UNSAID

    def remind(self, resources: Mapping[RunId, Resource]) -> None:
        """Remember Jobs, to be found by name after their labels were taken off, and where pods were.

        Of nodes, what this process saw itself is newer, or was too doubtful to be kept.
        """
        self._remembered = resources
        self._nodes = {run_id: LastNode(one.node) for run_id, one in resources.items()} | self._nodes

    def observe(self, runs: Sequence[FlowRun], deadline: float) -> Seen:
        asked = {run.id: run for run in runs}
        with self._conversation(deadline) as talk:
            reader, wording = Reader(talk, self._cluster), self._wording()
            live = see_live(reader, asked.keys(), wording)
            suspects = [run for run in runs if run.id not in live.observations]
            names = {run.id: name for run in suspects if (name := self._name_in(run))}
            nodes = {run_id: node for run_id, node in self._nodes.items() if run_id in asked} | live.nodes
            before = {run.id: one for run in suspects if (one := self._before(run.id))}
            looked_up = LookUp(reader=reader, names=names, before=before, nodes=nodes, wording=wording).of(suspects)
        self._nodes = nodes
        return Seen(
            observations=live.observations | looked_up,
            strangers=live.strangers,
            place_time=talk.time + _HALF_A_SECOND if talk.time else None,
            place_time_within=_HALF_A_SECOND,
        )

    def check(self) -> Sequence[Problem]:
        try:
            with self._conversation(time.monotonic() + _CHECK_SECONDS) as talk:
                return missing_rights(talk, self._cluster)
        except AdapterError as error:
            return [Problem(str(error), "")]

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _conversation(self, deadline: float) -> Iterator[Conversation]:
        """Talk through the connection that is open. A failure closes it: the next one reads the credentials anew."""
        if self._connection is None or not self._connection.is_fresh:
            self.close()
            former, self._latest = self._latest, self._cluster.connect()
            self._connection = self._latest
            if former is not None:
                former.drop_files(self._latest)
        try:
            with conversation(self._connection, deadline) as talk:
                yield talk
        except AdapterError:
            self.close()
            raise

    def _uid_of_cluster(self, talk: Conversation) -> str | None:
        try:
            return _uid_of(talk, "kube-system")
        except Refused as error:
            # A namespaced role need not reach that far. What it once could read is not given up: that would change
            # the identity, and void all that was seen.
            if error.status == FORBIDDEN and self._cluster.namespaces and self._cluster_uid is None:
                return None
            raise

    def _name_in(self, run: FlowRun) -> JobName | None:
        """The Job that the run's pid names, if this scope may hold it."""
        name = JobName.parse(run.pid)
        if name is None or not self._may_hold(name):
            return None
        if name.cluster_uid and self._cluster_uid and name.cluster_uid != self._cluster_uid:
            return None
        return name

    def _before(self, run_id: RunId) -> Remembered | None:
        """What was last seen alive of the run, unless that is where this scope no longer looks."""
        resource = self._remembered.get(run_id)
        before = Remembered.of(resource) if resource else None
        return None if before is None or (before.name and not self._may_hold(before.name)) else before

    def _may_hold(self, name: JobName) -> bool:
        return not self._cluster.namespaces or name.namespace in self._cluster.namespaces

    def _wording(self) -> Wording:
        name = self._connection.cluster_name if self._connection else None
        return Wording(name, self._cluster.kubectl)

    def _can_be_asked(self) -> bool:
        """Whether the cluster answers soon and lets itself be read; in a thread, since credentials may hang."""
        answers: list[Sequence[Problem]] = []

        def ask() -> None:
            with closing(self), suppress(AdapterError):
                self.identity(time.monotonic() + _DISCOVERY_SECONDS)
                answers.append(self.check())

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(2 * _DISCOVERY_SECONDS)
        return bool(answers) and all(problem.optional for problem in answers[0])


def _uid_of(talk: Conversation, namespace: str) -> str:
    found = talk.found(NAMESPACES, namespace, Bare)
    if found is None:
        raise Misconfigured(
            f"namespace '{namespace}' does not exist on this cluster: "
            "create it, or take it out of the option `namespaces`"
        )
    return found.metadata.uid
