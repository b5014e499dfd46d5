"""The options of a scope: every adapter refuses the same mistakes in the same words."""

from __future__ import annotations

import pytest

from reconciler.options import Options, read_options
from reconciler.ports import Misconfigured


def options(**given: object) -> Options:
    return read_options("prod", "some", given, texts=("context", "kubeconfig"), lists=("namespaces",))


def test_what_is_right_comes_back_by_kind() -> None:
    found = options(context="a", namespaces=["x", "y"])
    assert found.texts == {"context": "a"}
    assert found.lists == {"namespaces": ("x", "y")}
    assert options() == Options({}, {})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"namespace": "x"}, "scope 'prod': adapter 'some' has no option 'namespace'; the nearest is 'namespaces'"),
        ({"zzz": "x"}, "scope 'prod': adapter 'some' has no option 'zzz'; the nearest is"),
        ({"context": ""}, "scope 'prod': option 'context' must be a text that is not empty, not ''"),
        ({"context": 3}, "scope 'prod': option 'context' must be a text that is not empty, not 3"),
        (
            {"context": {"token": "secret"}},
            "scope 'prod': option 'context' must be a text that is not empty, not a table",
        ),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        options(**given)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("value", ["x", [], [""], ["x", 3], ["x", ""], {"x": "y"}, None])
def test_a_list_holds_texts(value: object) -> None:
    with pytest.raises(Misconfigured) as refused:
        options(namespaces=value)
    shown = "a table" if isinstance(value, dict) else repr(value)
    assert str(refused.value) == (
        "scope 'prod': option 'namespaces' must be a list of texts that are not empty, such as "
        f'["a", "b"], not {shown}'
    )


def test_an_adapter_without_options_has_no_nearest() -> None:
    with pytest.raises(Misconfigured, match=r"adapter 'some' has no option 'x'$"):
        read_options("prod", "some", {"x": "y"}, texts=())
