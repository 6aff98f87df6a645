"""Read a submission as the API would: strictly, and refusing with its documented code.

Documented: the fields, which of them are required, 1 to 500 characters of topic, 4,096 of metadata, and
that further fields are possible. Inferred: null is as good as absent where a field is optional.
"""

import json
import re
from typing import Any

from jarai_async.simulator._api.responses import Response, failure

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TOPIC_LENGTH = 500
_METADATA_LENGTH = 4096


def is_uuid(value: object) -> bool:
    """Whether it is a UUID in its canonical form."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def read_submission(raw: bytes | None) -> dict[str, Any] | Response:
    """The submission in a body, or why it is refused."""
    if raw is None:
        return failure(413, None, "The request is too large.")
    try:
        body = json.loads(raw)
    except ValueError:
        return failure(400, "INVALID_REQUEST", "The body is not JSON.")
    if not isinstance(body, dict):
        return failure(400, "INVALID_REQUEST", "The body is not an object.")
    complaint = _complaint(body)
    return body if complaint is None else failure(400, "INVALID_REQUEST", complaint)


def _complaint(body: dict[str, Any]) -> str | None:
    topic, metadata = body.get("topic"), body.get("metadataMD")
    if not isinstance(topic, str) or not 1 <= len(topic) <= _TOPIC_LENGTH:
        return f"topic must be a string of 1 to {_TOPIC_LENGTH} characters."
    for name in ("languageId", "countryId", "avatarId"):
        if not is_uuid(body.get(name)):
            return f"{name} must be a UUID."
    if not isinstance(body.get("projectTypeSlug") or "", str):
        return "projectTypeSlug must be a string."
    if metadata is not None and (not isinstance(metadata, str) or len(metadata) > _METADATA_LENGTH):
        return f"metadataMD must be a string of at most {_METADATA_LENGTH} characters."
    return None
