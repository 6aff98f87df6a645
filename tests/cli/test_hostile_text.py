"""Text from outside, printed: no escape sequence, no forged line, no markup and no traceback."""

import asyncio
import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async._cli import output
from jarai_async._cli.streams import background_streams
from tests.cli.helpers import JARAI, on_screen, terminal_output
from tests.support.strategies import json_values

HOSTILE = "[/bold]é\x1b[2J\r\njarai: 200 published\u202e\u2028[link=https://x]"


class Terminal(StringIO):
    """A terminal whose output can be read."""

    def isatty(self) -> bool:
        return True


def printed_by(coroutine: Any, stdout: StringIO) -> tuple[str, str]:
    """Run a coroutine as the command does, and return what it prints on both streams."""
    stderr = StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr), background_streams():
        asyncio.run(coroutine)
        assert output.finish(0) == 0
    return stdout.getvalue(), stderr.getvalue()


@given(st.dictionaries(st.text(st.characters(exclude_categories=())), json_values))
def test_json_lines_are_ascii_without_control_characters_and_exact(line: dict[str, Any]) -> None:
    """A program reads back the same values; a terminal obeys nothing of them."""
    text, _ = printed_by(output.print_line(line), StringIO())
    assert text.endswith("\n")
    assert text[:-1].isascii()
    assert text[:-1].isprintable()
    assert json.dumps(json.loads(text)) == json.dumps(line)


def test_summary_and_messages_are_printable_lines() -> None:
    """Each problem is one line, whatever a server said."""

    async def show() -> None:
        output.print_message(HOSTILE)
        output.print_summary([HOSTILE, HOSTILE], "done")

    text, error = printed_by(show(), Terminal())
    assert text == ""
    assert len(error.split("\n")) == 5
    assert error.startswith(r"jarai: [/bold]é\x1b[2J\r\njarai: 200 published\u202e\u2028[link")
    assert "\x1b" not in error


def test_ascii_terminal_shows_escapes_instead_of_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Characters that the terminal's encoding does not have are escaped."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    batch = tmp_path / "batch.jsonl"
    batch.write_text(json.dumps({"topic": "Zürich", "reference": HOSTILE}))
    command = [*JARAI, "run", str(batch), "--simulate", "--failure-rate=1"]
    printed = terminal_output(command, tmp_path, columns=200)
    problem, *_, summary = on_screen(printed, columns=200)
    shown = r"[/bold]\xe9\x1b[2J\r\njarai: 200 published\u202e\u2028[link=https://x] failed: "
    assert problem.startswith(shown)
    assert summary.startswith("1 submitted, 1 finished: 0 published, 1 failed")
    assert "Traceback" not in printed
