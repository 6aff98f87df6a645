"""Helpers for tests of the rate limit: a limiter in use, and a client that sends whatever it may."""

import asyncio
from random import Random

from jarai_async import JaraiClient, RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import RateLimiter

DAY = 86_400.0
NOON = 20_000 * DAY + DAY / 2  # Unix time at which the monotonic time of these tests is 0
NO_DAILY_QUOTA = 10**9


def exchange(limiter: RateLimiter, state: RateLimitState, now: float) -> None:
    """Send one request, and record its response at the same time."""
    slot = limiter.acquire(Kind.READ, now, NOON + now)
    limiter.record_response(state, slot, now, Random(1))


def limiter_at(
    limit: int = 10, *, per_minute: int | None = None, remaining: int | None = None
) -> RateLimiter:
    """Return a limiter that received its first response at time 0, with these headers.

    `per_minute` is the limit that the user sets.
    """
    limiter = RateLimiter(RateLimit(per_minute, NO_DAILY_QUOTA))
    exchange(limiter, RateLimitState(limit, limit - 1 if remaining is None else remaining), 0)
    return limiter


def send_all(limiter: RateLimiter, now: float, kind: Kind = Kind.READ, wall: float = NOON) -> int:
    """Send all requests that may be sent at `now`, and return how many."""
    sent = 0
    while limiter.earliest_send(kind, now, wall) <= now:
        limiter.acquire(kind, now, wall)
        sent += 1
    return sent


def send_spaced(limiter: RateLimiter, now: float, interval: float = 0.5) -> int:
    """Send for half a minute, one request every `interval` seconds at most, and return how many."""
    return sum(min(1, send_all(limiter, now + n * interval)) for n in range(int(30 / interval)))


async def fetch_for(client: JaraiClient, production_id: str, seconds: float, callers: int) -> int:
    """Fetch as often as the rate limit allows for this many seconds; return the number of responses."""
    responses = 0

    async def fetch() -> None:
        nonlocal responses
        while True:
            await client.fetch(production_id)
            responses += 1

    tasks = [asyncio.create_task(fetch()) for _ in range(callers)]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}
    return responses
