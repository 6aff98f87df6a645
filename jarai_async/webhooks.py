"""Verify and parse the webhook events that JARAI sends. Nothing here does I/O.

    from jarai_async import webhooks

    event = webhooks.verify(body, request.headers, secret)

Anyone can send requests to an endpoint on the internet, so `verify` checks the signature before it parses
anything. The signature is an HMAC-SHA256 of the raw body, keyed with the signing secret of your webhook, and
is sent in the header `X-JARAI-Signature` as `sha256=` and 64 hexadecimal digits (documented). `verify`
requires the header exactly once and compares the signature, in constant time, with that of each secret that
you pass. Pass two secrets while you replace one by the other. It raises WebhookVerificationError for a
request that JARAI did not sign, and returns an event for any that it did.

The signature does not prove when an event was sent: JARAI signs the body only, and delivers at least once, so
a replayed event is as valid as a new one. Remember the `production_id` and `sequence_number` of the events
that you have handled (a `jarai_async.receiver.Receiver` does this), and read the production with the client
before you act on an event.
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
from jarai_async._api.json_parser import parse_json
from jarai_async._api.models import NIL_ID
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
from jarai_async._errors import ConfigurationError, WebhookVerificationError
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
_MIN_KEY_LENGTH = 16  # bytes; a shorter key could be guessed
_BAD_SECRET = f"a signing secret must be base64url of {_MIN_KEY_LENGTH} bytes or more, as JARAI issued it"
_MAX_SEQUENCE_NUMBER = 2**53 - 1  # the largest integer that JSON carries exactly in every language

Secrets = str | Secret | Sequence[str | Secret]
"""The signing secret of a webhook, as text or as `create_webhook` returned it, or several of them."""


def verify(body: bytes, headers: Mapping[str, str], secret: Secrets) -> WebhookEvent:
    """Return the event in a request that JARAI signed: respond to it with 2xx, whatever the event is.

    `body` is the raw bytes as they were received: JSON that was parsed and serialized again has another
    signature. `headers` are all headers of the request; the case of their names does not matter. `secret` is
    the signing secret of the webhook, or a sequence of secrets. What cannot be read in a signed body does not
    raise: see `WebhookEvent`. An event without a type was not even a JSON object with one.

    Raises WebhookVerificationError if the signature is missing or wrong, ConfigurationError if there is
    no secret or one is not base64url text that decodes to at least 16 bytes, TypeError if the body is not
    bytes.
    """
    keys = _decode_all(secret)
    del secret  # crash reporters show the local variables of each frame
    if not keys:
        raise ConfigurationError(_BAD_SECRET)
    if not isinstance(body, bytes):
        del keys
        raise TypeError(f"body must be the raw bytes of the request, not {type(body).__name__}")
    signature = _signature(headers)
    genuine = signature is not None and _is_signed(body, signature, keys)
    del keys
    if signature is None:
        raise WebhookVerificationError(
            f"expected exactly one {wire.SIGNATURE} header: sha256= and 64 hexadecimal digits"
        )
    if not genuine:
        raise WebhookVerificationError("the signature does not match: check the signing secret")
    return _parse_event(body)


def sign(body: bytes, secret: str | Secret) -> dict[str, str]:
    """Return the headers with which JARAI would send a body, for tests of your own endpoint.

    Raises ConfigurationError if the secret is not base64url text that decodes to at least 16 bytes.
    """
    keys = _decode_all(secret)
    del secret
    if len(keys) != 1:
        raise ConfigurationError(_BAD_SECRET)
    return {wire.SIGNATURE: wire.SIGNATURE_SCHEME + hmac.digest(keys[0], body, "sha256").hex()}


def checked_secrets(secret: Secrets) -> list[Secret]:
    """Return the secrets as a list of `Secret`. Raises ConfigurationError as `verify` does."""
    items = _as_list(secret) if _decode_all(secret) else []
    secrets = [item if isinstance(item, Secret) else Secret(item) for item in items]
    del secret, items
    if not secrets:
        raise ConfigurationError(_BAD_SECRET)
    return secrets


def header_values(headers: Mapping[str, str], name: str) -> list[object]:
    """Return all values of a header; the case of its name and the type of mapping do not matter."""
    name = name.lower()
    return [value for key, value in headers.items() if isinstance(key, str) and key.lower() == name]


def _decode_all(secret: Secrets) -> list[bytes]:
    """Decode the secrets into keys. Return an empty list if any of them is invalid."""
    keys = [_decode(item.reveal() if isinstance(item, Secret) else item) for item in _as_list(secret)]
    return [key for key in keys if key] if all(keys) else []


def _as_list(secret: Secrets) -> Sequence[str | Secret]:
    return [secret] if isinstance(secret, str | Secret) else list(secret)


def _decode(secret: object) -> bytes | None:
    """Decode base64url with or without padding; the standard library ignores invalid characters."""
    if not isinstance(secret, str) or not _BASE64URL.fullmatch(secret):
        return None
    unpadded = secret.rstrip("=")
    if unpadded != secret and len(secret) % 4:
        return None
    try:
        key = base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4))
    except binascii.Error:
        return None
    return key if len(key) >= _MIN_KEY_LENGTH else None


def _signature(headers: Mapping[str, str]) -> bytes | None:
    """Return the signature if there is exactly one: which of two counts must not be up to an attacker."""
    values = header_values(headers, wire.SIGNATURE)
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    match = _SIGNATURE.fullmatch(values[0])
    return bytes.fromhex(match[1]) if match else None


def _is_signed(body: bytes, signature: bytes, keys: Sequence[bytes]) -> bool:
    """Compare with every key, even after a match, so that the time taken does not depend on which matches."""
    matches = [hmac.compare_digest(hmac.digest(key, body, "sha256"), signature) for key in keys]
    return any(matches)


def _parse_event(body: bytes) -> WebhookEvent:
    """Read a body whose signature was verified, as far as it can be read."""
    try:
        envelope = parse_json(body)
    except ValueError:
        envelope = None
    event = _decode_event(envelope if isinstance(envelope, dict) else {})
    if 0 <= event.sequence_number <= _MAX_SEQUENCE_NUMBER:
        return event
    return attrs.evolve(event, sequence_number=0)


def _decode_event(envelope: dict[str, Any]) -> WebhookEvent:
    """Make the event of the type that the envelope names, with the fields of its class from `data`."""
    event_type, data = envelope.get(_EVENT_TYPE), envelope.get(wire.EVENT_DATA)
    event_class = EVENTS.get(event_type, WebhookEvent) if isinstance(event_type, str) else WebhookEvent
    names = _DATA_FIELDS[event_class]
    fields = {name: data.get(name) if isinstance(data, dict) else None for name in names}
    event = decode(envelope | fields, event_class)
    if event.production_id == NIL_ID and event_class is not WebhookTest:
        return decode(envelope, WebhookEvent)
    return attrs.evolve(event, raw=envelope) if names else event


def _data_fields(event_class: type[WebhookEvent]) -> list[str]:
    """Return the JSON names of the fields that an event class adds, which are inside `data`."""
    common = {attribute.name for attribute in attrs.fields(WebhookEvent)}
    own = [attribute.name for attribute in attrs.fields(event_class) if attribute.name not in common]
    return [field_name(event_class, name) for name in own]


_DATA_FIELDS = {event_class: _data_fields(event_class) for event_class in EVENTS.values()}
_EVENT_TYPE = field_name(WebhookEvent, "event_type")

for _event_class in EVENTS.values():
    _event_class.__module__ = __name__  # the public module, for tracebacks, documentation and pickles
