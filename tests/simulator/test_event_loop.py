"""Simulated time: the loop's clock jumps or runs as asked, and everything in the loop agrees on it."""

import asyncio
import threading
import time
from datetime import UTC, datetime

import pytest
from aiohttp import ClientSession, ClientTimeout, web
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import _clock
from jarai_async.simulator import SimulatedEventLoop, run


def test_hours_pass_in_no_time() -> None:
    """A day's sleep takes less than a real second, and is a day on both clocks."""

    async def day() -> tuple[float, float]:
        now, wall = _clock.monotonic(), _clock.wall()
        await asyncio.sleep(86_400)
        return _clock.monotonic() - now, _clock.wall() - wall

    start = time.monotonic()
    assert run(day()) == (86_400, 86_400)
    assert time.monotonic() - start < 1


def test_simulated_time_begins_at_the_same_moment_in_every_run() -> None:
    """The wall clock starts on 1 January 2026 at 09:00 UTC, the monotonic one at zero."""

    async def beginning() -> tuple[float, datetime]:
        return _clock.monotonic(), _clock.utc()

    assert run(beginning()) == run(beginning()) == (0.0, datetime(2026, 1, 1, 9, tzinfo=UTC))


def test_the_clock_stands_still_while_there_is_work() -> None:
    """However often tasks take turns, time passes only when all of them wait."""

    async def busy() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return _clock.monotonic()

    assert run(busy()) == 0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30))
def test_timers_fire_in_order_at_their_very_moment(delays: list[int]) -> None:
    """Each sleeper wakes exactly when it asked to, the earliest first."""
    woken: list[tuple[int, float]] = []

    async def sleeper(delay: int) -> None:
        await asyncio.sleep(delay)
        woken.append((delay, _clock.monotonic()))

    async def all_of_them() -> None:
        await asyncio.gather(*map(sleeper, delays))

    run(all_of_them())
    assert woken == [(delay, float(delay)) for delay in sorted(delays)]


async def test_bytes_over_loopback_take_no_time() -> None:
    """A request to a server in this loop is answered at the moment at which it was sent."""
    async with serving(0.0) as url, ClientSession() as session:
        await asyncio.sleep(0.1)
        for _ in range(50):
            before = _clock.monotonic()
            async with session.get(url) as response:
                assert await response.read() == b"done"
            assert _clock.monotonic() == before


async def test_a_timeout_of_the_client_is_on_the_same_clock_as_the_server() -> None:
    """A client that waits for 10 seconds gives up on a server that takes 20, and not on one that takes 5."""
    timeout = ClientTimeout(sock_read=10)
    async with ClientSession(timeout=timeout) as session:
        async with serving(5) as url, session.get(url) as response:
            assert response.status == 200
        async with serving(20) as url:
            before = _clock.monotonic()
            with pytest.raises(TimeoutError):
                await session.get(url)
            assert _clock.monotonic() - before == pytest.approx(10, abs=1)  # aiohttp rounds up


async def test_a_thread_at_work_holds_the_clock() -> None:
    """While a job runs in an executor no timer fires, however long it really takes."""
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(5, lambda: None)
    release = threading.Event()
    loop.call_soon(lambda: threading.Timer(0.02, release.set).start())
    assert await loop.run_in_executor(None, release.wait, 5)
    assert _clock.monotonic() == 0
    await asyncio.sleep(1)  # it goes on when the job is done
    assert _clock.monotonic() == 1
    alarm.cancel()


async def test_a_job_that_fails_lets_go_of_the_clock() -> None:
    """An exception in a thread is the caller's, and time passes again."""

    def job() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await asyncio.get_running_loop().run_in_executor(None, job)
    await asyncio.sleep(30)
    assert _clock.monotonic() == 30


async def test_a_loop_without_timers_waits_for_what_happens_outside() -> None:
    """With nothing to jump to, the loop sleeps for real until a thread calls."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    sender = threading.Timer(0.01, lambda: loop.call_soon_threadsafe(done.set))
    sender.start()
    await done.wait()
    sender.join()
    assert _clock.monotonic() == 0


def test_a_speed_makes_the_clock_run_evenly() -> None:
    """At a thousandfold speed ten seconds take at least ten real milliseconds."""

    async def nap() -> float:
        before = _clock.monotonic()
        await asyncio.sleep(10)
        return _clock.monotonic() - before

    start = time.monotonic()
    slept = run(nap(), speed=1000)
    real = time.monotonic() - start
    assert 10 <= slept < 1000 * real
    assert real < 1


def test_a_speed_starts_from_the_real_date() -> None:
    """Two processes at one speed agree on the date because both begin with the world's."""

    async def date() -> float:
        return _clock.wall()

    assert abs(run(date(), speed=2) - time.time()) < 10


def test_the_end_of_a_run_waits_for_its_threads() -> None:
    """Joining a thread that is still busy takes no simulated time, and so cannot time out."""
    finished = threading.Event()

    def job() -> None:
        time.sleep(0.05)  # real: a thread knows no other time
        finished.set()

    async def leaves_it_running() -> None:
        asyncio.get_running_loop().run_in_executor(None, job)

    run(leaves_it_running())
    assert finished.is_set()


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_a_speed_must_be_a_positive_number(speed: float) -> None:
    """No other speed has a meaning."""
    with pytest.raises(ValueError, match="speed"):
        SimulatedEventLoop(speed=speed)


def test_run_gives_the_result_and_lets_errors_through() -> None:
    """`run` ends like `asyncio.run`: with the value, or with the exception."""

    async def fails() -> None:
        await asyncio.sleep(1)
        raise LookupError("here")

    async def gives() -> str:
        return "value"

    assert run(gives()) == "value"
    with pytest.raises(LookupError, match="here"):
        run(fails())


class serving:  # noqa: N801 - used like a function
    """A server in this loop that takes so many seconds to say "done"."""

    def __init__(self, seconds: float) -> None:
        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(seconds)
            return web.Response(body=b"done")

        self._runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
