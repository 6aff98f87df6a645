"""The pytest plugin in projects of a user, which have no conftest.py."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jarai_async.testing import pytest_plugin

COMMON = """
import asyncio

import pytest

from jarai_async import Orchestrator, ProductionRequest
from jarai_async.simulator import SimulatedEventLoop

pytestmark = pytest.mark.asyncio


async def test_whole_production_takes_no_real_time(jarai_simulator, jarai_client):
    request = ProductionRequest(topic="How tides work", **jarai_simulator.ids)
    async with Orchestrator(jarai_client) as orchestrator:
        assert (await orchestrator.submit(request)).state == "published"
    assert asyncio.get_running_loop().time() > 600


@pytest.fixture
def tier(jarai_simulator):
    return jarai_simulator.tier


@pytest.mark.jarai_simulator(tier="free", seed=1)
class TestOptions:
    @pytest.mark.jarai_simulator(seed=7)
    @pytest.mark.parametrize("n", [1, 2])
    async def test_options_of_markers_are_merged(self, tier, jarai_simulator, n):
        assert (tier, jarai_simulator.seed) == ("free", 7)
        await asyncio.sleep(86_400)


@pytest.mark.jarai_clock(epoch=60.0)
async def test_marker_of_the_clock():
    await asyncio.sleep(86_400)
    assert asyncio.get_running_loop().wall_time() == 86_460


@pytest.mark.usefixtures("jarai_clock")
async def test_fixture_of_the_clock():
    await asyncio.sleep(86_400)


async def test_loop_is_kept():
    assert not isinstance(asyncio.get_running_loop(), SimulatedEventLoop)
"""

ASYNCIO = """
import pytest_asyncio


@pytest_asyncio.fixture
async def accounts(jarai_client):
    return await jarai_client.accounts()


async def test_fixtures_of_the_project_use_the_same_loop(accounts, jarai_client):
    assert accounts == await jarai_client.accounts()


@pytest.mark.asyncio(loop_scope="class")
class TestLoopOfAClass:
    loops = set()

    async def test_first(self, jarai_client):
        await self.is_simulated(jarai_client)

    async def test_second(self, jarai_client):
        await self.is_simulated(jarai_client)
        assert len(self.loops) == 1

    async def is_simulated(self, client):
        assert await client.accounts()
        await asyncio.sleep(86_400)
        self.loops.add(asyncio.get_running_loop())
"""

ANYIO = """
import anyio


@pytest.fixture
async def accounts(jarai_client):
    return await jarai_client.accounts()


async def test_fixtures_of_the_project_use_the_same_loop(accounts, jarai_client):
    with anyio.move_on_after(86_400) as scope:
        assert accounts == await jarai_client.accounts()
        await anyio.sleep_forever()
    assert scope.cancelled_caught
"""


CONFTEST = """
import asyncio

import pytest_asyncio


class OwnLoop(asyncio.SelectorEventLoop):
    pass


def pytest_asyncio_loop_factories():
    return {"own": OwnLoop}


@pytest_asyncio.fixture
async def own_loop():
    assert type(asyncio.get_running_loop()) is OwnLoop
"""


LATE = """
import pytest


@pytest.fixture
def late(request):
    return request.getfixturevalue("jarai_simulator")


async def test_without_mark(late):
    pass


@pytest.mark.jarai_clock
async def test_with_mark(late):
    assert late.accounts
"""


def run_project(folder: Path, source: str, *options: str) -> int:
    """Run pytest in this process, with the plugin of this checkout and every warning as an error."""
    (folder / f"{folder.name}.py").write_text(source)
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:jarai", "-W", "error", "--import-mode=importlib"]
    if "no:asyncio" not in options:
        arguments += ["-o", "asyncio_default_fixture_loop_scope=function"]
    arguments += ["-c", "/dev/null", f"--rootdir={folder}", *options, str(folder)]
    return pytest.main(arguments, plugins=[pytest_plugin])


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_project_with_pytest_asyncio(mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tests that use the kit run in simulated time, in the scope of their loop, and no others do."""
    source = COMMON + ASYNCIO
    if mode == "auto":
        source = source.replace("pytestmark = pytest.mark.asyncio", "")
    assert run_project(tmp_path, source, "-o", f"asyncio_mode={mode}") == 0, capsys.readouterr().out
    assert "9 passed" in capsys.readouterr().out


def test_project_with_anyio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tests that use the kit run in simulated time, and no others do."""
    source = COMMON.replace("pytest.mark.asyncio", "pytest.mark.anyio") + ANYIO
    options = ("-o", "asyncio_mode=strict", "-k", "not trio")
    assert run_project(tmp_path, source, *options) == 0, capsys.readouterr().out
    assert "7 passed" in capsys.readouterr().out


def test_anyio_mark_with_asyncio_mode_auto(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two plugins would run the test and its fixtures in two loops: the message says what to do."""
    source = "import pytest\n\n@pytest.mark.anyio\nasync def test(jarai_client):\n    pass\n"
    assert run_project(tmp_path, source, "-o", "asyncio_mode=auto", "-k", "not trio") == 1
    assert "remove the mark anyio, or set asyncio_mode = strict" in capsys.readouterr().out


@pytest.mark.parametrize("scope", ["class", "module", "session"])
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_loop_scopes(mode: str, scope: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the mark of a module, and by pytest's configuration."""
    mark = f"pytest.mark.asyncio(loop_scope={scope!r})"
    source = COMMON.replace("pytestmark = pytest.mark.asyncio", f"pytestmark = {mark}")
    assert run_project(tmp_path, source, "-o", f"asyncio_mode={mode}") == 0, capsys.readouterr().out
    options = ("-o", f"asyncio_mode={mode}", "-o", f"asyncio_default_test_loop_scope={scope}")
    assert run_project(tmp_path, COMMON, *options) == 0, capsys.readouterr().out


def test_hook_of_the_project_decides_for_the_other_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    source = COMMON.replace("test_loop_is_kept()", "test_loop_is_kept(own_loop)")
    assert run_project(tmp_path, source) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("def test_sync(jarai_client):\n    pass\n", ()),
        (
            "import pytest\n\n@pytest.mark.asyncio\nasync def test_async(jarai_client):\n    pass\n",
            ("-p", "no:asyncio", "-W", "ignore::pytest.PytestUnknownMarkWarning"),
        ),
    ],
)
def test_fixture_in_a_test_that_no_plugin_runs(
    source: str, options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails, and the message says what is needed."""
    assert run_project(tmp_path, source, *options) == 1
    assert "jarai_simulator needs an async test that pytest-asyncio or anyio runs" in capsys.readouterr().out


def test_fixture_that_is_requested_while_the_test_is_set_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """pytest knows it too late to choose the loop, and a production would take its real time."""
    assert run_project(tmp_path, LATE, "-o", "asyncio_mode=auto") == 1
    printed = capsys.readouterr().out
    assert "request jarai_simulator as an argument, or mark the test with jarai_clock" in printed
    assert "1 passed, 1 error" in printed


def test_mistake_in_the_marker_of_the_clock_is_an_error_of_its_own_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loop that cannot be made while tests run would break those after it."""
    marks = "@pytest.mark.asyncio\n@pytest.mark.jarai_clock(epoch='noon')\n"
    source = f"import pytest\n\n{marks}async def test():\n    pass\n"
    assert run_project(tmp_path, source) == 2
    assert "1 error" in capsys.readouterr().out


def test_rule_that_no_submission_has_matched_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its topic is misspelt, so the test would pass whatever the program does."""
    source = "async def test(jarai_simulator):\n    jarai_simulator.when(topic='Tydes').fails(step=8)\n"
    assert (
        run_project(tmp_path, source, "-o", "asyncio_mode=auto", "-W", "error")
        == pytest.ExitCode.TESTS_FAILED
    )
    assert "no submission has matched when topic='Tydes': fails step=8" in capsys.readouterr().out


def test_plugin_that_is_not_used_imports_nothing(tmp_path: Path) -> None:
    """Under the name that it is installed with, it imports neither the package nor aiohttp."""
    shutil.copy(str(pytest_plugin.__file__), tmp_path / "_jarai_async_pytest.py")
    source = "import sys\n\ndef test_modules():\n    assert not {'jarai_async', 'aiohttp'} & {*sys.modules}\n"
    (tmp_path / "test_unused.py").write_text(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "_jarai_async_pytest",
        "-W",
        "error",
        "--rootdir=.",
    ]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_plugin_is_installed_as_a_module_of_its_own() -> None:
    root = Path(pytest_plugin.__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    (module,) = project["project"]["entry-points"]["pytest11"].values()
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert [root / path for path, name in included.items() if name == f"{module}.py"] == [
        Path(pytest_plugin.__file__)
    ]
