"""What goes over the wire: one call as it came in, one answer, and refusals in the words of each protocol."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4
from xml.sax.saxutils import escape

JSON = "application/x-amz-json-1.1"
XML = "text/xml"
HTML = "text/html"
STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


@dataclass(frozen=True, slots=True)
class Call:
    """`region` and `service` are those of the signature's scope: there is one address for all of them."""

    service: str
    operation: str
    region: str
    access_key: str
    token: str | None
    params: dict[str, Any] = field(repr=False)

    @property
    def action(self) -> str:
        return f"{self.service}:{self.operation}"


@dataclass(frozen=True, slots=True)
class Answer:
    """`cut`: the connection ends in the middle of the body. `drips`: the body comes byte by byte."""

    status: int
    body: bytes
    content_type: str = JSON
    cut: bool = False
    drips: bool = False


class Refused(Exception):
    """An error that AWS answers. `status` is ECS's; STS answers 403 to what is about keys and rights."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


def invalid(message: str) -> Refused:
    return Refused("InvalidParameterException", message)


def as_json(body: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, json.dumps(body, separators=(",", ":")).encode())


def as_xml(operation: str, result: str) -> Answer:
    """A result of the query protocol; `result` is XML already."""
    metadata = f"<ResponseMetadata><RequestId>{uuid4()}</RequestId></ResponseMetadata>"
    body = f'<{operation}Response xmlns="{STS_NAMESPACE}"><{operation}Result>{result}</{operation}Result>{metadata}'
    return Answer(200, f"{body}</{operation}Response>\n".encode(), XML)


def refusal(service: str, refused: Refused) -> Answer:
    if service == "sts":
        said = f"<Type>Sender</Type><Code>{escape(refused.code)}</Code><Message>{escape(refused.message)}</Message>"
        body = f'<ErrorResponse xmlns="{STS_NAMESPACE}"><Error>{said}</Error><RequestId>{uuid4()}</RequestId>'
        return Answer(refused.status, f"{body}</ErrorResponse>\n".encode(), XML)
    word = "Message" if refused.code == "AccessDeniedException" else "message"  # IAM's own capital letter
    return as_json({"__type": refused.code, word: refused.message}, refused.status)


def as_html(status: int, title: str) -> Answer:
    """What a load balancer or a proxy before AWS says."""
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>"
    return Answer(status, f"{page}\r\n</html>\r\n".encode(), HTML)
