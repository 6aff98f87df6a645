"""Calls to the API: what is sent, how responses are read, and which calls may be repeated."""

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
from jarai_async._api import endpoints
from jarai_async._api.calls import Call, Kind, created_nothing, may_repeat
from jarai_async._api.codec import body_of
from jarai_async._api.responses import Response, error_from
from tests.support.strategies import (
    HOSTILE_BODIES,
    ID,
    OTHER,
    fields,
    headers,
    json_values,
    production,
    request,
    response,
    statuses,
)

BY_ID: list[Callable[[str], Call[Any]]] = [
    endpoints.fetch,
    endpoints.cancel,
    endpoints.deliverables,
    endpoints.performance,
]
CALLS: list[Call[Any]] = [
    *(make(ID) for make in BY_ID),
    endpoints.accounts(),
    endpoints.usage(),
    endpoints.submit(ID, body_of(request()), "key"),
]
SUBMIT = CALLS[-1]


# --- Requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", BY_ID)
@pytest.mark.parametrize("hostile", ["../x", "", ".", ID + "/..", ID + "?a", "%2e%2e", ID + "\n", "a" * 36])
def test_only_uuids_become_part_of_a_path(make: Callable[[str], Call[Any]], hostile: str) -> None:
    """An identifier that would lead to another resource is rejected before anything is sent."""
    with pytest.raises(ValueError, match="not a UUID"):
        make(hostile)


def test_calls_have_the_documented_methods_and_paths() -> None:
    """Each call has its kind, its method and its path below the base URL."""
    assert [(call.kind, call.method, call.path) for call in CALLS] == [
        (Kind.READ, "GET", f"/productions/{ID}"),
        (Kind.CANCEL, "DELETE", f"/productions/{ID}"),
        (Kind.DELIVERABLES, "GET", f"/productions/{ID}/deliverables"),
        (Kind.READ, "GET", f"/productions/{ID}/performance"),
        (Kind.READ, "GET", "/accounts"),
        (Kind.READ, "GET", "/usage"),
        (Kind.SUBMIT, "POST", f"/accounts/{ID}/productions"),
    ]
    assert endpoints.fetch(ID.upper()).path == f"/productions/{ID}"


def test_only_submit_has_a_body_and_an_idempotency_key() -> None:
    """A submit has the key that is passed, and its body is compact ASCII JSON."""
    assert [call for call in CALLS if call.body or call.idempotency_key or call.account_id] == [SUBMIT]
    submit = endpoints.submit(OTHER, body_of(request(topic="é", account_id=OTHER)), "k-1")
    assert (submit.idempotency_key, submit.account_id) == ("k-1", OTHER)
    assert submit.body is not None
    assert submit.body.isascii()
    assert b" " not in submit.body
    assert json.loads(submit.body)["topic"] == "é"
    assert "topic" not in repr(submit)


# --- Responses -----------------------------------------------------------------------------------

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
def test_any_response_gives_a_result_or_one_error(body: bytes, status: int, head: dict[str, str]) -> None:
    """Any bytes with any status give a result or an ApiError or InvalidResponseError without a cause."""
    received = Response(status, head, body)
    for call in CALLS:
        raised: JaraiError | None = None
        try:
            call.read(received)
        except (ApiError, InvalidResponseError) as error:
            raised = error
        assert raised or 200 <= status < 300
        if raised:
            assert (raised.status, raised.correlation_id) == (status, received.correlation_id)
            assert raised.__cause__ is None
            assert str(raised).isprintable()


def test_status_of_another_production_is_an_error() -> None:
    """A response about another production, for example from a cache, is rejected."""
    assert endpoints.fetch(ID.upper()).read(response(production(productionId=ID.upper()))).id == ID
    with pytest.raises(
        InvalidResponseError, match=f"requested production {ID}, but the response is about {OTHER}"
    ):
        endpoints.fetch(ID).read(response(production(productionId=OTHER), X_Correlation_Id="c-1"))


@pytest.mark.parametrize("status", [200, 201, 202])
def test_submit_returns_the_accepted_production(status: int) -> None:
    """Id and status come from the body, and `raw` is the body."""
    body = production(status="Producing", productionId=OTHER, further=1)
    accepted = SUBMIT.read(response(body, status, Location=f"/productions/{OTHER}"))
    assert (accepted.id, accepted.status, accepted.raw) == (OTHER, "Producing", body)


WRAPPED: list[Callable[[object], object]] = [
    lambda value: value,
    lambda value: {"data": value},
    lambda value: {"production": value, "links": {"self": "/"}, "id": "r-1"},
]


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("named", [{}, {"id": ID}, {"id": 7}, {"productionId": None}, {"productionId": ID}])
def test_status_is_read_wrapped_and_without_its_production_id(
    wrap: Callable[[object], object], named: dict[str, Any]
) -> None:
    """The client knows which production it asked for, and an object may be a member of another one."""
    body = {"status": "Producing", **named}
    read = endpoints.fetch(ID).read(response(wrap(body)))
    assert (read.id, read.status, read.raw) == (ID, Status.PRODUCING, body)


def test_status_in_an_envelope_with_a_status_of_its_own_is_read() -> None:
    """The object that names the production is the one that is read."""
    assert (
        endpoints.fetch(ID).read(response({"status": "success", "data": production()})).status == "Producing"
    )


@pytest.mark.parametrize(
    "body",
    [
        {"status": "ok"},
        {"status": ["Producing"]},
        {"id": OTHER, "status": "Producing"},
        {"data": production(productionId=OTHER)},
        {"a": production(), "b": production()},
    ],
)
def test_status_that_may_be_about_something_else_is_an_error(body: object) -> None:
    """A gateway's page, another production, or two of them."""
    with pytest.raises(InvalidResponseError):
        endpoints.fetch(ID).read(response(body))


@pytest.mark.parametrize(
    ("name", "wrap"), [*(("productionId", wrap) for wrap in WRAPPED), *(("id", wrap) for wrap in WRAPPED[:2])]
)
def test_accepted_submit_is_read_wrapped_and_with_any_name_of_its_id(
    name: str, wrap: Callable[[object], object]
) -> None:
    """Otherwise each submit would be in doubt."""
    assert SUBMIT.read(response(wrap({name: OTHER}), 202)).id == OTHER


def test_submit_response_that_names_two_productions_is_in_doubt() -> None:
    """If body and Location disagree, one of the productions belongs to another submit."""
    with pytest.raises(InvalidResponseError) as caught:
        SUBMIT.read(response(production(productionId=OTHER), 202, Location=f"/productions/{ID}"))
    assert not created_nothing(caught.value)


@pytest.mark.parametrize("odd", [{}, {"status": None}, {"status": 5}, {"status": ""}, {"status": ["Queued"]}])
def test_accepted_submit_without_a_valid_status_is_queued(odd: dict[str, Any]) -> None:
    """An invalid status does not make an accepted submit fail."""
    body = {"productionId": ID} | odd
    accepted = SUBMIT.read(response(body, 202))
    assert (accepted.id, accepted.status, accepted.raw) == (ID, Status.QUEUED, body)


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
        f"/v1/partner/productions/{ID}/status",
        f"https://h/accounts/{OTHER}/productions/{ID}",
        f"productions/{ID}/status/?verbose=1",
    ],
)
def test_location_header_names_the_production_if_the_body_is_invalid(body: bytes, location: str) -> None:
    """A truncated or empty body loses no accepted production if the Location header names it."""
    accepted = SUBMIT.read(response(body, 202, Location=location))
    assert (accepted.id, accepted.status) == (ID, Status.QUEUED)


def test_body_that_was_cut_off_is_no_complete_response() -> None:
    """It is not called invalid, as if JARAI had sent it so."""
    cut = Response(
        200, {"X-Correlation-Id": "c"}, b'{"data": [', NoResponseError("no complete response: reset")
    )
    for call in (endpoints.accounts(), endpoints.fetch(ID)):
        with pytest.raises(NoResponseError, match="reset") as caught:
            call.read(cut)
        assert (caught.value.status, caught.value.correlation_id) == (200, "c")


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
        f"/accounts/{ID}/productions",
        f"/accounts/{ID}/productions/",
        f"/productions/x/{ID}",
        "\udcff",
    ],
)
def test_location_header_without_a_uuid_is_ignored(body: bytes, location: str) -> None:
    """The error of the body is raised, and the submit is in doubt."""
    with pytest.raises(InvalidResponseError) as caught:
        SUBMIT.read(response(body, 202, Location=location))
    assert caught.value.status == 202
    assert not created_nothing(caught.value)


@pytest.mark.parametrize("wrapped", [False, True])
def test_lists_are_read_bare_or_from_an_object(wrapped: bool) -> None:  # noqa: FBT001
    """Which of the two JARAI sends is not documented. Each deliverable gets its production's id."""
    video = {"type": "Video", "sasUrl": "https://b.example/x", "further": 1}
    account = {"accountId": OTHER, "further": 1}
    listed = endpoints.deliverables(ID).read(response({"deliverables": [video]} if wrapped else [video]))
    assert [(item.type, item.production_id, item.raw) for item in listed] == [("Video", ID, video)]
    accounts = endpoints.accounts().read(response({"accounts": [account]} if wrapped else [account]))
    assert [(item.id, item.raw) for item in accounts] == [(OTHER, account)]
    assert endpoints.accounts().read(response({"accounts": []} if wrapped else [])) == []


@pytest.mark.parametrize("key", ["deliverables", "items", "data", "value", "results"])
def test_list_is_read_under_any_name(key: str) -> None:
    """Its own name counts before any other list; otherwise it is the only one."""
    others: dict[str, Any] = {"total": 1, "links": [1]} if key == "deliverables" else {"total": 1}
    body = {key: [{"type": "Video"}], **others}
    for answer in (body, {"data": body} if key == "deliverables" else body):
        assert [item.type for item in endpoints.deliverables(ID).read(response(answer))] == ["Video"]


def test_odd_items_do_not_hide_the_other_items_of_a_list(caplog: pytest.LogCaptureFixture) -> None:
    """An account without an id is left out; a deliverable with a link is kept, whatever else is odd."""
    body = [None, {"sasUrl": "https://b.example/x", "type": None, "sizeBytes": "5"}, 7, {"type": "Video"}]
    listed = endpoints.deliverables(ID).read(response(body))
    assert [(item.type, item.url, item.size) for item in listed] == [
        ("Unknown", "https://b.example/x", None),
        ("Video", "", None),
    ]
    accounts = endpoints.accounts().read(response([{"name": "no id"}, {"accountId": OTHER}]))
    assert [account.id for account in accounts] == [OTHER]
    warnings = [record.getMessage() for record in caplog.records]
    assert any("2 of 4 items" in warning for warning in warnings)
    assert any("1 of 2 items" in warning and "Account" in warning for warning in warnings)


@pytest.mark.parametrize("body", [[None], [{"accountId": "x"}, 5], {"accounts": [[]]}])
def test_list_without_a_readable_item_is_an_error(body: object) -> None:
    """It is not read as an empty list."""
    with pytest.raises(InvalidResponseError, match="not in the documented format"):
        endpoints.accounts().read(response(body))


@pytest.mark.parametrize(
    "body", [{}, {"accounts": {}}, {"accounts": None, "items": []}, {"a": [], "b": []}, 5, None, "x"]
)
def test_missing_list_is_an_error(body: object) -> None:
    """A response without a list is not read as an empty list."""
    with pytest.raises(InvalidResponseError, match="expected a list of accounts"):
        endpoints.accounts().read(response(body))


def test_analytics_and_usage_are_returned_in_raw() -> None:
    """No field of theirs is documented, so `raw` holds the complete response."""
    assert endpoints.performance(ID).read(response({"views": 1})).raw == {"views": 1}
    assert endpoints.performance(ID).read(response({})).production_id == ID
    assert endpoints.usage().read(response({"requests": [1]})).raw == {"requests": [1]}


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
def test_cancel_ignores_the_body(body: bytes) -> None:
    """The body of the response is not documented, so only the 2xx status counts."""
    assert endpoints.cancel(ID).read(response(body, 204)) is None


# --- Retries ---------------------------------------------------------------------------------------


def error_for(status: int, code: str | None = None) -> JaraiError:
    return error_from(response({"error": code, "message": "no"}, status))


# The error of an attempt; whether a GET, a submit, and a submit whose idempotency key the server honours may
# be repeated; whether a submit certainly created nothing.
DECISIONS: list[tuple[JaraiError, type[JaraiError], bool, bool, bool, bool]] = [
    (NotSentError("refused"), NotSentError, True, True, True, True),
    (error_for(429, "RATE_LIMIT_EXCEEDED"), RateLimitError, True, True, True, True),
    (error_for(503, "SERVICE_UNAVAILABLE"), ServiceUnavailableError, True, True, True, True),
    (error_for(400, "INVALID_REQUEST"), BadRequestError, False, False, False, True),
    (error_for(401, "UNAUTHORIZED"), AuthenticationError, False, False, False, True),
    (error_for(403, "PERMISSION_DENIED"), PermissionDeniedError, False, False, False, True),
    (error_for(404), NotFoundError, False, False, False, True),
    (error_for(409, "BUDGET_GATE_1_FAILED"), BudgetExceededError, False, False, False, True),
    (error_for(413), BadRequestError, False, False, False, True),
    (error_for(422), BadRequestError, False, False, False, True),
    (ConfigurationError("closed"), ConfigurationError, False, False, False, True),
    (error_for(409, "IDEMPOTENCY_KEY_IN_USE"), ApiError, False, False, False, False),
    (error_for(408), ApiError, True, False, True, False),
    (error_for(425), ApiError, True, False, True, False),
    (error_for(410), NotFoundError, False, False, False, True),
    (error_for(418), ApiError, False, False, False, False),
    (error_for(301), InvalidResponseError, False, False, False, False),
    (error_for(307), InvalidResponseError, False, False, False, False),
    (error_for(500, "INTERNAL_ERROR"), ServerError, True, False, True, False),
    (error_for(500, "SERVICE_UNAVAILABLE"), ServerError, True, False, True, False),
    (error_for(502), ServerError, True, False, True, False),
    (error_for(503), ServerError, True, False, True, False),
    (error_for(503, "OTHER"), ServerError, True, False, True, False),
    (error_for(504), ServerError, True, False, True, False),
    (NoResponseError("reset, timeout, cut"), NoResponseError, True, False, True, False),
    (InvalidResponseError("not HTTP"), InvalidResponseError, True, False, True, False),
    (InvalidResponseError("202 without an id", status=202), InvalidResponseError, True, False, True, False),
]


@pytest.mark.parametrize(("error", "kind", "get", "submit", "keyed", "nothing"), DECISIONS)
def test_retry_decision_for_each_error(
    error: JaraiError,
    kind: type[JaraiError],
    *,
    get: bool,
    submit: bool,
    keyed: bool,
    nothing: bool,
) -> None:
    """A submit is retried only if it certainly created nothing, or if its idempotency key is honoured."""
    assert type(error) is kind
    for read in CALLS[:-1]:
        assert may_repeat(read, error, idempotency_keys=False) is get
        assert may_repeat(read, error, idempotency_keys=True) is get
    assert may_repeat(SUBMIT, error, idempotency_keys=False) is submit
    assert may_repeat(SUBMIT, error, idempotency_keys=True) is keyed
    assert created_nothing(error) is nothing


@given(st.integers(min_value=100, max_value=599), st.none() | st.text())
def test_submit_that_may_have_been_accepted_is_not_retried(status: int, code: str | None) -> None:
    """Without an idempotency key, a retry requires that nothing was created, whatever status and code say."""
    if not 200 <= status < 300:
        error = error_for(status, code)
        assert created_nothing(error) or not may_repeat(SUBMIT, error, idempotency_keys=False)
