"""A program that downloads two productions, of which one has an emoji in its reference."""

import sys

from jarai_async import Finished, JaraiClient, Orchestrator
from jarai_async.simulator import Simulator, run
from tests.support.scenarios import request_for


async def _main() -> None:
    async with (
        Simulator(approval="auto", failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, download_to=sys.argv[1]) as orchestrator,
    ):
        requests = [request_for(simulator, reference=name) for name in ("plain", "emoji \U0001f600")]
        outcomes = [
            event.outcome async for event in orchestrator.run(requests) if isinstance(event, Finished)
        ]
        for outcome in sorted(outcomes, key=lambda outcome: outcome.reference, reverse=True):
            error = type(outcome.error).__name__ if outcome.error else None
            sys.stdout.write(f"{outcome.reference.partition(' ')[0]} {outcome.state} {error}\n")


run(_main())
