"""The API key, and where a new one comes from when it is refused."""

import asyncio
import inspect
import logging
import warnings
from collections.abc import Awaitable, Callable

from jarai_async._errors import ConfigurationError
from jarai_async._secret import Secret
from jarai_async._urls import SENDABLE

_log = logging.getLogger("jarai_async")

KeyProvider = Callable[[], str | Awaitable[str]]


class Credentials:
    """Holds the key that is used now; a provider is asked for it first, and again when it is refused."""

    def __init__(self, given: str | KeyProvider) -> None:
        self._provider = given if callable(given) else None
        self._key = None if callable(given) else checked_key(given)
        self._may_ask = True
        self.ever_worked = False
        """Whether any key was accepted."""
        self._asking = asyncio.Lock()

    async def key(self) -> Secret:
        """Give the key. Raises ConfigurationError where the provider has none."""
        if self._key is None:
            async with self._asking:
                if self._key is None:
                    self._key = await self._provided()
        return self._key

    def accepted(self, key: Secret) -> None:
        """Note that a key works."""
        self._may_ask = self._may_ask or key is self._key
        self.ever_worked = True

    def may_ask_again(self) -> None:
        """Let the provider be asked, though the last that it gave has not worked."""
        self._may_ask = True

    async def renewed(self, refused: Secret) -> bool:
        """Whether there is another key than the one that was refused. The provider is asked once for all."""
        if self._provider is None:
            return False
        async with self._asking:
            if self._key is not refused:
                return True
            if not self._may_ask:
                return False
            self._may_ask = False
            try:
                key = await self._provided()
            except ConfigurationError as error:
                _log.error("%s", error)
                return False
            if key.reveal() == refused.reveal():
                return False
            self._key = key
            return True

    async def _provided(self) -> Secret:
        """Ask the provider; what it raises is named, but not shown: it may hold a key."""
        try:
            key = self._provider() if self._provider is not None else ""
            return checked_key(await key if inspect.isawaitable(key) else key)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001  # the user's own code
            kind = type(error).__name__
        raise ConfigurationError(f"the provider of the API key failed: {kind}")


def checked_key(key: str) -> Secret:
    """Check that the key can be sent; warn of one that does not look like JARAI's."""
    if not isinstance(key, str):
        raise ConfigurationError(f"the API key must be text, not {type(key).__name__}")
    if not key:
        raise ConfigurationError("no API key: pass api_key, or set JARAI_API_KEY")
    if not SENDABLE.fullmatch(key):
        raise ConfigurationError("the API key has white space or characters that no header can carry")
    if not key.startswith("jarai_"):
        warnings.warn("the API key does not begin with jarai_: is it JARAI's?", stacklevel=3)
    return Secret(key)
