"""Starting tasks, waiting for them although the caller is cancelled, and ending them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextvars import Context, copy_context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")


def start(
    function: Callable[[*Args], Coroutine[Any, Any, T]],
    *args: *Args,
    name: str | None = None,
    context: Context | None = None,
) -> asyncio.Task[T]:
    """Start `function(*args)` as a task, in a copy of `context`, or else of the current one.

    It begins only after the caller has the task, also under an eager task factory. A worker that several
    callers share gets `Context()`: it must not log and trace as if it worked for the first of them.
    """
    where = copy_context() if context is None else context.copy()
    if asyncio.get_running_loop().get_task_factory() is None:
        return asyncio.create_task(function(*args), name=name, context=where)
    is_assigned = False

    async def begin() -> T:
        if not is_assigned:  # an eager task factory
            await asyncio.sleep(0)
        return await function(*args)

    task = asyncio.create_task(begin(), name=name, context=where)
    is_assigned = True
    return task


async def uninterrupted(work: asyncio.Future[T]) -> T:
    """Wait for a task or future to its end, and return its result.

    A cancellation is raised only after that, however often it is repeated.
    """
    cancellation = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        if not work.cancelled():
            work.exception()  # else the loop reports that it was never retrieved
        raise cancellation
    return work.result()


async def unhurried(items: Iterable[T]) -> AsyncGenerator[T, None]:
    """Yield items, perhaps thousands, and let other tasks run after each hundred."""
    for number, item in enumerate(items):
        if number % 100 == 0:
            await asyncio.sleep(0)
        yield item


async def stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until all of them have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
