"""The simulator's public class, which builds and starts its parts."""

import random
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, get_args

from aiohttp import web

from jarai_async import _clock
from jarai_async._tasks import start, uninterrupted
from jarai_async.simulator._api.endpoints import Endpoints
from jarai_async.simulator._api.faults import Faults
from jarai_async.simulator._api.keys import SCOPES, KeyStore
from jarai_async.simulator._api.rate_limits import TIERS, Limits, TierName
from jarai_async.simulator._api.request_log import RequestLog
from jarai_async.simulator._api.responses import Layout
from jarai_async.simulator._api.routes import PREFIX
from jarai_async.simulator._api.server import ApiServer, BlobServer, make_server
from jarai_async.simulator._api.webhook_endpoints import WebhookEndpoints, wrong_fields
from jarai_async.simulator._api.writer import ResponseWriter
from jarai_async.simulator._blobs.storage import BlobStorage, BlobStore
from jarai_async.simulator._common import LOOPBACK, check_name
from jarai_async.simulator._ground_truth import GroundTruth
from jarai_async.simulator._productions.state import SimulatedProduction, World
from jarai_async.simulator._productions.timelines import Approval, Durations, TimelineOptions, usual_durations
from jarai_async.simulator._rules import Conditions, ProductionRule, Rules
from jarai_async.simulator._webhooks.delivery import (
    EVENT_TYPES,
    Deliverability,
    SimulatedWebhook,
    WebhookSender,
    check_secret,
)
from jarai_async.simulator._webhooks.emitter import WebhookEmitter

_SHUTDOWN_SECONDS = 0.1  # for requests in progress when the simulator stops; 0 would mean no limit
_BACKLOG = 4096


class Simulator(GroundTruth):
    """A local Partner API: an async context manager that serves until its block ends.

    - `seed`: an int or string that decides identifiers, timelines, latencies and faults.
    - `tier`: "free", "standard" or "enterprise", with the documented limits.
    - `port`: the API's port on 127.0.0.1; 0 picks a free one. Blob storage always picks a free one.
    - `daily_quotas`: whether the limits per day apply, and not only the limit per minute.
    - `accounts`: the number of accounts of the partner.
    - `idempotency_keys`: whether a repeated `Idempotency-Key` receives the first response again (and 422 with
      another body). It is not known whether the real API does this.
    - `durations`: a function of a `random.Random` and a project type that returns the stages of a production
      as (status, seconds); for Producing also (status, seconds of each of up to 15 steps), where 0 skips a
      step. If the last one is terminal, it decides the end ("Failed", for example). Otherwise the production
      is Published, or Failed with the probability `failure_rate`. If AwaitingApproval is missing, `approval`
      decides its seconds; if it is listed, its seconds apply, and infinity waits for `approve`. A production
      that is Queued for more than 600 seconds expires, as documented.
    - `failure_rate`, `expiry_rate`: the probability that a production fails, or expires in the queue.
    - `approval`: "auto" takes seconds, "mixed" takes seconds for 70 % of the productions and otherwise 20
      minutes on average (exponential), "person" waits for `approve`.
    - `spend_ceiling`: productions per account and month; further submissions receive a 409. None: no limit.
    - `latency`: the mean seconds from request to response (exponential); 0 for no delay.
    - `blob_storage`: the make of the blob storage, such as one without ETags and checksums.
    - `deliverability`: how reliably webhooks are delivered. It can be changed while the simulator runs.
    - `on_change`: a function that is called with each production that was created, cancelled, approved or
      refused; not when time alone changes its status.
    - `on_webhook_change`: a function that is called with each webhook that was created, changed or deleted.

    Raises ValueError for values outside these ranges. Entering raises OSError if the port is in use.
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
        blob_storage: BlobStorage = BlobStorage(),  # noqa: B008  # frozen
        deliverability: Deliverability = Deliverability(),  # noqa: B008  # frozen
        on_change: Callable[[SimulatedProduction], object] | None = None,
        on_webhook_change: Callable[[SimulatedWebhook], object] | None = None,
    ) -> None:
        if tier not in TIERS:
            raise ValueError(f"tier must be one of {', '.join(TIERS)}, not {tier!r}")
        if approval not in ("auto", "mixed", "person"):
            raise ValueError(f"approval must be auto, mixed or person, not {approval!r}")
        if not 0 <= latency < float("inf"):
            raise ValueError(f"latency must be a number of seconds, not {latency!r}")
        self.seed = seed
        self.tier: TierName = tier
        self.faults: Faults = Faults(random.Random(f"{seed}:faults"))
        self._rules = Rules(self.faults)
        self._port = port
        self._latency = latency
        self._world = World(seed, accounts, TimelineOptions(durations, failure_rate, expiry_rate, approval))
        self._limits = Limits(TIERS[tier], daily_quotas=daily_quotas, spend_ceiling=spend_ceiling)
        self._blobs = BlobStore(seed, self._world.describe, blob_storage)
        self._sender = WebhookSender(seed, deliverability)
        self._emitter = WebhookEmitter(seed, self._world, self._blobs, self._sender)
        if on_webhook_change is not None:
            self._emitter.on_change = on_webhook_change
        self._endpoints = Endpoints(
            self._world,
            self._limits,
            self._blobs,
            WebhookEndpoints(seed, self._world, self._emitter, self._sender).handlers,
            self._changed,
            rules=self._rules,
            idempotency_keys=idempotency_keys,
        )
        self._on_change = on_change
        self._request_log = RequestLog()
        self._keys = KeyStore(random.Random(f"{seed}:keys"))
        self._runners: list[web.ServerRunner] = []
        self._base_url = ""
        self.api_key: str = self._keys.create(*SCOPES)

    async def __aenter__(self) -> Self:
        self._writer = ResponseWriter()
        rng = random.Random(f"{self.seed}:network")
        storage = BlobServer(
            self._blobs, self.faults, self._rules, self._request_log, self._writer, self._latency, rng
        )
        api = ApiServer(
            self._keys,
            self._limits,
            self.faults,
            self._rules,
            self._endpoints,
            self._request_log,
            self._writer,
            self._latency,
            rng,
        )
        try:
            self._blobs.origin = await self._serve(make_server(storage.handle), 0)
            self.faults.trap_url = f"{self._blobs.origin}/trap"
            self._base_url = await self._serve(make_server(api.handle), self._port) + PREFIX
        except BaseException:
            await uninterrupted(start(self._stop))
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await uninterrupted(start(self._stop))

    async def _serve(self, server: web.Server, port: int) -> str:
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, port, backlog=_BACKLOG).start()
        host, bound_port = runner.addresses[0][:2]
        return f"http://{host}:{bound_port}"

    async def _stop(self) -> None:
        self._writer.close()
        self._emitter.close()
        await self._sender.close()
        while self._runners:
            await self._runners.pop().cleanup()

    @property
    def base_url(self) -> str:
        """The URL of the API. Raises RuntimeError before the simulator has started."""
        if not self._base_url:
            raise RuntimeError("the simulator has no address until it is entered with `async with`")
        return self._base_url

    @property
    def deliverability(self) -> Deliverability:
        """How reliably webhooks are delivered; a change applies from the next event on."""
        return self._sender.deliverability

    @deliverability.setter
    def deliverability(self, value: Deliverability) -> None:
        self._sender.deliverability = value

    def deploy(
        self,
        *,
        tier: TierName | None = None,
        idempotency_keys: bool | None = None,
        blob_storage: BlobStorage | None = None,
        layout: Layout | None = None,
    ) -> None:
        """Change the running server as a new release would; None keeps what it has.

        It restarts, so the count of the requests of the last minute is lost. Keys of earlier submits stay
        unknown if it begins to honour idempotency keys. `layout` is how it writes the objects of its
        responses: "plain", "reversed" (the fields), "wrapped" (in another object) or "without_step".

        Raises ValueError for an unknown tier or layout.
        """
        tier, layout = tier or self.tier, layout or self._endpoints.layout
        if tier not in TIERS or layout not in get_args(Layout):
            raise ValueError(f"unknown tier {tier!r} or layout {layout!r}")
        self.tier = tier
        self._limits.restart(TIERS[tier])
        self._endpoints.layout = layout
        if idempotency_keys is not None:
            self._endpoints.idempotency_keys = idempotency_keys
        if blob_storage is not None:
            self._blobs.make = blob_storage

    def when(
        self,
        nth: int | None = None,
        *,
        topic: str | None = None,
        account_id: str | None = None,
        where: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> ProductionRule:
        """Choose productions, and return a rule that says what happens to them: `when(3).fails(step=8)`.

        The conditions are about future submissions: their topic, their account, and `where`, a function of
        the body (a reference is not in it: JARAI never sees it). `nth` chooses one of those that match, in
        order of arrival from 1 on. Without conditions, all are chosen.

        A submission that is repeated with its `Idempotency-Key`, as `JaraiClient` does after an error, keeps
        its number, and the rule is about it again; without a key each arrival counts.
        Raises ValueError unless `nth` is 1 or more.
        """
        if nth is not None and nth < 1:
            raise ValueError(f"nth must be 1 or more, not {nth!r}")
        return self._rules.add(Conditions(nth, topic, account_id, where))

    @property
    def rules(self) -> list[ProductionRule]:
        """The rules that `when` has made, each with how many submissions it has `matched`."""
        return list(self._rules)

    def set_left_today(self, *, requests: int | None = None, productions: int | None = None) -> None:
        """Leave so many requests, or productions of each account, of the quotas until midnight (UTC).

        Raises ValueError if the tier has no such quota, or a smaller one.
        """
        wall = _clock.wall()
        if requests is not None:
            self._limits.day.set_left(requests, wall)
        if productions is not None:
            for account_id in self._world.accounts:
                self._limits.productions_of(account_id).set_left(productions, wall)

    def approve(self, production_id: str) -> None:
        """Approve a production, as a person would.

        Raises KeyError for an unknown production, ValueError for one that is not AwaitingApproval.
        """
        self._world.productions[production_id].approve(_clock.monotonic())
        self._changed(self._world.productions[production_id])

    def refuse(
        self,
        production_id: str,
        *,
        code: str = "APPROVAL_REFUSED",
        message: str = "The production was not approved.",
    ) -> None:
        """Refuse a production, as a person would: it is Failed, with this code and message (inferred).

        Raises KeyError for an unknown production, ValueError for one that is not AwaitingApproval.
        """
        self._world.productions[production_id].refuse(_clock.monotonic(), (code, message))
        self._changed(self._world.productions[production_id])

    def _changed(self, production: SimulatedProduction) -> None:
        self._emitter.emit_due(production)
        if self._on_change is not None:
            self._on_change(production)

    def restore(
        self, saved: Iterable[Mapping[str, Any]], *, webhooks: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Continue productions and webhooks of an earlier simulator with the same seed, from their `to_dict`.

        Productions count in the quotas of their days. Webhooks get the events from now on. Call it in the
        block of the simulator, before any request.
        """
        for each in saved:
            production = self._world.restore(each, _clock.monotonic(), _clock.wall())
            self._limits.count_production(production.account_id, production.submitted_wall)
        for webhook in webhooks:
            lists = {name: tuple(webhook[name]) for name in ("event_types", "account_ids")}
            self._emitter.add(SimulatedWebhook(**{**webhook, **lists}))

    def add_webhook(
        self, endpoint_url: str, event_types: Sequence[str], *, signing_secret: str
    ) -> SimulatedWebhook:
        """Subscribe an endpoint on this machine, without an API request, to the events from now on.

        Raises ValueError for what the API would reject, for an event type that the simulator never sends, and
        for a secret that is not base64url of 16 bytes or more.
        """
        if wrong := wrong_fields({"endpointUrl": endpoint_url, "eventTypes": list(event_types)}):
            raise ValueError(f"Missing or wrong: {', '.join(wrong)}.")
        for event_type in event_types:
            check_name("event type", event_type, EVENT_TYPES)
        check_secret(signing_secret)
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
        self._emitter.on_change(webhook)
        return webhook

    def add_key(self, *scopes: str, sandbox: bool = False) -> str:
        """Return a new API key with only these scopes. Raises ValueError for an unknown scope."""
        return self._keys.create(*scopes, sandbox=sandbox)

    def revoke(self, key: str) -> None:
        """Reject this API key with 401 from now on. Raises KeyError if it is not valid."""
        self._keys.revoke(key)
