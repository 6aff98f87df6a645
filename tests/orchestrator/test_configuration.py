"""What an orchestrator rejects before anything is sent, and what it cleans up when it cannot be entered."""

from pathlib import Path
from typing import Any

import pytest

from jarai_async import ConfigurationError, JaraiClient, Orchestrator, Polling
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator
from tests.support.orchestrators import library_tasks
from tests.support.scenarios import request_for


class ReceiverWithoutListeners:
    """Looks like a `Receiver`, but has no `add_listener`."""

    async def receive(self, *_: object) -> int:
        raise NotImplementedError


class BrokenReceiver(ReceiverWithoutListeners):
    """A receiver that cannot add a listener."""

    def add_listener(self, _: object) -> None:
        raise LookupError("no listener can be added")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": float("nan")}, "deadline"),
        ({"journal_wait": -1}, "journal_wait"),
        ({"polling": 5}, "polling"),
        ({"webhooks": "https://example.org"}, "Receiver, not str"),
        ({"webhooks": ReceiverWithoutListeners()}, "Receiver, not ReceiverWithoutListeners"),
    ],
)
async def test_invalid_option_is_rejected(client: JaraiClient, options: dict[str, Any], message: str) -> None:
    """The error names the option, or the type that was expected."""
    with pytest.raises(ConfigurationError, match=message):
        Orchestrator(client, **options)


@pytest.mark.parametrize("client", ["client", JaraiClient])
def test_client_must_be_a_client(client: Any) -> None:
    """Neither another value nor the class itself is accepted."""
    with pytest.raises(ConfigurationError, match="JaraiClient"):
        Orchestrator(client)


def test_shortest_polling_interval_is_not_above_the_longest() -> None:
    """`Polling` itself rejects the values."""
    with pytest.raises(ConfigurationError):
        Polling(min_interval=10, max_interval=5)


async def test_orchestrator_is_used_inside_its_block(simulator: Simulator, client: JaraiClient) -> None:
    """Before and after the `async with` block there are no tasks that could watch a production."""
    orchestrator = Orchestrator(client)
    with pytest.raises(ConfigurationError, match="async with"):
        orchestrator.submit(request_for(simulator))
    async with orchestrator:
        assert "0 running" in repr(orchestrator)
        with pytest.raises(ConfigurationError, match="deadline must be more than 0 seconds"):
            orchestrator.submit(request_for(simulator), deadline=0)
    with pytest.raises(ConfigurationError, match="async with"):
        orchestrator.run([])


async def test_folder_that_cannot_be_created_is_rejected(client: JaraiClient, tmp_path: Path) -> None:
    """Entering the block raises the error, before anything is paid for."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match="download_to"):
        async with Orchestrator(client, download_to=file / "folder"):
            pass


async def test_failure_to_enter_leaks_no_task_and_no_lock(client: JaraiClient, tmp_path: Path) -> None:
    """If the receiver cannot add a listener, no task is left and the journal can be opened again."""
    path = tmp_path / "journal"
    with pytest.raises(LookupError, match="no listener can be added"):
        async with Orchestrator(client, webhooks=BrokenReceiver(), journal=path):  # type: ignore[arg-type]
            pass
    assert library_tasks() == []
    journal = await SqliteJournal.open(path)
    await journal.close()
