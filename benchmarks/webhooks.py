"""Webhooks first, polling as the safety net: how late changes are noticed, and for how many requests.

The real client, orchestrator, receiver and simulator in simulated time over loopback HTTP, alone on a key of
300 requests a minute, no files downloaded, project types as in the file of topics. The same batch is run

- by *polling* alone;
- *told*: all webhooks arrive, one second after the event in the median;
- *lossy*: of the webhooks 20 % are lost, 10 % come twice, and 10 % are held back so that later ones overtake;
- *silent*: none arrives, though a receiver waits for them;
- *ends only*: all arrive, but only the events of the ends are subscribed to;
- *switched off*: as told, but 25 minutes after the start the receiver is switched off for good.

The lag of a change runs from the moment at which it truly happened to the `observed_at` of the first event
that tells of this status or a later one. First of those changes for which there is a type of event (that
deliverables are ready, and the end), then of all. Requests are of all kinds, for each production.
"""

import asyncio
import logging
import multiprocessing
from collections.abc import Sequence

from attrs import frozen

from benchmarks._bench import topics
from benchmarks.polling import FAMILIES, IDS, Family, drawn, lags
from jarai_async import Finished, JaraiClient, Orchestrator, RateLimit, StatusChanged
from jarai_async.receiver import Receiver
from jarai_async.simulator import Deliverability, Simulator, run
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME
from tests.support.figures import Figure, options, show

_NO_QUOTA = 10**9
_ENDS = ("production.published", "production.failed")
_ALL = ("production.queued", "production.step.complete", "deliverable.ready", *_ENDS)


@frozen
class Channel:
    """How webhooks come: None for not at all; `until` is when the receiver is switched off (seconds)."""

    name: str
    deliverability: Deliverability | None
    types: Sequence[str] = _ALL
    until: float | None = None


CHANNELS = (
    Channel("polling", None),
    Channel("told", Deliverability()),
    Channel("lossy", Deliverability(loss=0.2, duplication=0.1, reordering=0.1)),
    Channel("silent", Deliverability(loss=1.0)),
    Channel("ends only", Deliverability(), _ENDS),
    Channel("switched off", Deliverability(), until=1_500.0),
)


@frozen
class Result:
    """What became of one batch: its `lags`, requests for each production, ends and 429s."""

    lags: Sequence[tuple[str, str, float]]
    requests: float
    ended: int
    refused: int

    def mean(self, *, told: bool = False) -> float:
        """Seconds of lag on average, of all changes or of those that there are events for."""
        wanted = [late for left, entered, late in self.lags if not told or _has_event(left, entered)]
        return sum(wanted) / len(wanted)


@frozen
class Batch:
    """What all channels are given alike."""

    family: Family
    productions: int
    in_flight: int
    seed: str

    def run(self, channel: Channel) -> Result:
        """Run it."""
        return run(self._run(channel))

    async def _run(self, channel: Channel) -> Result:
        simulator = Simulator(
            seed=self.seed,
            durations=self.family.durations,
            daily_quotas=False,
            deliverability=channel.deliverability or Deliverability(),
        )
        budget = RateLimit(per_day=_NO_QUOTA)
        async with (
            simulator,
            JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=budget) as client,
        ):
            if channel.deliverability is None:
                return await self._follow(simulator, client, None)
            webhook = await client.create_webhook("http://127.0.0.1:1/", channel.types)
            receiver = Receiver(webhook.signing_secret)
            async with receiver.serve() as url:
                await client.update_webhook(webhook.id, endpoint_url=url)
                following = asyncio.create_task(self._follow(simulator, client, receiver))
                await asyncio.wait([following], timeout=channel.until)
            return await following

    async def _follow(self, simulator: Simulator, client: JaraiClient, receiver: Receiver | None) -> Result:
        seen: dict[str, list[tuple[float, str]]] = {}
        ended = 0
        places = asyncio.Semaphore(self.in_flight)
        requests = topics(self.productions, {name: getattr(simulator, name) for name in IDS})
        orchestrator = Orchestrator(client, concurrency=self.productions, webhooks=receiver)
        async with orchestrator:
            async for event in orchestrator.run(drawn(requests, places)):
                if isinstance(event, StatusChanged):
                    moment = event.observed_at.timestamp() - START_OF_SIMULATED_TIME
                    seen.setdefault(event.production.id, []).append((moment, str(event.status)))
                elif isinstance(event, Finished):
                    places.release()
                    ended += 1
            sent = sum(orchestrator.statistics().requests.values())
        return Result(list(lags(simulator, seen)), sent / self.productions, ended, simulator.rate_limited)


def _has_event(left: str, entered: str) -> bool:
    return left == "Producing" or entered in ("Published", "Failed")


def _figures(results: dict[str, list[Result]], productions: int) -> list[Figure]:
    def mean(name: str, *, told: bool = False) -> float:
        return sum(one.mean(told=told) for one in results[name]) / len(results[name])

    alone, figures = mean("polling", told=True), []
    for name, of_one in results.items():
        most, at_most = {"told": (2.0, 8.0), "lossy": (6.0, 20.0), "silent": (alone * 1.1, 0.0)}.get(
            name, (0.0, 0.0)
        )
        lag, requests = mean(name, told=True), sum(one.requests for one in of_one) / len(of_one)
        value = f"{lag:5.2f} s (all changes {mean(name):5.1f} s), {requests:5.1f} requests"
        goal = (f"<= {most:.1f} s" if most else "") + (f", {at_most:.0f}" if at_most else "")
        met = None if not most else lag <= most and (not at_most or requests <= at_most)
        figures.append(Figure(name, value, goal, met))
    lost = sum(productions - one.ended for of_one in results.values() for one in of_one)
    refused = sum(one.refused for of_one in results.values() for one in of_one)
    return [
        *figures,
        Figure("lost", f"{lost}", "0", lost == 0),
        Figure("429s", f"{refused}", "0", refused == 0),
    ]


def _quiet() -> None:
    logging.disable()


def main() -> None:
    chosen = options(__doc__, productions=500, in_flight=200, seeds=1, family=1)
    family = FAMILIES[chosen.family - 1]
    batches = [
        Batch(family, chosen.productions, chosen.in_flight, f"webhooks {n}") for n in range(chosen.seeds)
    ]
    with multiprocessing.get_context("spawn").Pool(initializer=_quiet) as pool:
        started = {
            channel.name: [pool.apply_async(batch.run, (channel,)) for batch in batches]
            for channel in CHANNELS
        }
        results = {name: [one.get() for one in of_one] for name, of_one in started.items()}
    show(
        f"{chosen.productions} productions, {chosen.in_flight} in flight, {family.name}",
        _figures(results, chosen.productions),
        chosen.json,
    )


if __name__ == "__main__":
    main()
