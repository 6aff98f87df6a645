"""Which request is which: a reference made from its content, and what differs between two requests. Pure."""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from jarai_async._api.codec import body_of, decode_request
from jarai_async._api.models import ProductionRequest

_FIELDS = ("account_id", "topic", "language_id", "country_id", "avatar_id", "project_type", "metadata")


def content_reference(request: ProductionRequest) -> str:
    """Return a reference made from the account and every field of the body, whatever their order."""
    content = _canonical([request.account_id, json.loads(body_of(request))])
    return f"auto-{sha256(content.encode()).hexdigest()[:16]}"


def differences(before: ProductionRequest, now: ProductionRequest) -> Iterator[str]:
    """Describe each field that differs: its name, the old and the new value, shortened and printable."""
    old, new = _values(before), _values(now)
    for name in old | new:
        if _canonical(old.get(name)) != _canonical(new.get(name)):
            label = name if name.isidentifier() else repr(name)
            yield f"{label[:40]} was {_shown(old.get(name))}, is {_shown(new.get(name))}"


def _values(request: ProductionRequest) -> dict[str, Any]:
    as_sent = decode_request(json.loads(body_of(request)), request.account_id)  # only JSON values
    return {name: getattr(as_sent, name) for name in _FIELDS} | dict(as_sent.extra)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
