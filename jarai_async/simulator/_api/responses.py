"""HTTP responses as data: endpoints make them, faults change them, and `writer` sends them."""

import json
from typing import Any, Literal

from attrs import evolve, field, frozen

SendMode = Literal["complete", "cut", "cut_chunks", "slow", "reset", "hang"]
Layout = Literal["plain", "reversed", "wrapped", "without_step"]
Json = dict[str, Any] | list[Any]


@frozen
class Response:
    """One HTTP response; `payload` is JSON to be encoded, or bytes to be sent as they are.

    `send_mode` says how the server sends it: "complete"; "cut" off after half of the body, or
    the same without a Content-Length ("cut_chunks"); "slow", in pieces
    over `seconds`; or not at all, because the server resets the connection ("reset") or leaves it open
    ("hang"). A response `from_gateway` lacks the headers that the API adds to its own responses.
    """

    status: int
    payload: Json | bytes = b""
    headers: dict[str, str] = field(factory=dict)
    content_type: str = "application/json"
    send_mode: SendMode = "complete"
    seconds: float = 0.0
    from_gateway: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def body(self) -> bytes:
        """Return the bytes to send."""
        if isinstance(self.payload, bytes):
            return self.payload
        return json.dumps(self.payload, separators=(",", ":")).encode()


def lay_out(response: Response, layout: Layout) -> Response:
    """Return a response of the API as another release of it would write it."""
    fields = response.payload
    if layout == "plain" or not response.is_success or not isinstance(fields, dict):
        return response
    if layout == "reversed":
        return evolve(response, payload=dict(reversed(fields.items())))
    if layout == "wrapped":
        return evolve(response, payload={"data": fields})
    return evolve(response, payload={name: value for name, value in fields.items() if name != "currentStep"})


def error_response(
    status: int, code: str | None, message: str, *, retry_after: int | None = None
) -> Response:
    """Return an error in the documented envelope; `retry_after` is in whole seconds."""
    return Response(status, {"error": code, "message": message, "retryAfterSeconds": retry_after})


def storage_error(status: int, code: str, message: str) -> Response:
    """Return an error in the XML of Azure blob storage."""
    text = (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return Response(status, text.encode(), {"x-ms-error-code": code}, "application/xml")
