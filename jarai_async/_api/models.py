"""Accounts, productions, deliverables and requests as values: frozen, and without methods that do I/O.

A model has the fields that the library knows. Fields that it does not know are in `raw`, which holds the JSON
object that the server sent.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any, ClassVar, NewType, Self
from uuid import UUID

from attrs import asdict, field, fields_dict, frozen

from jarai_async._api import wire
from jarai_async._errors import ConfigurationError, InvalidRequestError
from jarai_async._printable import printable

Id = NewType("Id", str)
"""An identifier of the API: a UUID as lower-case text with hyphens."""

NIL_ID = Id(str(UUID(int=0)))

_BODY_FIELDS = {"topic", "languageId", "countryId", "avatarId", "projectTypeSlug", "metadataMD"}
_NAMED = 20  # unknown fields: an object from outside may have any number
_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_id(value: object) -> Id:
    """Return a UUID in its canonical form. Raises ValueError for anything else, since ids go into URLs."""
    text = str(value) if isinstance(value, UUID) else value
    if isinstance(text, str):
        for form in (text, text.lower()):
            if _CANONICAL.fullmatch(form):
                return Id(form)
    raise ValueError(f"not a UUID: {_describe(value)}")


def _describe(value: object) -> str:
    """Quote text, floats and booleans; name the type of anything else, whose `repr` may be huge or fail."""
    if isinstance(value, str):
        return repr(value[:80])
    return f"{value!r:.80}" if isinstance(value, float | bool) else type(value).__name__


class Status(str):
    """The status of a production: a `str`, with the documented values as class attributes.

    JARAI may add statuses (documented). A status that this library does not know is kept as it was sent and
    is not terminal.
    """

    __slots__ = ()

    QUEUED: ClassVar["Status"]
    PRODUCING: ClassVar["Status"]
    AWAITING_APPROVAL: ClassVar["Status"]
    DISTRIBUTING: ClassVar["Status"]
    PUBLISHED: ClassVar["Status"]
    FAILED: ClassVar["Status"]
    CANCELLED: ClassVar["Status"]

    @property
    def is_terminal(self) -> bool:
        """Whether the status is `Published`, `Failed` or `Cancelled`, which never change (documented)."""
        return self in _TERMINAL

    def __repr__(self) -> str:
        return f"<Status {printable(str(self))}>"


Status.QUEUED = Status("Queued")
Status.PRODUCING = Status("Producing")
Status.AWAITING_APPROVAL = Status("AwaitingApproval")
Status.DISTRIBUTING = Status("Distributing")
Status.PUBLISHED = Status("Published")
Status.FAILED = Status("Failed")
Status.CANCELLED = Status("Cancelled")
_TERMINAL = frozenset({Status.PUBLISHED, Status.FAILED, Status.CANCELLED})


def _raw() -> Any:
    """Return the field for the received JSON object; not in the `repr`, as it may contain a signed URL."""
    return field(factory=dict, repr=False, eq=False, kw_only=True)


@frozen
class Avatar:
    """An avatar of an account. `name` is inferred, and None where the server does not send it."""

    id: Id
    name: str | None = None
    raw: Mapping[str, Any] = _raw()


@frozen
class Account:
    """An account that the API key can access, with its avatars and its connected platforms.

    `name` is inferred, and None where the server does not send it. The form of a platform is not documented,
    so `platforms` holds the JSON values as they were sent.
    """

    id: Id
    name: str | None = None
    avatars: tuple[Avatar, ...] = ()
    platforms: tuple[Any, ...] = ()
    raw: Mapping[str, Any] = _raw()


@frozen
class Production:
    """A production as the server described it at one time.

    `id` and `status` are always present. Any other field is None (`sandbox`: False) where the response does
    not have it; the names of `current_step` and `created_at` are inferred. `raw` is the complete response.
    """

    id: Id
    status: Status
    account_id: Id | None = None
    project_type: str | None = None
    topic: str | None = field(default=None, repr=False)
    current_step: int | None = None
    created_at: datetime | None = field(default=None, repr=False)
    expires_at: datetime | None = field(default=None, repr=False)
    error_code: str | None = None
    error_message: str | None = None
    sandbox: bool = False
    raw: Mapping[str, Any] = _raw()


@frozen
class Listing:
    """The list in which a deliverable was found: its index, all signed URLs, and the other fields."""

    index: int
    urls: tuple[str, ...] = field(repr=False)
    descriptions: tuple[tuple[object, ...], ...]


@frozen
class Deliverable:
    """A file that a production created.

    `type` is one of an open set (`Video`, `ClosedCaptions`, ...), or `Unknown` if the server sent none that
    can be read; `platform` is the platform that the file is
    for. `url` is signed and valid for one hour (documented). It gives access to the file, so it is not in the
    `repr`. `JaraiClient.download` requests a new URL automatically when this one has expired. If the server
    sent none, `url` is empty and the file cannot be downloaded. `id`, `file_name`, `content_type`, `size` (in
    bytes) and `content_md5` (base64) are inferred, and None where the server does not send them.
    `production_id` is the production whose deliverables were listed, and `listing` is what the client needs
    to recognise the file when it reads the list again.
    """

    type: str = "Unknown"
    url: str = field(default="", repr=False)
    platform: str | None = None
    id: str | None = None
    file_name: str | None = None
    content_type: str | None = None
    size: int | None = None
    content_md5: str | None = field(default=None, repr=False)
    production_id: Id | None = None
    listing: Listing | None = field(default=None, repr=False, eq=False)
    raw: Mapping[str, Any] = _raw()


@frozen
class Performance:
    """The analytics of a production. No field is documented, so `raw` holds everything that was sent."""

    production_id: Id
    raw: Mapping[str, Any] = field(factory=dict)


@frozen
class Usage:
    """The partner's usage. No field is documented, so `raw` holds everything that was sent."""

    raw: Mapping[str, Any] = field(factory=dict)


@frozen
class RateLimit:
    """How many requests this process may send per minute (rolling 60 seconds) and per UTC day.

    None means the server's own limit. Per minute that is the limit in the rate limit headers; per day it is
    the limit of the documented tier (10 per minute: 100 per day; 60: 2,000; 300: unlimited). All keys of a
    partner share these limits (documented), so set lower values if other programs use them too.
    Raises ConfigurationError for a value that is not a positive integer.
    """

    per_minute: int | None = None
    per_day: int | None = None

    def __attrs_post_init__(self) -> None:
        for name, value in (("per_minute", self.per_minute), ("per_day", self.per_day)):
            if value is not None and not (isinstance(value, int) and value > 0):
                raise ConfigurationError(f"RateLimit({name}={value!r}) must be a positive integer or None")


@frozen
class Polling:
    """The minimum and maximum time between two polls of one production, in seconds.

    The poller chooses an interval between the two that suits the rate limit. It never polls a production
    sooner than `min_interval` after its last poll. It waits longer than `max_interval` only if the rate limit
    leaves no room for the poll. Raises ConfigurationError unless 0 < min_interval <= max_interval.
    """

    min_interval: float = 5.0
    max_interval: float = 900.0

    def __attrs_post_init__(self) -> None:
        if not 0 < self.min_interval <= self.max_interval:
            raise ConfigurationError("Polling needs 0 < min_interval <= max_interval, in seconds")


def _id_or_text(value: str | UUID) -> str:
    """Return a UUID in canonical form and "" for None; leave any other value for the validation to reject."""
    try:
        return parse_id(value)
    except ValueError:
        return "" if value is None else value if isinstance(value, str) else _describe(value)


def _copied(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Copy a mapping, so that the caller may reuse it; leave any other value for the validation to reject."""
    return dict(value) if isinstance(value, Mapping) else value


@frozen(kw_only=True)
class ProductionRequest:
    """What to produce, validated when it is created.

    `topic` has 1 to 500 characters. The four identifiers are UUIDs, as text or as `uuid.UUID`. `project_type`
    is a slug such as `social-video-30s`; None means the account's default. `metadata` is Markdown of at most
    4,096 characters. (All of this is documented.) `reference` is your own name for the request and is not
    sent. `extra` holds further fields of the body, under the names that the API uses, as JSON values. All
    text is Unicode, so without lone surrogates.

    Raises InvalidRequestError, whose `problems` lists everything that is wrong.
    """

    topic: str
    account_id: str = field(converter=_id_or_text)
    language_id: str = field(converter=_id_or_text)
    country_id: str = field(converter=_id_or_text)
    avatar_id: str = field(converter=_id_or_text)
    project_type: str | None = None
    metadata: str | None = field(default=None, repr=False)
    reference: str | None = None
    extra: Mapping[str, Any] = field(factory=dict, converter=_copied, repr=False)

    def __attrs_post_init__(self) -> None:
        problems = [
            *_text_problems("topic", self.topic, wire.TOPIC_LENGTH, required=True),
            *_text_problems("metadata", self.metadata, wire.METADATA_LENGTH),
            *_text_problems("project_type", self.project_type),
            *_text_problems("reference", self.reference),
            *_id_problems("account_id", self.account_id),
            *_id_problems("language_id", self.language_id),
            *_id_problems("country_id", self.country_id),
            *_id_problems("avatar_id", self.avatar_id),
            *_extra_problems(self.extra),
        ]
        if problems:
            raise InvalidRequestError(problems)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Return the request with these fields, such as the JSON object that a browser sent.

        The names are those of the attributes. A field that is None is missing, as null in JSON. Raises
        InvalidRequestError, whose `problems` names every field that is unknown, missing or wrong.
        """
        if not isinstance(fields, Mapping):
            raise InvalidRequestError([f"expected a JSON object, not {type(fields).__name__}"])
        known = fields_dict(cls)
        problems = [*_unknown_fields(fields, [*known])]
        values: dict[str, Any] = dict.fromkeys(known) | {"extra": {}}
        values |= {name: fields[name] for name in known if fields.get(name) is not None}
        try:
            request = cls(**values)
        except InvalidRequestError as error:
            raise InvalidRequestError([*problems, *error.problems]) from None
        if problems:
            raise InvalidRequestError(problems)
        return request

    def to_dict(self) -> dict[str, Any]:
        """Return all fields under the names of the attributes, as JSON values that `from_dict` reads."""
        return asdict(self, recurse=False) | {"extra": dict(self.extra)}


def _unknown_fields(given: Mapping[str, Any], known: list[str]) -> Iterator[str]:
    unknown = [name for name in given if name not in known]
    for name in unknown[:_NAMED]:
        shown = str(name)[:80]
        near = get_close_matches(shown, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}"
        yield f"unknown field {shown!r}; {hint}"
    if len(unknown) > _NAMED:
        yield f"{len(unknown) - _NAMED} more unknown fields"


def _text_problems(
    name: str, value: object, max_length: int | None = None, *, required: bool = False
) -> list[str]:
    if value is None:
        return [f"{name} is missing"] if required else []
    if not isinstance(value, str) or not value.strip():
        return [f"{name} must be text that is not blank, not {_describe(value)}"]
    if max_length and len(value) > max_length:
        return [f"{name} has {len(value)} characters, the maximum is {max_length}"]
    if lone := _LONE_SURROGATE.search(value):
        return [f"{name} is no Unicode text: {lone[0]!r}, half of a character, is at index {lone.start()}"]
    return []


def _id_problems(name: str, value: str) -> list[str]:
    if _CANONICAL.fullmatch(value):
        return []
    return [f"{name} is not a UUID: {_describe(value)}" if value else f"{name} is missing"]


def _extra_problems(extra: object) -> list[str]:
    if not isinstance(extra, dict):
        return [f"extra must be a JSON object, not {_describe(extra)}"]
    problems = [f"extra must not contain {name!r}" for name in sorted(_BODY_FIELDS & extra.keys())]
    try:
        json.dumps(extra, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        problems.append(f"extra is not JSON: {error}")
    return problems
