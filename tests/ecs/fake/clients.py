"""Real boto3 clients, whose every answer is also held against botocore's own model of the service."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import Loader, create_loader
from botocore.model import OperationModel, Shape
from botocore.session import Session

from tests.ecs.fake import REGION, Credentials, FakeAws
from tests.ecs.fake.answers import STS_NAMESPACE

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "timestamp": (int, float),
    "structure": dict,
    "list": list,
    "map": dict,
}


def client(
    aws: FakeAws,
    service: str = "ecs",
    region: str = REGION,
    key: Credentials | None = None,
    *,
    checked: bool = True,
    **config: Any,
) -> BaseClient:
    """One that asks once only; `config` is botocore's. Unchecked where answers are spoiled."""
    who = (key.access_key, key.secret, key.token) if key else ()
    session = boto3.session.Session(*who, region_name=region, botocore_session=_session())
    options = {"retries": {"total_max_attempts": 1}} | config
    made = session.client(service, endpoint_url=aws.url, config=Config(**options))
    if checked:
        made.meta.events.register(f"before-parse.{service}", _checked)
    return made


@functools.cache
def _loader() -> Loader:
    """The models of the services, read once: they are large."""
    return create_loader()


def _session() -> Session:
    session = Session()
    session.register_component("data_loader", _loader())
    return session


def refused(call: Callable[..., object], /, **params: object) -> tuple[str, str, int]:
    """The error's code and message, and the status."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    said = caught.value.response
    return said["Error"]["Code"], said["Error"]["Message"], said["ResponseMetadata"]["HTTPStatusCode"]


def _checked(operation_model: OperationModel, response_dict: dict[str, Any], **_: object) -> None:
    if response_dict["status_code"] != 200:
        return
    headers = response_dict["headers"]
    assert headers["x-amzn-RequestId"]
    if operation_model.service_model.metadata["protocol"] == "query":
        assert headers["Content-Type"] == "text/xml"
        root = ET.fromstring(response_dict["body"])
        wrapper = operation_model.output_shape.serialization["resultWrapper"]
        inner = root.find(f"{{{STS_NAMESPACE}}}{wrapper}")
        assert inner is not None
        _check_xml(inner, operation_model.output_shape)
        return
    assert headers["Content-Type"] == "application/x-amz-json-1.1"
    check(json.loads(response_dict["body"]), operation_model.output_shape, operation_model.name)


def check(value: Any, shape: Shape, path: str) -> None:
    """Every member is one that the model knows, and of its type. Raises AssertionError."""
    assert isinstance(value, _TYPES[shape.type_name]), f"{path} is {value!r}, not a {shape.type_name}"
    if shape.type_name == "structure":
        unknown = set(value) - set(shape.members)
        assert not unknown, f"{path} has {sorted(unknown)}, which the model does not know"
        for name, each in value.items():
            check(each, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for at, each in enumerate(value):
            check(each, shape.member, f"{path}[{at}]")
    elif getattr(shape, "enum", None):
        assert value in shape.enum, f"{path} is {value!r}"


def _check_xml(element: ET.Element, shape: Shape) -> None:
    for child in element:
        name = child.tag.removeprefix(f"{{{STS_NAMESPACE}}}")
        assert name in shape.members, f"{name} is not known to the model"
        if shape.members[name].type_name == "structure":
            _check_xml(child, shape.members[name])
