"""Batch files: all requests of one, or every fault with its line."""

import csv
import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import ConfigurationError, InvalidRequestError
from jarai_async._cli.batch_file import BatchError, read_batch
from jarai_async._cli.commands import _read
from tests.support.strategies import ID, OTHER, json_values, request

OPTIONAL = ("project_type", "metadata", "reference", "extra")
IDS = dict.fromkeys(("account_id", "language_id", "country_id", "avatar_id"), ID)


def lines(*rows: object) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


def faults(text: str, *, as_csv: bool = False, **defaults: str | None) -> list[str]:
    with pytest.raises(BatchError) as caught:
        read_batch(text, as_csv=as_csv, defaults={**IDS, **defaults})
    assert str(caught.value).endswith("\nNothing was submitted: correct these lines and run it again.")
    assert all(fault in str(caught.value) for fault in caught.value.problems)
    return caught.value.problems


def topics(text: str, *, as_csv: bool = False) -> list[str]:
    return [one.topic for one in read_batch(text, as_csv=as_csv, defaults=IDS)]


# --- JSON Lines ------------------------------------------------------------------------------------


def test_each_line_is_a_request() -> None:
    """All fields are read; blank lines and Windows line ends do not count."""
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
    found = read_batch(text, as_csv=False, defaults=IDS)
    assert found == [request(**full), request(topic="B\u2028b")]


def test_defaults_fill_what_a_line_leaves_out_or_empty() -> None:
    """A line's own value counts; null and empty text are no values, and neither is an empty default."""
    text = lines({"topic": "A", "avatar_id": OTHER}, {"topic": "B", "avatar_id": None, "project_type": ""})
    found = read_batch(
        text, as_csv=False, defaults={**IDS, "project_type": "p", "metadata": "", "reference": None}
    )
    assert [(one.avatar_id, one.project_type, one.metadata) for one in found] == [
        (OTHER, "p", None),
        (ID, "p", None),
    ]


def test_every_fault_is_named_with_its_line() -> None:
    """One run names all that is to be corrected, also where a line has several faults."""
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
    found = faults(text)
    assert found[0].startswith("line 2: not JSON: ")
    assert found.pop().startswith("line 10: unknown field 'colour'; known are ")
    assert found[1:] == [
        "line 3: expected a JSON object, not list",
        "line 4: expected a JSON object, not str",
        f"line 6: unknown field 'topik'; known are topic, {', '.join(IDS)}, {', '.join(OPTIONAL)}",
        "line 6: topic is missing",
        "line 6: avatar_id is not a UUID: '../x'",
        "line 6: extra must not contain 'topic'",
        "line 7: topic must be text that is not blank, not int",
        "line 7: extra must be a JSON object, not list",
        "line 8: reference 'a' is that of line 1",
        "line 9: topic has 501 characters, the maximum is 500",
    ]


def test_what_no_default_gives_is_missing() -> None:
    """Each identifier that neither the line nor a default gives is named."""
    assert faults(lines({"topic": "A"}), account_id=None, avatar_id="") == [
        "line 1: account_id is missing",
        "line 1: avatar_id is missing",
    ]


@pytest.mark.parametrize("as_csv", [False, True])
@pytest.mark.parametrize("text", ["", "\n", "  \n\r\n"])
def test_an_empty_batch_is_a_fault(text: str, *, as_csv: bool) -> None:
    """A batch of nothing is more likely the wrong file than a wish."""
    assert faults(text, as_csv=as_csv) == ["there is no request in it"]


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"topic": ' + "9" * 5_000 + "}", '{"topic": NaN}', '{"topic": 1e400}', "\x00", "\ud800"],
)
def test_hostile_json_is_a_fault_of_its_line(line: str) -> None:
    """Depth, endless numbers and what is no text give a fault, and not a crash."""
    assert faults(lines({"topic": "fine"}, line))[0].startswith("line 2: ")


@given(st.text() | json_values.map(json.dumps), st.booleans())
def test_reading_is_total(text: str, as_csv: bool) -> None:  # noqa: FBT001
    """Any text gives requests or one BatchError whose faults name their lines."""
    try:
        found, named = read_batch(text, as_csv=as_csv, defaults=IDS), []
    except BatchError as error:
        found, named = [], error.problems
    assert bool(found) != bool(named)
    assert all(fault.startswith("line ") or fault == "there is no request in it" for fault in named)


# --- CSV -------------------------------------------------------------------------------------------


def test_quoted_cells_hold_commas_quotes_and_line_ends() -> None:
    """Each row has the number of the line on which it begins."""
    text = 'topic,metadata\r\n"A, ""B""","# one\ntwo\r\nthree"\r\nC,\r\n\r\n," "\r\n'
    assert faults(text, as_csv=True) == [
        "line 7: topic is missing",
        "line 7: metadata must be text that is not blank, not ' '",
    ]
    found = read_batch(text[:-7], as_csv=True, defaults=IDS)
    assert [(one.topic, one.metadata) for one in found] == [('A, "B"', "# one\ntwo\r\nthree"), ("C", None)]


@given(st.lists(st.text(min_size=1, max_size=40).filter(str.strip), min_size=1))
def test_csv_as_python_writes_it_is_read(written: list[str]) -> None:
    """Any topics, whatever they hold, arrive as they were written."""
    sheet = io.StringIO(newline="")
    csv.writer(sheet).writerows([["topic", "note"], *([topic, ""] for topic in written)])
    assert topics(sheet.getvalue(), as_csv=True) == written


def test_cells_are_matched_with_the_header() -> None:
    """Spaces around a name do not count; a short row leaves out, a long one is a fault."""
    assert topics("reference , topic\na,A\n", as_csv=True) == ["A"]
    assert read_batch("topic,reference\nA\n", as_csv=True, defaults=IDS)[0].reference is None
    assert faults("topic\nA,B\nC,D,E\n", as_csv=True) == [
        "line 2: 2 cells, but the header names 1",
        "line 3: 3 cells, but the header names 1",
    ]
    assert faults("topic;avatar_id\nA;B\n", as_csv=True)[0].startswith(
        "line 2: unknown field 'topic;avatar_id'"
    )


def test_a_header_that_names_a_field_twice_is_refused() -> None:
    """Which of two columns counts would be a guess."""
    assert faults("topic,metadata,topic\nA,m,B\n", as_csv=True) == [
        "line 1: the header names topic more than once"
    ]
    assert topics("topic,,\nA,,\n", as_csv=True) == ["A"]


def test_extra_of_a_csv_is_json() -> None:
    """A cell of further fields holds a JSON object; anything else is a fault of its line."""
    found = read_batch('topic,extra\nA,"{""x"": 1}"\n', as_csv=True, defaults=IDS)
    assert found[0].extra == {"x": 1}
    deep = "[" * 100_000
    bad = faults(f"topic,extra\nA,x\nB,[1]\nC,{deep}\nD,NaN\n", as_csv=True)
    assert [fault[:30] for fault in bad] == [
        "line 2: extra is not JSON: Exp",
        "line 3: extra must be a JSON o",
        "line 4: extra is not JSON: max",
        "line 5: extra must be a JSON o",
    ]


def test_a_quote_that_never_ends_is_named_by_the_line_where_it_begins() -> None:
    """Not by the last line of the file, where it is noticed."""
    assert faults('topic\nA\n"B\nC\nD\n', as_csv=True) == ["line 3: not CSV: unexpected end of data"]
    assert faults('topic\n"A"B\n', as_csv=True)[0].startswith("line 2: not CSV: ")
    assert faults('"topic\nA\n', as_csv=True) == ["line 1: not CSV: unexpected end of data"]


def test_references_that_repeat_are_named_with_the_first() -> None:
    """Two results under one name could not be told apart."""
    text = "topic,reference\nA,x\nB,y\nC,x\nD,\nE,\nF,x\n"
    assert faults(text, as_csv=True) == [
        "line 4: reference 'x' is that of line 2",
        "line 7: reference 'x' is that of line 2",
    ]


# --- Files and errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "topic\nTide für alle\n"), ("a.jsonl", '{"topic": "Tide für alle"}')]
)
def test_a_byte_order_mark_is_not_part_of_the_first_field(name: str, text: str, tmp_path: Path) -> None:
    """Files as spreadsheets save them are read like any other; what is not UTF-8 is refused."""
    path = tmp_path / name
    defaults: dict[str, Any] = IDS
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_bytes(text.encode(encoding))
        assert [one.topic for one in _read(str(path), defaults)] == ["Tide für alle"]
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        _read(str(path), defaults)


def test_a_batch_error_survives_a_pickle() -> None:
    """Its faults are still a list of faults afterwards."""
    error = BatchError(["line 1: a", "line 2: b"])
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (copied.problems, copied.args, str(copied)) == (error.problems, error.args, str(error))
    assert isinstance(copied, ConfigurationError)
    assert not isinstance(copied, InvalidRequestError)
