"""Conversion between JSON and models, with one cattrs converter.

JSON uses camelCase names and Python snake_case; `wire.FIELDS` lists the exceptions. A required field that is
missing or has the wrong type is an error that names its path. An optional field that is missing or has the
wrong type gets its default, and an item of a list that cannot be read is left out, so that neither prevents
the rest from being read. Both are logged, a field only once. `raw` keeps the JSON object.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

import attrs
from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, override

from jarai_async._api import webhook_models, wire
from jarai_async._api.models import (
    Account,
    Avatar,
    Deliverable,
    Id,
    Production,
    ProductionRequest,
    Status,
    parse_id,
)
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._errors import InvalidResponseError
from jarai_async._secret import Secret

T = TypeVar("T")

_log = logging.getLogger("jarai_async")

_UNREADABLE = (BaseValidationError, ValueError, TypeError, OverflowError)
_MAX_INT = 1 << 53  # the greatest of which every JSON parser reads each number exactly
_BODY_ATTRIBUTES = ("topic", "language_id", "country_id", "avatar_id", "project_type", "metadata")
KNOWN_STATUSES = {str(status): status for status in vars(Status).values() if isinstance(status, Status)}


def field_name(model: type, attribute: str) -> str:
    """Return the JSON name of an attribute."""
    first, *rest = attribute.split("_")
    camel_case = first + "".join(word.title() for word in rest)
    return wire.FIELDS.get(model.__name__, {}).get(attribute, camel_case)


def decode(value: object, model: type[T]) -> T:
    """Make a model from parsed JSON. Raises InvalidResponseError, which names the path of each problem."""
    try:
        return _converter.structure(value, model)
    except _UNREADABLE as error:
        problems = "; ".join(transform_error(error, path=model.__name__))
        raise InvalidResponseError(f"not in the documented format: {problems:.500}") from None


def encode_request(request: ProductionRequest) -> dict[str, Any]:
    """Return the body of a submit as JSON values, without the fields that are None."""
    values = {field_name(ProductionRequest, name): getattr(request, name) for name in _BODY_ATTRIBUTES}
    return {name: value for name, value in values.items() if value is not None} | dict(request.extra)


def body_of(request: ProductionRequest) -> bytes:
    """Return the exact bytes of a submit, which every attempt sends unchanged."""
    return json.dumps(encode_request(request), separators=(",", ":")).encode()


def decode_request(body: Mapping[str, Any], account_id: str) -> ProductionRequest:
    """Return the request that has this body. Raises InvalidRequestError, TypeError, ValueError."""
    names = {field_name(ProductionRequest, name): name for name in _BODY_ATTRIBUTES}
    known: dict[str, Any] = {names[name]: value for name, value in body.items() if name in names}
    extra = {name: value for name, value in body.items() if name not in names}
    return ProductionRequest(account_id=account_id, extra=extra, **known)


def encode(model: Production | Deliverable | WebhookEvent) -> dict[str, Any]:
    """Return the known fields of a model as JSON values that `decode` can read, without signed URLs."""
    values = {attribute.name: getattr(model, attribute.name) for attribute in attrs.fields(type(model))}
    return {
        field_name(type(model), name): value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
        if name not in ("raw", "url", "listing") and value is not None
    }


def _exactly(kind: type[T]) -> Callable[[object, Any], T]:
    """Return a hook that accepts one type only, where cattrs would convert: 5 is not the text "5"."""

    def structure(value: object, _: Any) -> T:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
        return value

    return structure


def _structure_status(value: object, _: Any) -> Status:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a status, not {type(value).__name__}")
    return KNOWN_STATUSES.get(value) or Status(value)


def _structure_int(value: object, _: Any) -> int:
    """Accept 7.0, which some serializers send, but no number that cannot be a count or a size (inferred)."""
    number = int(value) if isinstance(value, float) and value.is_integer() else _exactly(int)(value, int)
    if not 0 <= number <= _MAX_INT:
        raise ValueError("expected a number of things or bytes")
    return number


def _structure_time(value: object, _: Any) -> datetime:
    time = datetime.fromisoformat(_exactly(str)(value, str))
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


@cache
def _warn_once(field: str) -> None:
    """Log the first unreadable value of a field, without its content, which may be secret."""
    _log.warning("JARAI sent a value for %s that cannot be read; such values are ignored", field)


def _optional(default: Any, kind: Any, name: str) -> Callable[[Any, Any], Any]:
    """Return a hook for the optional field `name`, which replaces an unreadable value by the default."""
    (inner,) = [option for option in get_args(kind) if option is not NoneType] if default is None else [kind]
    hook = _converter.get_structure_hook(inner)  # looked up once, not for each value

    def structure(value: Any, _: Any) -> Any:
        if value is None:
            return default
        try:
            return hook(value, inner)
        except (*_UNREADABLE, InvalidResponseError):
            _warn_once(name)
            return default

    return structure


def _override(model: type, attribute: "attrs.Attribute[Any]") -> Any:
    if attribute.name in ("raw", "listing"):
        return override(omit=True)
    name = field_name(model, attribute.name)
    if attribute.default is attrs.NOTHING:
        return override(rename=name)
    return override(
        rename=name, struct_hook=_optional(attribute.default, attribute.type, f"{model.__name__}.{name}")
    )


def _structure_model(model: type[attrs.AttrsInstance]) -> Callable[[Any, Any], Any]:
    overrides = {attribute.name: _override(model, attribute) for attribute in attrs.fields(model)}
    structure = make_dict_structure_fn(model, _converter, **overrides)

    def structure_with_raw(value: Any, kind: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected an object, not {type(value).__name__}")
        value = {sys.intern(name): item for name, item in value.items()}  # saves 1 KB of names per model
        instance = structure(value, kind)
        object.__setattr__(instance, "raw", value)  # frozen, but not yet shared
        return instance

    return structure_with_raw


def _is_tuple(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is tuple


def _structure_tuple(value: object, kind: Any) -> tuple[Any, ...]:
    """Accept lists only: the text "YouTube" is iterable, but is not seven platforms."""
    return tuple(decode_items(_exactly(list)(value, list), get_args(kind)[0]))


def decode_items(items: list[Any], model: type[T]) -> list[T]:
    """Make a model from each item that can be read.

    Raises InvalidResponseError if none of them can be read.
    """
    decoded, problems = [], []
    for item in items:
        try:
            decoded.append(decode(item, model))
        except InvalidResponseError as error:
            problems.append(error)
    if problems and not decoded:
        raise problems[0]
    if problems:
        message = "%d of %d items of a list from JARAI cannot be read, and are left out; the first: %s"
        _log.warning(message, len(problems), len(items), problems[0].message)
    return decoded


_converter = Converter()
for _kind in (str, bool, Secret):
    _converter.register_structure_hook(_kind, _exactly(_kind))
_converter.register_structure_hook(int, _structure_int)
_converter.register_structure_hook(Status, _structure_status)
_converter.register_structure_hook(datetime, _structure_time)
_converter.register_structure_hook_func(lambda kind: kind is Id, lambda value, _: parse_id(value))
_converter.register_structure_hook_func(_is_tuple, _structure_tuple)
_MODELS = {
    Avatar,
    Account,
    Production,
    Deliverable,
    webhook_models.Webhook,
    webhook_models.NewWebhook,
    webhook_models.WebhookDelivery,
    *webhook_models.EVENTS.values(),
}
_converter.register_structure_hook_factory(lambda kind: kind in _MODELS, _structure_model)  # on its first use
