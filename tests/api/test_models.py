"""The values that users hold, and what they refuse."""

import copy
import pickle
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarai_async import (
    Deliverable,
    InvalidRequestError,
    Outcome,
    OutcomeState,
    Production,
    ProductionFailedError,
    ProductionRequest,
    Status,
    StatusChanged,
)
from jarai_async._api.models import Id, as_id
from jarai_async._events import end
from tests.support.strategies import ID, OTHER, json_values, request

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def faults(**fields: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidRequestError) as caught:
        request(**fields)
    return caught.value.problems


# --- Identifiers ---------------------------------------------------------------------------------


@given(st.uuids())
def test_a_uuid_has_one_canonical_form(value: UUID) -> None:
    """A UUID in any case, as text or as an object, gives the same lower-case text."""
    assert as_id(value) == as_id(str(value).upper()) == str(value)


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
    """Whatever is not a UUID in its usual form is refused, so that it never becomes part of a path."""
    with pytest.raises(ValueError, match="not a UUID"):
        as_id(value)


@given(st.text() | json_values)
def test_as_id_is_total(value: object) -> None:
    """Any value gives either a UUID that is made of hexadecimal digits and dashes, or a ValueError."""
    try:
        found = as_id(value)
    except ValueError:
        return
    assert set(found) <= set("0123456789abcdef-")


def test_an_id_that_is_nested_too_deep_is_refused_without_being_printed() -> None:
    """A value whose `repr` would exhaust the stack is refused like any other."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="not a UUID: list"):
        as_id(deep)
    assert faults(avatar_id=deep) == ("avatar_id is not a UUID: 'list'",)
    assert faults(topic=deep) == ("topic must be text, and not blank: list",)
    while deep:  # taken apart here, for the interpreter would do it by recursion
        deep = deep.pop()


# --- Requests ------------------------------------------------------------------------------------


def test_every_fault_of_a_request_is_named_at_once() -> None:
    """One error names all that is wrong, so that nobody corrects a request five times."""
    with pytest.raises(InvalidRequestError) as caught:
        ProductionRequest(
            topic=" ",
            account_id="../x",
            language_id="",
            country_id=None,
            avatar_id=5,
            project_type="",
            metadata="m" * 4_097,
            reference="\n",
            extra={"topic": "again", "avatarId": ID, "x": float("nan")},
        )
    *faults, last = caught.value.problems
    assert last.startswith("extra is not JSON: ")  # the rest is Python's, and differs between versions
    assert faults == [
        "topic must be text, and not blank: ' '",
        "metadata has 4097 characters, of at most 4096",
        "project_type must be text, and not blank: ''",
        "reference must be text, and not blank: '\\n'",
        "account_id is not a UUID: '../x'",
        "language_id is missing",
        "country_id is missing",
        "avatar_id is not a UUID: 'int'",
        "extra may not hold 'avatarId'",
        "extra may not hold 'topic'",
    ]
    assert str(caught.value) == "; ".join(caught.value.problems)


@pytest.mark.parametrize(("name", "most"), [("topic", 500), ("metadata", 4_096)])
def test_lengths_are_the_documented_ones(name: str, most: int) -> None:
    """The longest documented text is accepted, one character more is not."""
    assert getattr(request(**{name: "x" * most}), name) == "x" * most
    assert faults(**{name: "x" * (most + 1)}) == (f"{name} has {most + 1} characters, of at most {most}",)


@pytest.mark.parametrize("extra", [None, [], "text", 5, [1]])
def test_extra_that_is_no_object_is_a_fault_like_any_other(extra: Any) -> None:
    """What cannot be fields of a body is named together with the other faults."""
    assert faults(topic=None, extra=extra)[0] == "topic is missing"
    assert faults(topic=None, extra=extra)[1].startswith("extra must be a JSON object")


@pytest.mark.parametrize("value", [{1, 2}, b"x", object(), float("inf"), {(1, 2): 3}])
def test_extra_must_be_json(value: Any) -> None:
    """What JSON cannot say is refused before it is sent."""
    assert faults(extra={"further": value})[0].startswith("extra is not JSON")


def test_extra_that_holds_itself_is_refused() -> None:
    """An endless value is a fault and not a crash."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    assert faults(extra=endless)[0].startswith("extra is not JSON")


def test_a_request_keeps_its_own_copy_of_extra() -> None:
    """A caller who reuses one dict for many requests changes none of those that were made."""
    extra = {"further": 1}
    made = request(extra=extra)
    extra["further"] = 2
    assert made.extra == {"further": 1}


def test_a_request_takes_uuid_objects() -> None:
    """Identifiers may be given as `uuid.UUID`, and become their canonical text."""
    assert request(avatar_id=UUID(ID.upper())).avatar_id == ID


# --- Statuses ------------------------------------------------------------------------------------


@given(st.text().filter(lambda text: text not in {"Published", "Failed", "Cancelled"}))
@example("published")
@example("Published ")
def test_an_unknown_status_is_kept_and_is_not_the_end(text: str) -> None:
    """A status that may have been added since means: not done yet."""
    assert Status(text) == text
    assert not Status(text).is_terminal


def test_three_statuses_are_the_end() -> None:
    """`Published`, `Failed` and `Cancelled` never change; the four others do."""
    known = [value for value in vars(Status).values() if isinstance(value, Status)]
    assert {str(status) for status in known if status.is_terminal} == {"Published", "Failed", "Cancelled"}
    assert len(known) == 7
    assert repr(Status.QUEUED) == "<Status Queued>"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301
def test_values_survive_copies_and_pickles(copied: Any) -> None:
    """Requests and productions may be sent to another process, with their unknown status and raw fields."""
    made = Production(Id(ID), Status("Rendering"), raw={"further": 1})
    assert copied(made) == made
    assert copied(made).raw == {"further": 1}
    assert not copied(made).status.is_terminal
    assert copied(request(reference="a")) == request(reference="a")


def test_the_end_of_a_production_names_its_reason() -> None:
    """A failure is told with JARAI's code and words; publishing and cancelling are no errors."""
    state, error = end(Production(Id(ID), Status.FAILED, error_code="X", error_message="no voice"))
    assert state is OutcomeState.FAILED
    assert isinstance(error, ProductionFailedError)
    assert error.code == "X"
    assert "no voice (X)" in str(error)
    assert "no reason given" in str(end(Production(Id(ID), Status.FAILED))[1])
    assert end(Production(Id(ID), Status.PUBLISHED)) == (OutcomeState.PUBLISHED, None)
    assert end(Production(Id(ID), Status.CANCELLED)) == (OutcomeState.CANCELLED, None)


# --- What is printed, and what is not --------------------------------------------------------------


def test_a_deliverable_does_not_print_its_signed_url() -> None:
    """Neither the URL nor what the server sent, which holds it too, is in the repr, of an outcome either."""
    url = "https://blob.example/x?sig=SECRET"
    one = Deliverable("Video", url, raw={"sasUrl": url})
    outcome = Outcome(
        request=request(), reference="a", state=OutcomeState.PUBLISHED, deliverables=(one,), finished_at=NOW
    )
    for shown in (repr(one), str(one), f"{one}", repr(outcome), repr([one])):
        assert "SECRET" not in shown
    assert one.url == url


def test_an_outcome_is_ok_when_all_was_collected() -> None:
    """Published with an error, a download that failed, is not ok."""
    facts: dict[str, Any] = {"request": request(), "reference": "a", "finished_at": NOW}
    assert Outcome(state=OutcomeState.PUBLISHED, **facts).ok
    assert not Outcome(state=OutcomeState.PUBLISHED, error=ProductionFailedError("x"), **facts).ok
    assert not any(Outcome(state=state, **facts).ok for state in OutcomeState if state != "published")


def test_a_status_event_gives_the_new_status() -> None:
    """`status` of an event is that of its production, also for `match`."""
    made = Production(Id(OTHER), Status.PUBLISHED)
    facts: dict[str, Any] = {"reference": "a", "sequence": 1, "observed_at": NOW, "changed_after": NOW}
    event = StatusChanged(production=made, previous=Status.QUEUED, **facts)
    match event:
        case StatusChanged(status=Status.PUBLISHED, previous="Queued"):
            pass
        case _:
            pytest.fail("no match")
