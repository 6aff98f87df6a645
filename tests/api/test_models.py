"""The models: validation, statuses, copying, and what their `repr` shows."""

import copy
import json
import pickle
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarai_async import (
    Account,
    Avatar,
    Deliverable,
    InvalidRequestError,
    Outcome,
    OutcomeState,
    Production,
    ProductionFailedError,
    ProductionRequest,
    Status,
    StatusChanged,
    Webhook,
    WebhookDelivery,
)
from jarai_async._api.models import Id, parse_id
from jarai_async.webhooks import WebhookEvent
from tests.support.strategies import ID, OTHER, json_values, request

NOW = datetime(2026, 1, 1, tzinfo=UTC)


IDS_AND_TOPIC = ("topic", "account_id", "language_id", "country_id", "avatar_id")


def problems(**fields: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidRequestError) as caught:
        request(**fields)
    return caught.value.problems


# --- Identifiers ---------------------------------------------------------------------------------


@given(st.uuids())
def test_uuid_has_one_canonical_form(value: UUID) -> None:
    """A UUID as text in any case, or as an object, becomes the same lower-case text."""
    assert parse_id(value) == parse_id(str(value).upper()) == str(value)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "../x",
            ID + "/..",
            ID + "\n",
            " " + ID,
            ID[:-1],
            f"{{{ID}}}",
            f"urn:uuid:{ID}",
            ID.replace("-", ""),
        ),
        *(ID.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}"), None, 5, b"", [ID], {}),
    ],
)
def test_only_a_uuid_is_an_id(value: object) -> None:
    """Anything but a UUID in the usual form is rejected, so that it never becomes part of a path."""
    with pytest.raises(ValueError, match="not a UUID"):
        parse_id(value)


@given(st.text() | json_values)
def test_any_value_is_parsed_as_an_id_or_rejected(value: object) -> None:
    """Any value gives either hexadecimal digits and hyphens, or a ValueError."""
    try:
        parsed = parse_id(value)
    except ValueError:
        return
    assert set(parsed) <= set("0123456789abcdef-")


def test_deeply_nested_value_is_rejected_without_a_recursion_error() -> None:
    """A value whose `repr` would exceed the recursion limit is rejected like any other."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="not a UUID: list"):
        parse_id(deep)
    assert problems(avatar_id=deep) == ("avatar_id is not a UUID: 'list'",)
    assert problems(topic=deep) == ("topic must be text that is not blank, not list",)
    while deep:  # otherwise the interpreter frees it by recursion
        deep = deep.pop()


# --- Requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["topic", "metadata", "project_type", "reference"])
def test_text_with_a_lone_surrogate_is_refused(field: str) -> None:
    """No web framework can send it as JSON: once it was accepted, all lists of productions failed."""
    expected = f"{field} is no Unicode text: '\\ud83d', half of a character, is at index 1"
    assert problems(**{field: "x\ud83d"}) == (expected,)
    assert problems(extra={"notes": ["\ud83d"]})[0].startswith("extra is not JSON")


def test_all_problems_of_a_request_are_reported_at_once() -> None:
    """One error lists every problem of a request."""
    with pytest.raises(InvalidRequestError) as caught:
        ProductionRequest(
            topic=" ",
            account_id="../x",
            language_id="",
            country_id=None,  # type: ignore[arg-type]
            avatar_id=5,  # type: ignore[arg-type]
            project_type="",
            metadata="m" * 4_097,
            reference="\n",
            extra={"topic": "again", "avatarId": ID, "x": float("nan")},
        )
    *others, last = caught.value.problems
    assert last.startswith("extra is not JSON: ")  # the rest differs between Python versions
    assert others == [
        "topic must be text that is not blank, not ' '",
        "metadata has 4097 characters, the maximum is 4096",
        "project_type must be text that is not blank, not ''",
        "reference must be text that is not blank, not '\\n'",
        "account_id is not a UUID: '../x'",
        "language_id is missing",
        "country_id is missing",
        "avatar_id is not a UUID: 'int'",
        "extra must not contain 'avatarId'",
        "extra must not contain 'topic'",
    ]
    assert str(caught.value) == "; ".join([*others[:5], "and 6 more"])


@pytest.mark.parametrize(("name", "maximum"), [("topic", 500), ("metadata", 4_096)])
def test_maximum_lengths_are_the_documented_ones(name: str, maximum: int) -> None:
    """Text of the maximum length is accepted, one more character is not."""
    assert getattr(request(**{name: "x" * maximum}), name) == "x" * maximum
    assert problems(**{name: "x" * (maximum + 1)}) == (
        f"{name} has {maximum + 1} characters, the maximum is {maximum}",
    )


@pytest.mark.parametrize("extra", [None, [], "text", 5, [1]])
def test_extra_must_be_a_json_object(extra: Any) -> None:
    """Any other value is reported together with the other problems."""
    assert problems(topic=None, extra=extra)[0] == "topic is missing"
    assert problems(topic=None, extra=extra)[1].startswith("extra must be a JSON object")


@pytest.mark.parametrize("value", [{1, 2}, b"x", object(), float("inf"), {(1, 2): 3}])
def test_extra_must_be_serializable_as_json(value: Any) -> None:
    """A value that JSON cannot represent is rejected before anything is sent."""
    assert problems(extra={"further": value})[0].startswith("extra is not JSON")


def test_extra_that_contains_itself_is_rejected() -> None:
    """A circular value is reported like any other problem."""
    circular: dict[str, Any] = {}
    circular["self"] = circular
    assert problems(extra=circular)[0].startswith("extra is not JSON")


def test_request_copies_extra() -> None:
    """A later change of the dictionary that was passed does not change the request."""
    extra = {"further": 1}
    created = request(extra=extra)
    extra["further"] = 2
    assert created.extra == {"further": 1}


def test_request_accepts_uuid_objects() -> None:
    """Identifiers may be `uuid.UUID` objects, which become their canonical text."""
    assert request(avatar_id=UUID(ID.upper())).avatar_id == ID


VALID = request(project_type="p", metadata="# m", reference="r", extra={"x": [1, None]})


@pytest.mark.parametrize("created", [VALID, request()])
def test_request_is_read_back_from_its_dictionary(created: ProductionRequest) -> None:
    """The dictionary has every field, also as JSON; null means that a field is missing."""
    fields = created.to_dict()
    assert list(fields) == [*IDS_AND_TOPIC, "project_type", "metadata", "reference", "extra"]
    assert ProductionRequest.from_dict(json.loads(json.dumps(fields))) == created
    assert ProductionRequest.from_dict({name: fields[name] for name in fields if fields[name]}) == created
    fields["extra"]["further"] = 1
    assert fields != created.to_dict()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"topik": "A"}, "unknown field 'topik'; did you mean 'topic'?"),
        ({"accountId": ID}, "unknown field 'accountId'; did you mean 'account_id'?"),
        ({"colour": None}, f"unknown field 'colour'; known fields: {', '.join(VALID.to_dict())}"),
        ({5: "A"}, f"unknown field '5'; known fields: {', '.join(VALID.to_dict())}"),
        ({"topic": None}, "topic is missing"),
        ({"account_id": None}, "account_id is missing"),
        ({"topic": ["A"]}, "topic must be text that is not blank, not list"),
        ({"avatar_id": 5}, "avatar_id is not a UUID: 'int'"),
        ({"extra": []}, "extra must be a JSON object, not list"),
    ],
)
def test_wrong_field_of_a_dictionary_is_named(change: dict[Any, Any], expected: str) -> None:
    """A web handler can answer with the problems as they are."""
    with pytest.raises(InvalidRequestError) as caught:
        ProductionRequest.from_dict(VALID.to_dict() | change)
    assert caught.value.problems == (expected,)


def test_all_problems_of_a_dictionary_are_reported_at_once() -> None:
    """Unknown fields come first; of very many, the first twenty are named, and long names are cut."""
    with pytest.raises(InvalidRequestError) as caught:
        ProductionRequest.from_dict({f"{number}" + "x" * 100_000: 1 for number in range(1_000)})
    *unknown, more, topic, account, _, _, _ = caught.value.problems
    assert (len(unknown), more) == (20, "980 more unknown fields")
    assert all(problem.startswith("unknown field '") and len(problem) < 300 for problem in unknown)
    assert (topic, account) == ("topic is missing", "account_id is missing")


@given(json_values | st.dictionaries(st.sampled_from([*VALID.to_dict(), "topik"]), json_values))
def test_any_json_is_a_request_or_an_invalid_request_error(value: Any) -> None:
    """A web handler catches one exception."""
    try:
        created = ProductionRequest.from_dict(value)
    except InvalidRequestError as error:
        assert all(isinstance(problem, str) for problem in error.problems)  # noqa: PT017
        assert error.problems  # noqa: PT017
    else:
        assert created == ProductionRequest(**value)


# --- Statuses ------------------------------------------------------------------------------------


@given(st.text().filter(lambda text: text not in {"Published", "Failed", "Cancelled"}))
@example("published")
@example("Published ")
def test_unknown_status_is_kept_and_not_terminal(text: str) -> None:
    """JARAI may add statuses; an unknown one means that the production has not ended."""
    assert Status(text) == text
    assert not Status(text).is_terminal


def test_three_statuses_are_terminal() -> None:
    """`Published`, `Failed` and `Cancelled` are terminal, the four other known statuses are not."""
    known = [value for value in vars(Status).values() if isinstance(value, Status)]
    assert {str(status) for status in known if status.is_terminal} == {"Published", "Failed", "Cancelled"}
    assert len(known) == 7
    assert repr(Status.QUEUED) == "<Status Queued>"


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # our own value


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_models_can_be_copied_and_pickled(copied: Any) -> None:
    """Copies and pickles keep an unknown status and the fields in `raw`."""
    original = Production(Id(ID), Status("Rendering"), raw={"further": 1})
    assert copied(original) == original
    assert copied(original).raw == {"further": 1}
    assert not copied(original).status.is_terminal
    assert copied(request(reference="a")) == request(reference="a")


# --- Secrets, outcomes and events ------------------------------------------------------------------


def test_repr_does_not_show_the_signed_url() -> None:
    """Neither `url` nor `raw`, which also contains it, is in the `repr` of a deliverable or an outcome."""
    url = "https://blob.example/x?sig=SECRET"
    deliverable = Deliverable("Video", url, raw={"sasUrl": url})
    outcome = Outcome(
        request=request(),
        reference="a",
        state=OutcomeState.PUBLISHED,
        deliverables=(deliverable,),
        finished_at=NOW,
    )
    for text in (repr(deliverable), str(deliverable), f"{deliverable}", repr(outcome), repr([deliverable])):
        assert "SECRET" not in text
    assert deliverable.url == url


@pytest.mark.parametrize(
    "model",
    [
        Account(Id(ID), raw={"x": "SECRET"}),
        Avatar(Id(ID), raw={"x": "SECRET"}),
        Production(Id(ID), Status.QUEUED, raw={"x": "SECRET"}),
        Webhook(id=Id(ID), raw={"x": "SECRET"}),
        WebhookDelivery(raw={"x": "SECRET"}),
        WebhookEvent(raw={"x": "SECRET"}),
    ],
)
def test_repr_does_not_show_what_the_server_sent(model: object) -> None:
    """It may be long, and hold secrets."""
    assert "SECRET" not in repr(model)


def test_outcome_is_ok_only_if_published_without_error() -> None:
    """A published production whose download failed is not ok."""
    facts: dict[str, Any] = {"request": request(), "reference": "a", "finished_at": NOW}
    assert Outcome(state=OutcomeState.PUBLISHED, **facts).ok
    assert not Outcome(state=OutcomeState.PUBLISHED, error=ProductionFailedError("x"), **facts).ok
    assert not any(Outcome(state=state, **facts).ok for state in OutcomeState if state != "published")


def test_status_event_has_the_new_status() -> None:
    """`status` of an event is that of its production, also in a `match` statement."""
    published = Production(Id(OTHER), Status.PUBLISHED)
    facts: dict[str, Any] = {"reference": "a", "sequence": 1, "observed_at": NOW, "changed_after": NOW}
    event = StatusChanged(production=published, previous=Status.QUEUED, **facts)
    match event:
        case StatusChanged(status=Status.PUBLISHED, previous="Queued"):
            pass
        case _:
            pytest.fail("the event does not match")
