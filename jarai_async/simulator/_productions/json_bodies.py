"""The JSON objects of the API's responses, with every field name written by hand.

Deliberately, nothing is shared with the client library: the same mistake on both sides would go unnoticed.
Documented: `productionId`, `status`, `errorCode`, `errorMessage`, `expiresAt`, `accountId`, that an account
has avatars and connected platforms, camelCase, ISO 8601 in UTC. Inferred: all other fields.
"""

import random
from typing import Any

from jarai_async.simulator._common import DAY_SECONDS, iso
from jarai_async.simulator._productions.state import SimulatedAccount, SimulatedProduction
from jarai_async.simulator._productions.timelines import EXPIRY_SECONDS


def status_body(production: SimulatedProduction, now: float) -> dict[str, Any]:
    """Return a production as its status endpoint shows it."""
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


def account_body(account: SimulatedAccount) -> dict[str, Any]:
    """Return an account as the list of accounts shows it."""
    return {
        "accountId": account.account_id,
        "name": account.name,
        "status": "Active",
        "avatars": [{"avatarId": avatar_id} for avatar_id in account.avatar_ids],
        "languages": [{"languageId": language_id} for language_id in account.language_ids],
        "countries": [{"countryId": country_id} for country_id in account.country_ids],
        "connectedPlatforms": list(account.platforms),
    }


def performance_body(production_id: str, seconds: float, wall: float) -> dict[str, Any]:
    """Return figures that grow ever more slowly from zero at publication, `seconds` ago."""
    rng = random.Random(f"performance:{production_id}")
    days = seconds / DAY_SECONDS
    views = int(rng.lognormvariate(8.0, 1.0) * days / (days + 3.0))
    return {
        "productionId": production_id,
        "asOf": iso(wall),
        "views": views,
        "likes": int(views * rng.uniform(0.01, 0.08)),
        "watchTimeSeconds": int(views * rng.uniform(5.0, 25.0)),
    }
