"""Verify what JARAI sends to your endpoint, and read it. Pure: bytes and headers in, an event out.

    from jarai_async import webhooks

    event = webhooks.verify(body, request.headers, secret)

Anyone can send anything to an endpoint that is on the internet. So nothing is read before it is known to
be JARAI's: the signature is an HMAC-SHA256 of the raw body under the secret of your subscription
(documented), in the one header `X-JARAI-Signature: sha256=` and 64 hexadecimal digits. Exactly one: which of
two would count is for an attacker to choose. It is compared in constant time, against each secret that you
give, all of them every time: two while one replaces the other. Whatever the input, what comes out is an
event or a WebhookVerificationError.

What a signature does not say is when: JARAI signs the body only, and repeats deliveries, so an old one
is as genuine as a new one. Remember `production_id` and `sequence_number` of what you have handled (a
`jarai_async.receiver.Receiver` does), and read the production with the client before you act on it.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from jarai_async._api import wire
from jarai_async._api.codec import decode, field_name
from jarai_async._api.responses import parse_json
from jarai_async._api.webhook_models import (
    EVENTS,
    DeliverableReady,
    ProductionFailed,
    ProductionPublished,
    ProductionQueued,
    StepCompleted,
    WebhookEvent,
    WebhookTest,
)
from jarai_async._errors import ConfigurationError, InvalidResponseError, WebhookVerificationError
from jarai_async._secret import Secret

__all__ = [
    "DeliverableReady",
    "ProductionFailed",
    "ProductionPublished",
    "ProductionQueued",
    "StepCompleted",
    "WebhookEvent",
    "WebhookTest",
    "sign",
    "verify",
]

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")
_SIGNATURE = re.compile(wire.SIGNATURE_SCHEME + r"([0-9a-fA-F]{64})")
_SHORTEST_KEY = 16  # bytes; a shorter one could be found by trying
_BAD_SECRET = f"a signing secret must be base64url, as JARAI gave it, of {_SHORTEST_KEY} bytes or more"
Secrets = str | Secret | Sequence[str | Secret]
"""The signing secret of a webhook, as text or as `create_webhook` gave it, or several of them."""

_LARGEST_SEQUENCE = 2**53 - 1  # what JSON carries exactly in every language


def verify(body: bytes, headers: Mapping[str, str], secret: Secrets) -> WebhookEvent:
    """Give the event that a request carries, if JARAI signed it. Raises WebhookVerificationError.

    `body` is the raw bytes as they came: JSON that was parsed and written again has another signature.
    `headers` are all of the request's, under whatever case. `secret` is the signing secret of the
    subscription, or several of them. Raises ConfigurationError where a secret is not base64url, as JARAI
    gives it, of 16 bytes or more; TypeError for a body that is not bytes.
    """
    keys = _keys(secret)
    del secret  # a crash reporter shows the local names of each frame
    if not keys:
        raise ConfigurationError(_BAD_SECRET)
    if not isinstance(body, bytes):
        raise TypeError(f"body must be the raw bytes of the request, not {type(body).__name__}")
    given = _signature(headers)
    genuine = given is not None and _is_signed(body, given, keys)
    del keys
    if given is None:
        raise WebhookVerificationError(f"expected one {wire.SIGNATURE}: sha256= and 64 hexadecimal digits")
    if not genuine:
        raise WebhookVerificationError("the signature does not fit: is the secret another?")
    return _event(body)


def sign(body: bytes, secret: str | Secret) -> dict[str, str]:
    """Give the headers with which JARAI would send a body: for tests of your own endpoint.

    Raises ConfigurationError as `verify` does.
    """
    keys = _keys(secret)
    del secret
    if len(keys) != 1:
        raise ConfigurationError(_BAD_SECRET)
    return {wire.SIGNATURE: wire.SIGNATURE_SCHEME + hmac.digest(keys[0], body, "sha256").hex()}


def checked(secret: Secrets) -> list[Secret]:
    """Give secrets to keep, hidden. Raises ConfigurationError as `verify` does."""
    keys = _keys(secret)
    secrets = [one if isinstance(one, Secret) else Secret(one) for one in _each(secret)] if keys else []
    del secret, keys
    if not secrets:
        raise ConfigurationError(_BAD_SECRET)
    return secrets


def header_values(headers: Mapping[str, str], name: str) -> list[object]:
    """Give each value that a header has, whatever the case of its name and the kind of mapping."""
    name = name.lower()
    return [value for key, value in headers.items() if isinstance(key, str) and key.lower() == name]


def _keys(secret: Secrets) -> list[bytes]:
    """Decode secrets; give none at all where one of them is not what JARAI gives."""
    keys = [_key(one.reveal() if isinstance(one, Secret) else one) for one in _each(secret)]
    return [key for key in keys if key] if all(keys) else []


def _each(secret: Secrets) -> Sequence[str | Secret]:
    return [secret] if isinstance(secret, str | Secret) else list(secret)


def _key(secret: object) -> bytes | None:
    """Decode a secret, with padding or without. Python's own decoder drops what it does not know."""
    if not isinstance(secret, str) or not _BASE64URL.fullmatch(secret):
        return None
    bare = secret.rstrip("=")
    if bare != secret and len(secret) % 4:
        return None
    try:
        key = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        return None
    return key if len(key) >= _SHORTEST_KEY else None


def _signature(headers: Mapping[str, str]) -> bytes | None:
    """Give the one signature that the headers hold, decoded: bytes can be compared whatever they are."""
    values = header_values(headers, wire.SIGNATURE)
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    found = _SIGNATURE.fullmatch(values[0])
    return bytes.fromhex(found[1]) if found else None


def _is_signed(body: bytes, given: bytes, keys: Sequence[bytes]) -> bool:
    """Whether one of the keys made the signature; how long it takes does not tell which."""
    fitting = [hmac.compare_digest(hmac.digest(key, body, "sha256"), given) for key in keys]
    return any(fitting)


def _event(body: bytes) -> WebhookEvent:
    """Read a body that is known to be genuine."""
    try:
        envelope = parse_json(body)
        event = _structured(envelope if isinstance(envelope, dict) else {})
    except InvalidResponseError as error:
        fault = error.message
    except (ValueError, RecursionError):
        fault = "it is not JSON"
    else:
        if 0 <= event.sequence_number <= _LARGEST_SEQUENCE:
            return event
        fault = "its sequence number is out of bounds"
    raise WebhookVerificationError(f"signed, but not an event: {fault}")


def _structured(envelope: dict[str, Any]) -> WebhookEvent:
    """Make the event that an envelope says it is, with the fields of its class from within `data`."""
    event_type, data = envelope.get(_EVENT_TYPE), envelope.get(wire.EVENT_DATA)
    kind = EVENTS.get(event_type, WebhookEvent) if isinstance(event_type, str) else WebhookEvent
    inside = data if isinstance(data, dict) else {}
    details = {name: inside.get(name) for name in _DETAILS[kind]}
    if not details:
        return decode(envelope, kind)
    return attrs.evolve(decode(envelope | details, kind), raw=envelope)


def _details(kind: type[WebhookEvent]) -> list[str]:
    """Name the fields that an event has inside of `data`."""
    common = {one.name for one in attrs.fields(WebhookEvent)}
    return [field_name(kind, one.name) for one in attrs.fields(kind) if one.name not in common]


_DETAILS = {kind: _details(kind) for kind in EVENTS.values()}
_EVENT_TYPE = field_name(WebhookEvent, "event_type")
