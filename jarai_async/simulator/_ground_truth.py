"""What the simulator knows and the real API does not show."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypedDict

from jarai_async.simulator._api.rate_limits import WINDOW_SECONDS, Limits, TierName
from jarai_async.simulator._api.request_log import RequestLog, RequestRecord
from jarai_async.simulator._blobs.storage import BlobStore
from jarai_async.simulator._productions.state import SimulatedAccount, SimulatedProduction, World
from jarai_async.simulator._webhooks.delivery import Delivery, SimulatedWebhook, WebhookSender
from jarai_async.simulator._webhooks.emitter import WebhookEmitter


class RequestIds(TypedDict):
    """The identifiers that a submission needs, by their fields."""

    account_id: str
    language_id: str
    country_id: str
    avatar_id: str


class GroundTruth:
    """What every `Simulator` can tell about its productions, requests and webhooks."""

    seed: int | str
    tier: TierName
    _base_url: str
    _world: World
    _blobs: BlobStore
    _limits: Limits
    _request_log: RequestLog
    _emitter: WebhookEmitter
    _sender: WebhookSender

    @property
    def accounts(self) -> list[SimulatedAccount]:
        """The accounts of the partner, with the identifiers that a submission needs."""
        return list(self._world.accounts.values())

    @property
    def account_id(self) -> str:
        """The identifier of the first account."""
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
    def ids(self) -> RequestIds:
        """The identifiers of the first account: `ProductionRequest(topic="Tides", **simulator.ids)`."""
        return RequestIds(
            account_id=self.account_id,
            language_id=self.language_id,
            country_id=self.country_id,
            avatar_id=self.avatar_id,
        )

    @property
    def productions(self) -> Mapping[str, SimulatedProduction]:
        """Every production that was created, by its identifier."""
        return MappingProxyType(self._world.productions)

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request in order of arrival, including downloads."""
        return self._request_log.requests

    @property
    def rate_limited(self) -> int:
        """The number of 429s that a limit caused, not counting those from faults."""
        return self._request_log.rate_limited

    @property
    def leaks(self) -> list[str]:
        """The requests to blob storage that carried an API key; a correct client sends none."""
        return self._request_log.leaks

    @property
    def webhooks(self) -> list[SimulatedWebhook]:
        """The current webhook subscriptions, with their secrets."""
        return list(self._emitter.webhooks.values())

    @property
    def deliveries(self) -> list[Delivery]:
        """Every delivery of an event to a webhook in the order of the events, including lost ones."""
        return self._sender.deliveries

    def count(self, route: str | None = None, status: int | None = None) -> int:
        """Return the number of requests, optionally of one route or with one status.

        Raises ValueError for an unknown route: they are those of `RouteName` but "any", and "unknown".
        """
        return self._request_log.count(route, status)

    def utilisation(self, since: float, until: float) -> float:
        """Return the used share of the rate limit between two times on the loop's clock.

        Raises ValueError unless `since` is before `until`.
        """
        if not since < until:
            raise ValueError("since must be before until")
        available = self._limits.tier.requests_per_minute * (until - since) / WINDOW_SECONDS
        return self._request_log.admitted(since, until) / available

    def files(self, production_id: str) -> Mapping[str, bytes]:
        """Return the files that a production has once it is Published, by name. Raises KeyError."""
        if production_id not in self.productions:
            raise KeyError(production_id)
        return self._blobs.final_files(production_id)

    def __repr__(self) -> str:
        return (
            f"<Simulator seed={self.seed!r} tier={self.tier} at {self._base_url or 'no address yet'}:"
            f" {len(self.productions)} productions, {len(self.requests)} requests,"
            f" {self.rate_limited} of them over the limit>"
        )
