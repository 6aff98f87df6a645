"""Batch files: a valid file returns all its requests, an invalid one reports every problem with its line."""

import csv
import io
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import ConfigurationError, InvalidRequestError, ProductionRequest
from jarai_async._cli.batch_file import ID_FIELDS, BatchError, parse_batch, parse_file, read_text
from tests.support.strategies import ID, OTHER, json_values, request

OPTIONAL = ("project_type", "metadata", "reference", "extra")
IDS = dict.fromkeys(ID_FIELDS, ID)


def lines(*rows: object) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


def problems(text: str, *, as_csv: bool = False, **defaults: str | None) -> list[str]:
    with pytest.raises(BatchError) as caught:
        parse_batch(text, as_csv=as_csv, defaults={**IDS, **defaults})
    message = str(caught.value)
    assert message.endswith("\nNothing was submitted: correct the batch and run the command again.")
    assert all(problem[:500] in message for problem in caught.value.problems[:20])
    return caught.value.problems


def read_batch(path: Path) -> list[ProductionRequest]:
    return parse_file(str(path), read_text(str(path)), IDS)


def topics(text: str, *, as_csv: bool = False) -> list[str]:
    return [parsed.topic for parsed in parse_batch(text, as_csv=as_csv, defaults=IDS)]


# --- JSON Lines ------------------------------------------------------------------------------------


def test_each_json_line_becomes_a_request() -> None:
    """All fields are read; blank lines and Windows line endings are ignored."""
    full = {
        **IDS,
        "topic": "A",
        "project_type": "p",
        "metadata": "# m",
        "reference": "r",
        "extra": {"x": [1]},
    }
    text = (
        "\n"
        + json.dumps(full)
        + "\r\n   \r\n"
        + json.dumps({"topic": "B\u2028b"}, ensure_ascii=False)
        + "\n\n"
    )
    requests = parse_batch(text, as_csv=False, defaults=IDS)
    assert requests == [request(**full), request(topic="B\u2028b")]


def test_defaults_fill_fields_that_are_missing_or_empty() -> None:
    """A line's own value wins; null and empty strings count as missing in it."""
    text = lines({"topic": "A", "avatar_id": OTHER}, {"topic": "B", "avatar_id": None, "project_type": ""})
    requests = parse_batch(text, as_csv=False, defaults={**IDS, "project_type": "p", "metadata": None})
    assert [(parsed.avatar_id, parsed.project_type, parsed.metadata) for parsed in requests] == [
        (OTHER, "p", None),
        (ID, "p", None),
    ]


@pytest.mark.parametrize(
    ("as_csv", "text"),
    [(True, "topic,notes,Owner\nA,n,\nB,,o\n"), (False, lines({"topic": "A", "notes": 1, "Owner": None}))],
)
def test_unknown_columns_can_be_ignored(as_csv: bool, text: str) -> None:  # noqa: FBT001
    """Their names are returned, so that the command can print them."""
    ignored: set[str] = set()
    first, *_ = parse_batch(text, as_csv=as_csv, defaults=IDS, ignored=ignored)
    assert (first, ignored) == (request(topic="A"), {"notes", "Owner"})


def test_column_that_may_be_meant_for_a_field_is_not_ignored() -> None:
    """All productions would be made with the account's default type."""
    text = "topic,Project_Typ,Owner\nA,article-1500w,me\n"
    with pytest.raises(BatchError, match="'Project_Typ'; did you mean 'project_type'"):
        parse_batch(text, as_csv=True, defaults=IDS, ignored=set())
    ignored: set[str] = set()
    text = "topic,project_type,Project_Typ\nA,article-1500w,me\n"
    assert parse_batch(text, as_csv=True, defaults=IDS, ignored=ignored)[0].project_type == "article-1500w"
    assert ignored == {"Project_Typ"}


def test_equal_requests_without_a_reference_are_named() -> None:
    """Each of them is paid for."""
    equal: list[str] = []
    text = "topic,reference\nA,\nB,\nA,\nA,a\n"
    assert len(parse_batch(text, as_csv=True, defaults=IDS, equal=equal)) == 4
    assert equal == ["line 4 is like line 2"]


def test_every_problem_is_reported_with_its_line() -> None:
    """One run reports the problems of all lines, and all problems of a line."""
    text = lines(
        {"topic": "fine", "reference": "a"},
        "{",
        [1],
        '"a text"',
        "",
        {"topik": "A", "avatar_id": "../x", "extra": {"topic": 1}},
        {"topic": 5, "extra": [1]},
        {"topic": "twice", "reference": "a"},
        {"topic": "x" * 501},
        {"topic": "fine", "colour": "red"},
    )
    reported = problems(text)
    assert reported[0] == "line 2: not JSON: Expecting property name enclosed in double quotes (column 2)"
    assert reported.pop() == (
        f"line 10: unknown field 'colour'; known fields: topic, {', '.join(IDS)}, {', '.join(OPTIONAL)}; "
        "leave it out with --ignore-unknown"
    )
    assert reported[1:] == [
        "line 3: expected a JSON object, not list",
        "line 4: expected a JSON object, not str",
        "line 6: unknown field 'topik'; did you mean 'topic'?",
        "line 6: topic is missing",
        "line 6: avatar_id is not a UUID: '../x'",
        "line 6: extra must not contain 'topic'",
        "line 7: topic must be text that is not blank, not int",
        "line 7: extra must be a JSON object, not list",
        "line 8: reference 'a' is already used in line 1",
        "line 9: topic has 501 characters, the maximum is 500",
    ]


def test_missing_ids_without_a_default_are_reported() -> None:
    """Every identifier that neither the line nor the defaults contain is a problem of its own."""
    assert problems(lines({"topic": "A"}), account_id=None, avatar_id="") == [
        "line 1: account_id is missing: give --account-id or set JARAI_ACCOUNT_ID",
        "line 1: avatar_id is missing: give --avatar-id or set JARAI_AVATAR_ID",
    ]


@pytest.mark.parametrize("as_csv", [False, True])
@pytest.mark.parametrize("text", ["", "\n", "  \n\r\n"])
def test_empty_batch_is_an_error(text: str, *, as_csv: bool) -> None:
    """An empty batch is rejected: it is probably the wrong file."""
    assert problems(text, as_csv=as_csv) == ["it has no requests"]


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"topic": ' + "9" * 5_000 + "}", '{"topic": NaN}', '{"topic": 1e400}', "\x00", "\ud800"],
)
def test_hostile_json_is_reported_and_does_not_crash(line: str) -> None:
    """Deep nesting, huge numbers and invalid text are problems of their line."""
    assert problems(lines({"topic": "fine"}, line))[0].startswith("line 2: ")


@given(st.text() | json_values.map(json.dumps), st.booleans())
def test_any_text_returns_requests_or_a_batch_error(text: str, as_csv: bool) -> None:  # noqa: FBT001
    """No text makes the parser raise anything but BatchError, and every problem names its line."""
    try:
        requests, reported = parse_batch(text, as_csv=as_csv, defaults=IDS), []
    except BatchError as error:
        requests, reported = [], error.problems
    assert bool(requests) != bool(reported)
    assert all(
        problem.startswith(("line", "item")) or problem == "it has no requests" for problem in reported
    )


# --- CSV -------------------------------------------------------------------------------------------


def test_quoted_cells_may_contain_commas_quotes_and_line_breaks() -> None:
    """A problem names the line on which its row starts."""
    text = 'topic,metadata\r\n"A, ""B""","# one\ntwo\r\nthree"\r\nC,\r\n\r\n'
    assert problems(text + ",m\r\n", as_csv=True) == ["line 7: topic is missing"]
    requests = parse_batch(text, as_csv=True, defaults=IDS)
    assert [(parsed.topic, parsed.metadata) for parsed in requests] == [
        ('A, "B"', "# one\ntwo\r\nthree"),
        ("C", None),
    ]


@given(st.lists(st.text(min_size=1, max_size=40).filter(str.strip), min_size=1))
def test_csv_written_by_python_is_read_back_unchanged(written: list[str]) -> None:
    """Any topics survive a round trip through the csv module."""
    sheet = io.StringIO(newline="")
    csv.writer(sheet).writerows([["topic", "note"], *([topic, ""] for topic in written)])
    assert topics(sheet.getvalue(), as_csv=True) == written


def test_csv_cells_are_matched_to_the_header() -> None:
    """Spaces around column names are ignored; a short row has missing fields, a long row is a problem."""
    assert topics("reference , topic\na,A\n", as_csv=True) == ["A"]
    assert parse_batch("topic,reference\nA\n", as_csv=True, defaults=IDS)[0].reference is None
    assert problems("topic\nA,B\nC,D,E\n", as_csv=True) == [
        "line 2: 2 cells, but the header has only 1",
        "line 3: 3 cells, but the header has only 1",
    ]


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("Topics,Reference", "did you mean topic?"),
        ("My productions,", "columns are topic, account_id, "),
        ("5,6", "columns are"),
    ],
)
def test_header_without_topics_is_one_problem(header: str, hint: str) -> None:
    """It is named once, not for each line; a table may also have no header, or a title above it."""
    (problem,) = problems(f"{header}\nA,a\nB,b\n", as_csv=True)
    assert problem.startswith("line 1: the header has no column topic, but ")
    assert hint in problem


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_header_titles_of_a_spreadsheet_name_the_fields(delimiter: str) -> None:
    """Capitals, spaces and hyphens in "Account ID" do not matter."""
    titles = ["Topic ", "Account ID", "language-id", "COUNTRY_ID", '"Avatar  Id"']
    text = f"{delimiter.join(titles)}\n{delimiter.join(['Bees', *[ID] * 4])}\n"
    (read,) = parse_batch(text, as_csv=True, defaults={})
    ids = (read.account_id, read.language_id, read.country_id, read.avatar_id)
    assert (read.topic, *ids) == ("Bees", *[ID] * 4)


def test_two_titles_of_one_field_are_a_duplicate_column() -> None:
    assert "more than one column named topic" in problems("Topic,topic\nA,B\n", as_csv=True)[0]


def test_duplicate_column_in_the_csv_header_is_rejected() -> None:
    """With two columns of the same name, the choice of one would be a guess; empty names are ignored."""
    assert problems("topic,metadata,topic\nA,m,B\n", as_csv=True) == [
        "line 1: the header has more than one column named topic"
    ]
    assert topics("topic,,\nA,,\n", as_csv=True) == ["A"]


def test_extra_column_of_a_csv_holds_json() -> None:
    """A cell in the column `extra` is a JSON object; anything else is a problem of its line."""
    requests = parse_batch('topic,extra\nA,"{""x"": 1}"\n', as_csv=True, defaults=IDS)
    assert requests[0].extra == {"x": 1}
    deep = "[" * 100_000
    reported = problems(f"topic,extra\nA,x\nB,[1]\nC,{deep}\nD,NaN\n", as_csv=True)
    assert [problem[:30] for problem in reported] == [
        "line 2: extra is not JSON: Exp",
        "line 3: extra must be a JSON o",
        "line 4: extra is not JSON: max",
        "line 5: extra must be a JSON o",
    ]


def test_unclosed_quote_is_reported_with_the_line_where_it_starts() -> None:
    """The csv module notices it only at the end of the file."""
    assert problems('topic\nA\n"B\nC\nD\n', as_csv=True) == [
        "line 3: not CSV: a quotation mark is not closed"
    ]
    assert problems('topic\n"A"B\n', as_csv=True)[0].startswith("line 2: not CSV: ")
    assert problems('"topic\nA\n', as_csv=True) == ["line 1: not CSV: a quotation mark is not closed"]


def test_duplicate_references_are_reported_with_the_first_line() -> None:
    """References identify the results, so each may be used once."""
    text = "topic,reference\nA,x\nB,y\nC,x\nD,\nE,\nF,x\n"
    assert problems(text, as_csv=True) == ["lines 4, 7: reference 'x' is already used in line 2"]


# --- Files and errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "topic\nTide für alle\n"), ("a.jsonl", '{"topic": "Tide für alle"}')]
)
def test_byte_order_mark_is_ignored_and_other_encodings_are_rejected(
    name: str, text: str, tmp_path: Path
) -> None:
    """UTF-8 is read with or without a byte order mark, and UTF-16, which spreadsheets write, with it."""
    path = tmp_path / name
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert [parsed.topic for parsed in read_batch(path)] == ["Tide für alle"]
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"not UTF-8 \(.*in line \d+\): .*CSV UTF-8"):
        read_batch(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BATCH.CSV", "topic,project_type\nA,p\nB,p\n"),
        ("a.csv", "topic;project_type\r\nA;p\r\nB;p\r\n"),
        ("a.csv", "sep=;\r\ntopic;project_type\r\nA;p\r\nB;p\r\n"),
        ("a.tsv", "project_type\ttopic\np\tA\np\tB\n"),
        ("a.csv", "topic,project_type,,\nA,p,,\n,,,\nB,p,,,,\n , ,,\n,,,\n"),
        ("a.json", '[{"topic": "A", "project_type": "p"},\n {"topic": "B", "project_type": "p"}]'),
        ("batch", '  [{"topic": "A", "project_type": "p"}, {"topic": "B", "project_type": "p"}]'),
        ("batch", '{"topic": "A", "project_type": "p"}\n{"topic": "B", "project_type": "p"}'),
        ("batch", "topic,project_type\nA,p\nB,p"),
    ],
)
def test_forms_that_spreadsheets_and_programs_write_are_read(name: str, text: str, tmp_path: Path) -> None:
    """Capital suffixes, other delimiters, empty rows and cells, and JSON arrays."""
    path = tmp_path / name
    path.write_text(text, newline="")
    assert [(parsed.topic, parsed.project_type) for parsed in read_batch(path)] == [("A", "p"), ("B", "p")]


def test_json_object_over_several_lines_is_one_request(tmp_path: Path) -> None:
    """Files with one indented object are not JSON Lines."""
    (path := tmp_path / "a.json").write_text(json.dumps({"topic": "A"}, indent=2))
    assert [parsed.topic for parsed in read_batch(path)] == ["A"]


@pytest.mark.parametrize("end", ["", ",\n]", "\n"])
def test_array_that_is_not_json_is_one_problem(end: str) -> None:
    """Its lines are not JSON by themselves, so a problem for each of them would say nothing."""
    array = json.dumps([{"topic": f"topic {n}"} for n in range(20)], indent=2).removesuffix("\n]") + end
    (problem,) = problems(array)
    assert problem.startswith("line 6")
    assert "not JSON" in problem


@pytest.mark.parametrize("text", ["\n\ntopic;reference\nA;a\n", ";;\r\ntopic;reference\r\nA;a\r\n"])
def test_blank_rows_before_the_csv_header_are_skipped(text: str) -> None:
    """Spreadsheets write them where the table does not begin in the first row."""
    (parsed,) = parse_batch(text, as_csv=True, defaults=IDS)
    assert (parsed.topic, parsed.reference) == ("A", "a")


def test_items_of_an_array_are_counted_as_items() -> None:
    """They have no lines of their own."""
    assert problems('[{"topic": "A"}, 5, {"topic": ""}]') == [
        "item 2: expected a JSON object, not int",
        "item 3: topic is missing",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04...", "is a workbook or an archive: save it as CSV"),
        ("topic\nA\n".encode("utf-16-le"), "line 1 has a NUL"),
        (b"topic\nA\nB\0\n", "line 3 has a NUL"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"x" * 100_000_001, "is larger than 100 MB"),
    ],
    ids=["workbook", "UTF-16 without mark", "NUL", "half a character", "100 MB"],
)
def test_file_that_is_no_text_is_one_message(content: bytes, message: str, tmp_path: Path) -> None:
    """The message says what it is, and what to do."""
    (path := tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_batch(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "topic\n", "topic,reference\r\n,\r\n,,\r\n"])
def test_file_without_rows_has_no_requests(text: str) -> None:
    """A header alone, and rows of commas only, are not requests."""
    assert problems(text, as_csv=True) == ["it has no requests"]


def test_equal_problems_are_one_line() -> None:
    """It names the lines as ranges, and what to do."""
    text = "topic\n" + "A\n" * 40
    assert problems(text, as_csv=True, account_id=None) == [
        "lines 2-41: account_id is missing: give --account-id or set JARAI_ACCOUNT_ID"
    ]
    rows = [{"topic": "A"} | ({"x": 1} if n % 2 else {}) for n in range(60)]
    (problem,) = problems(lines(*rows))
    assert problem.startswith(
        "lines 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 20 more places: unknown field 'x'"
    )


def test_text_of_many_or_long_problems_is_short() -> None:
    """It has at most 20 problems of 500 characters; the attribute has all of them."""
    rows = [{"topic": "A", f"{n}" + "x" * 10_000: 1} for n in range(50)]
    with pytest.raises(BatchError) as caught:
        parse_batch(lines(*rows), as_csv=False, defaults=IDS)
    assert len(caught.value.problems) == 50
    assert "\n  and 30 more\n" in str(caught.value)
    assert len(str(caught.value)) < 11_000


def test_batch_error_can_be_pickled() -> None:
    """A copy has the same problems, arguments and text."""
    error = BatchError(["line 1: a", "line 2: b"])
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (copied.problems, copied.args, str(copied)) == (error.problems, error.args, str(error))
    assert isinstance(copied, ConfigurationError)
    assert not isinstance(copied, InvalidRequestError)
