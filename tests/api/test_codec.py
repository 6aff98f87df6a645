"""Decoding of JSON into models: required fields are checked, and optional fields never prevent decoding."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarai_async import Account, Avatar, Deliverable, InvalidResponseError, Production, Status
from jarai_async._api.codec import _warn_once, decode, encode_request, field_name
from tests.support.strategies import ID, OTHER, json_values, production, request

OPTIONAL = ["accountId", "projectTypeSlug", "topic", "currentStep", "createdAt", "expiresAt"]
OPTIONAL += ["errorCode", "errorMessage", "sandbox"]


def decoding_error(value: object, model: type = Production) -> str:
    with pytest.raises(InvalidResponseError) as caught:
        decode(value, model)
    return caught.value.message


def test_every_field_of_a_production_is_decoded() -> None:
    """Each JSON field becomes the attribute with the Python name and type."""
    body = production(
        accountId=OTHER,
        projectTypeSlug="article-1500w",
        topic="Tides",
        currentStep=7,
        createdAt="2026-01-01T00:00:00Z",
        expiresAt="2026-01-01T02:10:00.5+02:00",
        errorCode="X",
        errorMessage="no",
        sandbox=True,
    )
    decoded = decode(body, Production)
    assert decoded == Production(
        id=decoded.id,
        status=Status.PRODUCING,
        account_id=decoded.account_id,
        project_type="article-1500w",
        topic="Tides",
        current_step=7,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        expires_at=datetime(2026, 1, 1, 2, 10, 0, 500_000, tzinfo=timezone(timedelta(hours=2))),
        error_code="X",
        error_message="no",
        sandbox=True,
    )
    assert (decoded.id, decoded.account_id) == (ID, OTHER)


def test_time_without_time_zone_is_utc() -> None:
    """Times are documented as UTC, so a time without a zone is not local time."""
    assert decode(production(createdAt="2026-01-01T00:00:00"), Production).created_at == datetime(
        2026, 1, 1, tzinfo=UTC
    )


@given(st.dictionaries(st.sampled_from(OPTIONAL) | st.text(), json_values))
@example({"createdAt": "9999-12-31T24:00:00"})
@example({"createdAt": "0001-01-01T00:00:00+23:59"})
@example({"accountId": "../x", "currentStep": True, "sandbox": "true", "topic": 5})
def test_invalid_optional_fields_do_not_prevent_decoding(odd: dict[str, Any]) -> None:
    """Whatever the optional fields hold, id and status are decoded and `raw` keeps the JSON object."""
    body = odd | production()
    decoded = decode(body, Production)
    assert (decoded.id, decoded.status) == (ID, "Producing")
    assert decoded.raw == body


@pytest.mark.parametrize("name", OPTIONAL)
def test_invalid_optional_field_gets_its_default(name: str) -> None:
    """A value of the wrong type is not converted; the field has its default."""
    for odd in ({"a": 1}, [1], 1.5):
        assert decode(production(**{name: odd}), Production) == decode(production(), Production)
    assert decode(production(currentStep=True), Production).current_step is None


@pytest.mark.parametrize(("sent", "read"), [(7, 7), (7.0, 7), (0.0, 0), (1234.0, 1234), (2.0**53, 2**53)])
def test_integer_may_be_sent_as_a_float(sent: float, read: int) -> None:
    """Some serializers write 7 as 7.0."""
    step = decode(production(currentStep=sent), Production).current_step
    size = decode({"sizeBytes": sent}, Deliverable).size
    assert (step, size, type(step), type(size)) == (read, read, int, int)


@pytest.mark.parametrize("absurd", [-1, -1.0, 1.5, 1e300, 2**53 + 2, 10**400, "5", True, math.inf, math.nan])
def test_number_that_cannot_be_a_size_is_ignored(absurd: object) -> None:
    """A size is a promise that the download is checked against, so an impossible one is no size."""
    assert decode({"sizeBytes": absurd}, Deliverable).size is None
    assert decode(production(currentStep=absurd), Production).current_step is None


@pytest.mark.parametrize("value", ["no time", "2026-13-01", "0001-01-01T00:00:00+23:59", 5])
def test_unreadable_optional_field_is_logged_once(value: object, caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the field, and does not show the value."""
    _warn_once.cache_clear()
    for _ in range(3):
        assert decode(production(createdAt=value), Production).created_at is None
    (record,) = caplog.records
    assert "Production.createdAt" in record.getMessage()
    assert str(value) not in record.getMessage()


@pytest.mark.parametrize("missing", ["productionId", "status"])
@pytest.mark.parametrize("value", [None, 5, "", [], {}, True])
def test_invalid_required_field_is_named_in_the_error(missing: str, value: object) -> None:
    """A production without a valid id or status is rejected, and the error names the field."""
    name = {"productionId": "id", "status": "status"}[missing]
    assert f"Production.{name}" in decoding_error(production(**{missing: value}))
    body = production()
    del body[missing]
    assert missing in decoding_error(body) or name in decoding_error(body)


@given(json_values)
def test_any_json_is_decoded_or_rejected(value: object) -> None:
    """Any JSON value gives a model or InvalidResponseError, whose message has a bounded length."""
    for model in (Production, Account, Avatar, Deliverable):
        message = ""
        try:
            decode(value, model)
        except InvalidResponseError as error:
            message = error.message
        assert len(message) < 600


@pytest.mark.parametrize("status", ["Rendering", "published", "🎬", "Queued\n"])
def test_unknown_status_is_kept(status: str) -> None:
    """A status that is not documented keeps its text and is not terminal."""
    decoded = decode(production(status=status), Production).status
    assert decoded == status
    assert isinstance(decoded, Status)
    assert not decoded.is_terminal


def test_known_status_is_not_copied() -> None:
    """A known status is always the same object, so that thousands of polls do not create thousands."""
    assert decode(production(status="Queued"), Production).status is Status.QUEUED


def test_unknown_deliverable_type_is_kept() -> None:
    """The set of types is open. The URL is unchanged, and `raw` keeps unknown fields."""
    body = {
        "deliverableId": "d-1",
        "type": "Hologram",
        "platform": "Mars",
        "sasUrl": "https://b.example/x?sig=a%2Fb&se=1",
        "fileName": "x.holo",
        "contentType": "model/holo",
        "sizeBytes": 5,
        "contentMd5": "kAFQmDzST7DWlj99KOF/cg==",
        "depth": 3,
    }
    decoded = decode(body, Deliverable)
    assert decoded == Deliverable(
        "Hologram",
        "https://b.example/x?sig=a%2Fb&se=1",
        "Mars",
        "d-1",
        "x.holo",
        "model/holo",
        5,
        "kAFQmDzST7DWlj99KOF/cg==",
    )
    assert decoded.raw == body


@pytest.mark.parametrize("odd", [{}, {"type": None}, {"type": 5}, {"type": []}])
def test_deliverable_without_a_usable_type_is_kept(odd: dict[str, object]) -> None:
    """It has a link, so it can be downloaded: its type is "Unknown"."""
    assert decode(odd | {"sasUrl": "https://b.example/x"}, Deliverable) == Deliverable(
        "Unknown", "https://b.example/x"
    )


def test_account_contains_avatars_and_platforms() -> None:
    """Nested models are decoded, each with its own `raw`."""
    body = {
        "accountId": ID,
        "avatars": [{"avatarId": OTHER, "name": "Ada", "voice": 1}],
        "connectedPlatforms": ["YouTube", {"name": "X"}],
    }
    account = decode(body, Account)
    assert account.avatars[0].id == OTHER
    assert account.avatars[0].raw == {"avatarId": OTHER, "name": "Ada", "voice": 1}
    assert account.platforms == ("YouTube", {"name": "X"})
    assert account.raw == body


@pytest.mark.parametrize("odd", ["YouTube", {"YouTube": 1}, None, 5])
def test_text_and_objects_are_not_iterated_as_lists(odd: object) -> None:
    """A single platform name is not decoded as one platform per letter."""
    account = decode({"accountId": ID, "connectedPlatforms": odd, "avatars": odd}, Account)
    assert (account.platforms, account.avatars) == ((), ())
    assert account.raw["connectedPlatforms"] == odd


def test_odd_item_of_a_nested_list_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """One avatar without an id does not hide the other avatars of the account."""
    avatars = [{"avatarId": ID}, {"name": "no id"}, None, {"avatarId": OTHER, "name": 5}]
    account = decode({"accountId": ID, "avatars": avatars}, Account)
    assert [avatar.id for avatar in account.avatars] == [ID, OTHER]
    assert any("2 of 4 items" in record.getMessage() for record in caplog.records)


def test_submit_body_has_the_documented_fields() -> None:
    """The body uses the API's names and omits None, the account and the reference."""
    full = request(project_type="social-video-30s", metadata="# Md", reference="mine", extra={"further": [1]})
    names = {"languageId": ID, "countryId": ID, "avatarId": ID}
    assert encode_request(request()) == {"topic": "Tides", **names}
    assert encode_request(full) == {
        "topic": "Tides",
        **names,
        "projectTypeSlug": "social-video-30s",
        "metadataMD": "# Md",
        "further": [1],
    }


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=500).filter(str.strip))
@example('"\\\x00')
def test_any_topic_is_encoded_without_loss(topic: str) -> None:
    """Quotes and control characters are unchanged after encoding and decoding."""
    body = json.dumps(encode_request(request(topic=topic))).encode()
    assert json.loads(body)["topic"] == topic


def test_field_names_are_camel_case_except_where_listed() -> None:
    """A field has the camelCase form of the attribute's name, unless `wire.FIELDS` lists another."""
    assert field_name(Production, "created_at") == "createdAt"
    assert field_name(Production, "id") == "productionId"
    assert field_name(Deliverable, "content_md5") == "contentMd5"
