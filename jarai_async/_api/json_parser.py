"""JSON as servers send it: parsed so that one odd value does not make the others unreadable.

What JSON or Python cannot hold becomes None: NaN, Infinity, numbers beyond the range of a float, integers of
more than 300 digits, and what is nested more than 100 levels deep. Invalid UTF-8 and lone surrogates become
U+FFFD. So the result can always be written as JSON again. Of duplicate names the last counts.
"""

import json
import math
import re
from typing import Any

_MAX_DEPTH = 100
_MAX_DIGITS = 300
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
# Group 1 keeps a pair of surrogates and every other escape; only a lone surrogate is left over.
_ESCAPE = re.compile(r"(\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|\\u(?![dD][89a-fA-F])|\\[^u])|\\u\w{4}")


def parse_json(body: bytes) -> Any:
    """Parse JSON. Raises ValueError where the bytes are not JSON at all."""
    text = body.decode(json.detect_encoding(body), "replace")
    if "\\u" in text:
        text = _ESCAPE.sub(lambda match: match[1] or "\\ufffd", text)
    if text.count("[") + text.count("{") > _MAX_DEPTH:
        text = _without_deep_values(text)
    return _decode(text)


def _without_deep_values(text: str) -> str:
    """Replace what is nested too deeply: it would exceed the stack, here or where it is written again."""
    parts: list[str] = []
    start = kept_until = depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth == _MAX_DEPTH + 1:
                start = match.start()
        elif match[0] in "]}":
            if depth == _MAX_DEPTH + 1:
                parts += text[kept_until:start], "null"
                kept_until = match.end()
            depth -= 1
    if depth > _MAX_DEPTH:
        raise ValueError("the brackets are not closed")
    return "".join([*parts, text[kept_until:]])


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _no_number(_: str) -> None:
    """NaN, Infinity and -Infinity, which Python's `json` writes although JSON does not have them."""


_decode = json.JSONDecoder(  # `json.loads` makes one for each call; not strict: control characters in text
    parse_int=_integer, parse_float=_float, parse_constant=_no_number, strict=False
).decode
