"""What a production's status means for whoever asked for it. Pure; the statuses stand in `_models`."""

from collections.abc import Mapping
from typing import Final

from jarai_async._errors import ProductionFailedError
from jarai_async._events import OutcomeState
from jarai_async._models import Production, Status

PRODUCTION_EXPIRED: Final = "PRODUCTION_EXPIRED"  # documented: never begun, safe to submit again at once
_ENDS: Final[Mapping[Status, OutcomeState]] = {
    Status.PUBLISHED: OutcomeState.PUBLISHED,
    Status.FAILED: OutcomeState.FAILED,
    Status.CANCELLED: OutcomeState.CANCELLED,
}


def end(production: Production) -> tuple[OutcomeState, ProductionFailedError | None]:
    """Give how a production ended, and why it failed. Only for a terminal status."""
    state = _ENDS[production.status]
    if state is not OutcomeState.FAILED:
        return state, None
    reason = (production.error_message or "no reason given").rstrip(".")
    message = f"production {production.id} failed: {reason}"
    if production.error_code == PRODUCTION_EXPIRED:
        message += ": it was never begun and is safe to submit again at once"
    return state, ProductionFailedError(message, code=production.error_code)
