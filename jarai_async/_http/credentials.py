"""The API key, and where a new one comes from when JARAI rejects it."""

import asyncio
import inspect
import logging
import math
import warnings
from collections.abc import Awaitable, Callable
from datetime import datetime

from jarai_async import _clock
from jarai_async._api import wire
from jarai_async._errors import ConfigurationError
from jarai_async._secret import Secret
from jarai_async._urls import SENDABLE

_log = logging.getLogger("jarai_async")

KeyProvider = Callable[[], str | Awaitable[str]]

_FIRST_PAUSE = 30.0  # seconds
_LONGEST_PAUSE = 300.0  # seconds
_SUBMIT_REJECTIONS = 3  # then a key that is accepted for other requests is not waited for


class Credentials:
    """Holds the API key in use. A provider is called for the first key, and again when a key is rejected."""

    def __init__(self, key_or_provider: str | KeyProvider) -> None:
        self._provider = key_or_provider if callable(key_or_provider) else None
        self._key = None if callable(key_or_provider) else _checked_key(key_or_provider)
        self._may_call_provider = True
        self._calling_provider = asyncio.Lock()
        self.was_accepted: asyncio.Event = asyncio.Event()
        """Set once JARAI has accepted any key: then one that it rejects may be accepted later."""
        self._rejections = 0  # pauses since a key was last accepted
        self._pause_ends: float | None = None  # monotonic; of the last pause
        self.rejected_since: datetime | None = None
        """Since when JARAI rejects the key (UTC); None if it accepts it, as far as known."""
        self._submit_rejections = 0  # while the key was accepted for other requests; one each half minute
        self._submit_rejected_at = -math.inf  # monotonic

    async def key(self) -> Secret:
        """Return the key. Raises ConfigurationError where the provider has none."""
        if self._key is None:
            async with self._calling_provider:
                if self._key is None:
                    self._key = await self._call_provider()
        return self._key

    async def is_sandbox(self) -> bool:
        """Whether the key is for the sandbox (documented prefix). Raises ConfigurationError."""
        return (await self.key()).reveal().startswith(wire.SANDBOX_KEY_PREFIX)

    @property
    def is_untested(self) -> bool:
        """Whether a submit was rejected, and no other request has shown since whether the key is accepted."""
        return bool(self._rejections and self._submit_rejections)

    @property
    def rejects_submits(self) -> bool:
        """Whether JARAI rejects the key for submits alone, as several attempts have shown."""
        return self._submit_rejections >= _SUBMIT_REJECTIONS

    def submit_rejected(self, now: float) -> None:
        """Record that JARAI rejected the key for a submit."""
        if not self._rejections and now - self._submit_rejected_at >= _FIRST_PAUSE:
            self._submit_rejections, self._submit_rejected_at = self._submit_rejections + 1, now

    def accepted(self, key: Secret, *, for_submit: bool = False) -> None:
        """Record that JARAI accepted a key."""
        if for_submit:
            self._submit_rejections, self._submit_rejected_at = 0, -math.inf
        self._may_call_provider = self._may_call_provider or key is self._key
        self.was_accepted.set()
        if self.rejected_since is not None:
            _log.info("JARAI accepts the API key again")
        self._rejections, self._pause_ends, self.rejected_since = 0, None, None

    async def replaced(self, rejected: Secret, now: float) -> bool:
        """Whether there is another key by now. The provider is called once for all rejected requests."""
        if self._pause_ends is not None and self._pause_ends <= now:
            self._may_call_provider, self._pause_ends = True, None
        if self._provider is None:
            return False
        async with self._calling_provider:
            if self._key is not rejected:
                return True
            if not self._may_call_provider:
                return False
            self._may_call_provider = False
            try:
                key = await self._call_provider()
            except ConfigurationError as error:
                _log.error("%s", error)
                return False
            if key.reveal() == rejected.reveal():
                return False
            self._key = key
            return True

    def may_be_accepted_later(self) -> bool:
        """Whether a rejected key may work again. If no key was ever accepted, it is probably wrong."""
        self._may_call_provider = self._may_call_provider or not self.was_accepted.is_set()
        return self.was_accepted.is_set()

    def begin_pause(self, now: float) -> float | None:
        """Begin a pause of all requests, and return its length in seconds; None if there is one already."""
        if self._pause_ends is not None:
            return None
        pause = min(_FIRST_PAUSE * 2.0 ** min(self._rejections, 10), _LONGEST_PAUSE)
        self._rejections += 1
        self.rejected_since = self.rejected_since or _clock.utc()
        self._pause_ends = now + pause
        return pause

    async def _call_provider(self) -> Secret:
        """Call the provider. The text of an exception that it raises is not shown: it may contain a key."""
        try:
            key = self._provider() if self._provider is not None else ""
            return _checked_key(await key if inspect.isawaitable(key) else key)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001  # the user's own code
            kind = type(error).__name__
        raise ConfigurationError(f"the provider of the API key raised {kind}")


def _checked_key(key: str) -> Secret:
    """Check that the key can be sent, and warn about one that does not look like JARAI's."""
    if not isinstance(key, str):
        raise ConfigurationError(f"the API key must be a string, not {type(key).__name__}")
    if not key:
        raise ConfigurationError("no API key: pass api_key, or set JARAI_API_KEY")
    if not SENDABLE.fullmatch(key):
        raise ConfigurationError("the API key contains white space or characters that no header can carry")
    if not key.startswith("jarai_"):
        warnings.warn("the API key does not begin with jarai_: is it a JARAI key?", stacklevel=3)
    return Secret(key)
