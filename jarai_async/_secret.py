"""A text that must not be printed."""

from typing import NoReturn


class Secret:
    """Holds an API key so that neither `repr`, a format string, a pickle nor a traceback shows it."""

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
