"""Retrying: how often, after what waits, and what is raised in the end."""

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


def failing(errors: list[JaraiError], moments: list[float]) -> Callable[[], Awaitable[str]]:
    """Make an attempt that raises these errors, one after the other, and then succeeds."""

    async def attempt() -> str:
        moments.append(_clock.monotonic())
        if len(moments) <= len(errors):
            raise errors[len(moments) - 1]
        return "done"

    return attempt


async def attempted(retry: Retry, errors: list[JaraiError], seed: int = 0) -> tuple[str, list[float]]:
    moments: list[float] = []
    result = await Retrier(retry, Random(seed))(failing(errors, moments), lambda _: True)
    return result, moments


waits = st.one_of(st.none(), st.floats(0, 100_000), st.floats(0, 1))


@given(st.lists(waits, max_size=7), st.integers(0, 99), st.floats(0.1, 5), st.floats(1, 60))
def test_no_wait_is_shorter_than_was_asked_for(
    asked: list[float | None], seed: int, base: float, cap: float
) -> None:
    """Each wait is at least Retry-After, and else at most base * 2^n or the cap, whichever is less."""
    errors: list[JaraiError] = [ServiceUnavailableError("later", retry_after=wait) for wait in asked]
    result, moments = run(attempted(Retry(8, base, cap), errors, seed))
    assert result == "done"
    assert len(moments) == len(asked) + 1
    for n, (wait, (before, after)) in enumerate(zip(asked, pairwise(moments), strict=True)):
        assert after - before >= (wait or 0) - 1e-6
        assert after - before <= max(wait or 0, min(cap, base * 2**n)) + 1e-6


def test_waits_are_spread_over_their_range() -> None:
    """Jitter is full: some waits are short, some long, so that clients do not come back together."""
    gaps = []
    for seed in range(200):
        _, moments = run(attempted(Retry(2, base=8.0), [ServerError("oops")], seed))
        gaps.append(moments[1] - moments[0])
    assert min(gaps) < 0.5
    assert max(gaps) > 7.5
    assert 3.5 < sum(gaps) / len(gaps) < 4.5


@pytest.mark.parametrize("attempts", [1, 2, 5, 12])
async def test_attempts_are_bounded_and_the_last_error_is_raised_as_it_is(attempts: int) -> None:
    """After so many attempts in all the last error comes out: itself, with its cause and nothing else."""
    errors: list[JaraiError] = [ServerError(f"attempt {n}") for n in range(20)]
    cause = OSError("disk")
    errors[attempts - 1].__cause__ = cause
    moments: list[float] = []
    with pytest.raises(ServerError) as caught:
        await Retrier(Retry(attempts), Random(1))(failing(errors, moments), lambda _: True)
    assert caught.value is errors[attempts - 1]
    assert len(moments) == attempts
    assert caught.value.__cause__ is cause
    assert "_AgainError" not in "".join(traceback.format_exception(caught.value))


async def test_what_may_not_be_repeated_is_raised_at_once() -> None:
    """An error that may not be repeated ends it at its first occurrence, also after others that may."""
    moments: list[float] = []
    errors: list[JaraiError] = [ServerError("first"), NoResponseError("second")]
    with pytest.raises(NoResponseError):
        await Retrier(Retry(8), Random(1))(
            failing(errors, moments), lambda error: isinstance(error, ServerError)
        )
    assert len(moments) == 2


async def test_other_exceptions_are_not_repeated() -> None:
    """A bug is no trouble of the network: it comes out at once, as it is."""
    calls = 0

    async def attempt() -> None:
        nonlocal calls
        calls += 1
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await Retrier(Retry(8), Random(1))(attempt, lambda _: True)
    assert calls == 1


async def test_a_retrier_serves_many_at_once() -> None:
    """Calls that share a retrier count their attempts and waits apart."""
    retrier = Retrier(Retry(3), Random(1))

    async def one() -> int:
        moments: list[float] = []
        await retrier(failing([ServerError("a"), ServerError("b")], moments), lambda _: True)
        return len(moments)

    assert await asyncio.gather(*(one() for _ in range(20))) == [3] * 20


async def test_a_wait_can_be_cancelled() -> None:
    """Cancelling ends a long wait at once."""
    moments: list[float] = []
    errors: list[JaraiError] = [ServiceUnavailableError("later", retry_after=50_000)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await Retrier(Retry(8), Random(1))(failing(errors, moments), lambda _: True)
    assert _clock.monotonic() == pytest.approx(10)


async def test_backoff_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The library below would log the exception and the arguments, which may hold a key."""
    with caplog.at_level(logging.DEBUG):
        await attempted(Retry(8), [ServerError("jarai_live_secret")])
        with pytest.raises(ServerError):
            await attempted(Retry(1), [ServerError("jarai_live_secret")])
    assert [record for record in caplog.records if record.name.startswith("backoff")] == []
