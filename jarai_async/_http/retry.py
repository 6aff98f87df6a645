"""The only user of the backoff library: how often a call is repeated, and after which delay.

Polls are not retried here: a failed poll is rescheduled, because two nested loops would multiply requests
against a limit of ten a minute. Nor is a 429: the scheduler pauses all requests once.
"""

import logging
import warnings
from collections.abc import Awaitable, Callable, Generator
from itertools import count
from random import Random
from typing import Any, TypeVar

from attrs import frozen

from jarai_async import _clock
from jarai_async._errors import JaraiError
from jarai_async._http.request_log import Repetition, RequestLog

with warnings.catch_warnings():
    # backoff 2.2.1 uses asyncio.iscoroutinefunction, which Python 3.14 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    import backoff

T = TypeVar("T")

_log = logging.getLogger("jarai_async")

_LONG_DELAY = 60.0  # seconds


class _RetryableError(Exception):
    """Carries an error whose call may be repeated, and where to record that."""

    def __init__(self, error: JaraiError, repetition: Repetition, name: str) -> None:
        super().__init__()
        self.error = error
        self.repetition = repetition
        self.name = name


@frozen
class Retry:
    """How often to try in all, and the delays between: uniform in (0, min(cap, base * 2^n)) seconds."""

    attempts: int
    base: float = 0.5
    cap: float = 20.0

    def delay(self, failures: int, error: JaraiError, random: Random) -> float:
        """Return the delay after this many failures: jittered, never below what the server asked for."""
        jittered = random.uniform(0, min(self.cap, self.base * 2 ** (failures - 1)))
        return max(jittered, error.retry_after or 0.0)

    def delays(self, random: Random) -> Generator[float, Any, None]:
        """Generate delays for backoff, which discards the first value and passes each failure to `send()`."""
        failure = yield 0.0
        for failures in count(1):
            delay = self.delay(failures, failure.error, random)
            failure.repetition.pause = _clock.Deadline(delay)
            if delay > _LONG_DELAY:
                pause, reason = failure.repetition.pause, failure.error.reason
                _log.debug("%s waits until %s: %s", failure.name, pause, reason)
            failure = yield delay


class Retrier:
    """Repeats calls by one policy. Create it once: decorating costs more than calling."""

    def __init__(self, retry: Retry, random: Random) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            decorate = backoff.on_exception(
                lambda: retry.delays(random),
                _RetryableError,
                max_tries=retry.attempts,
                jitter=None,  # backoff's own jitter would also shorten a Retry-After
                logger=None,  # backoff's log line would contain the exception and the arguments
            )
            self._call = decorate(_attempt_once)

    async def __call__(
        self,
        attempt: Callable[[], Awaitable[T]],
        may_repeat: Callable[[JaraiError], bool],
        log: RequestLog | None = None,
    ) -> T:
        """Call `attempt` until it succeeds, may not be repeated, or has no attempts left.

        `log` has what is repeated meanwhile. Raises the last error, unchanged.
        """
        try:
            return await attempt()  # almost every call succeeds, and needs no more than this
        except JaraiError as error:
            if not may_repeat(error):
                raise
            failed = [error]
        log = log or RequestLog()
        with log.repeating(failed[0]) as repetition:
            try:
                result: T = await self._call(attempt, may_repeat, failed, repetition, log.name)
            except _RetryableError as retryable:
                raise retryable.error from retryable.error.__cause__
        return result


async def _attempt_once(
    attempt: Callable[[], Awaitable[Any]],
    may_repeat: Callable[[JaraiError], bool],
    failed: list[JaraiError],
    repetition: Repetition,
    name: str,
) -> Any:
    """Try once. The first time, raise the error that has already happened, so that a delay comes first."""
    try:
        if failed:
            raise failed.pop()
        repetition.pause = None
        return await attempt()
    except JaraiError as error:
        repetition.error = error
        if may_repeat(error):
            raise _RetryableError(error, repetition, name) from None
        raise
