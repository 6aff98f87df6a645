"""The JSON of the API's answers, with every field name written out by hand.

On purpose nothing is shared with the library's own names: a mistake in one would cancel out in the other.
Documented: `productionId`, `status`, `errorCode`, `errorMessage`, `expiresAt`, `accountId`, that an account
has avatars and connected platforms, camelCase, ISO 8601 in UTC. Inferred: all other fields.
"""

import random
from datetime import UTC, datetime
from typing import Any

from jarai_async.simulator._productions.state import SimulatedAccount, SimulatedProduction
from jarai_async.simulator._productions.timelines import EXPIRY_SECONDS


def status_body(production: SimulatedProduction, now: float) -> dict[str, Any]:
    """A production as GET tells it."""
    body = {
        "productionId": production.production_id,
        "accountId": production.account_id,
        "status": production.status_at(now),
        "topic": production.body["topic"],
        "projectTypeSlug": production.project_type,
        "currentStep": production.step_at(now),
        "createdAt": iso(production.submitted_wall),
        "updatedAt": iso(production.wall(production.status_since(now))),
        "expiresAt": iso(production.submitted_wall + EXPIRY_SECONDS),
    }
    error = production.error_at(now)
    if error is not None:
        body["errorCode"], body["errorMessage"] = error
    return body


def iso(wall: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(wall, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def account_body(account: SimulatedAccount) -> dict[str, Any]:
    """An account as the list of accounts tells it."""
    return {
        "accountId": account.account_id,
        "name": account.name,
        "status": "Active",
        "avatars": [{"avatarId": one} for one in account.avatar_ids],
        "languages": [{"languageId": one} for one in account.language_ids],
        "countries": [{"countryId": one} for one in account.country_ids],
        "connectedPlatforms": list(account.platforms),
    }


def performance_body(production_id: str, seconds: float, wall: float) -> dict[str, Any]:
    """Figures that begin at zero when it is published and grow more and more slowly."""
    rng = random.Random(f"performance:{production_id}")
    days = seconds / 86_400
    views = int(rng.lognormvariate(8.0, 1.0) * days / (days + 3.0))
    return {
        "productionId": production_id,
        "asOf": iso(wall),
        "views": views,
        "likes": int(views * rng.uniform(0.01, 0.08)),
        "watchTimeSeconds": int(views * rng.uniform(5.0, 25.0)),
    }
