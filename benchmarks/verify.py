"""Fuzz `webhooks.verify`: it must accept no forged delivery, and raise no exception but the documented one.

Each input starts as a genuine delivery. Half of the inputs are then changed in body, headers or both, as an
attacker would do. In the other half the body is changed first and signed afterwards, as by a faulty sender,
so that the code behind the verification is reached as well. An accepted input is forged unless exactly its
bytes were signed. The same seed makes the same inputs.

    python -m benchmarks.verify
"""

import hmac
import json
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define
from multidict import CIMultiDict

from jarai_async import WebhookVerificationError
from jarai_async.webhooks import sign, verify
from tests.support.figures import Figure, options, show

_NAME = "X-JARAI-Signature"
_SECRET, _OTHER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkI"
_KEY = bytes(range(24))
_ID = "0b0e2b1c-9f4e-4d5c-8a57-0123456789ab"
_TOKENS = [
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 5_000, b"1" + b"0" * 400, b"true", b'""', b"[]"),
    *(
        b"{}",
        b"[" * 3_000,
        b'{"a":' * 3_000,
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b'"\\ud800"',
        b"\x00",
        b"\xef\xbb\xbf",
    ),
    *(
        b'"9999-12-31T23:59:59+23:59"',
        b'"0001-01-01T00:00:00+23:59"',
        b'"2026-01-01"',
        b'"' + b"x" * 9_000 + b'"',
    ),
]


def _bodies() -> list[bytes]:
    """Return a genuine event of each known type, and one of an unknown type."""
    data_of: dict[str, dict[str, Any]] = {
        "production.queued": {"status": "Queued", "expiresAt": "2026-01-01T09:10:00Z"},
        "production.step.complete": {"step": 3},
        "production.published": {},
        "production.failed": {"errorCode": "PIPELINE_STEP_FAILED", "errorMessage": "Step 3 of 15."},
        "deliverable.ready": {"deliverables": [{"type": "Video", "sasUrl": "https://h/x?sig=y"}] * 5},
        "webhook.test": {},
        "production.rendered": {"frames": [1, 2.5, None]},
    }
    common: dict[str, Any] = {
        "eventId": _ID,
        "productionId": _ID,
        "accountId": _ID,
        "timestamp": "2026-01-01T09:00:00.000Z",
    }
    common |= {"sequenceNumber": 7, "correlationId": _ID, "truncated": False}
    return [
        json.dumps({"eventType": name, "data": data, **common}).encode() for name, data in data_of.items()
    ]


_BODIES = _bodies()


def changed_body(body: bytes, rng: random.Random) -> bytes:
    """Change one thing: a bit, a range of bytes, a value, or everything."""
    at, until = sorted((rng.randrange(len(body)), rng.randrange(len(body) + 1)))
    token = rng.choice(_TOKENS)
    changes = [
        lambda: body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :],
        lambda: body[:at] + body[until:],
        lambda: body[:until] + body[at:until] + body[until:],
        lambda: body[:at] + token + body[until:],
        lambda: token + body,
        lambda: token,
        lambda: rng.randbytes(rng.randrange(40)),
        lambda: _with_odd_value(body, rng),
    ]
    return rng.choice(changes)()


def _with_odd_value(body: bytes, rng: random.Random) -> bytes:
    """Replace the value of one field, or drop the field."""
    fields = json.loads(body)
    chosen = rng.choice(sorted(fields))
    parts = [
        json.dumps(name).encode()
        + b":"
        + (rng.choice(_TOKENS) if name == chosen else json.dumps(value).encode())
        for name, value in fields.items()
        if name != chosen or rng.random() < 0.8
    ]
    return b"{" + b",".join(parts) + b"}"


_CHANGED_HEADERS: list[Callable[[str, random.Random], Mapping[Any, Any]]] = [
    lambda _, __: {},
    lambda value, rng: {_NAME: value[: rng.randrange(len(value))]},
    lambda value, rng: {_NAME: value[:7] + _flipped(value[7:], rng)},
    lambda value, rng: {
        _NAME: value + rng.choice(["0", "00", "\n", " ", ",", "\0", "=", "," + value, ";" + value])
    },
    lambda value, rng: {_NAME: rng.choice([" ", "\t", "v1,", "SHA256=", "sha1="]) + value},
    lambda value, _: CIMultiDict([(_NAME, value), (_NAME, value)]),
    lambda value, _: {_NAME: value, _NAME.lower(): value},
    lambda value, rng: {_NAME: value[:-1] + rng.choice("é٣\udcff\ud800\uff21😀\u212a\x00")},
    lambda value, rng: {_NAME: rng.choice([None, 5, value.encode(), [value], (), {}, 1.5])},
    lambda value, rng: {
        rng.choice(["X-Jarai-Signatur", "", None, _NAME.encode(), 5, "X_JARAI_SIGNATURE"]): value
    },
    lambda _, rng: {_NAME: "sha256=" + rng.randbytes(32).hex()},
    lambda _, rng: {_NAME: "".join(map(chr, rng.choices(range(0x3000), k=rng.randrange(80))))},
    lambda value, rng: {rng.choice([_NAME, _NAME.lower(), _NAME.upper()]): value},  # correct
]


def _flipped(digits: str, rng: random.Random) -> str:
    at = rng.randrange(len(digits))
    return digits[:at] + rng.choice("0123456789abcdefABCDEF") + digits[at + 1 :]


@define
class Count:
    """The results: `forged` counts inputs that were accepted by mistake, `errors` other exceptions."""

    accepted: int = 0
    rejected: int = 0
    forged: int = 0
    errors: int = 0

    def verify(self, body: bytes, headers: Mapping[Any, Any]) -> None:
        """Verify one input and count the result."""
        try:
            verify(body, headers, [_OTHER, _SECRET])
        except WebhookVerificationError:
            self.rejected += 1
        except Exception:  # noqa: BLE001  # any other exception is a finding
            self.errors += 1
            if self.errors == 1:
                traceback.print_exc()
        else:
            self.accepted += 1
            self.forged += not _is_genuine(body, headers)


def _is_genuine(body: bytes, headers: Mapping[Any, Any]) -> bool:
    """Decide independently of the library: one header, with the signature of exactly these bytes."""
    expected = {"sha256=" + hmac.new(_KEY, body, "sha256").hexdigest()}
    values = [value for name, value in headers.items() if str(name).lower() == _NAME.lower()]
    return {value[:7] + value[7:].lower() for value in values} == expected and len(values) == 1


def forged(rng: random.Random) -> tuple[bytes, Mapping[Any, Any]]:
    """Change a genuine delivery."""
    body = rng.choice(_BODIES)
    value = sign(body, rng.choice([_SECRET, _SECRET, _SECRET, _OTHER[::-1]]))[_NAME]
    part = rng.randrange(3)
    headers = rng.choice(_CHANGED_HEADERS)(value, rng) if part != 0 else {_NAME: value}
    return changed_body(body, rng) if part != 1 else body, headers


def signed(rng: random.Random) -> tuple[bytes, Mapping[Any, Any]]:
    """Sign a changed body."""
    body = changed_body(rng.choice(_BODIES), rng)
    return body, sign(body, _SECRET)


def main() -> None:
    chosen = options(__doc__, inputs=1_000_000, seed=1)
    rng, count = random.Random(chosen.seed), Count()
    logging.disable()  # what the library says about odd events
    begin = time.perf_counter()
    for n in range(chosen.inputs):
        count.verify(*(forged(rng) if n % 2 else signed(rng)))
    seconds = time.perf_counter() - begin
    figures = [
        Figure("accepted, forged", f"{count.forged:,}", "0", count.forged == 0),
        Figure("other exceptions", f"{count.errors:,}", "0", count.errors == 0),
        Figure("rejected", f"{count.rejected:,}"),
        Figure("accepted, genuine", f"{count.accepted - count.forged:,}"),
        Figure("inputs a second, made and verified", f"{chosen.inputs / seconds:,.0f}"),
    ]
    show(f"{chosen.inputs:,} inputs to webhooks.verify", figures, chosen.json)
    sys.exit(bool(count.forged or count.errors))


if __name__ == "__main__":
    main()
