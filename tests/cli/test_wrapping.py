"""Lines on a narrow terminal: no word is cut in two, and a command can be copied as it is shown."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async._cli.wrapping import wrap, wrap_command, wrap_items

words = st.lists(st.text("ab-./'é$ ", min_size=1, max_size=30), min_size=1, max_size=12)


@given(words, st.integers(20, 100))
def test_command_in_several_lines_is_the_same_command(arguments: list[str], width: int) -> None:
    """A shell joins the lines, each of which ends with a backslash."""
    command = shlex.join(["jarai", "resume", *arguments])
    shown = wrap_command("jarai: to continue", command, width)
    copied = shown.removeprefix("jarai: to continue:")
    assert shlex.split(copied.replace("\\\n", " ")) == ["jarai", "resume", *arguments]
    assert wrap_command("jarai: to continue", command, None) == f"jarai: to continue: {command}"
    longest = max(len(shlex.quote(word)) for word in ["jarai resume", *arguments])
    assert all(len(line) <= max(width, longest + 6) for line in shown.split("\n"))


@pytest.mark.parametrize("width", [50, 80, 100])
def test_lines_break_between_words(width: int) -> None:
    """What is in backticks stays in one line: a terminal that wraps it lets it be copied."""
    text = (
        "     2 failed: PIPELINE_STEP_FAILED, such as Step 6, see `jarai retry topics.csv.journal` "
        + "word " * 20
    )
    lines = wrap(text, width, " " * 7).split("\n")
    assert " ".join(line.strip() for line in lines) == text.strip()
    assert max(map(len, lines)) <= width
    assert any("`jarai retry topics.csv.journal`" in line for line in lines)
    assert all(line.startswith(" " * 7) for line in lines[1:])


def test_lists_break_behind_commas() -> None:
    """So a number stays beside what it counts; an item that is too long breaks between its words."""
    text = "2 producing, 8 to approve, 4 distributing, 1 downloading, 2 failed"
    assert wrap_items(text, 50).split("\n") == [
        "2 producing, 8 to approve, 4 distributing,",
        "1 downloading, 2 failed",
    ]
    assert wrap_items("", 50) == ""
    assert wrap_items("one very long item", 10).split("\n") == ["one very", "long item"]
