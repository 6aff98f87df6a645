"""The routes of the Partner API: the method and path of each, and the scope that a key needs for it.

Documented: the paths and scopes. Inferred: the scope of `/usage`, and the paths and methods of webhooks.
"""

from typing import Literal

from attrs import frozen

from jarai_async.simulator._api.responses import Response, error_response

PREFIX = "/v1/partner"
RouteName = Literal[
    "accounts",
    "submit",
    "fetch",
    "cancel",
    "deliverables",
    "performance",
    "usage",
    "webhooks",
    "create_webhook",
    "webhook",
    "update_webhook",
    "delete_webhook",
    "webhook_deliveries",
    "test_webhook",
    "download",
    "any",
]
"""What a fault can affect: a route of the API, downloads, or any request but downloads."""


@frozen
class Route:
    """One route; in `path`, which follows the prefix, "*" stands for an identifier."""

    name: str
    method: str
    path: str
    scope: str


_TABLE = (
    Route("accounts", "GET", "accounts", "accounts:read"),
    Route("submit", "POST", "accounts/*/productions", "productions:write"),
    Route("fetch", "GET", "productions/*", "productions:read"),
    Route("cancel", "DELETE", "productions/*", "productions:write"),
    Route("deliverables", "GET", "productions/*/deliverables", "deliverables:read"),
    Route("performance", "GET", "productions/*/performance", "analytics:read"),
    Route("usage", "GET", "usage", "analytics:read"),
    Route("webhooks", "GET", "webhooks", "webhooks:read"),
    Route("create_webhook", "POST", "webhooks", "webhooks:write"),
    Route("webhook", "GET", "webhooks/*", "webhooks:read"),
    Route("update_webhook", "PATCH", "webhooks/*", "webhooks:write"),
    Route("delete_webhook", "DELETE", "webhooks/*", "webhooks:write"),
    Route("webhook_deliveries", "GET", "webhooks/*/deliveries", "webhooks:read"),
    Route("test_webhook", "POST", "webhooks/*/test", "webhooks:write"),
)
ROUTES = {route.name: route for route in _TABLE}

_METHODS: dict[str, dict[str, str]] = {}  # by path: the name of the route of each method
for _route in _TABLE:
    _METHODS.setdefault(_route.path, {})[_route.method] = _route.name

_NOT_FOUND = error_response(404, "NOT_FOUND", "There is nothing at this path.")


def find_route(method: str, path: str) -> tuple[str, str, Response | None]:
    """Return the route's name, the identifier in the path, and an error response if there is no route."""
    if not path.startswith(PREFIX + "/"):
        return "unknown", "", _NOT_FOUND
    first, *rest = path[len(PREFIX) + 1 :].split("/")
    target = rest[0] if rest else ""
    methods = _METHODS.get("/".join((first, *("*" for _ in rest[:1]), *rest[1:])))
    if methods is None:
        return "unknown", target, _NOT_FOUND
    if method not in methods:
        error = error_response(405, "METHOD_NOT_ALLOWED", f"{method} is not for this path.")
        error.headers["Allow"] = ", ".join(methods)
        return "unknown", target, error
    return methods[method], target, None
