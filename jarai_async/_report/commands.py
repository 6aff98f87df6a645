"""The commands of a POSIX shell that decide about a request. Pure."""

import shlex

from jarai_async._events import OutcomeState
from jarai_async._printable import printable
from jarai_async._report.rows import Row

_RETRIED = (OutcomeState.REJECTED, OutcomeState.FAILED, OutcomeState.CANCELLED)


def commands_for(row: Row, journal: str) -> list[str]:
    """Return the commands that decide what becomes of a request that went wrong."""
    if row.state == OutcomeState.UNCERTAIN:
        options = ("--production-id ID", "--resubmit")
        return [_command("resolve", journal, row.reference, option) for option in options]
    if row.is_final and row.state in _RETRIED:
        return [_command("retry", journal, row.reference)]
    return [resume_command(journal)]


def retry_command(journal: str) -> str:
    """Return the command that lets all rejected and failed requests be submitted again."""
    return _command("retry", journal)


def resume_command(journal: str) -> str:
    """Return the command that continues the requests of a journal."""
    return _command("resume", journal)


def _command(name: str, journal: str, reference: str = "", option: str = "") -> str:
    words = ["jarai", name, _word(f"./{journal}" if journal.startswith("-") else journal)]
    if reference.startswith("-"):
        words += [option, "--", _word(reference)]
    elif reference:
        words += [_word(reference), option]
    return " ".join(filter(None, words))


def _word(text: str) -> str:
    r"""Quote an argument; text that cannot be printed is written with escapes, as in `$'\\x0a'`."""
    if text == printable(text):
        return shlex.quote(text)
    return f"$'{''.join(map(_escape, text))}'"


def _escape(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char == printable(char):
        return char
    byte = char.encode(errors="surrogateescape")  # of a file name that is not UTF-8
    return f"\\x{byte[0]:02x}" if len(byte) == 1 else f"\\U{ord(char):08x}"
