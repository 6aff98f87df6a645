"""The door to the backoff library: how often a call is repeated, and after what wait.

Polls never come here: a failed poll is rescheduled, since two loops, one in the other, would multiply
requests against a budget of ten a minute. Nor does waiting for a 429: the scheduler does that, for all.
"""

import warnings
from collections.abc import Awaitable, Callable, Generator
from random import Random
from typing import Any, TypeVar

from attrs import frozen

from jarai_async._errors import JaraiError

with warnings.catch_warnings():
    # backoff 2.2.1 uses asyncio.iscoroutinefunction, which Python 3.14 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import backoff

T = TypeVar("T")


class _AgainError(Exception):
    """Carries an error whose call may be repeated."""

    def __init__(self, error: JaraiError) -> None:
        super().__init__()
        self.error = error


@frozen
class Retry:
    """How often to try in all, and the waits between: uniform in (0, min(cap, base * 2^n)) seconds."""

    attempts: int
    base: float = 0.5
    cap: float = 20.0

    def waits(self, random: Random) -> Generator[float, Any, None]:
        """Give the waits, jittered, never below what the server asked for.

        As backoff wants it: the first value is dropped, and each failure is sent in.
        """
        again = yield 0.0
        for n in range(self.attempts):
            jittered = random.uniform(0, min(self.cap, self.base * 2**n))
            again = yield max(jittered, again.error.retry_after or 0.0)


class Retrier:
    """Repeats calls by one policy; made once, since decorating costs more than calling."""

    def __init__(self, retry: Retry, random: Random) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            decorate = backoff.on_exception(
                lambda: retry.waits(random),
                _AgainError,
                max_tries=retry.attempts,
                jitter=None,  # its own jitter would also shorten a Retry-After
                logger=None,  # its log line would print the exception and the arguments
            )
            self._call = decorate(_once)

    async def __call__(
        self, attempt: Callable[[], Awaitable[T]], may_repeat: Callable[[JaraiError], bool]
    ) -> T:
        """Call `attempt` until it succeeds, may not be repeated, or was tried often enough.

        The last error is raised as it is.
        """
        try:
            return await attempt()  # hardly any call comes to need more than this
        except JaraiError as error:
            if not may_repeat(error):
                raise
            failed = [error]
        try:
            result: T = await self._call(attempt, may_repeat, failed)
        except _AgainError as again:
            raise again.error from again.error.__cause__
        return result


async def _once(
    attempt: Callable[[], Awaitable[Any]], may_repeat: Callable[[JaraiError], bool], failed: list[JaraiError]
) -> Any:
    """Try once; the first time only fail as was done already, so that the wait comes before the next."""
    try:
        if failed:
            raise failed.pop()
        return await attempt()
    except JaraiError as error:
        if may_repeat(error):
            raise _AgainError(error) from None
        raise
