"""Calls as data: what is sent, how any answer is read, and what may be sent again."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarai_async import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    InvalidResponseError,
    JaraiError,
    NoResponseError,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    Status,
)
from jarai_async._api import endpoints as protocol
from jarai_async._api.calls import Call, Kind, may_repeat, was_refused
from jarai_async._api.codec import body_of
from jarai_async._api.responses import Response, error_from
from tests.support.strategies import (
    HOSTILE_BODIES,
    ID,
    OTHER,
    answer,
    fields,
    headers,
    json_values,
    production,
    request,
    statuses,
)

BY_ID: list[Callable[[str], Call[Any]]] = [
    protocol.fetch,
    protocol.cancel,
    protocol.deliverables,
    protocol.performance,
]
CALLS: list[Call[Any]] = [
    *(make(ID) for make in BY_ID),
    protocol.accounts(),
    protocol.usage(),
    protocol.submit(ID, body_of(request()), "key"),
]
SUBMIT = CALLS[-1]


# --- What is sent --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", BY_ID)
@pytest.mark.parametrize("hostile", ["../x", "", ".", ID + "/..", ID + "?a", "%2e%2e", ID + "\n", "a" * 36])
def test_only_a_uuid_reaches_a_path(make: Callable[[str], Call[Any]], hostile: str) -> None:
    """An identifier that would climb out of the API is refused before there is a call."""
    with pytest.raises(ValueError, match="not a UUID"):
        make(hostile)


def test_the_routes_are_the_documented_ones() -> None:
    """Each call has its method, its path under the base URL, and its urgency."""
    assert [(call.kind, call.method, call.path) for call in CALLS] == [
        (Kind.READ, "GET", f"/productions/{ID}"),
        (Kind.CANCEL, "DELETE", f"/productions/{ID}"),
        (Kind.DELIVERABLES, "GET", f"/productions/{ID}/deliverables"),
        (Kind.READ, "GET", f"/productions/{ID}/performance"),
        (Kind.READ, "GET", "/accounts"),
        (Kind.READ, "GET", "/usage"),
        (Kind.SUBMIT, "POST", f"/accounts/{ID}/productions"),
    ]
    assert protocol.fetch(ID.upper()).path == f"/productions/{ID}"


def test_only_a_submit_has_a_body_and_a_key() -> None:
    """The key goes with the submit, and the body is compact ASCII JSON."""
    assert [call for call in CALLS if call.body or call.idempotency_key or call.account_id] == [SUBMIT]
    made = protocol.submit(OTHER, body_of(request(topic="é", account_id=OTHER)), "k-1")
    assert (made.idempotency_key, made.account_id) == ("k-1", OTHER)
    assert made.body is not None
    assert made.body.isascii()
    assert b" " not in made.body
    assert json.loads(made.body)["topic"] == "é"
    assert "topic" not in repr(made)


# --- How an answer is read -------------------------------------------------------------------------

bodies = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(sorted(HOSTILE_BODIES.values())),
    json_values.map(lambda value: json.dumps(value).encode()),
    fields.map(lambda value: json.dumps(value).encode()),
    st.lists(fields, max_size=3).map(lambda value: json.dumps(value).encode()),
)


@given(bodies, statuses, headers)
@example(b"", 202, {"Location": "http://["})
@example(b"", 202, {"Location": "//\u2100/"})
@example(b'{"productionId": 5}', 202, {"Location": "\udcff"})
def test_reading_is_total(body: bytes, status: int, head: dict[str, str]) -> None:
    """Any bytes at any status give a result or one error of ours, chained to nothing of others'."""
    came = Response(status, head, body)
    for call in CALLS:
        caught: JaraiError | None = None
        try:
            call.read(came)
        except (ApiError, InvalidResponseError) as error:
            caught = error
        assert caught or 200 <= status < 300
        if caught:
            assert (caught.status, caught.correlation_id) == (status, came.correlation_id)
            assert caught.__cause__ is None
            assert str(caught).isprintable()


def test_a_status_is_about_the_production_that_was_asked_for() -> None:
    """An answer about another production, as a cache may give it, is an error."""
    assert protocol.fetch(ID.upper()).read(answer(production(productionId=ID.upper()))).id == ID
    with pytest.raises(InvalidResponseError, match=f"asked for production {ID}, the answer is about {OTHER}"):
        protocol.fetch(ID).read(answer(production(productionId=OTHER), X_Correlation_Id="c-1"))


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_submit_gives_the_production_as_accepted(status: int) -> None:
    """The identifier and the status are the body's; `raw` is what came and no more."""
    body = production(status="Producing", productionId=OTHER, further=1)
    found = SUBMIT.read(answer(body, status, Location=f"/productions/{OTHER}"))
    assert (found.id, found.status, found.raw) == (OTHER, "Producing", body)


def test_a_submit_whose_answer_names_two_productions_is_in_doubt() -> None:
    """One of them is another's: to follow it would report on what somebody else has paid for."""
    with pytest.raises(InvalidResponseError) as caught:
        SUBMIT.read(answer(production(productionId=OTHER), 202, Location=f"/productions/{ID}"))
    assert not was_refused(caught.value)


@pytest.mark.parametrize("odd", [{}, {"status": None}, {"status": 5}, {"status": ""}, {"status": ["Queued"]}])
def test_an_accepted_submit_without_a_status_is_queued(odd: dict[str, Any]) -> None:
    """An accepted production is never lost for the sake of an odd status."""
    body = {"productionId": ID} | odd
    found = SUBMIT.read(answer(body, 202))
    assert (found.id, found.status, found.raw) == (ID, Status.QUEUED, body)


BROKEN = [
    b"",
    b"<html>",
    b'{"productionId": "0b0e',
    b"{}",
    b"[]",
    b'{"productionId": 5}',
    b'{"productionId": "x"}',
]


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize(
    "location",
    [
        f"/v1/partner/productions/{ID}",
        f"https://h/productions/{ID.upper()}/",
        f"/productions/{ID}?a=/x#y",
        ID,
    ],
)
def test_the_location_names_the_production_where_the_body_does_not(body: bytes, location: str) -> None:
    """A cut or empty body loses nothing that was accepted, since the header holds the identifier."""
    found = SUBMIT.read(answer(body, 202, Location=location))
    assert (found.id, found.status) == (ID, Status.QUEUED)


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize(
    "location",
    [
        "",
        "/",
        "/productions/../x",
        "/productions/5",
        "http://[",
        "//[",
        f"/{ID}x",
        f"/productions?id={ID}",
        "\udcff",
    ],
)
def test_a_location_without_a_uuid_names_nothing(body: bytes, location: str) -> None:
    """Then the body's fault is raised, and the submit is in doubt."""
    with pytest.raises(InvalidResponseError) as caught:
        SUBMIT.read(answer(body, 202, Location=location))
    assert caught.value.status == 202
    assert not was_refused(caught.value)


@pytest.mark.parametrize("wrapped", [False, True])
def test_lists_come_bare_or_by_name(wrapped: bool) -> None:  # noqa: FBT001
    """Which of the two is not documented; each deliverable knows its production."""
    one = {"type": "Video", "sasUrl": "https://b.example/x", "further": 1}
    account = {"accountId": OTHER, "further": 1}
    found = protocol.deliverables(ID).read(answer({"deliverables": [one]} if wrapped else [one]))
    assert [(each.type, each.production_id, each.raw) for each in found] == [("Video", ID, one)]
    accounts = protocol.accounts().read(answer({"accounts": [account]} if wrapped else [account]))
    assert [(each.id, each.raw) for each in accounts] == [(OTHER, account)]
    assert protocol.accounts().read(answer({"accounts": []} if wrapped else [])) == []


@pytest.mark.parametrize("body", [{}, {"accounts": {}}, {"items": []}, 5, None, "x"])
def test_what_is_no_list_is_not_an_empty_one(body: object) -> None:
    """A list that is missing is an error, so that nobody concludes that there is nothing."""
    with pytest.raises(InvalidResponseError, match="expected a list of accounts"):
        protocol.accounts().read(answer(body))


def test_what_is_not_documented_is_given_as_it_is() -> None:
    """Analytics and usage are all `raw`."""
    assert protocol.performance(ID).read(answer({"views": 1})).raw == {"views": 1}
    assert protocol.performance(ID).read(answer({})).production_id == ID
    assert protocol.usage().read(answer({"requests": [1]})).raw == {"requests": [1]}


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
def test_a_cancel_reads_no_body(body: bytes) -> None:
    """Its answer is not documented: that it is 2xx is all that counts."""
    assert protocol.cancel(ID).read(answer(body, 204)) is None


# --- What may be sent again ------------------------------------------------------------------------


def of(status: int, code: str | None = None) -> JaraiError:
    return error_from(answer({"error": code, "message": "no"}, status))


# The error that an attempt ended in; whether a GET, a submit, and a submit whose key the server honours may
# be sent again; whether a submit provably created nothing.
DECISIONS: list[tuple[JaraiError, type[JaraiError], bool, bool, bool, bool]] = [
    (NotSentError("refused"), NotSentError, True, True, True, True),
    (of(429, "RATE_LIMIT_EXCEEDED"), RateLimitError, True, True, True, True),
    (of(503, "SERVICE_UNAVAILABLE"), ServiceUnavailableError, True, True, True, True),
    (of(400, "INVALID_REQUEST"), BadRequestError, False, False, False, True),
    (of(401, "UNAUTHORIZED"), AuthenticationError, False, False, False, True),
    (of(403, "PERMISSION_DENIED"), PermissionDeniedError, False, False, False, True),
    (of(404), NotFoundError, False, False, False, True),
    (of(409, "BUDGET_GATE_1_FAILED"), BudgetExceededError, False, False, False, True),
    (of(413), BadRequestError, False, False, False, True),
    (of(422), BadRequestError, False, False, False, True),
    (ConfigurationError("closed"), ConfigurationError, False, False, False, True),
    (of(409, "IDEMPOTENCY_KEY_IN_USE"), ApiError, False, False, False, False),
    (of(408), ApiError, False, False, False, False),
    (of(425), ApiError, False, False, False, False),
    (of(418), ApiError, False, False, False, False),
    (of(301), InvalidResponseError, False, False, False, False),
    (of(307), InvalidResponseError, False, False, False, False),
    (of(500, "INTERNAL_ERROR"), ServerError, True, False, True, False),
    (of(500, "SERVICE_UNAVAILABLE"), ServerError, True, False, True, False),
    (of(502), ServerError, True, False, True, False),
    (of(503), ServerError, True, False, True, False),
    (of(503, "OTHER"), ServerError, True, False, True, False),
    (of(504), ServerError, True, False, True, False),
    (NoResponseError("reset, timeout, cut"), NoResponseError, True, False, True, False),
    (InvalidResponseError("not HTTP"), InvalidResponseError, True, False, True, False),
    (InvalidResponseError("202 without an id", status=202), InvalidResponseError, True, False, True, False),
]


@pytest.mark.parametrize(("error", "kind", "get", "submit", "keyed", "refused"), DECISIONS)
def test_what_may_be_sent_again(
    error: JaraiError,
    kind: type[JaraiError],
    *,
    get: bool,
    submit: bool,
    keyed: bool,
    refused: bool,
) -> None:
    """A submit is repeated only where it provably created nothing, or where its key makes that harmless."""
    assert type(error) is kind
    for read in CALLS[:-1]:
        assert may_repeat(read, error, idempotency_keys=False) is get
        assert may_repeat(read, error, idempotency_keys=True) is get
    assert may_repeat(SUBMIT, error, idempotency_keys=False) is submit
    assert may_repeat(SUBMIT, error, idempotency_keys=True) is keyed
    assert was_refused(error) is refused


@given(st.integers(min_value=100, max_value=599), st.none() | st.text())
def test_no_submit_is_repeated_that_may_have_been_accepted(status: int, code: str | None) -> None:
    """Whatever the answer: what may be repeated without a key was provably refused."""
    if not 200 <= status < 300:
        error = of(status, code)
        assert was_refused(error) or not may_repeat(SUBMIT, error, idempotency_keys=False)
