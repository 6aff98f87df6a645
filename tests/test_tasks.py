"""Tasks: started in any event loop and context, and waited for although the caller is cancelled."""

import asyncio
import sys
from contextvars import Context, ContextVar

import pytest

from jarai_async._tasks import start, unhurried, uninterrupted

_caller: ContextVar[str] = ContextVar("caller", default="none")


async def _name_of_caller() -> str:
    return _caller.get()


async def test_task_runs_in_a_copy_of_the_context() -> None:
    """By default that of its creator; a worker with several callers gets an empty one."""
    _caller.set("first")
    own, shared = start(_name_of_caller), start(_name_of_caller, context=Context())
    _caller.set("second")
    assert (await own, await shared) == ("first", "none")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
async def test_task_begins_after_it_was_assigned_under_an_eager_task_factory() -> None:
    """Code that stores the task may rely on it, whatever the task does first."""
    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    tasks: list[asyncio.Task[bool]] = []

    async def finds_itself() -> bool:
        return asyncio.current_task() in tasks

    tasks.append(start(finds_itself))
    assert await tasks[0]


async def test_task_that_is_cancelled_before_it_begins_leaves_no_warning() -> None:
    """No coroutine exists yet that was never awaited."""
    task = start(_name_of_caller)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_is_completed_although_the_caller_is_cancelled_again_and_again() -> None:
    """The cancellation is raised at the end, once."""
    finished = []

    async def work() -> None:
        await asyncio.sleep(10)
        finished.append(True)

    caller = start(lambda: uninterrupted(start(work)))
    for _ in range(9):
        await asyncio.sleep(1)
        caller.cancel("stop")
    assert not finished
    with pytest.raises(asyncio.CancelledError, match="stop"):
        await caller
    assert finished
    assert asyncio.get_running_loop().time() == 10


async def test_error_of_work_is_raised() -> None:
    """A cancellation has precedence, and the event loop does not report the error."""

    async def fail() -> None:
        await asyncio.sleep(1)
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        await uninterrupted(start(fail))
    caller = start(lambda: uninterrupted(start(fail)))
    await asyncio.sleep(0.5)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_other_tasks_run_while_thousands_of_items_are_worked_on() -> None:
    """After each hundred items; all of them are yielded, in their order."""
    items: list[int] = []
    seen_by_other: set[int] = set()

    async def other() -> None:
        while len(items) < 1_000:
            seen_by_other.add(len(items))
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async for item in unhurried(range(1_000)):
        items.append(item)  # noqa: PERF401  # the other task looks at it in between
    await task
    assert items == [*range(1_000)]
    assert seen_by_other == {*range(0, 1_000, 100)}
