"""Whether a production can be the one that a submit has created."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jarai_async import Production, Status
from jarai_async._api.models import parse_id
from jarai_async._journal.identity import compare
from tests.support.journals import intent
from tests.support.strategies import ID, OTHER

SENT = datetime(2026, 1, 1, 9, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.mark.parametrize(
    ("reported", "differing"),
    [
        ({}, ""),
        ({"topic": " Tides\n", "account_id": parse_id(ID), "created_at": SENT}, ""),
        ({"topic": "Ebbs"}, "topic"),
        ({"account_id": parse_id(OTHER)}, "account"),
        ({"created_at": SENT - 10 * MINUTE}, ""),
        ({"created_at": SENT - 11 * MINUTE}, "creation time"),
        ({"created_at": SENT + 24 * HOUR}, ""),
        ({"created_at": SENT + 24 * HOUR + MINUTE}, "creation time"),
    ],
)
def test_topic_account_and_time_are_compared_where_they_are_reported(
    reported: dict[str, Any], differing: str
) -> None:
    """A production may be ten minutes older than its submit, by another clock, and a day younger."""
    submit = intent(sent_at=SENT.timestamp())
    result = compare(submit, Production(parse_id(OTHER), Status.QUEUED, **reported))
    assert [text.partition(" is ")[0] for text in result.differs] == ([differing] if differing else [])
    assert len(result.matches) == len(reported) - len(result.differs)
