"""Retries: how often a call is attempted, the delays between attempts, and what is raised in the end."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import JaraiError, NoResponseError, ServerError, ServiceUnavailableError, _clock
from jarai_async._http.retry import Retrier, Retry
from jarai_async.simulator import run


def failing(errors: list[JaraiError], attempted_at: list[float]) -> Callable[[], Awaitable[str]]:
    """Return a call that raises these errors, one after the other, and then succeeds."""

    async def attempt() -> str:
        attempted_at.append(_clock.monotonic())
        if len(attempted_at) <= len(errors):
            raise errors[len(attempted_at) - 1]
        return "done"

    return attempt


async def retried(retry: Retry, errors: list[JaraiError], seed: int = 0) -> tuple[str, list[float]]:
    """Call with retries, and return the result and the times of the attempts."""
    attempted_at: list[float] = []
    result = await Retrier(retry, Random(seed))(failing(errors, attempted_at), lambda _: True)
    return result, attempted_at


retry_afters = st.one_of(st.none(), st.floats(0, 100_000), st.floats(0, 1))


@given(st.lists(retry_afters, max_size=7), st.integers(0, 99), st.floats(0.1, 5), st.floats(1, 60))
def test_delay_is_never_below_retry_after(
    retry_afters: list[float | None], seed: int, base: float, cap: float
) -> None:
    """Each delay is at least Retry-After, and otherwise at most min(cap, base * 2^n)."""
    errors: list[JaraiError] = [
        ServiceUnavailableError("later", retry_after=retry_after) for retry_after in retry_afters
    ]
    result, attempted_at = run(retried(Retry(8, base, cap), errors, seed))
    assert result == "done"
    assert len(attempted_at) == len(retry_afters) + 1
    for n, (retry_after, (before, after)) in enumerate(
        zip(retry_afters, pairwise(attempted_at), strict=True)
    ):
        assert after - before >= (retry_after or 0) - 1e-6
        assert after - before <= max(retry_after or 0, min(cap, base * 2**n)) + 1e-6


def test_delays_have_full_jitter() -> None:
    """Delays are uniform over their range, so that clients do not retry at the same time."""
    delays = []
    for seed in range(200):
        _, attempted_at = run(retried(Retry(2, base=8.0), [ServerError("crashed")], seed))
        delays.append(attempted_at[1] - attempted_at[0])
    assert min(delays) < 0.5
    assert max(delays) > 7.5
    assert 3.5 < sum(delays) / len(delays) < 4.5


@pytest.mark.parametrize("attempts", [1, 2, 5, 12])
async def test_last_error_is_raised_unchanged_after_all_attempts(attempts: int) -> None:
    """It is the error of the last attempt, with its own cause and no context of the retries."""
    errors: list[JaraiError] = [ServerError(f"attempt {n}") for n in range(20)]
    cause = OSError("disk")
    errors[attempts - 1].__cause__ = cause
    attempted_at: list[float] = []
    with pytest.raises(ServerError) as raised:
        await Retrier(Retry(attempts), Random(1))(failing(errors, attempted_at), lambda _: True)
    assert raised.value is errors[attempts - 1]
    assert len(attempted_at) == attempts
    assert raised.value.__cause__ is cause
    assert "_RetryableError" not in "".join(traceback.format_exception(raised.value))


async def test_error_that_may_not_be_retried_is_raised_at_once() -> None:
    """It ends the retries, also after other errors that were retried."""
    attempted_at: list[float] = []
    errors: list[JaraiError] = [ServerError("first"), NoResponseError("second")]
    with pytest.raises(NoResponseError):
        await Retrier(Retry(8), Random(1))(
            failing(errors, attempted_at), lambda error: isinstance(error, ServerError)
        )
    assert len(attempted_at) == 2


async def test_bug_is_not_retried() -> None:
    """An exception that is not an error of the library is raised at once."""
    calls = 0

    async def attempt() -> None:
        nonlocal calls
        calls += 1
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await Retrier(Retry(8), Random(1))(attempt, lambda _: True)
    assert calls == 1


async def test_concurrent_calls_share_a_retrier() -> None:
    """The attempts of each call are counted separately."""
    retrier = Retrier(Retry(3), Random(1))

    async def call() -> int:
        attempted_at: list[float] = []
        await retrier(failing([ServerError("a"), ServerError("b")], attempted_at), lambda _: True)
        return len(attempted_at)

    assert await asyncio.gather(*(call() for _ in range(20))) == [3] * 20


async def test_delay_can_be_cancelled() -> None:
    """A timeout ends a long delay at once."""
    errors: list[JaraiError] = [ServiceUnavailableError("later", retry_after=50_000)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await Retrier(Retry(8), Random(1))(failing(errors, []), lambda _: True)
    assert _clock.monotonic() == pytest.approx(10)


async def test_backoff_does_not_log(caplog: pytest.LogCaptureFixture) -> None:
    """The backoff library would log the exception and the arguments, which may contain the API key."""
    with caplog.at_level(logging.DEBUG):
        await retried(Retry(8), [ServerError("jarai_live_secret")])
        with pytest.raises(ServerError):
            await retried(Retry(1), [ServerError("jarai_live_secret")])
    assert [record for record in caplog.records if record.name.startswith("backoff")] == []
