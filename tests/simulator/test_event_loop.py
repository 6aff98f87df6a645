"""Simulated time: the loop's clock jumps, or runs at a speed, and everything in the loop follows it."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio.to_thread
import pytest
from aiohttp import ClientSession, ClientTimeout, web
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import _clock
from jarai_async.simulator import SimulatedEventLoop, run


def test_sleep_of_a_day_takes_less_than_a_second() -> None:
    """A day passes on the monotonic clock and on the wall clock in less than a real second."""

    async def sleep_a_day() -> tuple[float, float]:
        now, wall = _clock.monotonic(), _clock.wall()
        await asyncio.sleep(86_400)
        return _clock.monotonic() - now, _clock.wall() - wall

    start = time.monotonic()
    assert run(sleep_a_day()) == (86_400, 86_400)
    assert time.monotonic() - start < 1


def test_every_run_starts_at_the_same_simulated_time() -> None:
    """The wall clock starts on 1 January 2026 at 09:00 UTC, the monotonic one at zero."""

    async def start() -> tuple[float, datetime]:
        return _clock.monotonic(), _clock.utc()

    assert run(start()) == run(start()) == (0.0, datetime(2026, 1, 1, 9, tzinfo=UTC))


def test_clock_stands_still_while_there_is_work() -> None:
    """Time passes only when all tasks wait."""

    async def busy() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return _clock.monotonic()

    assert run(busy()) == 0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30))
def test_timers_fire_in_order_and_exactly_on_time(delays: list[int]) -> None:
    """Each task wakes exactly after its delay, the earliest first."""
    woken: list[tuple[int, float]] = []

    async def sleep(delay: int) -> None:
        await asyncio.sleep(delay)
        woken.append((delay, _clock.monotonic()))

    async def sleep_all() -> None:
        await asyncio.gather(*map(sleep, delays))

    run(sleep_all())
    assert woken == [(delay, float(delay)) for delay in sorted(delays)]


async def test_requests_over_loopback_take_no_time() -> None:
    """A server in the same loop responds at the simulated time of the request."""
    async with open_server(0.0) as url, ClientSession() as session:
        await asyncio.sleep(0.1)
        for _ in range(50):
            before = _clock.monotonic()
            async with session.get(url) as response:
                assert await response.read() == b"done"
            assert _clock.monotonic() == before


async def test_timeouts_of_a_client_use_simulated_time() -> None:
    """A timeout of 10 seconds suffices for a server that takes 5 seconds, but not for one that takes 20."""
    timeout = ClientTimeout(sock_read=10)
    async with ClientSession(timeout=timeout) as session:
        async with open_server(5) as url, session.get(url) as response:
            assert response.status == 200
        async with open_server(20) as url:
            before = _clock.monotonic()
            with pytest.raises(TimeoutError):
                await session.get(url)
            assert _clock.monotonic() - before == pytest.approx(10, abs=1)  # aiohttp rounds up


async def test_clock_stands_still_while_a_thread_works() -> None:
    """No timer fires while a job runs in an executor, however long the job takes in real time."""
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(5, lambda: None)
    release = threading.Event()
    loop.call_soon(lambda: threading.Timer(0.02, release.set).start())
    assert await loop.run_in_executor(None, release.wait, 5)
    assert _clock.monotonic() == 0
    await asyncio.sleep(1)  # the clock continues when the job is done
    assert _clock.monotonic() == 1
    alarm.cancel()


@pytest.mark.parametrize("work", ["anyio thread", "thread of a driver", "subprocess"])
async def test_clock_is_held_for_work_that_the_loop_cannot_see(work: str) -> None:
    """Holds may be nested, and end with an exception too."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedEventLoop)
    async with asyncio.timeout(30):
        with loop.hold(), loop.hold():
            if work == "anyio thread":
                await anyio.to_thread.run_sync(time.sleep, 0.05)
            elif work == "subprocess":
                program = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
                assert await program.wait() == 0
            else:
                done = asyncio.Event()
                threading.Timer(0.05, loop.call_soon_threadsafe, [done.set]).start()
                await done.wait()
    with pytest.raises(LookupError), loop.hold():
        raise LookupError
    assert _clock.monotonic() == 0
    await asyncio.sleep(1)
    assert _clock.monotonic() == 1


async def test_clock_stands_still_for_every_executor() -> None:
    """Also for `asyncio.to_thread`, and for the look-up of a host name."""
    async with asyncio.timeout(30):
        await asyncio.to_thread(time.sleep, 0.05)
        await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        with ThreadPoolExecutor(1) as threads:
            await asyncio.get_running_loop().run_in_executor(threads, time.sleep, 0.05)
    assert _clock.monotonic() == 0


async def test_clock_continues_after_a_job_that_fails() -> None:
    """The caller receives the exception of the thread, and time passes again."""

    def job() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await asyncio.get_running_loop().run_in_executor(None, job)
    await asyncio.sleep(30)
    assert _clock.monotonic() == 30


async def test_loop_without_timers_waits_for_other_threads() -> None:
    """Without a timer the loop waits in real time until a thread wakes it."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    sender = threading.Timer(0.01, lambda: loop.call_soon_threadsafe(done.set))
    sender.start()
    await done.wait()
    sender.join()
    assert _clock.monotonic() == 0


def test_speed_makes_the_clock_run_evenly() -> None:
    """With a speed of 1,000, ten seconds take at least ten real milliseconds."""

    async def sleep() -> float:
        before = _clock.monotonic()
        await asyncio.sleep(10)
        return _clock.monotonic() - before

    start = time.monotonic()
    slept = run(sleep(), speed=1000)
    real = time.monotonic() - start
    assert 10 <= slept < 1000 * real
    assert real < 1


def test_speed_starts_from_the_real_date() -> None:
    """Two processes with the same speed agree on the date, because both start from the real one."""

    async def date() -> float:
        return _clock.wall()

    assert abs(run(date(), speed=2) - time.time()) < 10


def test_run_waits_for_its_threads() -> None:
    """Joining a busy thread at the end of a run cannot time out, because it takes no simulated time."""
    finished = threading.Event()

    def job() -> None:
        time.sleep(0.05)  # in real time, as always in a thread
        finished.set()

    async def leave_it_running() -> None:
        asyncio.get_running_loop().run_in_executor(None, job)

    run(leave_it_running())
    assert finished.is_set()


def test_processes_with_one_epoch_and_speed_have_one_wall_clock() -> None:
    """Also if one starts later, or again: the clock of the first was not set back."""

    async def date() -> float:
        return _clock.wall()

    epoch = time.time() - 100
    before = epoch + (time.time() - epoch) * 1000
    first = run(date(), speed=1000, epoch=epoch)
    second = run(date(), speed=1000, epoch=epoch)
    after = epoch + (time.time() - epoch) * 1000
    assert epoch + 100_000 <= before <= first < second <= after + 1


def test_simulated_time_continues_from_an_epoch() -> None:
    """Without a speed the epoch is where the wall clock starts."""

    async def sleep() -> float:
        await asyncio.sleep(3600)
        return _clock.wall()

    first = run(sleep())
    assert run(sleep(), epoch=first) == first + 3600


@pytest.mark.parametrize("epoch", [float("inf"), float("nan")])
def test_epoch_must_be_finite(epoch: float) -> None:
    with pytest.raises(ValueError, match="epoch"):
        SimulatedEventLoop(epoch=epoch)


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_speed_must_be_a_positive_number(speed: float) -> None:
    """Zero, negative, infinite and NaN speeds are rejected."""
    with pytest.raises(ValueError, match="speed"):
        SimulatedEventLoop(speed=speed)


def test_run_returns_the_result_or_raises_the_exception() -> None:
    """`run` ends like `asyncio.run`."""

    async def fail() -> None:
        await asyncio.sleep(1)
        raise LookupError("here")

    async def succeed() -> str:
        return "value"

    assert run(succeed()) == "value"
    with pytest.raises(LookupError, match="here"):
        run(fail())


@asynccontextmanager
async def open_server(seconds: float) -> AsyncIterator[str]:
    """Start a server in this loop that responds with "done" after some seconds."""

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(body=b"done")

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/"
    finally:
        await runner.cleanup()


async def test_clock_does_not_stand_still_for_ever_in_a_busy_loop() -> None:
    """A task that runs again and again until a time comes sees it come."""
    while _clock.monotonic() < 10:  # noqa: ASYNC110  # that is the point
        await asyncio.sleep(0)
    assert _clock.monotonic() == pytest.approx(10, abs=0.01)
