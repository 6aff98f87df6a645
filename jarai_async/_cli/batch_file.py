"""Read a batch file, JSON or CSV: return all its requests, or report every problem with its lines."""

import csv
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any, Final

from attrs import fields_dict

from jarai_async._api.models import ProductionRequest
from jarai_async._errors import ConfigurationError, InvalidRequestError
from jarai_async._journal.identity import reference_of
from jarai_async._printable import printable

ID_FIELDS: Final = ("account_id", "language_id", "country_id", "avatar_id")
_FIELDS: Final = tuple(fields_dict(ProductionRequest))

_MAX_SIZE: Final = 100_000_000  # bytes
_MAX_PROBLEMS: Final = 20  # in the text of a BatchError
_MAX_PROBLEM_LENGTH: Final = 500  # characters
_CSV_SUFFIXES: Final = (".csv", ".tsv", ".txt")
_JSON_SUFFIXES: Final = (".json", ".jsonl", ".ndjson")
_MISSPELT: Final = 0.8  # how alike a name and that of a field are


def variable(field: str) -> str:
    """Return the name of the environment variable that gives an identifier where nothing else does."""
    return f"JARAI_{field.upper()}"


class BatchError(ConfigurationError):
    """A batch has invalid lines; each of `problems` starts with line numbers. Nothing was submitted."""

    advice = "Nothing was submitted: correct the batch and run the command again."

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        noun = "problem" if len(problems) == 1 else "problems"
        super().__init__(f"{len(problems)} {noun} in the batch")

    def __str__(self) -> str:
        shown = [f"  {problem[:_MAX_PROBLEM_LENGTH]}" for problem in self.problems[:_MAX_PROBLEMS]]
        if more := len(self.problems) - len(shown):
            shown.append(f"  and {more} more")
        return "\n".join(map(printable, (f"{self.message}:", *shown, self.advice)))

    def __reduce__(self) -> tuple[type["BatchError"], tuple[list[str]]]:
        return type(self), (self.problems,)


def read_text(path: str) -> str:
    """Read a batch file, or standard input if `path` is `-`, in UTF-8 or UTF-16.

    Raises OSError, and ConfigurationError if the content is not such a text.
    """
    if path == "-" and sys.stdin is None:  # Python's value for a stream that was closed at the start
        raise ConfigurationError("standard input is closed: pipe a batch into it, or name a file")
    if path == "-":
        content = sys.stdin.buffer.read(_MAX_SIZE + 1)
    else:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_SIZE + 1)
    if len(content) > _MAX_SIZE:
        raise ConfigurationError(f"the batch is larger than {_MAX_SIZE // 1_000_000} MB: divide it")
    if content.startswith(b"PK\x03\x04"):
        raise ConfigurationError("the batch is a workbook or an archive: save it as CSV (UTF-8) first")
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # spreadsheets write byte order marks
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"{error.reason} at byte {error.start}, in line {line}"
        advice = "save it as UTF-8 first (in Excel as CSV UTF-8)"
        raise ConfigurationError(f"the batch is not UTF-8 ({reason}): {advice}") from None
    if (position := text.find("\0")) >= 0:
        line = text.count("\n", 0, position) + 1
        raise ConfigurationError(f"the batch is not a text, line {line} has a NUL: save it as UTF-8 first")
    return text


def parse_file(
    path: str,
    text: str,
    defaults: Mapping[str, str | None],
    *,
    ignored: set[str] | None = None,
    equal: list[str] | None = None,
) -> list[ProductionRequest]:
    """Parse the text of a file. Its name decides how, or else its first character.

    The names of unknown fields are added to `ignored`. If that is None, they are problems. Requests without
    a reference that are like an earlier one are added to `equal`, as text. Raises BatchError.
    """
    suffix = PurePath(path).suffix.lower()
    as_csv = suffix in _CSV_SUFFIXES or (
        suffix not in _JSON_SUFFIXES and not text.lstrip().startswith(("{", "["))
    )
    return parse_batch(text, as_csv=as_csv, defaults=defaults, ignored=ignored, equal=equal)


def parse_batch(
    text: str,
    *,
    as_csv: bool,
    defaults: Mapping[str, str | None],
    ignored: set[str] | None = None,
    equal: list[str] | None = None,
) -> list[ProductionRequest]:
    """Parse every line; a field that is empty or omitted takes its value from `defaults`.

    Raises BatchError with the problems of all lines.
    """
    unit, rows = ("line", _csv_rows(text)) if as_csv else _json_rows(text)
    requests: list[ProductionRequest] = []
    lines_of: dict[str, list[int]] = {}  # by problem
    line_of: dict[str, int] = {}  # by reference, or what is made from the content
    for line, row in rows:
        try:
            request = _request(row, defaults, ignored)
        except InvalidRequestError as error:
            for problem in map(_with_advice, error.problems):
                lines_of.setdefault(problem, []).append(line)
            continue
        requests.append(request)
        name = request.reference or f"\n{reference_of(request, Counter())}"  # no reference has a line feed
        if (first := line_of.setdefault(name, line)) != line and request.reference is None:
            if equal is not None:
                equal.append(f"{unit} {line} is like {unit} {first}")
        elif first != line:
            problem = f"reference {request.reference!r} is already used in {unit} {first}"
            lines_of.setdefault(problem, []).append(line)
    problems = [f"{_where(unit, lines)}: {problem}" for problem, lines in lines_of.items()]
    if not requests and not problems:
        problems.append("it has no requests")
    if problems:
        raise BatchError(problems)
    return requests


def _where(unit: str, lines: list[int]) -> str:
    """Name lines, such as "lines 2-41, 43"."""
    ranges: list[list[int]] = []
    for line in lines:
        if ranges and line == ranges[-1][-1] + 1:
            ranges[-1][1:] = [line]
        else:
            ranges.append([line])
    shown = ", ".join("-".join(map(str, part)) for part in ranges[:10])
    more = f" and {len(ranges) - 10} more places" if len(ranges) > 10 else ""
    return f"{unit}{'s' if len(lines) > 1 else ''} {shown}{more}"


def _request(row: Any, defaults: Mapping[str, str | None], ignored: set[str] | None) -> ProductionRequest:
    if isinstance(row, InvalidRequestError):
        raise row
    if isinstance(row, dict):
        if ignored is not None:
            if misspelt := _misspelt(row):
                raise InvalidRequestError(misspelt)
            ignored |= {name for name in row if name not in _FIELDS}
            row = {name: value for name, value in row.items() if name in _FIELDS}
        row = {**defaults, **{name: value for name, value in row.items() if value not in (None, "")}}
    return ProductionRequest.from_dict(row)


def _misspelt(row: Mapping[Any, Any]) -> list[str]:
    """Say which unknown fields may be meant for one that the row lacks: to ignore them might be costly."""
    problems = []
    for name in row:
        near = get_close_matches(str(name).casefold(), _FIELDS, n=1, cutoff=_MISSPELT)
        if name not in _FIELDS and near and near[0] not in row:
            problems.append(f"unknown field {name!r}; did you mean {near[0]!r}? Rename it to ignore it")
    return problems


def _with_advice(problem: str) -> str:
    name = problem.removesuffix(" is missing")
    if name in ID_FIELDS:
        return f"{problem}: give --{name.replace('_', '-')} or set {variable(name)}"
    is_unknown = problem.startswith("unknown field") and "did you mean" not in problem
    return f"{problem}; leave it out with --ignore-unknown" if is_unknown else problem


# Both readers yield each row with its number. A row that cannot be read is yielded as an error, so that
# reading continues with the next one.


def _json_rows(text: str) -> tuple[str, Iterable[tuple[int, object]]]:
    """Read a JSON array, a single JSON object, or JSON Lines; return what is counted as well."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("["):  # an array is one mistake, not one in each of its lines
            line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
            return "line", [(line, InvalidRequestError([f"not JSON: {error}"]))]
        return "line", _json_lines(text)
    return ("item", enumerate(value, start=1)) if isinstance(value, list) else ("line", [(1, value)])


def _json_lines(text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:  # its own line is always 1
            yield number, InvalidRequestError([f"not JSON: {error.msg} (column {error.colno})"])
        except (ValueError, RecursionError) as error:
            yield number, InvalidRequestError([f"not JSON: {error}"])


def _csv_rows(text: str) -> Iterator[tuple[int, object]]:
    sheet = io.StringIO(text, newline="")
    start = 1
    if directive := re.match(r"sep=(.)(?:\r\n?|\n)", text):  # Excel's way to name the delimiter
        sheet.seek(directive.end())
        start = 2
    skipped = start - 1
    reader = csv.reader(sheet, strict=True, delimiter=directive[1] if directive else _delimiter(text))
    header: list[str] = []
    try:
        for cells in reader:
            is_blank = not any(map(str.strip, cells))  # spreadsheets write rows of delimiters only
            if header and not is_blank:
                yield start, _csv_row(header, cells)
            elif not is_blank:
                header = [_column(name) for name in cells]
                if problem := _header_problem(header):
                    yield start, InvalidRequestError([problem])
                    return
            start = reader.line_num + skipped + 1
    except csv.Error as error:
        is_open = str(error) == "unexpected end of data"
        yield (
            start,
            InvalidRequestError([f"not CSV: {'a quotation mark is not closed' if is_open else error}"]),
        )


def _column(title: str) -> str:
    """Return the field that a title such as "Account ID" names, or the title if it names none."""
    name = re.sub(r"[\s-]+", "_", title.strip().casefold())
    return name if name in _FIELDS else title.strip()


def _header_problem(header: list[str]) -> str | None:
    """Say why no line below this header could be valid."""
    if duplicates := sorted({name for name in header if name and header.count(name) > 1}):
        return f"the header has more than one column named {', '.join(duplicates)}"
    if "topic" in header:
        return None
    near = get_close_matches("topic", [name.lower() for name in header], n=1)
    hint = "did you mean topic?" if near else f"columns are {', '.join(_FIELDS)}"
    return f"the header has no column topic, but {', '.join(filter(None, header))[:200]}; {hint}"


def _delimiter(text: str) -> str:
    """Return the delimiter with which the first line has the most known columns: comma, semicolon or tab."""
    header = text.lstrip(" ,;\t\r\n").split("\n", 1)[0]

    def known_columns(delimiter: str) -> int:
        return sum(_column(name.strip().strip('"')) in _FIELDS for name in header.split(delimiter))

    return max(",;\t", key=known_columns)


def _csv_row(header: list[str], cells: list[str]) -> object:
    while len(cells) > len(header) and not cells[-1].strip():
        cells.pop()
    if len(cells) > len(header):
        return InvalidRequestError([f"{len(cells)} cells, but the header has only {len(header)}"])
    row: dict[str, Any] = dict(zip(header, cells, strict=False))
    if row.get("extra"):
        try:
            row["extra"] = json.loads(row["extra"])
        except (ValueError, RecursionError) as error:
            return InvalidRequestError([f"extra is not JSON: {error}"])
    return row
