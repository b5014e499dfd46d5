"""IAM in small: actions that are denied, or an identity policy that grants.

Of a policy it knows Effect, Action, Resource, and Condition with ArnEquals, ArnLike, StringEquals, StringLike.
Anything else raises ValueError: a test must not pass because of a word that was overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tests.ecs.fake.answers import Refused
from tests.ecs.fake.keys import Principal

Context = Mapping[str, str]
_KNOWN = {"Sid", "Effect", "Action", "Resource", "Condition"}
_OPERATORS = {"ArnEquals", "ArnLike", "StringEquals", "StringLike"}


class Rights:
    """Without a policy everything is allowed that is not in `denied`."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self._statements: list[dict[str, Any]] | None = None

    def policy(self, document: dict[str, Any] | None) -> None:
        """From now on only what the document grants; None: everything again."""
        statements = _listed(document["Statement"]) if document else None
        for statement in statements or ():
            if strange := set(statement) - _KNOWN | set(statement.get("Condition", {})) - _OPERATORS:
                raise ValueError(f"this IAM in small does not know {sorted(strange)}")
        self._statements = statements

    def check(self, principal: Principal, action: str, resource: str, context: Context) -> None:
        """Raises Refused in the words of IAM, ECS's code; STS has another one."""
        if action in self.denied or not self._grants(action, resource, context):
            raise denial(principal, action, resource)

    def _grants(self, action: str, resource: str, context: Context) -> bool:
        if self._statements is None:
            return True
        effects = {one["Effect"] for one in self._statements if _applies(one, action, resource, context)}
        return effects == {"Allow"}


def denial(principal: Principal, action: str, resource: str) -> Refused:
    message = f"User: {principal.arn} is not authorized to perform: {action} on resource: {resource}"
    if action.startswith("sts:"):
        return Refused("AccessDenied", message, 403)
    return Refused("AccessDeniedException", f"{message} because no identity-based policy allows the {action} action")


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    return (
        any(_like(wanted, action, re.IGNORECASE) for wanted in _listed(statement["Action"]))
        and any(_like(wanted, resource) for wanted in _listed(statement["Resource"]))
        and all(
            _holds(operator, context.get(key), _listed(values))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, said: str | None, wanted: Iterable[str]) -> bool:
    """A key that the request has not never matches."""
    if said is None:
        return False
    if operator == "StringEquals":
        return said in wanted
    if operator == "StringLike":
        return any(_like(one, said) for one in wanted)
    return any(_like_arn(one, said) for one in wanted)


def _like_arn(pattern: str, arn: str) -> bool:
    """Each of the six parts for itself; ArnEquals knows wildcards too."""
    patterns, parts = pattern.split(":", 5), arn.split(":", 5)
    return len(patterns) == len(parts) and all(map(_like, patterns, parts))


def _like(pattern: str, text: str, flags: int = 0) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, flags | re.DOTALL) is not None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
