"""Cancels a program at chosen suspensions of its tasks."""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any, TypeVar

from attrs import define

from jarai_async._tasks import start

T = TypeVar("T")


@define
class Stepper:
    """Runs a program, and calls `cancel(its task)` at the n-th suspension, for each n in `at`.

    The suspensions of all tasks that the library starts are counted together.
    """

    at: tuple[int, ...] = ()
    cancel: Callable[[asyncio.Task[Any]], object] = asyncio.Task.cancel
    suspensions: int = 0

    async def run(self, program: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Return the result, or None where it ended by the cancellation."""
        main: list[asyncio.Task[T]] = []

        def suspended() -> None:
            self.suspensions += 1
            if self.suspensions in self.at:
                loop.call_soon(self.cancel, main[0])

        def make_task(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            if coroutine.__qualname__ == "start.<locals>.begin":
                coroutine = _report(coroutine, suspended)
            return asyncio.Task(coroutine, loop=loop, **options)

        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        loop.set_task_factory(make_task)
        main.append(start(program))
        await asyncio.wait(main)
        loop.set_task_factory(before)
        return None if main[0].cancelled() else main[0].result()


async def _report(coroutine: Coroutine[Any, Any, T], suspended: Callable[[], None]) -> T:
    return await _send(coroutine, suspended)


@types.coroutine
def _send(coroutine: Coroutine[Any, Any, T], suspended: Callable[[], None]) -> Generator[Any, Any, T]:
    error: BaseException | None = None
    while True:
        try:
            waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        suspended()
        try:
            error = None
            yield waits_for
        except BaseException as raised:  # noqa: BLE001  # passed on to the coroutine
            error = raised


def times_to_cancel(suspensions: int) -> Iterable[tuple[int, ...]]:
    """Return each of the suspensions, every other one with a second one soon afterwards."""
    for number in range(1, suspensions + 1):
        yield (number,) if number % 2 else (number, number + 2)
