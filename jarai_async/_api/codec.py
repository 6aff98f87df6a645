"""JSON to models and back, through one cattrs converter.

Outside is camelCase, inside is snake_case (exceptions stand in `_wire`). What must be there is checked,
with the path in the error. What may be missing becomes its default when it is missing or not what was
expected: an odd optional field must not hide a status. All that came is kept in `raw`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
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
    as_id,
)
from jarai_async._errors import InvalidResponseError
from jarai_async._secret import Secret

T = TypeVar("T")

_BODY = ("topic", "language_id", "country_id", "avatar_id", "project_type", "metadata")
_KNOWN = {str(status): status for status in vars(Status).values() if isinstance(status, Status)}


def field_name(model: type, attribute: str) -> str:
    """Give the API's name of an attribute."""
    first, *rest = attribute.split("_")
    camel_case = first + "".join(word.title() for word in rest)
    return wire.FIELDS.get(model.__name__, {}).get(attribute, camel_case)


def decode(value: object, model: type[T]) -> T:
    """Make a model from parsed JSON. Raises InvalidResponseError with the paths of what is wrong."""
    try:
        return _converter.structure(value, model)
    except (BaseValidationError, ValueError, TypeError) as error:
        faults = "; ".join(transform_error(error, path=model.__name__))
        raise InvalidResponseError(f"the answer is not as documented: {faults:.500}") from None


def encode_request(request: ProductionRequest) -> dict[str, Any]:
    """Make the body of a submit. What is None is left out."""
    values = {field_name(ProductionRequest, name): getattr(request, name) for name in _BODY}
    return {name: value for name, value in values.items() if value is not None} | dict(request.extra)


def decode_request(body: Mapping[str, Any], account_id: str) -> ProductionRequest:
    """Give the request that has this body. Raises InvalidRequestError, TypeError, ValueError."""
    names = {field_name(ProductionRequest, name): name for name in _BODY}
    known: dict[str, Any] = {names[name]: value for name, value in body.items() if name in names}
    extra = {name: value for name, value in body.items() if name not in names}
    return ProductionRequest(account_id=account_id, extra=extra, **known)


def encode(model: Production | Deliverable) -> dict[str, Any]:
    """Give the known fields of a model as JSON values, without signed URLs; `decode` reads them."""
    values = {one.name: getattr(model, one.name) for one in attrs.fields(type(model))}
    return {
        field_name(type(model), name): value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
        if name not in ("raw", "url") and value is not None
    }


def _exactly(kind: type[T]) -> Callable[[object, Any], T]:
    """Refuse what cattrs would convert: a status of 5 is a mistake, not "5"."""

    def structure(value: object, _: Any) -> T:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
        return value

    return structure


def _structure_status(value: object, _: Any) -> Status:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a status, not {type(value).__name__}")
    return _KNOWN.get(value) or Status(value)


def _structure_time(value: object, _: Any) -> datetime:
    moment = datetime.fromisoformat(_exactly(str)(value, str))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _lenient(default: Any, kind: Any) -> Callable[[Any, Any], Any]:
    (inner,) = [one for one in get_args(kind) if one is not NoneType] if default is None else [kind]
    hook = _converter.get_structure_hook(inner)  # looked up once, not for each value

    def structure(value: Any, _: Any) -> Any:
        if value is None:
            return default
        try:
            return hook(value, inner)
        except (BaseValidationError, ValueError, TypeError):
            return default

    return structure


def _override(model: type, attribute: "attrs.Attribute[Any]") -> Any:
    if attribute.name == "raw":
        return override(omit=True)
    name = field_name(model, attribute.name)
    if attribute.default is attrs.NOTHING:
        return override(rename=name)
    return override(rename=name, struct_hook=_lenient(attribute.default, attribute.type))


def _structure_model(model: type[attrs.AttrsInstance]) -> Callable[[Any, Any], Any]:
    overrides = {attribute.name: _override(model, attribute) for attribute in attrs.fields(model)}
    structure = make_dict_structure_fn(model, _converter, **overrides)

    def structure_and_keep(value: Any, kind: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected an object, not {type(value).__name__}")
        value = {sys.intern(name): one for name, one in value.items()}  # else a kilobyte of names in each
        instance = structure(value, kind)
        object.__setattr__(instance, "raw", value)  # frozen, and not yet seen by anyone
        return instance

    return structure_and_keep


def _is_tuple(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is tuple


def _structure_tuple(value: object, kind: Any) -> tuple[Any, ...]:
    """Refuse what can merely be iterated: "YouTube" is not seven platforms."""
    items = _exactly(list)(value, list)
    return tuple(_converter.structure(item, get_args(kind)[0]) for item in items)


_converter = Converter()
for _kind in (str, int, bool, Secret):
    _converter.register_structure_hook(_kind, _exactly(_kind))
_converter.register_structure_hook(Status, _structure_status)
_converter.register_structure_hook(datetime, _structure_time)
_converter.register_structure_hook_func(lambda kind: kind is Id, lambda value, _: as_id(value))
_converter.register_structure_hook_func(_is_tuple, _structure_tuple)
# What a model holds comes before it.
for _model in (
    *(Avatar, Account, Production, Deliverable),
    *(
        webhook_models.Webhook,
        webhook_models.NewWebhook,
        webhook_models.WebhookDelivery,
        *webhook_models.EVENTS.values(),
    ),
):
    _converter.register_structure_hook(_model, _structure_model(_model))


def body_of(request: ProductionRequest) -> bytes:
    """Give the exact bytes of a submit: each attempt sends the same."""
    return json.dumps(encode_request(request), separators=(",", ":")).encode()
