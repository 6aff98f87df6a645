"""Text from outside is printed as one line without anything that a terminal obeys, wherever it comes from."""

import logging
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import (
    ApiError,
    ConfigurationError,
    Deliverable,
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    InvalidRequestError,
    Outcome,
    OutcomeState,
    Production,
    ProductionFailedError,
    Status,
    StatusChanged,
    Submitted,
)
from jarai_async._api.models import Id
from jarai_async._events import SavedFile
from jarai_async._printable import printable
from tests.support.strategies import request

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ATTACKS = [
    "\x1b[2J\x1b]0;title\x07",  # clears the screen, sets the title
    "fine\njarai: 200 published",  # a forged line
    "a\rb\x08c\x9b31m",
    "\u202egnp.exe\u2066",  # changes the direction of text
    "\u2028\u2029\x85\x0b\x0c\x1c",  # other line breaks
    "\ud800",
    "\x00\x7f\xad\ufeff",
]
hostile = st.sampled_from(ATTACKS) | st.text(st.characters(exclude_categories=()), max_size=30)


def is_safe(text: str) -> bool:
    """Whether text is one line, can be encoded, and has nothing that a terminal obeys or that hides."""
    joiners = "\u200c\u200d"
    unsafe = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return not any(unicodedata.category(char) in unsafe and char not in joiners for char in text)


@given(hostile)
def test_printable_text_is_safe_and_stays_so(text: str) -> None:
    """What is already printable is not changed, so printing text twice does no harm."""
    assert is_safe(printable(text))
    assert printable(printable(text)) == printable(text)
    assert not is_safe(text) or printable(text) == text


@pytest.mark.parametrize(
    "text", ["Zürich", "長い\u3000題", "été\u202f!", "نمی\u200cروم", "👨\u200d👩", r"C:\x1b"]
)
def test_text_of_any_language_stays_as_it_is(text: str) -> None:
    """Spaces of every width and the joiners that some scripts need are kept."""
    assert printable(text) == text


def test_escape_sequences_are_those_of_python() -> None:
    """A reader can see which character it was."""
    assert printable("\x1b[0m\n\u202e\ud800\U000e0001") == r"\x1b[0m\n\u202e\ud800\U000e0001"


@given(hostile, hostile, hostile)
def test_errors_are_safe_to_print_and_keep_the_message(message: str, code: str, correlation: str) -> None:
    """This holds for text of the server, of the environment and of requests."""
    error = ApiError(message, status=400, code=code, correlation_id=correlation)
    assert is_safe(str(error))
    assert is_safe(repr(error))
    assert (error.message, error.code, error.correlation_id) == (message, code, correlation)
    assert is_safe(str(ConfigurationError(message)))
    assert is_safe(str(InvalidRequestError([message, code])))


@given(hostile, hostile, hostile)
def test_events_and_outcomes_are_safe_to_print(reference: str, status: str, message: str) -> None:
    """References, statuses, file names and reasons come from outside."""
    production = Production(id=Id(message), status=Status(status))
    common: Any = {"reference": reference, "production": production, "sequence": 1, "observed_at": NOW}
    outcome = Outcome(
        request=request(),
        reference=reference,
        state=OutcomeState.FAILED,
        production=production,
        error=ProductionFailedError(message),
        finished_at=NOW,
    )
    deliverable = Deliverable(type=message, url="https://blobs.example/x")
    saved = SavedFile(deliverable=deliverable, size=1, md5="", modified=0, verified_by="length")
    events: list[Event] = [
        Submitted(**common),
        StatusChanged(**common, previous=Status(status), changed_after=NOW),
        DeliverablesReady(**common, deliverables=(deliverable,), final=True),
        Downloaded(**common, saved=saved, path=Path(message)),
        Finished(**common, outcome=outcome),
    ]
    for value in (outcome, *events):
        assert is_safe(str(value))
        assert is_safe(repr(value))
    assert evolve(outcome).reference == reference


def _fail(text: str) -> None:
    raise ValueError(text)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@given(hostile)
def test_log_records_are_safe_to_print(text: str) -> None:
    """Whatever handler and formatter an application uses: the record itself is made printable."""
    log, handler = logging.getLogger("jarai_async"), _Lines()
    log.addHandler(handler)
    log.propagate = False
    try:
        log.warning("%s: %d, %.1f: %s", text, 1, 2.5, ValueError(text))
        try:
            _fail(text)
        except ValueError:
            log.exception("on_event failed for %s", text)
    finally:
        log.propagate = True
        log.removeHandler(handler)
    first, second = handler.lines
    assert is_safe(first)
    assert ": 1, 2.5: " in first
    assert all(map(is_safe, second.split("\n")))
    assert "Traceback" in second
