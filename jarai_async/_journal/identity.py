"""Which request is which: references made from the content, and what differs from it. Pure."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from attrs import Factory, define

from jarai_async._api.codec import body_of, decode_request
from jarai_async._api.models import Production, ProductionRequest
from jarai_async._journal.entries import Intent

_CLOCK_SKEW = timedelta(minutes=10)
_LONGEST_SUBMIT = timedelta(hours=24)  # from the first attempt to the last one

_FIELDS = ("account_id", "topic", "language_id", "country_id", "avatar_id", "project_type", "metadata")


def content_reference(request: ProductionRequest) -> str:
    """Return a reference made from the account and every field of the body, whatever their order."""
    content = _canonical([request.account_id, json.loads(body_of(request))])
    return f"auto-{sha256(content.encode()).hexdigest()[:16]}"


def reference_of(request: ProductionRequest, occurrences: Counter[str]) -> str:
    """Return the reference of a request, made from its content and its occurrence if it has none."""
    if request.reference is not None:
        return request.reference
    reference = content_reference(request)
    occurrences[reference] += 1
    occurrence = occurrences[reference]
    return reference if occurrence == 1 else f"{reference}-{occurrence}"


def differences(before: ProductionRequest, now: ProductionRequest) -> Iterator[str]:
    """Describe each field that differs: its name, the old and the new value, shortened and printable."""
    old, new = _values(before), _values(now)
    for name in old | new:
        if name not in old or name not in new or _canonical(old[name]) != _canonical(new[name]):
            was, is_ = (_shown(values[name]) if name in values else "absent" for values in (old, new))
            yield f"{name[:40]} was {was}, is {is_}"


@define
class Comparison:
    """What a production and a submit that may have created it have in common, and what differs."""

    matches: list[str] = Factory(list)
    differs: list[str] = Factory(list)


def compare(intent: Intent, production: Production) -> Comparison:
    """Compare a production with a submit: the topic, the account, and the time of its creation.

    These fields of a production are inferred: what the server does not report is not compared.
    """
    result, request = Comparison(), intent.request()

    def add(name: str, reported: object, requested: object, *, fits: bool) -> None:
        if fits:
            result.matches.append(f"{name} {_shown(reported)}")
        else:
            result.differs.append(f"{name} is {_shown(reported)}, the request's is {_shown(requested)}")

    if (topic := production.topic) is not None:
        add("topic", topic, request.topic, fits=_normal(topic) == _normal(request.topic))
    if (account := production.account_id) is not None:
        add("account", account, request.account_id, fits=account == request.account_id)
    if (created := production.created_at) is not None and intent.sent_at is not None:
        sent = datetime.fromtimestamp(intent.sent_at, UTC)
        fits = -_CLOCK_SKEW <= created - sent <= _LONGEST_SUBMIT
        add("creation time", f"{created:%Y-%m-%d %H:%M:%S}", f"{sent:%Y-%m-%d %H:%M:%S}", fits=fits)
    return result


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _values(request: ProductionRequest) -> dict[str, Any]:
    as_sent = decode_request(json.loads(body_of(request)), request.account_id)  # only JSON values
    extra = {f"extra[{name!r}]": value for name, value in as_sent.extra.items()}
    return {name: getattr(as_sent, name) for name in _FIELDS} | extra


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
