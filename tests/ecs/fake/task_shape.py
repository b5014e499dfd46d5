"""The object that ECS gives of one task, in full: 3 to 4 kB of JSON, as of one that a Prefect worker ran."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

Body = dict[str, Any]
API_KEY = "pnu_never-to-be-shown-0123456789"  # what must not leave a task's environment
IMAGE = "prefecthq/prefect:3.8.8-python3.12"


def stamp(moment: datetime) -> float:
    """Seconds since 1970 with thousandths, as ECS writes times."""
    return round(moment.timestamp(), 3)


def prefect_tags(run_id: UUID) -> dict[str, str]:
    """As the ECS worker sets them: keys as they are, values slugified."""
    return {
        "prefect.io/flow-run-id": str(run_id),
        "prefect.io/flow-run-name": "wise-otter",
        "prefect.io/version": "3.8.8",
        "prefect.io/work-pool-name": "pool",
        "prefect.io/work-pool-id": "0d3f8f3e-6c1c-4a3e-9f3c-2d8f6c7a1b5e",
        "prefect.io/worker-name": "ECSWorker-5f0c1c6e",
        "prefect.io/flow-id": "5a3f5b7e-7c1d-4e0a-8a55-0f2f6f1f4d11",
        "prefect.io/flow-name": "nightly-load",
        "prefect.io/deployment-id": "9f1f5a0e-3a52-4f0d-a7a5-b3c0b2b5c9d2",
        "prefect.io/deployment-name": "prod",
        "prefect.io/deployment-updated": "2026-10-01T08:15:30.000000Z",
    }


def prefect_environment(run_id: UUID) -> list[dict[str, str]]:
    values = {
        "PREFECT_API_URL": "http://prefect.internal:4200/api",
        "PREFECT_API_KEY": API_KEY,
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT__FLOW_RUN_ID": str(run_id),
        "PREFECT__FLOW_ID": "5a3f5b7e-7c1d-4e0a-8a55-0f2f6f1f4d11",
        "PREFECT__WORKER_NAME": "ECSWorker-5f0c1c6e",
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def task_body(
    arn: str,
    cluster_arn: str,
    *,
    run_id: UUID | None,
    tags: Mapping[str, str],
    containers: Sequence[str],
    launch_type: str,
    family: str,
    created: datetime,
) -> Body:
    """A task that was just asked for: PROVISIONING on Fargate, PENDING on the user's own machines."""
    region = arn.split(":")[3]
    fargate = launch_type == "FARGATE"
    body: Body = {
        "attachments": [_attachment(region)] if fargate else [],
        "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        "availabilityZone": f"{region}a",
        "clusterArn": cluster_arn,
        "connectivity": "CONNECTED",
        "connectivityAt": stamp(created),
        "containers": [_container(arn, name) for name in containers],
        "cpu": "1024",
        "createdAt": stamp(created),
        "desiredStatus": "RUNNING",
        "enableExecuteCommand": False,
        "group": f"family:{family}",
        "healthStatus": "UNKNOWN",
        "lastStatus": "PROVISIONING" if fargate else "PENDING",
        "launchType": launch_type,
        "memory": "2048",
        "overrides": _overrides(containers, run_id),
        "tags": tag_list(tags),
        "taskArn": arn,
        "taskDefinitionArn": cluster_arn.replace(":cluster/", ":task-definition/").rpartition("/")[0] + f"/{family}:7",
        "version": 1,
    }
    if fargate:
        storage = {"ephemeralStorage": {"sizeInGiB": 20}, "fargateEphemeralStorage": {"sizeInGiB": 20}}
        return body | {"platformVersion": "1.4.0", "platformFamily": "Linux"} | storage
    instance = cluster_arn.replace(":cluster/", ":container-instance/") + "/4c543eed0b7a4a8b8f7b6e1f2d3c4b5a"
    return body | {"containerInstanceArn": instance}


def _attachment(region: str) -> Body:
    details = {
        "subnetId": "subnet-0d0eab1bb38d5ca64",
        "networkInterfaceId": f"eni-{uuid4().hex[:17]}",
        "macAddress": "0a:98:eb:a7:29:ba",
        "privateDnsName": "ip-10-0-2-17.ec2.internal" if region == "us-east-1" else f"ip-10-0-2-17.{region}.internal",
        "privateIPv4Address": "10.0.2.17",
    }
    said = [{"name": name, "value": value} for name, value in details.items()]
    return {"id": str(uuid4()), "type": "ElasticNetworkInterface", "status": "PRECREATED", "details": said}


def _container(task: str, name: str) -> Body:
    task_id = task.rpartition("/")[2]
    arn = task.replace(":task/", ":container/")
    return {
        "containerArn": f"{arn}/{uuid4()}",
        "taskArn": task,
        "name": name,
        "image": IMAGE,
        "imageDigest": f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
        "runtimeId": f"{task_id}-{int(task_id[:8], 16) % 10**10:010}" if task_id[:8].isalnum() else task_id,
        "lastStatus": "PENDING",
        "networkBindings": [],
        "networkInterfaces": [{"attachmentId": str(uuid4()), "privateIpv4Address": "10.0.2.17"}],
        "healthStatus": "UNKNOWN",
        "managedAgents": [],
        "cpu": "1024" if name == "prefect" else "0",
        "memory": "2048",
        "memoryReservation": "1024",
    }


def _overrides(containers: Sequence[str], run_id: UUID | None) -> Body:
    ours = "prefect" if "prefect" in containers or not containers else containers[0]
    command = ["prefect", "flow-run", "execute"]
    first: Body = {"name": ours}
    if run_id:
        first |= {"command": command, "environment": prefect_environment(run_id)}
    others = [{"name": name} for name in containers if name != ours]
    return {"containerOverrides": [first, *others], "inferenceAcceleratorOverrides": []}
