"""Asking a scope by itself: until when, and why it refuses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from reconciler.ports import Misconfigured
from reconciler_adapters.ecs import EcsScope
from tests.ecs.fake import ACCOUNT

OTHER_ACCOUNT = "999999999999"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"

Bind = Callable[..., EcsScope]


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def refusal(scope: EcsScope) -> str:
    """Why the operator has to act: the same words here and by `reconcile check`. Without the place that was asked."""
    with pytest.raises(Misconfigured) as caught:
        scope.identity(soon())
    [problem] = scope.check()
    assert problem.text == str(caught.value)
    assert not problem.optional
    return re.sub(r"^AWS at http://127\.0\.0\.1:\d+ in us-east-1: ", "AWS: ", problem.text)
