"""What an orchestrator needs of its journal: a file (`journal`), or a database (`_postgres.journal`)."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from jarai_async._errors import JournalError
from jarai_async._events import Event, SavedFile
from jarai_async._journal.database import Server
from jarai_async._journal.entries import Intent
from jarai_async._journal.history import History


class Journal(Protocol):
    """Requests, their events, and `facts`: JSON values by name, such as the learned durations.

    All methods that wait raise JournalError. What is written is read by this process from then on, and by
    others once it is committed.
    """

    history: History
    """The events, for readers."""

    @property
    def location(self) -> str | None:
        """What commands call it: a path or a URL, without a password. None where it ends with the process."""

    @property
    def failure(self) -> JournalError | None:
        """Why the last commit failed; None if all is well."""

    # --- Reading -----------------------------------------------------------------------------------

    async def find(self, reference: str) -> Intent | None:
        """Return the intent of a request, if there is one."""

    async def unknown(self, references: Iterable[str]) -> set[str]:
        """Return those of the references that `find` would return None for."""
        ...

    async def intents(self, state: str | None = None) -> list[Intent]:
        """Return all intents, in the order in which they were first written.

        With a `state`, those that have not ended, and those whose outcome this is.
        """
        ...

    async def unfinished(self) -> list[Intent]:
        """Return the intents of requests that have not ended, in their order."""
        ...

    async def owner_of(self, production_id: str) -> str | None:
        """Return the reference of the request that created a production, if one did."""

    async def in_doubt(self, account_id: str) -> list[Intent]:
        """Return the requests whose submit may have created a production that is not known.

        Those whose submit is on its way are among them.
        """
        ...

    async def is_new(self) -> bool:
        """Whether it has never had an event, and has no request."""
        ...

    async def unread(self, intent: Intent) -> list[Event]:
        """Return the events of a request that the reader of a run has not taken."""
        ...

    async def files(self, intent: Intent) -> dict[Path, SavedFile]:
        """Return the downloaded files of a request's production, by path."""
        ...

    async def last_event(self, intent: Intent) -> Event | None:
        """Return the last event of a request."""

    async def last_events(self, state: str | None = None) -> dict[str, Event]:
        """Return the last event of each request that `intents` returns, by reference."""
        ...

    async def load(self, name: str) -> Any:
        """Return a fact, or None if there is none."""

    # --- Writing -----------------------------------------------------------------------------------

    async def save(self, intent: Intent) -> None:
        """Write an intent, and return when it is committed."""

    def put(self, intent: Intent) -> object:
        """Add an intent to the next commit, without waiting for it. A failure is only logged."""

    def next_cursor(self) -> int:
        """Return the cursor of a new event; 0 where only its commit decides that."""
        ...

    def append(self, intent: Intent | None, event: Event, deliver: Callable[[], None] | None) -> None:
        """Add an event and the state after it to the next commit, which then delivers it."""

    def call_after_events(self, function: Callable[[], None]) -> None:
        """Call a function when the events that were added before have been delivered."""

    def plan(self, intent: Intent) -> None:
        """Add an intent to the next commit, unless its reference is known or is one that `find` rejects."""

    def store(self, name: str, value: Mapping[str, Any]) -> None:
        """Add a fact to the next commit."""

    async def add_learned(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
        """Record what was learned of durations, and return it with what other processes have learned.

        `before` is what it returned last, or what `load("learned")` did.
        """
        ...

    async def flush(self) -> None:
        """Wait for the commit of what was added before. A failure is only logged."""

    async def forget(self, references: Collection[str], *, ended_before: float | None) -> list[str]:
        """Delete requests that have ended, with their events, and return their references.

        These are the `references`, and those that ended before a Unix time.
        """
        ...

    async def close(self) -> None:
        """Commit the pending writes and close it; `failure` says whether that succeeded.

        A cancellation takes effect after that.
        """


JournalOpener = Callable[[Callable[[], Awaitable[Server]]], Awaitable[Journal]]
"""Opens a journal for the server that it is given: its productions belong to one. Raises JournalError."""
