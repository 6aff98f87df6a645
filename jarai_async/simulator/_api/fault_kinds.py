"""The kinds of faults: what can go wrong between a client and the Partner API, each with a name.

A kind is two facts and a pure function: whether the request is executed, whether it counts against the rate
limit, and how the response changes. The docstring of `Faults` describes each.
"""

import math
import random
from collections.abc import Callable
from typing import Literal

from attrs import evolve, frozen

from jarai_async.simulator._api.responses import Json, Response, SendMode, error_response, storage_error
from jarai_async.simulator._common import draw_uuid

_HUGE_BYTES = 8 * 1024 * 1024 + 1024


@frozen
class FaultContext:
    """What a kind may use besides the response; `wall` is the time in Unix seconds."""

    seconds: float
    wall: float
    trap_url: str
    random: random.Random


Change = Callable[[Response, FaultContext], Response]


@frozen
class FaultKind:
    """A kind of fault.

    `change` returns what the client receives. Its argument is the API's response, or an empty one unless the
    fault `executes` the request. `counts` says whether the request counts against the rate limit.
    """

    change: Change
    executes: bool
    counts: bool = True


def _replace_by(response: Response) -> Change:
    return lambda _, __: response


def _send(send_mode: SendMode) -> Change:
    return lambda response, _: evolve(response, send_mode=send_mode)


def _send_slowly(response: Response, context: FaultContext) -> Response:
    return evolve(response, send_mode="slow", seconds=context.seconds)


def _html(status: int, title: str) -> Response:
    page = f"<html><head><title>{status} {title}</title></head><body>{title}</body></html>"
    return Response(status, page.encode(), {}, "text/html", from_gateway=True)


def _shorten(response: Response, _: FaultContext) -> Response:
    body = response.body()
    return evolve(response, payload=body[: len(body) // 2])


def _flip_bit(response: Response, context: FaultContext) -> Response:
    body = bytearray(response.body())
    if body:
        body[context.random.randrange(len(body))] ^= 1 << context.random.randrange(8)
    return evolve(response, payload=bytes(body))


def _set_payload(payload: Json | bytes) -> Change:
    return lambda response, _: evolve(response, payload=payload)


def _with_fields(response: Response, **fields: object) -> Response:
    return evolve(response, payload={**_fields(response), **fields})


def _fields(response: Response) -> dict[str, object]:
    return response.payload if isinstance(response.payload, dict) else {}


def _add_padding(response: Response, _: FaultContext) -> Response:
    return _with_fields(response, padding="x" * _HUGE_BYTES)


def _other_production(response: Response, context: FaultContext) -> Response:
    return _with_fields(response, productionId=draw_uuid(context.random, version=None))


def _other_location(response: Response, context: FaultContext) -> Response:
    location = f"/productions/{draw_uuid(context.random, version=None)}"
    return evolve(response, headers={**response.headers, "Location": location})


def _add_nan(response: Response, _: FaultContext) -> Response:
    return evolve(response, payload=b'{"progress": NaN, ' + response.body()[1:])


def _add_invalid_text(response: Response, _: FaultContext) -> Response:
    return evolve(response, payload=b'{"note": "\xff \\ud800", ' + response.body()[1:])


_ODD_FIELDS = {
    "topic": 5,
    "projectTypeSlug": ["article"],
    "currentStep": "seven",
    "createdAt": "yesterday",
    "expiresAt": 0,
    "errorMessage": {},
    "sandbox": "no",
}


def _with_odd_fields(response: Response, _: FaultContext) -> Response:
    return _with_fields(response, **_ODD_FIELDS)


def _with_odd_items(response: Response, _: FaultContext) -> Response:
    fields = _fields(response)
    odd = {name: [None, "odd", *map(_without_type, items)] for name, items in _lists(fields)}
    return evolve(response, payload=fields | odd)


def _without_type(item: object) -> object:
    return item | {"type": None} if isinstance(item, dict) and "type" in item else item


def _with_empty_lists(response: Response, _: FaultContext) -> Response:
    fields = _fields(response)
    return evolve(response, payload=fields | {name: [] for name, _ in _lists(fields)})


def _lists(fields: dict[str, object]) -> list[tuple[str, list[object]]]:
    return [(name, value) for name, value in fields.items() if isinstance(value, list)]


def _add_headers(response: Response, _: FaultContext) -> Response:
    return evolve(response, headers=response.headers | {f"X-Gateway-{n}": "x" for n in range(150)})


def _only_location(response: Response, _: FaultContext) -> Response:
    location = response.headers.get("Location", "") + "/status?wait=1"
    return evolve(response, payload=b"", headers=response.headers | {"Location": location})


def _wrong_type(response: Response, _: FaultContext) -> Response:
    return evolve(response, content_type="text/html")


def _unknown_status(response: Response, _: FaultContext) -> Response:
    return _with_fields(response, status="Rendering")


def _without_id(response: Response, _: FaultContext) -> Response:
    fields = {name: value for name, value in _fields(response).items() if name != "productionId"}
    return evolve(response, payload=fields)


def _without_id_and_location(response: Response, context: FaultContext) -> Response:
    return evolve(_without_id(response, context), headers={})


def _redirect(_: Response, context: FaultContext) -> Response:
    return Response(307, headers={"Location": context.trap_url}, content_type="text/plain")


def _rate_limit(_: Response, context: FaultContext) -> Response:
    seconds = max(1, math.ceil(context.seconds))
    response = error_response(429, "RATE_LIMIT_EXCEEDED", "Too many requests.", retry_after=seconds)
    response.headers["X-RateLimit-Remaining"] = "0"
    response.headers["X-RateLimit-Reset"] = str(math.ceil(context.wall + seconds))
    return response


def _rate_limit_ms(response: Response, context: FaultContext) -> Response:
    response = _rate_limit(response, context)
    response.headers["X-RateLimit-Reset"] += "000"
    return response


_INTERNAL_ERROR = error_response(500, "INTERNAL_ERROR", "An unexpected error occurred.")
_UNAVAILABLE = error_response(503, "SERVICE_UNAVAILABLE", "The service is temporarily unavailable.")
_EXPIRED = storage_error(403, "AuthenticationFailed", "Signature not valid in the given time.")
_NOT_FOUND = error_response(404, "NOT_FOUND", "There is no such thing.")
_FORBIDDEN = error_response(403, "PARTNER_NOT_ACTIVE", "The partner is not active.")
_NOT_READY = error_response(409, "DELIVERABLES_NOT_READY", "The production has no deliverables yet.")
_TOO_MANY = _html(429, "Too Many Requests")
_UNAUTHORIZED = error_response(401, "UNAUTHORIZED", "The key is not valid.")

FaultName = Literal[
    "internal_error",
    "internal_error_after",
    "unavailable",
    "unavailable_html",
    "gateway_html",
    "gateway_timeout",
    "reset_before",
    "reset_after",
    "hang_before",
    "hang",
    "truncated_json",
    "cut_body",
    "cut_chunks",
    "wrong_json",
    "empty_body",
    "huge_body",
    "deep_json",
    "no_number",
    "no_text",
    "odd_fields",
    "odd_items",
    "empty_list",
    "many_headers",
    "wrong_type",
    "missing_id",
    "missing_id_and_location",
    "other_production",
    "other_location",
    "only_location",
    "unknown_status",
    "redirect",
    "timeout_html",
    "too_early",
    "rate_limited_ms",
    "rate_limited_html",
    "rate_limited",
    "unauthorized",
    "forbidden",
    "not_found",
    "not_ready",
    "expired",
    "wrong_length",
    "bit_flip",
    "slow",
]
"""The kinds in `KINDS`."""

KINDS: dict[str, FaultKind] = {
    "internal_error": FaultKind(_replace_by(_INTERNAL_ERROR), executes=False),
    "internal_error_after": FaultKind(_replace_by(_INTERNAL_ERROR), executes=True),
    "unavailable": FaultKind(_replace_by(_UNAVAILABLE), executes=False),
    "unavailable_html": FaultKind(_replace_by(_html(503, "Service Unavailable")), executes=True),
    "gateway_html": FaultKind(_replace_by(_html(502, "Bad Gateway")), executes=False),
    "gateway_timeout": FaultKind(_replace_by(_html(504, "Gateway Timeout")), executes=True),
    "reset_before": FaultKind(_send("reset"), executes=False),
    "reset_after": FaultKind(_send("reset"), executes=True),
    "hang_before": FaultKind(_send("hang"), executes=False),
    "hang": FaultKind(_send("hang"), executes=True),
    "truncated_json": FaultKind(_shorten, executes=True),
    "cut_body": FaultKind(_send("cut"), executes=True),
    "cut_chunks": FaultKind(_send("cut_chunks"), executes=True),
    "wrong_json": FaultKind(_set_payload([]), executes=True),
    "empty_body": FaultKind(_set_payload(b""), executes=True),
    "huge_body": FaultKind(_add_padding, executes=True),
    "deep_json": FaultKind(_set_payload(b"[" * 10_000 + b"]" * 10_000), executes=True),
    "no_number": FaultKind(_add_nan, executes=True),
    "no_text": FaultKind(_add_invalid_text, executes=True),
    "odd_fields": FaultKind(_with_odd_fields, executes=True),
    "odd_items": FaultKind(_with_odd_items, executes=True),
    "empty_list": FaultKind(_with_empty_lists, executes=True),
    "many_headers": FaultKind(_add_headers, executes=True),
    "wrong_type": FaultKind(_wrong_type, executes=True),
    "missing_id": FaultKind(_without_id, executes=True),
    "missing_id_and_location": FaultKind(_without_id_and_location, executes=True),
    "other_production": FaultKind(_other_production, executes=True),
    "other_location": FaultKind(_other_location, executes=True),
    "only_location": FaultKind(_only_location, executes=True),
    "unknown_status": FaultKind(_unknown_status, executes=True),
    "redirect": FaultKind(_redirect, executes=False),
    "timeout_html": FaultKind(_replace_by(_html(408, "Request Timeout")), executes=True),
    "too_early": FaultKind(_replace_by(_html(425, "Too Early")), executes=False),
    "rate_limited_ms": FaultKind(_rate_limit_ms, executes=False, counts=False),
    "rate_limited_html": FaultKind(_replace_by(_TOO_MANY), executes=False, counts=False),
    "rate_limited": FaultKind(_rate_limit, executes=False, counts=False),
    "unauthorized": FaultKind(_replace_by(_UNAUTHORIZED), executes=False, counts=False),
    "forbidden": FaultKind(_replace_by(_FORBIDDEN), executes=False),
    "not_found": FaultKind(_replace_by(_NOT_FOUND), executes=False),
    "not_ready": FaultKind(_replace_by(_NOT_READY), executes=False),
    "expired": FaultKind(_replace_by(_EXPIRED), executes=False),
    "wrong_length": FaultKind(_shorten, executes=True),
    "bit_flip": FaultKind(_flip_bit, executes=True),
    "slow": FaultKind(_send_slowly, executes=True),
}

DOWNLOAD_KINDS = frozenset({"expired", "wrong_length", "bit_flip"})
