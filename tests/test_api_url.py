from __future__ import annotations

import pytest

from reconciler.settings.api_url import api_url

CLOUD = "https://api.prefect.cloud/api/accounts/a1/workspaces/w1"


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:4200/api", "https://example.com/prefect/api", "http://[::1]:42/api", CLOUD]
)
def test_accepts_an_api(address: str) -> None:
    assert api_url(address) == address
    assert api_url(f"{address}/") == address


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("http://127.0.0.1:4200", "http://127.0.0.1:4200/api"),
        ("http://127.0.0.1:4200/", "http://127.0.0.1:4200/api"),
        ("127.0.0.1:4200/api", "http://127.0.0.1:4200/api"),
        ("localhost:4200", "http://localhost:4200/api"),
        ("ftp://example.com/api", "http://example.com/api"),
        ("http://example.com:4200/#/runs", "http://example.com:4200/api"),
        ("http://example.com/api?x=1", "http://example.com/api"),
        ("http://example.com/apis", "http://example.com/apis/api"),
        ("https://app.prefect.cloud/account/a1/workspace/w1/runs", CLOUD),
        ("https://api.prefect.cloud/api", "https://api.prefect.cloud/api/accounts/ACCOUNT/workspaces/WORKSPACE"),
    ],
)
def test_suggests_what_was_meant(address: str, meant: str) -> None:
    with pytest.raises(ValueError, match="did you mean") as refused:
        api_url(address)
    assert f'"{meant}"' in str(refused.value)


@pytest.mark.parametrize(
    "address", ["http://me:hunter22@example.com/api", "me:hunter22@example.com/api", "http://me:1/hunter22@h/api"]
)
def test_refuses_a_password_without_showing_it(address: str) -> None:
    with pytest.raises(ValueError, match="auth_string_file") as refused:
        api_url(address)
    assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize("address", ["http:///api", "http://[::1/api", "http://h:99999/api", "http://a b/api"])
def test_refuses_what_is_no_url(address: str) -> None:
    with pytest.raises(ValueError, match="is not a URL; write for example"):
        api_url(address)
