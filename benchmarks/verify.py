"""Throw spoilt deliveries at `webhooks.verify`: none may be accepted, and no exception but ours may come out.

Each input begins as a genuine delivery. Half of them are then spoilt in body, headers or both, as an attacker
would; of the other half the body is spoilt first and signed afterwards, as a faulty sender would, so that
the reading behind the verification is reached as well. What was accepted is forged unless its very bytes
were signed. The same seed gives the same inputs.
"""

import hmac
import json
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
    """Genuine events of each known type."""
    details: dict[str, dict[str, Any]] = {
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
    return [json.dumps({"eventType": one, "data": data, **common}).encode() for one, data in details.items()]


_BODIES = _bodies()


def spoilt_body(body: bytes, rng: random.Random) -> bytes:
    """Change one thing: a bit, a stretch, a value, or all."""
    at, until = sorted((rng.randrange(len(body)), rng.randrange(len(body) + 1)))
    token = rng.choice(_TOKENS)
    spoilt = [
        lambda: body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :],
        lambda: body[:at] + body[until:],
        lambda: body[:until] + body[at:until] + body[until:],
        lambda: body[:at] + token + body[until:],
        lambda: token + body,
        lambda: token,
        lambda: rng.randbytes(rng.randrange(40)),
        lambda: _with_odd_value(body, rng),
    ]
    return rng.choice(spoilt)()


def _with_odd_value(body: bytes, rng: random.Random) -> bytes:
    """Put something else in the place of one value, so that it stays an object."""
    value = json.loads(body)
    name = rng.choice(sorted(value))
    parts = [
        json.dumps(one).encode() + b":" + (rng.choice(_TOKENS) if one == name else json.dumps(held).encode())
        for one, held in value.items()
        if one != name or rng.random() < 0.8
    ]
    return b"{" + b",".join(parts) + b"}"


_SPOILT_HEADERS: list[Callable[[str, random.Random], Mapping[Any, Any]]] = [
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
    lambda value, rng: {rng.choice([_NAME, _NAME.lower(), _NAME.upper()]): value},  # a fine one
]


def _flipped(digits: str, rng: random.Random) -> str:
    at = rng.randrange(len(digits))
    return digits[:at] + rng.choice("0123456789abcdefABCDEF") + digits[at + 1 :]


@define
class Count:
    """What came out."""

    accepted: int = 0
    refused: int = 0
    forged: int = 0
    foreign: int = 0

    def throw(self, body: bytes, headers: Mapping[Any, Any]) -> None:
        """Verify one input, and take down what happens."""
        try:
            verify(body, headers, [_OTHER, _SECRET])
        except WebhookVerificationError:
            self.refused += 1
        except Exception:  # noqa: BLE001  # that there is none is what is measured
            self.foreign += 1
            if self.foreign == 1:
                traceback.print_exc()
        else:
            self.accepted += 1
            self.forged += not _is_genuine(body, headers)


def _is_genuine(body: bytes, headers: Mapping[Any, Any]) -> bool:
    """Reckon it independently: one header, and of these bytes."""
    right = {"sha256=" + hmac.new(_KEY, body, "sha256").hexdigest()}
    given = [value for name, value in headers.items() if str(name).lower() == _NAME.lower()]
    return {value[:7] + value[7:].lower() for value in given} == right and len(given) == 1


def forged(rng: random.Random) -> tuple[bytes, Mapping[Any, Any]]:
    """Spoil a genuine delivery."""
    body = rng.choice(_BODIES)
    value = sign(body, rng.choice([_SECRET, _SECRET, _SECRET, _OTHER[::-1]]))[_NAME]
    apply = rng.randrange(3)
    headers = rng.choice(_SPOILT_HEADERS)(value, rng) if apply != 0 else {_NAME: value}
    return spoilt_body(body, rng) if apply != 1 else body, headers


def signed(rng: random.Random) -> tuple[bytes, Mapping[Any, Any]]:
    """Sign what is spoilt."""
    body = spoilt_body(rng.choice(_BODIES), rng)
    return body, sign(body, _SECRET)


def main() -> None:
    chosen = options(__doc__, inputs=1_000_000, seed=1)
    rng, count = random.Random(chosen.seed), Count()
    begin = time.perf_counter()
    for n in range(chosen.inputs):
        count.throw(*(forged(rng) if n % 2 else signed(rng)))
    seconds = time.perf_counter() - begin
    figures = [
        Figure("accepted, forged", f"{count.forged:,}", "0", count.forged == 0),
        Figure("foreign exceptions", f"{count.foreign:,}", "0", count.foreign == 0),
        Figure("refused", f"{count.refused:,}"),
        Figure("accepted, genuine", f"{count.accepted - count.forged:,}"),
        Figure("inputs a second, with their making", f"{chosen.inputs / seconds:,.0f}"),
    ]
    show(f"{chosen.inputs:,} inputs to webhooks.verify", figures, chosen.json)
    sys.exit(bool(count.forged or count.foreign))


if __name__ == "__main__":
    main()
