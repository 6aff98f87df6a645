"""Read a batch file, JSON Lines or CSV: return all its requests, or report every problem with its line."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jarai_async._api.models import ProductionRequest
from jarai_async._errors import ConfigurationError, InvalidRequestError
from jarai_async._printable import printable

ID_FIELDS: Final = ("account_id", "language_id", "country_id", "avatar_id")
_REQUIRED: Final = ("topic", *ID_FIELDS)
_FIELDS: Final = (*_REQUIRED, "project_type", "metadata", "reference", "extra")


class BatchError(ConfigurationError):
    """A batch has invalid lines; each of `problems` starts with a line number. Nothing was submitted."""

    advice = "Nothing was submitted: correct the batch and run the command again."

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        noun = "problem" if len(problems) == 1 else "problems"
        super().__init__(f"{len(problems)} {noun} in the batch")

    def __str__(self) -> str:
        problems = (f"  {problem}" for problem in self.problems)
        return "\n".join(map(printable, (f"{self.message}:", *problems, self.advice)))

    def __reduce__(self) -> tuple[type["BatchError"], tuple[list[str]]]:
        return type(self), (self.problems,)


def read_batch(path: str, defaults: Mapping[str, str | None]) -> list[ProductionRequest]:
    """Read a batch from a file, or from standard input if `path` is `-`; see `parse_batch`.

    Raises OSError, ConfigurationError if the content is not UTF-8, and BatchError.
    """
    content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        text = content.decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        raise ConfigurationError(f"the batch is not UTF-8 ({reason}): save it as UTF-8 first") from None
    as_csv = path.endswith(".csv") or (path == "-" and not text.lstrip().startswith("{"))
    return parse_batch(text, as_csv=as_csv, defaults=defaults)


def parse_batch(text: str, *, as_csv: bool, defaults: Mapping[str, str | None]) -> list[ProductionRequest]:
    """Parse every line; a field that is empty or omitted takes its value from `defaults`.

    Raises BatchError with the problems of all lines.
    """
    requests: list[ProductionRequest] = []
    problems: list[str] = []
    line_of: dict[str, int] = {}  # by reference
    for line, row in _csv_rows(text) if as_csv else _json_rows(text):
        try:
            request = _request(row, defaults)
        except InvalidRequestError as error:
            problems += [f"line {line}: {problem}" for problem in error.problems]
            continue
        reference = request.reference
        if reference in line_of:
            problems.append(
                f"line {line}: reference {reference!r} is already used in line {line_of[reference]}"
            )
        elif reference is not None:
            line_of[reference] = line
        requests.append(request)
    if not requests and not problems:
        problems.append("it has no requests")
    if problems:
        raise BatchError(problems)
    return requests


def _request(row: object, defaults: Mapping[str, str | None]) -> ProductionRequest:
    if isinstance(row, InvalidRequestError):
        raise row
    if not isinstance(row, dict):
        raise InvalidRequestError([f"expected a JSON object, not {type(row).__name__}"])
    filled = {name: value for name, value in row.items() if value not in (None, "")}
    unknown = [
        f"unknown field {name!r}; known fields: {', '.join(_FIELDS)}"
        for name in filled
        if name not in _FIELDS
    ]
    values: dict[str, Any] = dict.fromkeys(_REQUIRED)
    values |= {name: value for name, value in defaults.items() if value}
    values |= {name: value for name, value in filled.items() if name in _FIELDS}
    try:
        request = ProductionRequest(**values)
    except InvalidRequestError as error:
        raise InvalidRequestError([*unknown, *error.problems]) from None
    if unknown:
        raise InvalidRequestError(unknown)
    return request


# Both readers yield each row with the number of the line on which it starts. A row that cannot be read is
# yielded as an error, so that reading continues with the next one.


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
    start = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        duplicates = sorted({name for name in header if name and header.count(name) > 1})
        if duplicates:
            yield (
                1,
                InvalidRequestError([f"the header has more than one column named {', '.join(duplicates)}"]),
            )
            return
        start = reader.line_num + 1
        for cells in reader:
            if cells:
                yield start, _csv_row(header, cells)
            start = reader.line_num + 1
    except csv.Error as error:
        yield start, InvalidRequestError([f"not CSV: {error}"])


def _csv_row(header: list[str], cells: list[str]) -> object:
    if len(cells) > len(header):
        return InvalidRequestError([f"{len(cells)} cells, but the header has only {len(header)}"])
    row: dict[str, Any] = dict(zip(header, cells, strict=False))
    if row.get("extra"):
        try:
            row["extra"] = json.loads(row["extra"])
        except (ValueError, RecursionError) as error:
            return InvalidRequestError([f"extra is not JSON: {error}"])
    return row
