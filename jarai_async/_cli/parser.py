"""argparse, with suggestions for mistyped words."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

_INVALID_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")


class Parser(argparse.ArgumentParser):
    """A parser whose errors say "did you mean". `description` is wrapped, `epilog` is printed as it is."""

    def __init__(self, *, description: str, **options: Any) -> None:
        width = min(shutil.get_terminal_size().columns, 100) - 2
        super().__init__(description=textwrap.fill(description, width), **options)
        self.formatter_class = argparse.RawDescriptionHelpFormatter

    def parse_known_args(  # type: ignore[override]  # the overloads
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, and reject unknown ones here: the parser of the command knows its options."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            mistyped = next((word for word in unknown if word.startswith("-")), "")
            known = [name for name in self._option_string_actions if name.startswith("--")]
            hint = _did_you_mean(mistyped.partition("=")[0], known)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Print a message that names what was probably meant, and exit with 2."""
        if match := _INVALID_CHOICE.search(message):
            message += _did_you_mean(match[1], [name.strip("' ") for name in match[2].split(",")])
        super().error(message)


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
