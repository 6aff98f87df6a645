"""Makes text from outside safe to print: messages of servers, topics, references, file names, webhooks.

Errors and events call `printable` when they become text, and so does this library's logger for every record,
before a handler sees it. Values that programs read, such as `JaraiError.message` and JSON lines, stay exact.
"""

import logging
import unicodedata

_JOINERS = "\u200c\u200d"  # invisible, but needed for Persian, Indian scripts and emoji


def printable(text: str) -> str:
    r"""Replace each character that a terminal obeys or that breaks a line by its escape sequence (`\x1b`).

    These are control characters, line and paragraph separators, characters that change the direction of text,
    lone surrogates, and others that have no picture.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_printable(char) else _escape(char) for char in text)


def first_line(error: BaseException) -> str:
    """Return the first line of another library's message, or its type where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _is_printable(char: str) -> bool:
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _make_record_printable(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            arg if isinstance(arg, int | float) else printable(str(arg)) for arg in record.args
        )
    if record.exc_info:
        lines = logging.Formatter().formatException(record.exc_info).split("\n")
        record.exc_text = "\n".join(map(printable, lines))  # formatters use it instead of the exception
    return True


logging.getLogger("jarai_async").addFilter(_make_record_printable)
