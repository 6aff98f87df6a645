"""References made from the content of a request, and what two requests or a production differ in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import InvalidRequestError, Production, Status
from jarai_async._api.codec import body_of
from jarai_async._api.models import parse_id
from jarai_async._journal.entries import Intent
from jarai_async._journal.identity import compare, content_reference, differences
from tests.support.strategies import ID, OTHER, json_values, request

SENT = datetime(2026, 5, 1, 12, tzinfo=UTC)


@given(
    st.dictionaries(st.text(), json_values, max_size=3), st.dictionaries(st.text(), json_values, max_size=3)
)
def test_requests_have_the_same_reference_if_they_do_not_differ(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Whatever JSON values they contain; what differs can be printed."""
    try:
        first, second = request(extra=one), request(extra=other, reference="any")
    except InvalidRequestError:
        return
    found = [*differences(first, second)]
    assert (content_reference(first) == content_reference(second)) == (not found)
    assert all(line.isprintable() and len(line) < 180 for line in found)
    assert not [*differences(first, request(extra=dict(reversed(one.items()))))]


@pytest.mark.parametrize(
    ("fields", "differs"),
    [
        ({}, []),
        ({"topic": " Tides\n"}, []),
        ({"topic": "Bees"}, ["topic is 'Bees', the request's is 'Tides'"]),
        ({"account_id": parse_id(OTHER)}, [f"account is '{OTHER}', the request's is '{ID}'"]),
        ({"created_at": SENT - timedelta(minutes=10)}, []),
        ({"created_at": SENT + timedelta(hours=24)}, []),
        (
            {"created_at": SENT - timedelta(minutes=11)},
            ["creation time is '2026-05-01 11:49:00', the request's is '2026-05-01 12:00:00'"],
        ),
    ],
)
def test_production_is_compared_by_what_the_server_reports(
    fields: dict[str, Any], differs: list[str]
) -> None:
    """The topic without regard to white space, the account, and the time within ten minutes to a day."""
    intent = Intent("mine", ID, body_of(request(topic="Tides")), "a key", sent_at=SENT.timestamp())
    comparison = compare(intent, Production(parse_id(OTHER), Status.QUEUED, **fields))
    assert comparison.differs == differs
    assert len(comparison.matches) == len(fields) - len(differs)
