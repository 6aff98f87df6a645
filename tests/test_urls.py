"""Validation of the API key, the base URL, rate limits and polling bounds."""

from typing import Any

import pytest

from jarai_async import ConfigurationError, Polling, RateLimit
from jarai_async._urls import checked_url

KEY = "jarai_test_c2VjcmV0"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "https://h/v1/partner", "http://[::1]:8080/a", "HTTPS://h"]
)
def test_trailing_slash_of_the_base_url_is_removed(url: str) -> None:
    """A base URL with and without a trailing slash means the same."""
    assert checked_url(url) == checked_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "h", "/v1", "ftp://h", "file:///etc", "http://", "http:///x", "http://h:0", "http://h:99999"),
        *("http://h:x", "http://[", "http://u@h", "http://u:p@h", "http://@h", "http://h?a=1", "http://h#a"),
        *(
            "http://hé/",
            "http://h?",
            "http://h#",
            "http://h/v1\n",
            " http://h",
            "http://h/a b",
            "http://ho\nst",
        ),
        "http://h/\x00",
    ],
)
def test_invalid_base_url_is_rejected(url: str) -> None:
    """A user, a query, a fragment or white space is rejected, even where `urlsplit` ignores it."""
    with pytest.raises(ConfigurationError, match="base_url"):
        checked_url(url)


@pytest.mark.parametrize("value", [0, -1, 1.5, "10"])
@pytest.mark.parametrize("name", ["per_minute", "per_day"])
def test_rate_limit_must_be_positive_integers(name: str, value: Any) -> None:
    """A rate limit of zero would wait forever."""
    with pytest.raises(ConfigurationError, match=name):
        RateLimit(**{name: value})
    assert RateLimit(**{name: 1})


@pytest.mark.parametrize(
    ("min_interval", "max_interval"), [(0, 1), (-1, 1), (2, 1), (float("nan"), 1), (1, float("nan"))]
)
def test_polling_bounds_must_be_in_order(min_interval: float, max_interval: float) -> None:
    """The minimum is positive and at most the maximum; equal bounds mean a fixed interval."""
    with pytest.raises(ConfigurationError, match="min_interval"):
        Polling(min_interval=min_interval, max_interval=max_interval)
    assert Polling(min_interval=1, max_interval=1)


def test_unencrypted_base_url_causes_a_warning() -> None:
    """Plain http is accepted without a warning for this machine only."""
    with pytest.warns(UserWarning, match="unencrypted"):
        checked_url("http://mock.example/v1/partner")
    for host in ("127.0.0.1:80", "[::1]", "localhost:8765"):
        checked_url(f"http://{host}/v1/partner")
