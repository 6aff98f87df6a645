"""A journal belongs to the server, and to the kind of key, that its productions were made with."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import ConfigurationError, JaraiClient, JournalError, Orchestrator
from jarai_async._journal.database import Server
from jarai_async._journal.entries import Stage
from jarai_async._journal.journal import SqliteJournal
from jarai_async._urls import canonical_url
from jarai_async.simulator import Simulator
from tests.support.journals import execute, intent
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import requests_for

LIVE, SANDBOX = "jarai_live_x", "jarai_test_x"


def client_of(url: str, key: str = LIVE) -> JaraiClient:
    return JaraiClient(key, base_url=url)


async def save(path: Path, **fields: Any) -> None:
    """Write an intent as an earlier version did, without a server."""
    journal = await SqliteJournal.open(path)
    await journal.save(intent(**fields))
    await journal.close()


async def enter(client: JaraiClient, path: Path) -> None:
    async with client, Orchestrator(client, journal=path):
        pass


async def test_journal_of_another_server_is_refused_before_anything_is_sent(
    tmp_path: Path, simulator: Simulator, client: JaraiClient
) -> None:
    """The error names both. Nothing is sent to the other server, and the journal stays as it is."""
    path = tmp_path / "journal"
    requests = requests_for(simulator, 2)
    await outcomes_of(Orchestrator(client, journal=path), requests)
    journal = await SqliteJournal.open(path)
    await journal.save(intent("being sent", stage=Stage.SENDING))
    await journal.close()
    content = path.read_bytes()
    async with (
        Simulator(failure_rate=0) as other,
        JaraiClient(other.api_key, base_url=other.base_url) as other_client,
    ):
        with pytest.raises(JournalError) as caught:
            await outcomes_of(Orchestrator(other_client, journal=path), requests)
        assert not other.requests
    message = caught.value.message
    assert simulator.base_url in message
    assert other.base_url in message
    assert "use the same again, or another journal" in message
    assert path.read_bytes() == content
    assert len(simulator.productions) == 2
    outcomes = await outcomes_of(Orchestrator(client, journal=path), requests)
    assert {outcome.state for outcome in outcomes} == {"published"}


async def test_journal_of_the_sandbox_is_refused_for_a_live_key(tmp_path: Path) -> None:
    """The productions of the sandbox do not exist for a live key; its key may be replaced by another."""
    path, url = tmp_path / "journal", "https://127.0.0.1:1/v1"
    await save(path, stage=Stage.ACCEPTED)
    await enter(client_of(url, SANDBOX), path)
    await enter(client_of(url, f"{SANDBOX}_rotated"), path)
    with pytest.raises(JournalError, match=rf"was made for {url} with a sandbox key.* {url} with a live key"):
        await enter(client_of(url, LIVE), path)
    assert b"jarai_" not in path.read_bytes()


async def test_live_keys_of_both_documented_forms_are_the_same(tmp_path: Path) -> None:
    """Older keys have no `live_` in them: a journal outlives the change to a new key."""
    for key in ("jarai_x", LIVE):
        await enter(client_of("https://127.0.0.1:1/v1", key), tmp_path / "journal")


async def test_journal_without_productions_adopts_a_server(tmp_path: Path) -> None:
    """An earlier version recorded none, and the first URL may have been wrong."""
    path = tmp_path / "journal"
    await save(path)
    await enter(client_of("https://127.0.0.1:1/wrong"), path)
    await save(path, stage=Stage.IN_DOUBT)
    execute(path, "DELETE FROM facts WHERE name = 'server'")
    await enter(client_of("https://127.0.0.1:1/a"), path)
    with pytest.raises(JournalError, match="use the same again, or another journal"):
        await enter(client_of("https://127.0.0.1:1/b"), path)
    await (await SqliteJournal.open(path)).close()


async def test_damaged_record_of_the_server_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for value in ("{", "[]", "null", '{"url": 1}'):
        await save(path, stage=Stage.ACCEPTED)
        execute(path, f"INSERT OR REPLACE INTO facts VALUES ('server', '{value}')")  # noqa: S608
        with pytest.raises(JournalError, match="damaged: its server cannot be read"):
            await SqliteJournal.open(path, server=Server("https://a", is_sandbox=False))


async def test_key_provider_that_fails_is_an_error_on_entering(tmp_path: Path) -> None:
    """Only with a journal: its kind of key must be known before it is used."""

    def fail() -> str:
        raise LookupError

    with pytest.raises(ConfigurationError, match="the provider of the API key raised LookupError"):
        async with JaraiClient(fail, base_url="https://127.0.0.1:1") as client:
            await enter(client, tmp_path / "journal")


@pytest.mark.parametrize(
    "url", ["https://API.jarai.studio/v1", "https://api.jarai.studio:443/v1", "HTTPS://api.jarai.studio/v1/"]
)
def test_spellings_of_one_url_are_one_server(url: str) -> None:
    """Host and scheme in any case, the default port, a slash at the end."""
    assert canonical_url(url) == "https://api.jarai.studio/v1"


@given(st.from_regex(r"https?://[a-zA-Z0-9.]{1,9}(:[0-9]{1,4})?(/[a-zA-Z0-9/]{0,9})?", fullmatch=True))
def test_canonical_url_is_its_own_canonical_form(url: str) -> None:
    """The path keeps its case: servers may tell them apart."""
    assert canonical_url(canonical_url(url)) == canonical_url(url)
