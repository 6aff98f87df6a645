"""The values that users hold: requests, productions, deliverables. Frozen, open, never doing I/O."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, NewType
from uuid import UUID

from attrs import field, frozen

from jarai_async._api import wire
from jarai_async._errors import ConfigurationError, InvalidRequestError

Id = NewType("Id", str)
"""An identifier of the API: a UUID in its canonical, lower-case form."""

_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def as_id(value: object) -> Id:
    """Give the canonical form of a UUID. Raises ValueError: no other text may reach a URL."""
    text = str(value) if isinstance(value, UUID) else value
    if isinstance(text, str):
        for form in (text, text.lower()):
            if _CANONICAL.fullmatch(form):
                return Id(form)
    raise ValueError(f"not a UUID: {_shown(value)}")


def _shown(value: object) -> str:
    """Quote text and numbers; of anything else give the type, for it may be nested too deep for a `repr`."""
    if isinstance(value, str):
        return repr(value[:80])
    return f"{value!r:.80}" if isinstance(value, float | bool) else type(value).__name__


class Status(str):
    """A production's status. Open: a value that this library does not know is kept as it is.

    `is_terminal` is true of `Published`, `Failed` and `Cancelled`, which never change (documented). An
    unknown status is not terminal: "not done yet".
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
        """Whether nothing more will happen."""
        return self in _TERMINAL

    def __repr__(self) -> str:
        return f"<Status {self!s}>"


Status.QUEUED = Status("Queued")
Status.PRODUCING = Status("Producing")
Status.AWAITING_APPROVAL = Status("AwaitingApproval")
Status.DISTRIBUTING = Status("Distributing")
Status.PUBLISHED = Status("Published")
Status.FAILED = Status("Failed")
Status.CANCELLED = Status("Cancelled")
_TERMINAL = frozenset({Status.PUBLISHED, Status.FAILED, Status.CANCELLED})


def _raw() -> Any:
    """All that the server sent, as it came. Kept out of `repr`: it may hold a signed URL."""
    return field(factory=dict, repr=False, eq=False, kw_only=True)


@frozen
class Avatar:
    """An avatar of an account."""

    id: Id
    name: str | None = None
    raw: Mapping[str, Any] = _raw()


@frozen
class Account:
    """An account that the key can reach, with its avatars and connected platforms."""

    id: Id
    name: str | None = None
    avatars: tuple[Avatar, ...] = ()
    platforms: tuple[Any, ...] = ()
    raw: Mapping[str, Any] = _raw()


@frozen
class Production:
    """One run of JARAI, as the server described it at one moment.

    `id` and `status` are always there; the rest is None where the answer did not say it. `raw` is the
    whole answer, with fields that this library does not know.
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
class Deliverable:
    """A file that a production made: `type` (`Video`, `ClosedCaptions`, ...: an open set), `platform`.

    `url` is signed and valid for an hour (documented), so it is a secret and not in the `repr`;
    `JaraiClient.download` fetches a fresh one by itself. `file_name`, `size` (bytes) and `content_md5`
    (base64) are used where the server sends them (inferred). One without a URL cannot be fetched.
    """

    type: str
    url: str = field(default="", repr=False)
    platform: str | None = None
    id: str | None = None
    file_name: str | None = None
    content_type: str | None = None
    size: int | None = None
    content_md5: str | None = field(default=None, repr=False)
    production_id: Id | None = None
    raw: Mapping[str, Any] = _raw()


@frozen
class Performance:
    """A production's analytics; no field is documented, so all of it is in `raw`."""

    production_id: Id
    raw: Mapping[str, Any] = field(factory=dict)


@frozen
class Usage:
    """The partner's usage; no field is documented, so all of it is in `raw`."""

    raw: Mapping[str, Any] = field(factory=dict)


@frozen
class RateLimit:
    """The requests that this process may send: a minute (rolling 60 seconds) and a UTC day.

    None leaves it to the server: the headers tell the minute's limit, and the documented tiers the
    day's (10 a minute: 100 a day; 60: 2,000; 300: no limit). Give less to leave room for others.
    """

    per_minute: int | None = None
    per_day: int | None = None

    def __attrs_post_init__(self) -> None:
        for name, value in (("per_minute", self.per_minute), ("per_day", self.per_day)):
            if value is not None and not (isinstance(value, int) and value > 0):
                raise ConfigurationError(f"Budget({name}={value!r}) must be a positive number")


@frozen
class Polling:
    """Bounds of the time between two polls of one production, in seconds.

    The rate limit decides within these bounds. `min_interval` is never undercut. `max_interval` is how long a
    production may go unpolled while the rate limit leaves room for a poll.
    """

    min_interval: float = 5.0
    max_interval: float = 900.0

    def __attrs_post_init__(self) -> None:
        if not 0 < self.min_interval <= self.max_interval:
            raise ConfigurationError("Polling needs 0 < min_interval <= max_interval, in seconds")


def _id_or_text(value: object) -> str:
    """Canonical where it is a UUID, empty for None; anything else is left for the validation to name."""
    try:
        return as_id(value)
    except ValueError:
        return "" if value is None else value if isinstance(value, str) else _shown(value)


def _copied(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Copy a mapping, so that the caller's may change; anything else is left for the validation to name."""
    return dict(value) if isinstance(value, Mapping) else value


def _length_faults(name: str, value: object, most: int | None = None, *, required: bool = False) -> list[str]:
    if value is None:
        return [f"{name} is missing"] if required else []
    if not isinstance(value, str) or not value.strip():
        return [f"{name} must be text, and not blank: {_shown(value)}"]
    if most and len(value) > most:
        return [f"{name} has {len(value)} characters, of at most {most}"]
    return []


@frozen(kw_only=True)
class ProductionRequest:
    """What to produce. Raises `InvalidRequestError` that names every fault at once.

    `topic` has 1 to 500 characters; the identifiers are UUIDs; `project_type` is a slug such as
    `social-video-30s` (None: the account's default); `metadata` is Markdown of at most 4,096 characters
    (all documented). `reference` is your own name for it, and is not sent. `extra` holds further fields of
    the body as JSON values, under the names that the API uses.
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
        faults = [*self._text_faults(), *self._id_faults(), *self._extra_faults()]
        if faults:
            raise InvalidRequestError(faults)

    def _text_faults(self) -> list[str]:
        return [
            *_length_faults("topic", self.topic, wire.TOPIC_LENGTH, required=True),
            *_length_faults("metadata", self.metadata, wire.METADATA_LENGTH),
            *_length_faults("project_type", self.project_type),
            *_length_faults("reference", self.reference),
        ]

    def _id_faults(self) -> list[str]:
        names = ("account_id", "language_id", "country_id", "avatar_id")
        values = {name: getattr(self, name) for name in names}
        return [
            f"{name} is not a UUID: {_shown(value)}" if value else f"{name} is missing"
            for name, value in values.items()
            if not _CANONICAL.fullmatch(value)
        ]

    def _extra_faults(self) -> list[str]:
        if not isinstance(self.extra, dict):
            return [f"extra must be a JSON object, not {_shown(self.extra)}"]
        known = {"topic", "languageId", "countryId", "avatarId", "projectTypeSlug", "metadataMD"}
        faults = [f"extra may not hold {name!r}" for name in sorted(known & self.extra.keys())]
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            faults.append(f"extra is not JSON: {error}")
        return faults
