"""Shared test values and Hypothesis strategies: valid responses, and hostile ones."""

import json
from typing import Any

from hypothesis import strategies as st

from jarai_async import ProductionRequest
from jarai_async._api.responses import Response

ID = "0b0e2b1c-9f4e-4d5c-8a57-0123456789ab"
OTHER = "5d8f6a10-0d5c-4a55-9a86-fedcba987654"


def request(**fields: Any) -> ProductionRequest:
    """A valid request, with these fields replaced."""
    valid = dict.fromkeys(("account_id", "language_id", "country_id", "avatar_id"), ID) | {"topic": "Tides"}
    return ProductionRequest(**(valid | fields))


def response(body: object = b"", status: int = 200, /, **headers: str) -> Response:
    """A response with these bytes, or with the JSON of any other value."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def production(**fields: Any) -> dict[str, Any]:
    """The body of a status with the required fields and these."""
    return {"productionId": ID, "status": "Producing"} | fields


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
statuses = st.integers(min_value=200, max_value=599)
header_names = st.sampled_from(
    ["Location", "Retry-After", "Date", "X-RateLimit-Reset", "X-RateLimit-Limit", "X-RateLimit-Remaining"]
) | st.sampled_from(["X-Correlation-Id", "Content-Type"])
numbers = st.integers().map(str) | st.floats().map(str)
header_values = st.text(max_size=40) | numbers | st.datetimes().map("{:%a, %d %b %Y %H:%M:%S GMT}".format)
headers = st.dictionaries(header_names, header_values)

# Objects with field names that the library reads and values of any type.
fields = st.dictionaries(
    st.sampled_from(
        [
            "productionId",
            "status",
            "accountId",
            "createdAt",
            "currentStep",
            "deliverables",
            "accounts",
            "sasUrl",
            "type",
            "avatars",
            "connectedPlatforms",
            "error",
            "message",
            "retryAfterSeconds",
        ]
    ),
    json_values,
)

HOSTILE_BODIES: dict[str, bytes] = {
    "empty": b"",
    "html": b"<html><body>502 Bad Gateway</body></html>",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "not closed": b"[" * 100_000,
    "deep object": b'{"status":' * 20_000 + b"1" + b"}" * 20_000,
    "5,000 digits": b'{"productionId": ' + b"9" * 5_000 + b', "status": "Queued"}',
    "NaN": b'{"productionId": NaN}',
    "infinity": b'{"productionId": -Infinity}',
    "1e400": b'{"productionId": 1e400, "status": 1e400}',
    "cut": b'{"productionId": "0b0e2b1c-9f4e',
    "not UTF-8": b'{"productionId": "\xff\xfe\xfd"}',
    "lone surrogate": b'{"productionId": "\\ud800", "status": "\\udfff"}',
    "half UTF-16": "{}".encode("utf-16") + b"\x00",
    "two values": b"{} {}",
    "null": b"null",
    "text": b'"Queued"',
    "list": b"[1, null, {}]",
    "NUL": b"\x00",
}

HOSTILE_NAMES = [
    *("", " ", ".", "..", "...", "/", "\\", "../../etc/passwd", "..\\..\\windows\\system32", "/etc/shadow"),
    *("C:\\x", "C:x", "\\\\server\\share", "a/b", "a:b", "a?b*c", '"<>|', "-rf", "--help", "~", "~root/.ssh"),
    *("-.bashrc", "~.profile", ". -. x", "~ ~", ".hidden", " .hidden", "name.", "name ", "name. . ."),
    *(
        "CON",
        "con.txt",
        "Con .txt",
        "NUL",
        "aux.mp4",
        "COM1",
        "com9.log",
        "LPT0",
        "COM¹",
        "CONIN$",
        "conout$.x",
    ),
    *(
        "a\x00b",
        "a\nb",
        "a\r\nb",
        "\x1b[31mred",
        "a\x7fb",
        "a\u202egpj.exe",
        "a\u200bb",
        "\ufeffa",
        "a\u2066b",
    ),
    *(
        "a\u2028b",
        "a\u2029b",
        "\ud800",
        "a\udcffb",
        "\ue000",
        "e\u200d\u0301",
        "e\u0301",
        "\u0301",
        "\uff0e\uff0e",
    ),
    *(
        "x" * 300,
        "x" * 300 + ".mp4",
        "é" * 200 + ".mp4",
        "😀" * 100,
        "x." + "y" * 300,
        "." * 300,
        "a" + " ." * 200,
    ),
    *(
        "con" + " " * 200 + ".txt",
        "-" * 300 + "..",
        "x" * 119 + " .mp4",
        "x" * 119 + " y",
        "%2e%2e%2f",
        "file:///etc/passwd",
    ),
]
