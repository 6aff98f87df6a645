"""A batch file, JSON Lines or CSV, made into requests: all of them, or every fault with its line."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from jarai_async._api.models import ProductionRequest
from jarai_async._errors import ConfigurationError, InvalidRequestError

_NEEDED = ("topic", "account_id", "language_id", "country_id", "avatar_id")
_FIELDS = (*_NEEDED, "project_type", "metadata", "reference", "extra")


class BatchError(ConfigurationError):
    """A batch has faulty lines; `problems` names each by its number. Nothing was submitted."""

    advice = "Nothing was submitted: correct these lines and run it again."

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        noun = "fault" if len(problems) == 1 else "problems"
        super().__init__(f"{len(problems)} {noun} in the batch:\n  " + "\n  ".join(problems))

    def __str__(self) -> str:
        return f"{self.message}\n{self.advice}"

    def __reduce__(self) -> tuple[type["BatchError"], tuple[list[str]]]:
        return type(self), (self.problems,)


def read_batch(text: str, *, as_csv: bool, defaults: Mapping[str, str | None]) -> list[ProductionRequest]:
    """Read every line. What a line leaves out, or leaves empty, comes from `defaults`. Raises BatchError."""
    rows = _csv_rows(text) if as_csv else _json_rows(text)
    requests: list[ProductionRequest] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        try:
            request = _request(row, defaults)
        except InvalidRequestError as error:
            problems += [f"line {line}: {fault}" for fault in error.problems]
            continue
        if request.reference in seen:
            problems.append(
                f"line {line}: reference {request.reference!r} is that of line {seen[request.reference]}"
            )
        elif request.reference is not None:
            seen[request.reference] = line
        requests.append(request)
    if not requests and not problems:
        problems.append("there is no request in it")
    if problems:
        raise BatchError(problems)
    return requests


def _request(row: object, defaults: Mapping[str, str | None]) -> ProductionRequest:
    if isinstance(row, InvalidRequestError):
        raise row
    if not isinstance(row, dict):
        raise InvalidRequestError([f"expected a JSON object, not {type(row).__name__}"])
    given = {name: value for name, value in row.items() if value not in (None, "")}
    unknown = [
        f"unknown field {name!r}; known are {', '.join(_FIELDS)}" for name in given if name not in _FIELDS
    ]
    values: dict[str, Any] = dict.fromkeys(_NEEDED)
    values |= {name: value for name, value in defaults.items() if value}
    values |= {name: value for name, value in given.items() if name in _FIELDS}
    try:
        request = ProductionRequest(**values)
    except InvalidRequestError as error:
        raise InvalidRequestError([*unknown, *error.problems]) from None
    if unknown:
        raise InvalidRequestError(unknown)
    return request


def _json_rows(text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, InvalidRequestError([f"not JSON: {error}"])


def _csv_rows(text: str) -> Iterator[tuple[int, object]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    first = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        twice = sorted({name for name in header if name and header.count(name) > 1})
        if twice:
            yield 1, InvalidRequestError([f"the header names {', '.join(twice)} more than once"])
            return
        first = reader.line_num + 1
        for cells in reader:
            if cells:
                yield first, _csv_row(header, cells)
            first = reader.line_num + 1
    except csv.Error as error:
        yield first, InvalidRequestError([f"not CSV: {error}"])


def _csv_row(header: list[str], cells: list[str]) -> object:
    if len(cells) > len(header):
        return InvalidRequestError([f"{len(cells)} cells, but the header names {len(header)}"])
    row: dict[str, Any] = dict(zip(header, cells, strict=False))
    if row.get("extra"):
        try:
            row["extra"] = json.loads(row["extra"])
        except (ValueError, RecursionError) as error:
            return InvalidRequestError([f"extra is not JSON: {error}"])
    return row
