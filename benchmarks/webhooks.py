"""Webhooks with polling as the safety net: how late changes are noticed, and with how many requests.

The real client, orchestrator, receiver and simulator run in simulated time over loopback HTTP, with a key
that nothing else uses and 300 requests a minute. No files are downloaded. The same batch runs with each of
these channels:

- *polling*: no webhooks.
- *reliable*: all webhooks arrive, one second after the event in the median.
- *lossy*: 20 % of the webhooks are lost, 10 % come twice, and 10 % are delayed, so that later ones overtake.
- *silent*: there is a receiver, but no webhook arrives.
- *ends only*: all arrive, but only the events of the ends are subscribed to.
- *switched off*: as reliable, but the receiver stops for the rest of the run 25 minutes after the start.

The lag of a status change is the time from the change to the `observed_at` of the first event with its status
or a later one. The first figure is the mean of the changes that webhooks announce (that deliverables are
ready, and the end), the second that of all changes. Requests are all that were sent, for each production.

    python -m benchmarks.webhooks
"""

import asyncio
import logging
import multiprocessing
from collections.abc import Sequence

from attrs import frozen

from benchmarks._bench import Lag, StatusLog, limit_in_flight, open_client, requests_for
from benchmarks.polling import FAMILIES, Family
from jarai_async import Finished, JaraiClient, Orchestrator, StatusChanged
from jarai_async.receiver import Receiver
from jarai_async.simulator import Deliverability, Simulator, run
from tests.support.figures import Figure, options, show

_ENDS = ("production.published", "production.failed")
_ALL = ("production.queued", "production.step.complete", "deliverable.ready", *_ENDS)
_GOALS = {"reliable": (2.0, 8.0), "lossy": (6.0, 20.0)}  # seconds of lag, and requests for each production


@frozen
class Channel:
    """How webhooks arrive (None: there are none), and the second at which the receiver stops."""

    name: str
    deliverability: Deliverability | None
    types: Sequence[str] = _ALL
    until: float | None = None


CHANNELS = (
    Channel("polling", None),
    Channel("reliable", Deliverability()),
    Channel("lossy", Deliverability(loss=0.2, duplication=0.1, reordering=0.1)),
    Channel("silent", Deliverability(loss=1.0)),
    Channel("ends only", Deliverability(), _ENDS),
    Channel("switched off", Deliverability(), until=1_500.0),
)


@frozen
class Result:
    """The lags, requests for each production, outcomes and 429s of one batch."""

    lags: Sequence[Lag]
    requests: float
    ended: int
    rejected: int

    def mean(self, *, announced: bool = False) -> float:
        """Return the mean lag in seconds, of all changes or of those that webhooks announce."""
        lags = [lag.seconds for lag in self.lags if not announced or _is_announced(lag)]
        return sum(lags) / len(lags)


def _is_announced(lag: Lag) -> bool:
    return lag.left == "Producing" or lag.entered in ("Published", "Failed")


@frozen
class Batch:
    """What is the same for all channels."""

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
        async with simulator, open_client(simulator) as client:
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
        log, slots, ended = StatusLog(), asyncio.Semaphore(self.in_flight), 0
        requests = requests_for(simulator, self.productions)
        async with Orchestrator(client, concurrency=self.productions, webhooks=receiver) as orchestrator:
            async for event in orchestrator.run(limit_in_flight(requests, slots)):
                if isinstance(event, StatusChanged):
                    log.add(event)
                elif isinstance(event, Finished):
                    slots.release()
                    ended += 1
            sent = sum(orchestrator.statistics().requests.values())
        return Result(list(log.lags(simulator)), sent / self.productions, ended, simulator.rate_limited)


def _figures(results: dict[str, list[Result]], productions: int) -> list[Figure]:
    def mean(name: str, *, announced: bool = False) -> float:
        return sum(result.mean(announced=announced) for result in results[name]) / len(results[name])

    goals = {**_GOALS, "silent": (mean("polling", announced=True) * 1.1, None)}
    figures = []
    for name, of_channel in results.items():
        lag = mean(name, announced=True)
        requests = sum(result.requests for result in of_channel) / len(of_channel)
        value = f"{lag:5.2f} s (all changes {mean(name):5.1f} s), {requests:5.1f} requests"
        if name not in goals:
            figures.append(Figure(name, value))
            continue
        most_lag, most_requests = goals[name]
        goal = f"<= {most_lag:.1f} s" + (f", {most_requests:.0f}" if most_requests else "")
        met = lag <= most_lag and (not most_requests or requests <= most_requests)
        figures.append(Figure(name, value, goal, met))
    lost = sum(productions - result.ended for of_channel in results.values() for result in of_channel)
    rejected = sum(result.rejected for of_channel in results.values() for result in of_channel)
    return [
        *figures,
        Figure("lost", f"{lost}", "0", lost == 0),
        Figure("429s", f"{rejected}", "0", rejected == 0),
    ]


def main() -> None:
    chosen = options(__doc__, productions=500, in_flight=200, seeds=1, family=1)
    family = FAMILIES[chosen.family - 1]
    batches = [
        Batch(family, chosen.productions, chosen.in_flight, f"webhooks {n}") for n in range(chosen.seeds)
    ]
    with multiprocessing.get_context("spawn").Pool(initializer=logging.disable) as pool:
        pending = {
            channel.name: [pool.apply_async(batch.run, (channel,)) for batch in batches]
            for channel in CHANNELS
        }
        results = {name: [result.get() for result in of_channel] for name, of_channel in pending.items()}
    show(
        f"{chosen.productions} productions, {chosen.in_flight} in flight, {family.name}",
        _figures(results, chosen.productions),
        chosen.json,
    )


if __name__ == "__main__":
    main()
