"""Text that must not be printed or logged."""

from typing import NoReturn


class Secret:
    """An API key, a signing secret or a signed URL.

    The text does not appear in the `repr`, in format strings or in tracebacks. A secret cannot be pickled.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text. Use it only in the expression that needs it, and keep no reference to it."""
        return self._value

    def __repr__(self) -> str:
        return "<Secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")
