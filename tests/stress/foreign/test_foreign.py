"""A short run against the server that was written from the contract alone, in simulated time."""

import ast
import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from jarai_async import (
    Account,
    Finished,
    JaraiClient,
    Orchestrator,
    Outcome,
    OutcomeState,
    ProductionRequest,
)
from jarai_async.simulator import SimulatedEventLoop
from tests.stress.foreign.batch import COUNTRY, LANGUAGE, topic_of
from tests.stress.foreign.check import BAD, compare, needless_doubts
from tests.stress.foreign.server import KEY, Server

PRODUCTIONS = 12


@pytest.mark.parametrize("seed", [1, 2])
async def test_server_from_the_contract_alone_is_reported_correctly(seed: int, tmp_path: Path) -> None:
    """A batch that is interrupted, run again, and told what became of its submits in doubt ends correctly."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedEventLoop)
    server = Server(seed, PRODUCTIONS, clock=loop.wall_time)
    async with server.serving():
        async with JaraiClient(KEY, base_url=server.base_url) as client:
            account = (await client.accounts())[0]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                await _run(server, account, tmp_path)
        outcomes = await _run(server, account, tmp_path)
        doubts = [topic for topic, outcome in outcomes.items() if outcome.state is OutcomeState.UNCERTAIN]
        assert needless_doubts(server.ledger(), doubts, kills=()) == []
        outcomes = await _run(server, account, tmp_path, settle=doubts)
    seen = {
        topic: (str(outcome.state), outcome.production.id if outcome.production else None)
        for topic, outcome in outcomes.items()
    }
    result = compare(server.ledger(), seen, tmp_path / "out")
    assert {key: result[key] for key in BAD if result[key]} == {}
    assert result["published"] > PRODUCTIONS / 2
    assert result["files complete"] > 3 * PRODUCTIONS


async def _run(
    server: Server, account: Account, folder: Path, settle: Sequence[str] = ()
) -> dict[str, Outcome]:
    created = {production["topic"]: production["id"] for production in server.ledger()["productions"]}
    requests = [
        ProductionRequest(
            topic=topic_of(number),
            account_id=account.id,
            language_id=LANGUAGE,
            country_id=COUNTRY,
            avatar_id=account.avatars[0].id,
            reference=topic_of(number),
        )
        for number in range(PRODUCTIONS)
    ]
    async with (
        JaraiClient(KEY, base_url=server.base_url) as client,
        Orchestrator(client, journal=folder / "batch.db", download_to=folder / "out") as orchestrator,
    ):
        for topic in settle:
            id_ = created.get(topic)
            await (await orchestrator.resolve(topic, production_id=id_, resubmit=id_ is None))
        events = [event async for event in orchestrator.run(requests)]
    return {event.reference: event.outcome for event in events if isinstance(event, Finished)}


def test_server_from_the_contract_alone_shares_nothing_with_the_library() -> None:
    """It imports the standard library and its own modules, so a mistake cannot be on both sides."""
    own = {"hosts", "productions", "blobs", "server"}
    for name in own:
        tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert not str(module).startswith("jarai_async")
                assert not str(module).startswith("tests") or str(module).split(".")[-1] in own
