"""A faithful Partner API on this machine, for tests, benchmarks and trying things out.

It answers over real HTTP on 127.0.0.1, and knows what the real one keeps to itself: what is
truly going on in every production at every moment, and every request that ever came. So a program
can be tested against the questions that matter (did it submit twice, did it ever exceed its budget, how
late did it notice) and against whatever can go wrong on the way, on demand and in the same way each time.

    async with Simulator(seed=7, tier="standard") as simulator:
        simulator.faults.add("reset_after", on="submit")
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            ...
        assert len(simulator.productions) == 1

Rules that hold throughout:

1. Same seed, same world. A production's whole fate is drawn when it is submitted, from the seed and its
   ordinal alone, so it does not matter who else is asking, or how often.
2. Nothing runs. A status is a function of that fate and of the moment; there is no timer to wait for.
3. All time is the event loop's. Under `run`, or in a `SimulatedEventLoop`, hours pass in seconds and both
   sides agree on them; in an ordinary loop the simulator keeps real time.
4. The rate limit is a true rolling window: a client that obeys it loosely is found out.
5. What is not documented about the API is a guess, and said to be one where it is made (`_endpoints`).

6. Webhooks are off until there is a subscription. Then each event is really posted, to this machine only.

Not here: anything about the quality of what is produced.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Self

from aiohttp import web

from jarai_async import _clock
from jarai_async.simulator._api.endpoints import PREFIX, Endpoints
from jarai_async.simulator._api.fault_kinds import Kind
from jarai_async.simulator._api.faults import Faults
from jarai_async.simulator._api.keys import SCOPES, KeyStore
from jarai_async.simulator._api.rate_limits import TIERS, WINDOW_SECONDS, Limits, TierName
from jarai_async.simulator._api.request_log import RequestLog, RequestRecord
from jarai_async.simulator._api.server import BlobOrigin, PartnerApi, server
from jarai_async.simulator._api.webhook_endpoints import Subscriptions
from jarai_async.simulator._api.writer import Wire
from jarai_async.simulator._blobs.storage import BlobStore
from jarai_async.simulator._event_loop import SimulatedEventLoop, run
from jarai_async.simulator._productions.state import SimulatedAccount, SimulatedProduction, World
from jarai_async.simulator._productions.timelines import Approval, Durations, TimelineOptions, usual_durations
from jarai_async.simulator._webhooks.delivery import Deliverability, Delivery, SimulatedWebhook, WebhookSender
from jarai_async.simulator._webhooks.emitter import WebhookEmitter

__all__ = [
    "Deliverability",
    "Delivery",
    "Kind",
    "RequestRecord",
    "SimulatedAccount",
    "SimulatedEventLoop",
    "SimulatedProduction",
    "SimulatedWebhook",
    "Simulator",
    "run",
    "usual_durations",
]

_SHUTDOWN_SECONDS = 0.1  # for requests under way when the simulator ends; 0 would mean no limit
_BACKLOG = 4096


class Simulator:
    """A local Partner API: an async context manager that serves until it is left.

    - `seed`: decides identifiers, fates, latencies and faults; any int or string.
    - `tier`: "free", "standard" or "enterprise", with the documented limits.
    - `port`: of the API on 127.0.0.1; 0 takes a free one. Blob storage always takes a free one.
    - `daily_quotas`: whether the limits per day count as well as those per minute.
    - `accounts`: how many the partner has.
    - `idempotency_keys`: whether a repeated `Idempotency-Key` gets the first answer again (and 422 with
      another body). The real API is not known to.
    - `durations`: from a `random.Random` and a project type to the stages that a production passes, as
      (status, seconds). A last stage that is terminal decides the end ("Failed", say); otherwise it is
      Published, or Failed at `failure_rate`. Where AwaitingApproval is missing `approval` adds it;
      where it is listed its seconds hold, infinity waits for `approve`. More than 600 seconds of Queued
      end as expired, as documented.
    - `failure_rate`, `expiry_rate`: probability that a production fails on the way, or is never picked up.
    - `approval`: "auto" takes seconds, "mixed" seconds in 70 % and else 20 minutes on average (exponential),
      "person" waits for `approve`.
    - `spend_ceiling`: productions of an account in a month, after which submissions get a 409; None for none.
    - `latency`: mean seconds from request to answer (exponential); 0 for none.
    - `deliverability`: how well webhooks arrive; may be changed on the way.

    Raises ValueError for values outside of these, OSError where the port is taken.
    """

    def __init__(
        self,
        *,
        seed: int | str = 0,
        tier: TierName = "enterprise",
        port: int = 0,
        daily_quotas: bool = True,
        accounts: int = 1,
        idempotency_keys: bool = False,
        durations: Durations = usual_durations,
        failure_rate: float = 0.04,
        expiry_rate: float = 0.0,
        approval: Approval = "mixed",
        spend_ceiling: int | None = None,
        latency: float = 0.05,
        deliverability: Deliverability = Deliverability(),  # noqa: B008  # frozen
    ) -> None:
        if tier not in TIERS:
            raise ValueError(f"tier must be one of {', '.join(TIERS)}, not {tier!r}")
        if approval not in ("auto", "mixed", "person"):
            raise ValueError(f"approval must be auto, mixed or person, not {approval!r}")
        if not 0 <= latency < float("inf"):
            raise ValueError(f"latency must be a number of seconds, not {latency!r}")
        self.seed = seed
        self.tier = tier
        self.faults = Faults(random.Random(f"{seed}:faults"))
        self._port = port
        self._latency = latency
        self._world = World(seed, accounts, TimelineOptions(durations, failure_rate, expiry_rate, approval))
        self._limits = Limits(TIERS[tier], daily_quotas=daily_quotas, spend_ceiling=spend_ceiling)
        self._blobs = BlobStore(seed, self._world.story)
        self._sender = WebhookSender(seed, deliverability)
        self._emitter = WebhookEmitter(seed, self._world, self._blobs, self._sender)
        self._endpoints = Endpoints(
            self._world,
            self._limits,
            self._blobs,
            Subscriptions(seed, self._world, self._emitter, self._sender).routes,
            self._emitter.look,
            idempotency_keys=idempotency_keys,
        )
        self._request_log = RequestLog()
        self._keys = KeyStore(random.Random(f"{seed}:keys"))
        self._runners: list[web.ServerRunner] = []
        self._base_url = ""
        self.api_key = self._keys.mint(*SCOPES)

    async def __aenter__(self) -> Self:
        self._wire = Wire()
        chance = random.Random(f"{self.seed}:network")
        storage = BlobOrigin(self._blobs, self.faults, self._request_log, self._wire, self._latency, chance)
        api = PartnerApi(
            self._keys,
            self._limits,
            self.faults,
            self._endpoints,
            self._request_log,
            self._wire,
            self._latency,
            chance,
        )
        try:
            self._blobs.origin = await self._serve(server(storage.handle), 0)
            self.faults.trap_url = f"{self._blobs.origin}/trap"
            self._base_url = await self._serve(server(api.handle), self._port) + PREFIX
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _serve(self, served: web.Server, port: int) -> str:
        runner = web.ServerRunner(served, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=_BACKLOG).start()
        host, taken = runner.addresses[0][:2]
        return f"http://{host}:{taken}"

    async def _stop(self) -> None:
        self._wire.close()
        self._emitter.close()
        await self._sender.close()
        while self._runners:
            await self._runners.pop().cleanup()

    @property
    def base_url(self) -> str:
        """Where the API is; RuntimeError before it has started."""
        if not self._base_url:
            raise RuntimeError("the simulator has no address until it is entered with `async with`")
        return self._base_url

    @property
    def accounts(self) -> list[SimulatedAccount]:
        """The partner's accounts, with the identifiers that a submission needs."""
        return list(self._world.accounts.values())

    @property
    def account_id(self) -> str:
        """The first account."""
        return self.accounts[0].account_id

    @property
    def avatar_id(self) -> str:
        """An avatar of the first account."""
        return self.accounts[0].avatar_ids[0]

    @property
    def language_id(self) -> str:
        """A language of the first account."""
        return self.accounts[0].language_ids[0]

    @property
    def country_id(self) -> str:
        """A country of the first account."""
        return self.accounts[0].country_ids[0]

    @property
    def productions(self) -> Mapping[str, SimulatedProduction]:
        """Every production there truly is, by its identifier."""
        return MappingProxyType(self._world.productions)

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request in order of arrival, downloads included."""
        return self._request_log.requests

    @property
    def rate_limited(self) -> int:
        """How many 429s a limit caused; those of a fault are not among them."""
        return self._request_log.rate_limited

    @property
    def leaks(self) -> list[str]:
        """Requests to the other origin that carried an API key: there must be none."""
        return self._request_log.leaks

    @property
    def webhooks(self) -> list[SimulatedWebhook]:
        """The subscriptions there are, with their secrets."""
        return list(self._emitter.webhooks.values())

    @property
    def deliveries(self) -> list[Delivery]:
        """Every delivery of an event to a webhook, in the order of events: also those that are lost."""
        return self._sender.deliveries

    @property
    def deliverability(self) -> Deliverability:
        """How well webhooks arrive, from the next event on."""
        return self._sender.deliverability

    @deliverability.setter
    def deliverability(self, value: Deliverability) -> None:
        self._sender.deliverability = value

    def count(self, route: str | None = None, status: int | None = None) -> int:
        """How many requests there were, of one route and with one status where these are given."""
        return self._request_log.count(route, status)

    def utilisation(self, since: float, until: float) -> float:
        """The share of the minute's budget that was used between two moments of the loop's clock."""
        if not since < until:
            raise ValueError("the first moment must come before the second")
        budget = self._limits.tier.requests_per_minute * (until - since) / WINDOW_SECONDS
        return self._request_log.admitted(since, until) / budget

    def approve(self, production_id: str) -> None:
        """Release a production as a person would.

        KeyError for one that there is not, ValueError for one that is not AwaitingApproval.
        """
        production = self._world.productions[production_id]
        production.approve(_clock.monotonic())
        self._emitter.look(production)

    def files(self, production_id: str) -> Mapping[str, bytes]:
        """Return the files that a production has once it is Published, by name. Raises KeyError."""
        if production_id not in self.productions:
            raise KeyError(production_id)
        return self._blobs.final_files(production_id)

    def add_webhook(
        self, endpoint_url: str, event_types: Sequence[str], *, signing_secret: str
    ) -> SimulatedWebhook:
        """Subscribe an endpoint on this machine, without an API request, to the events from now on."""
        ordinal = 1 + max((webhook.ordinal for webhook in self.webhooks), default=0)
        webhook = SimulatedWebhook(
            webhook_id=str(uuid.UUID(int=ordinal)),
            ordinal=ordinal,
            endpoint_url=endpoint_url,
            event_types=tuple(event_types),
            account_ids=(),
            account_scope_id=None,
            signing_secret=signing_secret,
            created_wall=_clock.wall(),
        )
        self._emitter.add(webhook)
        return webhook

    def add_key(self, *scopes: str, sandbox: bool = False) -> str:
        """A further key of this partner with just these scopes; ValueError for an unknown one."""
        return self._keys.mint(*scopes, sandbox=sandbox)

    def revoke(self, key: str) -> None:
        """Answer 401 to this key from now on; KeyError for one that is not valid anyhow."""
        self._keys.revoke(key)

    def __repr__(self) -> str:
        return (
            f"<Simulator seed={self.seed!r} tier={self.tier} at {self._base_url or 'no address yet'}:"
            f" {len(self.productions)} productions, {len(self.requests)} requests,"
            f" {self.rate_limited} of them over the limit>"
        )
