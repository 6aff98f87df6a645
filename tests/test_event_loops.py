"""The library in event loops, task factories and contexts that the application chooses."""

import asyncio
import logging
import sys
from contextvars import ContextVar
from pathlib import Path

import pytest

from jarai_async import JaraiClient, Orchestrator
from jarai_async._tasks import start
from jarai_async.simulator import Simulator
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import request_for, requests_for

_trace: ContextVar[str] = ContextVar("trace", default="none")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
async def test_resumed_journal_is_polled_under_an_eager_task_factory(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The first poll has a free slot, so the poller would run to its end before anything knows of it."""
    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    requests = requests_for(simulator, 1)
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        ticket = orchestrator.submit(requests[0])
        await asyncio.sleep(60)
        assert ticket.production
    await asyncio.sleep(600)  # then it is due
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as second:
        async with asyncio.timeout(24 * 3600):
            outcomes = await outcomes_of(Orchestrator(second, journal=tmp_path / "journal"), requests)
    assert [outcome.state for outcome in outcomes] == ["published"]


async def test_each_production_is_polled_in_the_context_of_its_own_caller(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs and traces of a production never appear under the request that happened to be the first."""
    traces: dict[str, set[str]] = {}
    handler = logging.Handler()
    handler.emit = lambda record: traces.setdefault(str(record.args), set()).add(_trace.get())  # type: ignore[method-assign]
    logger = logging.getLogger("jarai_async")
    logger.addHandler(handler)
    caplog.set_level(logging.DEBUG, "jarai_async")
    simulator.faults.add("internal_error", on="fetch", times=None, probability=0.3)

    async def wait(trace: str) -> str:
        _trace.set(trace)
        production = await client.submit(request_for(simulator))
        return (await client.wait(production.id)).id

    ids = await asyncio.gather(*(start(wait, f"caller {n}") for n in range(5)))
    logger.removeHandler(handler)
    for number, production_id in enumerate(ids):
        seen = set().union(*(trace for args, trace in traces.items() if production_id in args))
        assert seen == {f"caller {number}"}
