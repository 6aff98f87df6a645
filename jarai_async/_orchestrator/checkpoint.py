"""What a client has learned and spent, kept in the journal: a restart neither forgets nor bursts."""

import asyncio

from jarai_async import _clock
from jarai_async._client import JaraiClient
from jarai_async._errors import JournalError
from jarai_async._journal.journal import Journal
from jarai_async._tasks import stop

_EVERY = 60.0  # seconds: what a crash may forget; the server's own headers tell of the last minute


class Checkpoint:
    """Writes down how long productions stay in each status, and what was spent of the budget."""

    def __init__(self, client: JaraiClient, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._task = asyncio.create_task(self._keep(), name="jarai memory")

    @classmethod
    async def restored(cls, client: JaraiClient, journal: Journal) -> "Checkpoint | None":
        """Begin with what was written down before. Raises JournalError."""
        if journal.path is None:
            return None
        learned, spent = await journal.load("learned"), await journal.load("spent")
        try:
            if learned is not None:
                client._poller.restore_state(learned)
            if spent is not None:
                client._budget.restore_state(spent, _clock.monotonic(), _clock.wall())
        except ValueError as error:
            raise JournalError(f"the journal {journal.path} is damaged: {error}") from None
        return cls(client, journal)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            self._write()

    def _write(self) -> None:
        self._journal.store("learned", self._client._poller.sojourns.export_state())
        self._journal.store("spent", self._client._budget.export_state(_clock.monotonic(), _clock.wall()))

    async def close(self) -> None:
        """Write it down for the last time."""
        await stop([self._task])
        self._write()
