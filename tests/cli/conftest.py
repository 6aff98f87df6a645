"""A simulator in another process, for tests that run commands."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import jarai_async
from tests.cli.helpers import JARAI


@pytest.fixture(autouse=True)
def _this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands that run in other folders import this package, not an installed one."""
    monkeypatch.setenv("PYTHONPATH", str(Path(jarai_async.__file__).parents[1]))


@pytest.fixture
def served(_this_checkout: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """`jarai simulate` in another process; its settings are returned and set in the environment."""
    command = [*JARAI, "simulate", "--port=0", "--speed=600", "--seed=0"]  # which decides what fails
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        settings: dict[str, str] = json.loads(process.stdout.readline())
        monkeypatch.setenv("JARAI_API_KEY", settings["JARAI_API_KEY"])
        monkeypatch.setenv("JARAI_BASE_URL", settings["JARAI_BASE_URL"])
        yield settings
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 0


# A process in the background may ignore these, and so would the commands that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
