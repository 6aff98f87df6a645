"""The pytest plugin: a simulator, a client, and simulated time for the tests that use them.

pytest imports its plugins in every run, in any project. So this file is installed as a module of its own,
`_jarai_async_pytest`: within the package it would import all of it, which takes half a second. It imports
the package when the first fixture is set up.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncIterator, Callable, Iterator

    from jarai_async._client import JaraiClient
    from jarai_async.simulator import Simulator

_Scope = Literal["function", "class", "module", "package", "session"]
_MARKERS = (
    "jarai_simulator(**options): options of the `Simulator` of the fixture `jarai_simulator`",
    "jarai_clock(**options): run the test in a `SimulatedEventLoop` with these options (epoch, speed)",
)
_LOOP_SCOPES: tuple[_Scope, ...] = ("function", "class", "module", "package", "session")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and the fixtures of each asynchronous test runner."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    fixtures = _fixtures("anyio", pytest.fixture)
    if config.pluginmanager.hasplugin("asyncio"):
        import pytest_asyncio  # noqa: PLC0415

        for scope in _LOOP_SCOPES:
            fixtures |= _fixtures(scope, pytest_asyncio.fixture(loop_scope=scope))
    config.pluginmanager.register(type("AsyncFixtures", (), fixtures), "jarai_async_fixtures")


# --- Simulated time ------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Iterator[None]:
    """Give a test that uses the kit a simulated event loop. Other tests keep theirs."""
    test = metafunc.definition
    if "jarai_clock" not in metafunc.fixturenames and test.get_closest_marker("jarai_clock") is None:
        return (yield)
    new_loop, anyio_backend = _loop_factory(**_options(test, "jarai_clock"))
    if "anyio_backend" in metafunc.fixturenames:
        test.add_marker(
            pytest.mark.parametrize("anyio_backend", [anyio_backend], ids=["asyncio"], scope="module")
        )
    with _asyncio_loop_factory(metafunc.config, new_loop):
        return (yield)


@cache  # tests share a loop only if pytest gives them the same object
def _loop_factory(**options: Any) -> tuple[Callable[[], AbstractEventLoop], tuple[str, dict[str, Any]]]:
    """Return the function that makes the loops of pytest-asyncio, and the backend of anyio."""

    def new_loop() -> AbstractEventLoop:
        from jarai_async.simulator import SimulatedEventLoop  # noqa: PLC0415

        return SimulatedEventLoop(**options)

    if options:
        new_loop().close()  # a mistake in a marker is an error of its own module, when tests are collected
    return new_loop, ("asyncio", {"loop_factory": new_loop})


def _options(node: pytest.Item, marker: str) -> dict[str, Any]:
    """Return the keyword arguments of a marker; the closest one decides."""
    options: dict[str, Any] = {}
    for mark in node.iter_markers(marker):
        options = {**mark.kwargs, **options}
    return options


@contextmanager
def _asyncio_loop_factory(config: pytest.Config, new_loop: Callable[[], AbstractEventLoop]) -> Iterator[None]:
    """Implement pytest-asyncio's hook only meanwhile: the mere hook would change tests that do not use it."""

    class LoopFactories:
        @pytest.hookimpl(tryfirst=True, optionalhook=True)
        def pytest_asyncio_loop_factories(self) -> dict[str, Callable[[], AbstractEventLoop]]:
            return {"jarai": new_loop}

    plugin = LoopFactories()
    config.pluginmanager.register(plugin)
    try:
        yield
    finally:
        config.pluginmanager.unregister(plugin)


# --- Fixtures ------------------------------------------------------------------------------------


@pytest.fixture
def jarai_clock() -> None:
    """Run the test in simulated time."""


@pytest.fixture
def jarai_simulator(request: pytest.FixtureRequest, jarai_clock: None) -> Simulator:
    """A running `Simulator`, and simulated time; `@pytest.mark.jarai_simulator(...)` gives it options."""
    del jarai_clock
    simulator: Simulator = request.getfixturevalue(f"_jarai_simulator_{_runner(request)}")
    return simulator


@pytest.fixture
def jarai_client(request: pytest.FixtureRequest, jarai_simulator: Simulator) -> JaraiClient:
    """A `JaraiClient` of the simulator."""
    del jarai_simulator
    client: JaraiClient = request.getfixturevalue(f"_jarai_client_{_runner(request)}")
    return client


def _runner(request: pytest.FixtureRequest) -> str:
    """Return what runs the test: "anyio", or the scope of pytest-asyncio's loop."""
    marker = request.node.get_closest_marker("asyncio")
    if "anyio_backend" in request.fixturenames:
        if marker is not None:  # so in its mode "auto"
            message = (
                "anyio runs this test, and pytest-asyncio its fixtures, in another event loop: remove the "
                "mark anyio, or set asyncio_mode = strict"
            )
            pytest.fail(message, pytrace=False)
        return "anyio"
    if marker is None or not request.config.pluginmanager.hasplugin("asyncio"):
        message = (
            f"{request.fixturename} needs an async test that pytest-asyncio or anyio runs: mark it with "
            "pytest.mark.asyncio or pytest.mark.anyio, or set asyncio_mode = auto"
        )
        pytest.fail(message, pytrace=False)
    hook = getattr(request.config.hook, "pytest_asyncio_loop_factories", None)
    if hook is None or not hook.has_spec():
        pytest.fail("jarai_async needs pytest-asyncio 1.4 or later", pytrace=False)
    scope: str = marker.kwargs.get("loop_scope") or request.config.getini("asyncio_default_test_loop_scope")
    return scope


def _fixtures(runner: str, decorate: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the asynchronous fixtures, as `decorate` makes them for a test runner, by name."""

    async def simulator(request: pytest.FixtureRequest) -> AsyncIterator[Simulator]:
        import asyncio  # noqa: PLC0415

        from jarai_async.simulator import SimulatedEventLoop, Simulator  # noqa: PLC0415
        from jarai_async.testing import warn_of_unmatched  # noqa: PLC0415

        if not isinstance(asyncio.get_running_loop(), SimulatedEventLoop):
            message = (
                "the test is not in simulated time: request jarai_simulator as an argument, or mark the test"
            )
            pytest.fail(f"{message} with jarai_clock", pytrace=False)
        options = {"failure_rate": 0.0, **_options(request.node, "jarai_simulator")}
        async with Simulator(**options) as simulator:
            yield simulator
            warn_of_unmatched(simulator)

    async def client(jarai_simulator: Simulator) -> AsyncIterator[JaraiClient]:
        from jarai_async._client import JaraiClient  # noqa: PLC0415

        async with JaraiClient(jarai_simulator.api_key, base_url=jarai_simulator.base_url) as client:
            yield client

    return {
        f"_jarai_simulator_{runner}": decorate(simulator),
        f"_jarai_client_{runner}": decorate(client),
    }
