"""Faults on demand: what can go wrong between a client and the Partner API, each kind by its name.

A kind is two facts and a pure function: whether the request is executed, whether it counts against the
request budget, and what becomes of the answer that the client would have had. The table is open:
`simulator.faults.kinds["mine"] = Kind(...)` adds one.

    internal_error        500, nothing executed
    internal_error_after  500, although it was executed
    unavailable           503 with the API's envelope, nothing executed
    unavailable_html      503 with a gateway's HTML page, although it was executed
    gateway_html          502 with a gateway's HTML page, nothing executed
    reset_before          the connection is reset, nothing executed
    reset_after           the connection is reset, although it was executed
    hang_before           no answer for as long as the client stays, nothing executed
    hang                  no answer for as long as the client stays, although it was executed
    truncated_json        executed; half of the body, with a Content-Length that fits the half
    cut_body              executed; half of the body, then the connection closes
    wrong_json            executed; a list in place of an object
    empty_body            executed; no body
    huge_body             executed; a little over 8 MiB of JSON
    deep_json             executed; ten thousand lists, one in another
    no_number             executed; with a NaN, which JSON does not have
    wrong_type            executed; the JSON is called text/html
    missing_id            executed; no `productionId`, the Location is there
    missing_id_and_location  executed; neither
    other_production      executed; the body speaks of another production
    other_location        executed; the Location does
    unknown_status        executed; the status is "Rendering"
    redirect              307 to another origin, nothing executed
    timeout_html          408 of a gateway, although it was executed
    rate_limited          429 that asks to wait for `seconds`, nothing executed
    rate_limited_html     429 of a gateway, which does not say for how long, nothing executed
    unauthorized          401, nothing executed
    not_found             404, nothing executed
    expired               403 as of an expired signature (download)
    wrong_length          a shorter file, and a Content-Length that fits it (download)
    bit_flip              one bit of the file differs, its headers do not (download)
    slow                  the body takes `seconds` to arrive, in pieces
"""

import math
import random
from collections.abc import Callable

from attrs import evolve, frozen

from jarai_async.simulator._api.responses import Delivery, Json, Response, failure, storage_failure

_HUGE_BYTES = 8 * 1024 * 1024 + 1024


@frozen
class Circumstances:
    """What a kind may use besides the answer itself."""

    seconds: float
    wall: float
    trap_url: str
    random: random.Random


Change = Callable[[Response, Circumstances], Response]


@frozen
class Kind:
    """A kind of fault; where nothing is executed, `change` gets an empty answer."""

    change: Change
    executes: bool
    counts: bool = True


def _is(answer: Response) -> Change:
    return lambda _, __: answer


def _delivered(delivery: Delivery) -> Change:
    return lambda answer, _: evolve(answer, delivery=delivery)


def _slowly(answer: Response, circumstances: Circumstances) -> Response:
    return evolve(answer, delivery="slow", seconds=circumstances.seconds)


def _html(status: int, title: str) -> Response:
    page = f"<html><head><title>{status} {title}</title></head><body>{title}</body></html>"
    return Response(status, page.encode(), {}, "text/html", bare=True)


def _shortened(answer: Response, _: Circumstances) -> Response:
    body = answer.body()
    return evolve(answer, payload=body[: len(body) // 2])


def _flipped(answer: Response, circumstances: Circumstances) -> Response:
    body = bytearray(answer.body())
    if body:
        body[circumstances.random.randrange(len(body))] ^= 1 << circumstances.random.randrange(8)
    return evolve(answer, payload=bytes(body))


def _payload(payload: Json | bytes) -> Change:
    return lambda answer, _: evolve(answer, payload=payload)


def _with_fields(answer: Response, **fields: object) -> Response:
    known = answer.payload if isinstance(answer.payload, dict) else {}
    return evolve(answer, payload={**known, **fields})


def _huge(answer: Response, _: Circumstances) -> Response:
    return _with_fields(answer, padding="x" * _HUGE_BYTES)


def _another(random: random.Random) -> str:
    # Not `draw_uuid`: this room knows nothing of worlds, and only the shape matters here.
    digits = f"{random.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _other_production(answer: Response, circumstances: Circumstances) -> Response:
    return _with_fields(answer, productionId=_another(circumstances.random))


def _other_location(answer: Response, circumstances: Circumstances) -> Response:
    where = f"/productions/{_another(circumstances.random)}"
    return evolve(answer, headers={**answer.headers, "Location": where})


def _no_number(answer: Response, _: Circumstances) -> Response:
    return evolve(answer, payload=b'{"progress": NaN, ' + answer.body()[1:])


def _wrong_type(answer: Response, _: Circumstances) -> Response:
    return evolve(answer, content_type="text/html")


def _unknown_status(answer: Response, _: Circumstances) -> Response:
    return _with_fields(answer, status="Rendering")


def _nameless(*, located: bool) -> Change:
    def change(answer: Response, _: Circumstances) -> Response:
        known = answer.payload if isinstance(answer.payload, dict) else {}
        fields = {name: value for name, value in known.items() if name != "productionId"}
        headers = answer.headers if located else {}
        return evolve(answer, payload=fields, headers=headers)

    return change


def _redirected(_: Response, circumstances: Circumstances) -> Response:
    return Response(307, headers={"Location": circumstances.trap_url}, content_type="text/plain")


def _limited(_: Response, circumstances: Circumstances) -> Response:
    message = "Too many requests."
    seconds = max(1, math.ceil(circumstances.seconds))
    answer = failure(429, "RATE_LIMIT_EXCEEDED", message, retry_after=seconds)
    answer.headers["X-RateLimit-Remaining"] = "0"
    answer.headers["X-RateLimit-Reset"] = str(math.ceil(circumstances.wall + seconds))
    return answer


_INTERNAL_ERROR = failure(500, "INTERNAL_ERROR", "An unexpected error occurred.")
_UNAVAILABLE = failure(503, "SERVICE_UNAVAILABLE", "The service is temporarily unavailable.")
_EXPIRED = storage_failure(403, "AuthenticationFailed", "Signature not valid in the given time.")
_UNAUTHORIZED = failure(401, "UNAUTHORIZED", "The key is not valid.")

KINDS: dict[str, Kind] = {
    "internal_error": Kind(_is(_INTERNAL_ERROR), executes=False),
    "internal_error_after": Kind(_is(_INTERNAL_ERROR), executes=True),
    "unavailable": Kind(_is(_UNAVAILABLE), executes=False),
    "unavailable_html": Kind(_is(_html(503, "Service Unavailable")), executes=True),
    "gateway_html": Kind(_is(_html(502, "Bad Gateway")), executes=False),
    "reset_before": Kind(_delivered("reset"), executes=False),
    "reset_after": Kind(_delivered("reset"), executes=True),
    "hang_before": Kind(_delivered("hang"), executes=False),
    "hang": Kind(_delivered("hang"), executes=True),
    "truncated_json": Kind(_shortened, executes=True),
    "cut_body": Kind(_delivered("cut"), executes=True),
    "wrong_json": Kind(_payload([]), executes=True),
    "empty_body": Kind(_payload(b""), executes=True),
    "huge_body": Kind(_huge, executes=True),
    "deep_json": Kind(_payload(b"[" * 10_000 + b"]" * 10_000), executes=True),
    "no_number": Kind(_no_number, executes=True),
    "wrong_type": Kind(_wrong_type, executes=True),
    "missing_id": Kind(_nameless(located=True), executes=True),
    "missing_id_and_location": Kind(_nameless(located=False), executes=True),
    "other_production": Kind(_other_production, executes=True),
    "other_location": Kind(_other_location, executes=True),
    "unknown_status": Kind(_unknown_status, executes=True),
    "redirect": Kind(_redirected, executes=False),
    "timeout_html": Kind(_is(_html(408, "Request Timeout")), executes=True),
    "rate_limited_html": Kind(_is(_html(429, "Too Many Requests")), executes=False, counts=False),
    "rate_limited": Kind(_limited, executes=False, counts=False),
    "unauthorized": Kind(_is(_UNAUTHORIZED), executes=False, counts=False),
    "not_found": Kind(_is(failure(404, "NOT_FOUND", "There is no such thing.")), executes=False),
    "expired": Kind(_is(_EXPIRED), executes=False),
    "wrong_length": Kind(_shortened, executes=True),
    "bit_flip": Kind(_flipped, executes=True),
    "slow": Kind(_slowly, executes=True),
}
