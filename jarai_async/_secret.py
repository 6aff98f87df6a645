"""A text that must not be printed."""

from typing import NoReturn


class Secret:
    """A key, a signing secret or a signed URL, which no `repr`, format string, pickle or traceback shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the text itself, for the one expression that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "<Secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
