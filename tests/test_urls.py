"""What a client is set up with, and what it refuses before anything is sent."""

import copy
import pickle
from typing import Any

import pytest

from jarai_async import ConfigurationError, Polling, RateLimit
from jarai_async._secret import Secret
from jarai_async._urls import checked_url

KEY = "jarai_test_c2VjcmV0"


def test_a_secret_is_not_shown_or_pickled() -> None:
    """Neither repr, str, a format string, a copy nor a pickle gives a secret away."""
    secret = Secret(KEY)
    assert secret.reveal() == KEY
    assert {repr(secret), str(secret), f"{secret}", f"{secret!r}"} == {"<Secret>"}
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            copied(secret)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "https://h/v1/partner", "http://[::1]:8080/a", "HTTPS://h"]
)
def test_a_base_url_loses_its_final_slash(url: str) -> None:
    """Paths are appended to the base URL, with and without a final slash in it."""
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
def test_a_base_url_that_cannot_be_one_is_refused(url: str) -> None:
    """User, query, fragment and white space, also where `urlsplit` overlooks them, are refused."""
    with pytest.raises(ConfigurationError, match="base_url"):
        checked_url(url)


@pytest.mark.parametrize("value", [0, -1, 1.5, "10"])
@pytest.mark.parametrize("name", ["per_minute", "per_day"])
def test_a_budget_is_a_positive_number(name: str, value: Any) -> None:
    """A budget of nothing would wait for ever."""
    with pytest.raises(ConfigurationError, match=name):
        RateLimit(**{name: value})
    assert RateLimit(**{name: 1})


@pytest.mark.parametrize(
    ("min_interval", "max_interval"), [(0, 1), (-1, 1), (2, 1), (float("nan"), 1), (1, float("nan"))]
)
def test_polling_needs_bounds_in_order(min_interval: float, max_interval: float) -> None:
    """The minimum is positive and not above the maximum; equal bounds are a fixed interval."""
    with pytest.raises(ConfigurationError, match="min_interval"):
        Polling(min_interval=min_interval, max_interval=max_interval)
    assert Polling(min_interval=1, max_interval=1)


def test_a_key_that_would_travel_unencrypted_is_warned_about() -> None:
    """Plain http is for this machine."""
    with pytest.warns(UserWarning, match="unencrypted"):
        checked_url("http://mock.example/v1/partner")
    for host in ("127.0.0.1:80", "[::1]", "localhost:8765"):
        checked_url(f"http://{host}/v1/partner")
