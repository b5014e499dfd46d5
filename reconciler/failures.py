"""What is behind an exception: SDKs wrap the cause, each in its own way."""

from __future__ import annotations

from collections.abc import Iterator


def causes(error: BaseException) -> Iterator[BaseException]:
    """Walk the error and all that it wraps: requests and urllib3 keep the cause in `args`, others in the chain."""
    pending, seen = [error], set[int]()
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        wrapped = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
        pending += [cause for cause in wrapped if isinstance(cause, BaseException)]
