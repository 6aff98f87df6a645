"""Validate request bodies strictly, with the documented error codes.

Documented: the fields of a submission, which of them are required, 1 to 500 characters of topic, 4,096 of
metadata, and that further fields are allowed. Inferred: null counts as absent where a field is optional.
"""

import json
from typing import Any

from jarai_async.simulator._api.responses import Response, error_response
from jarai_async.simulator._common import is_uuid

_TOPIC_LENGTH = 500
_METADATA_LENGTH = 4096


def read_object(raw: bytes | None) -> dict[str, Any] | Response:
    """Return the JSON object in a body, or an error response; None is a body that is too large."""
    if raw is None:
        return error_response(413, None, "The request is too large.")
    try:
        body = json.loads(raw)
    except ValueError:
        return error_response(400, "INVALID_REQUEST", "The body is not JSON.")
    if not isinstance(body, dict):
        return error_response(400, "INVALID_REQUEST", "The body is not an object.")
    return body


def read_submission(raw: bytes | None) -> dict[str, Any] | Response:
    """Return the submission in a body, or an error response."""
    body = read_object(raw)
    if isinstance(body, Response):
        return body
    problem = _problem(body)
    return body if problem is None else error_response(400, "INVALID_REQUEST", problem)


def _problem(body: dict[str, Any]) -> str | None:
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
