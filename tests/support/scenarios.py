"""Requests that the simulator accepts."""

from typing import Any

from jarai_async import ProductionRequest
from jarai_async.simulator import Simulator


def request_for(simulator: Simulator, **changes: Any) -> ProductionRequest:
    """Return a request that the simulator accepts."""
    fields: dict[str, Any] = {
        "topic": "How tides work",
        "account_id": simulator.account_id,
        "language_id": simulator.language_id,
        "country_id": simulator.country_id,
        "avatar_id": simulator.avatar_id,
    }
    return ProductionRequest(**fields | changes)


def requests_for(simulator: Simulator, count: int) -> list[ProductionRequest]:
    """Return a batch with the references `item-0`, `item-1`, ..."""
    return [request_for(simulator, reference=f"item-{n}") for n in range(count)]
