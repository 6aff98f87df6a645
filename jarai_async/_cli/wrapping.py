"""Lines for a terminal that break between words, and commands that can still be copied as one."""

import os
import shlex
import sys
import textwrap
from contextlib import suppress
from typing import TextIO

_CONTINUED = " \\"
_UNBROKEN = "\0"  # printable text has none


def columns(stream: TextIO | None = None) -> int | None:
    """Return the width of the terminal that a stream is, standard error by default; None if it is none."""
    stream = stream or sys.stderr
    if not stream.isatty():
        return None
    with suppress(OSError):  # of a stream that has no file descriptor
        return os.get_terminal_size(stream.fileno()).columns or None
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) else None


def wrap(text: str, width: int | None, indent: str = "") -> str:
    """Break a line that is longer than `width` between words, but not within backticks, which have commands.

    `indent` precedes all lines but the first.
    """
    if width is None or len(text) <= width:
        return text
    parts = text.split("`")
    parts[1::2] = [part.replace(" ", _UNBROKEN) for part in parts[1::2]]
    wrapped = textwrap.fill(
        "`".join(parts), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapped.replace(_UNBROKEN, " ")


def wrap_items(text: str, width: int | None) -> str:
    """Break a list behind commas, and where an item is too long for that, between words."""
    if width is None:
        return text
    lines = [""]
    for item in text.split(", "):
        longer = f"{lines[-1]}, {item}" if lines[-1] else item
        if len(longer) < width:
            lines[-1] = longer
        else:
            lines[-1] += ","
            lines.append(item)
    return "\n".join(wrap(line, width) for line in lines if line.strip(","))


def wrap_command(purpose: str, command: str, width: int | None) -> str:
    """Return a command of a POSIX shell behind its purpose; if that is too long, below it."""
    line = f"{purpose}: {command}"
    if width is None or len(line) <= width:
        return line
    first, *words = map(shlex.quote, shlex.split(command))
    lines = [first]
    for word in words:
        if len(f"{lines[-1]} {word}{_CONTINUED}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return "\n".join([f"{purpose}:", f"{_CONTINUED}\n".join(lines)])
