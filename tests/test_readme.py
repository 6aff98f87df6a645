"""The README's examples, run as they stand."""

import re
from pathlib import Path
from typing import Any

import pytest
from scenarios import request_for, requests_for

from jarai_async import Outcome
from jarai_async.simulator import SimulatedEventLoop, Simulator

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BATCH, APP, BY_HAND, TESTING, CONFTEST = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def _key_in_the_environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JARAI_API_KEY", simulator.api_key)
    monkeypatch.setenv("JARAI_BASE_URL", simulator.base_url)
    monkeypatch.chdir(tmp_path)


def defined_by(source: str) -> dict[str, Any]:
    """Run an example, but for a last line that would begin a loop of its own."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(source.replace("asyncio.run(main())", ""), names)  # noqa: S102  # it is our own text
    return names


@pytest.mark.usefixtures("_key_in_the_environment")
async def test_the_batch_script_fetches_every_topic(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each of its topics is published, and its files stand in its folder."""
    await defined_by(BATCH)["main"]()
    printed = capsys.readouterr().out
    assert printed.count(" published") == 3
    assert len(list((tmp_path / "deliverables").glob("*/manifest.json"))) == 3


@pytest.mark.usefixtures("_key_in_the_environment")
async def test_the_app_gets_its_outcomes(simulator: Simulator) -> None:
    """Tickets are awaited, and their events read."""
    outcomes: list[Outcome] = await defined_by(APP)["main"](requests_for(simulator, 2))
    assert all(outcome.ok for outcome in outcomes)


@pytest.mark.usefixtures("_key_in_the_environment")
async def test_by_hand_fetches_files_and_stops(simulator: Simulator, tmp_path: Path) -> None:
    """Submit, wait, download; and cancel."""
    names = defined_by(BY_HAND)
    await names["by_hand"](request_for(simulator))
    assert list(tmp_path.glob("files/*.mp4"))
    (production_id,) = simulator.productions
    await names["stop"](production_id)


def test_the_test_of_ones_own_program_passes() -> None:
    """The example brings its own loop."""
    defined_by(TESTING)


def test_the_conftest_is_the_one_of_these_tests() -> None:
    """It names the hook that pytest-asyncio calls."""
    assert defined_by(CONFTEST)["pytest_asyncio_loop_factories"]() == {"simulated": SimulatedEventLoop}


def test_the_first_two_shell_blocks_are_one_line_each() -> None:
    """They are what a new user pastes."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert [block.count("\n") for block in blocks[:2]] == [1, 1]
    assert "--simulate" in blocks[0]
    assert "pytest" in blocks[1]
