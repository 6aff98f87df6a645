"""What the end of a production means for whoever asked for it."""

import pytest

from jarai_async import OutcomeState, Production, Status
from jarai_async._api.models import as_id
from jarai_async._events import end
from tests.support.strategies import ID


@pytest.mark.parametrize("name", ["Published", "Cancelled"])
def test_an_end_that_is_no_failure_has_no_error(name: str) -> None:
    """Whatever else the answer says."""
    production = Production(as_id(ID), Status(name), error_code="LATE", error_message="too late")
    assert end(production) == (OutcomeState(name.lower()), None)


@pytest.mark.parametrize(
    ("code", "message", "text"),
    [
        ("BAD_TOPIC", "Unknown language: X.", f"production {ID} failed: Unknown language: X"),
        (None, None, f"production {ID} failed: no reason given"),
        (
            "PRODUCTION_EXPIRED",
            "It expired.",
            f"production {ID} failed: It expired: it was never begun and is safe to submit again at once",
        ),
    ],
)
def test_a_failure_says_why_and_what_to_do(code: str | None, message: str | None, text: str) -> None:
    """In JARAI's own words where there are any, with its code."""
    state, error = end(Production(as_id(ID), Status.FAILED, error_code=code, error_message=message))
    assert state is OutcomeState.FAILED
    assert error is not None
    assert (error.message, error.code) == (text, code)
