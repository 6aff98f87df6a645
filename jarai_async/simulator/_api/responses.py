"""An answer as data, before anything is sent: what an endpoint says and what a fault makes of it.

Nothing here touches a socket. `delivery` says how `_wire` brings the answer to the client, or fails to.
"""

import json
from typing import Any, Literal

from attrs import field, frozen

Delivery = Literal["whole", "cut", "slow", "reset", "hang"]
Json = dict[str, Any] | list[Any]


@frozen
class Response:
    """One HTTP answer; `payload` is JSON yet to be written, or bytes to be sent as they are."""

    status: int
    payload: Json | bytes = b""
    headers: dict[str, str] = field(factory=dict)
    content_type: str = "application/json"
    delivery: Delivery = "whole"
    seconds: float = 0.0  # how long a "slow" delivery takes
    bare: bool = False  # from a gateway in front of the API: none of the API's own headers

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def body(self) -> bytes:
        """The bytes to send."""
        if isinstance(self.payload, bytes):
            return self.payload
        return json.dumps(self.payload, separators=(",", ":")).encode()


def failure(status: int, code: str | None, message: str, *, retry_after: int | None = None) -> Response:
    """The documented envelope of every answer that is not 2xx; `retry_after` in whole seconds."""
    return Response(status, {"error": code, "message": message, "retryAfterSeconds": retry_after})


def storage_failure(status: int, code: str, message: str) -> Response:
    """An error as blob storage words it: a little XML."""
    text = (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return Response(status, text.encode(), {"x-ms-error-code": code}, "application/xml")
