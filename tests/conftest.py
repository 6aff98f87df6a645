"""Every async test runs on simulated time: a real server in the same loop, hours in milliseconds."""

from collections.abc import Callable, Mapping

from jarai_async.simulator import SimulatedEventLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], SimulatedEventLoop]]:
    return {"simulated": SimulatedEventLoop}
