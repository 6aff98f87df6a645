"""How the terminal status of a production becomes an outcome."""

import pytest

from jarai_async import OutcomeState, Production, ProductionFailedError, Status
from jarai_async._api.models import parse_id
from jarai_async._events import final_state
from tests.support.strategies import ID


@pytest.mark.parametrize("name", ["Published", "Cancelled"])
def test_published_and_cancelled_productions_have_no_error(name: str) -> None:
    """They have none even if the response has an error code or message."""
    production = Production(parse_id(ID), Status(name), error_code="LATE", error_message="too late")
    assert final_state(production) == (OutcomeState(name.lower()), None)


@pytest.mark.parametrize(
    ("code", "message", "text"),
    [
        ("BAD_TOPIC", "Unknown language: X.", f"production {ID} failed: Unknown language: X"),
        (None, None, f"production {ID} failed: no reason given"),
        (
            "PRODUCTION_EXPIRED",
            "It expired.",
            f"production {ID} failed: It expired; it was never started and is safe to submit again at once",
        ),
    ],
)
def test_failed_production_has_an_error_with_the_reason(
    code: str | None, message: str | None, text: str
) -> None:
    """The error has JARAI's message and code, and says if it is safe to submit again."""
    production = Production(parse_id(ID), Status.FAILED, error_code=code, error_message=message)
    state, error = final_state(production)
    assert state is OutcomeState.FAILED
    assert isinstance(error, ProductionFailedError)
    assert (error.message, error.code) == (text, code)
    assert str(error) == (f"{text} ({code})" if code else text)
