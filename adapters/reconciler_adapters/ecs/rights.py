"""Which rights a scope needs, which of them its credentials lack, and the policy that would grant them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import product

from reconciler.ports import AdapterError, Problem
from reconciler_adapters.ecs.calls import Conversation
from reconciler_adapters.ecs.failures import denied_action
from reconciler_adapters.ecs.names import ClusterName

Opening = Callable[[], AbstractContextManager[Conversation]]
_CALLS: tuple[Callable[[Conversation, ClusterName], object], ...] = (
    lambda talk, cluster: talk.active([cluster]),
    lambda talk, cluster: talk.try_describing(cluster),
    lambda talk, cluster: talk.try_listing(cluster),
)


def missing_rights(conversation: Opening) -> list[Problem]:
    """Make each call once, in a conversation of its own: what asks AWS for rights needs more rights itself."""
    denied = set[str]()
    try:
        with conversation() as talk:
            clusters = talk.configured(talk.account())
        for call, cluster in product(_CALLS, clusters):
            denied.update(_denied(conversation, call, cluster))
    except AdapterError as error:
        return [Problem(str(error), "")]
    return [Problem(f"missing rights: {', '.join(sorted(denied))}", policy(clusters))] if denied else []


def policy(clusters: Sequence[ClusterName]) -> str:
    """Write what grants all that is needed, as an IAM policy in JSON."""
    arns = [cluster.arn for cluster in clusters]
    statements = [
        {"Sid": "Clusters", "Effect": "Allow", "Action": "ecs:DescribeClusters", "Resource": arns},
        {
            "Sid": "Tasks",
            "Effect": "Allow",
            "Action": ["ecs:DescribeTasks", "ecs:ListTasks"],
            "Resource": "*",
            "Condition": {"ArnEquals": {"ecs:cluster": arns}},
        },
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def _denied(
    conversation: Opening, call: Callable[[Conversation, ClusterName], object], cluster: ClusterName
) -> Iterator[str]:
    try:
        with conversation() as talk:
            call(talk, cluster)
    except AdapterError as error:
        action = denied_action(error.__cause__)
        if action is None:
            raise
        yield f"{action} on cluster {cluster.name}"
