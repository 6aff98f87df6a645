"""The README's examples, run as they are, and its other statements that can be checked."""

import re
from pathlib import Path
from typing import Any

import pytest

import jarai_async
from jarai_async import JaraiError, Outcome
from jarai_async.simulator import SimulatedEventLoop, Simulator
from tests.support.scenarios import request_for, requests_for

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BATCH, TICKETS, BY_HAND, TESTING, CONFTEST = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def defined_by(source: str) -> dict[str, Any]:
    """Run an example, without a last line that starts an event loop."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(source.replace("asyncio.run(main())", ""), names)  # noqa: S102  # it is our own text
    return names


@pytest.mark.usefixtures("environment")
async def test_batch_script_downloads_every_topic(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each of its topics is published, and has a folder with a manifest."""
    await defined_by(BATCH)["main"]()
    printed = capsys.readouterr().out
    assert printed.count(" published") == 3
    assert len(list((tmp_path / "deliverables").glob("*/manifest.json"))) == 3


@pytest.mark.usefixtures("environment")
async def test_tickets_return_their_outcomes(simulator: Simulator) -> None:
    """The application reads the events of its tickets and awaits their outcomes."""
    outcomes: list[Outcome] = await defined_by(TICKETS)["main"](requests_for(simulator, 2))
    assert all(outcome.ok for outcome in outcomes)


@pytest.mark.usefixtures("environment")
async def test_single_calls_download_files_and_cancel(simulator: Simulator, tmp_path: Path) -> None:
    """`by_hand` submits, waits and downloads; `stop` cancels."""
    names = defined_by(BY_HAND)
    await names["by_hand"](request_for(simulator))
    assert list(tmp_path.glob("files/*/*.mp4"))
    (production_id,) = simulator.productions
    await names["stop"](production_id)


def test_example_of_a_test_passes() -> None:
    """It runs in an event loop of its own."""
    defined_by(TESTING)


def test_example_conftest_provides_the_simulated_clock() -> None:
    """It defines the hook that pytest-asyncio calls."""
    assert defined_by(CONFTEST)["pytest_asyncio_loop_factories"]() == {"simulated": SimulatedEventLoop}


def test_error_tree_is_complete() -> None:
    """Every public error is in the tree, below its base class."""
    (tree,) = re.findall(r"^(JaraiError\n.*?)```", README, re.DOTALL | re.MULTILINE)
    path: list[str] = []
    parents: dict[str, str | None] = {}
    for line in tree.splitlines():
        name = re.search(r"\w+", line)
        assert name is not None
        path[name.start() // 4 :] = [name[0]]
        parents[name[0]] = path[-2] if path[1:] else None
    errors = [value for value in vars(jarai_async).values() if _is_error(value)]
    expected = {error.__name__: next(filter(_is_error, error.__bases__), None) for error in errors}
    assert parents == {name: base.__name__ if base else None for name, base in expected.items()}


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, JaraiError)


def test_first_two_shell_blocks_are_one_line_each() -> None:
    """A new user pastes them, and .ci/run runs the second."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert [block.count("\n") for block in blocks[:2]] == [1, 1]
    assert "--simulate" in blocks[0]
    assert "pytest" in blocks[1]
