"""JSON to models and back: what must be there is checked, what may be missing never hides the rest."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarai_async import Account, Avatar, Deliverable, InvalidResponseError, Production, Status
from jarai_async._api.codec import decode, encode_request, field_name
from tests.support.strategies import ID, OTHER, json_values, production, request

OPTIONAL = ["accountId", "projectTypeSlug", "topic", "currentStep", "createdAt", "expiresAt"]
OPTIONAL += ["errorCode", "errorMessage", "sandbox"]


def refused(value: object, model: type = Production) -> str:
    with pytest.raises(InvalidResponseError) as caught:
        decode(value, model)
    return caught.value.message


def test_all_documented_fields_are_read() -> None:
    """Each field of a status arrives under its Python name, with its type."""
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
    found = decode(body, Production)
    assert found == Production(
        id=found.id,
        status=Status.PRODUCING,
        account_id=found.account_id,
        project_type="article-1500w",
        topic="Tides",
        current_step=7,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        expires_at=datetime(2026, 1, 1, 2, 10, 0, 500_000, tzinfo=timezone(timedelta(hours=2))),
        error_code="X",
        error_message="no",
        sandbox=True,
    )
    assert (found.id, found.account_id) == (ID, OTHER)


def test_a_time_without_a_zone_is_utc() -> None:
    """Times are documented as UTC, so one that does not say so is not local."""
    assert decode(production(createdAt="2026-01-01T00:00:00"), Production).created_at == datetime(
        2026, 1, 1, tzinfo=UTC
    )


@given(st.dictionaries(st.sampled_from(OPTIONAL) | st.text(), json_values))
@example({"createdAt": "9999-12-31T24:00:00"})
@example({"createdAt": "0001-01-01T00:00:00+23:59"})
@example({"accountId": "../x", "currentStep": True, "sandbox": "true", "topic": 5})
def test_an_odd_optional_field_never_hides_a_status(odd: dict[str, Any]) -> None:
    """Whatever the optional fields hold, the status is read, and all that came is kept in `raw`."""
    body = odd | production()
    found = decode(body, Production)
    assert (found.id, found.status) == (ID, "Producing")
    assert found.raw == body


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_odd_optional_field_is_as_if_missing(name: str) -> None:
    """A value of the wrong type is not converted: it is left out."""
    for odd in ({"a": 1}, [1], 1.5):
        assert decode(production(**{name: odd}), Production) == decode(production(), Production)
    assert decode(production(currentStep=True), Production).current_step is None


def test_depth_does_not_hide_a_status() -> None:
    """An optional field as deep as the parser allows is left out like any other."""
    code = (
        "import json\n"
        "from jarai_async import InvalidResponseError\n"
        "from jarai_async._api.responses import Response\n"
        "from jarai_async._api.endpoints import fetch\n"
        f"def read(depth, name):\n"
        f"    body = {{'productionId': '{ID}', 'status': 'Queued'}}\n"
        "    text = json.dumps(body | {name: 0}).replace(' 0', '[' * depth + ']' * depth)\n"
        f"    answer = Response(200, {{}}, text.encode())\n"
        "    try:\n"
        f"        return fetch('{ID}').read(answer).status\n"
        "    except InvalidResponseError as error:\n"
        "        return error.message[:13]\n"
        "found = [read(depth, 'accountId') for depth in range(900, 1100)]\n"
        "assert set(found) <= {'Queued', 'expected JSON'}, set(found)\n"
        "found = [read(depth, 'productionId') for depth in range(900, 1100)]\n"
        "assert set(found) <= {'the answer is', 'expected JSON'}, set(found)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # on a stack of its own


@pytest.mark.parametrize("missing", ["productionId", "status"])
@pytest.mark.parametrize("value", [None, 5, "", [], {}, True])
def test_what_must_be_there_is_named(missing: str, value: object) -> None:
    """A production without its identifier or status is refused, with the path of what is wrong."""
    name = {"productionId": "id", "status": "status"}[missing]
    assert f"Production.{name}" in refused(production(**{missing: value}))
    body = production()
    del body[missing]
    assert missing in refused(body) or name in refused(body)


@given(json_values)
def test_decoding_is_total(value: object) -> None:
    """Any JSON gives a model or one error of ours, whose message is bounded."""
    for model in (Production, Account, Avatar, Deliverable):
        message = ""
        try:
            decode(value, model)
        except InvalidResponseError as error:
            message = error.message
        assert len(message) < 600


@pytest.mark.parametrize("status", ["Rendering", "published", "🎬", "Queued\n"])
def test_an_unknown_status_is_kept(status: str) -> None:
    """A status that is not documented arrives as it came, and is not terminal."""
    found = decode(production(status=status), Production).status
    assert found == status
    assert isinstance(found, Status)
    assert not found.is_terminal


def test_a_known_status_is_the_one_object() -> None:
    """Thousands of polls do not make thousands of texts."""
    assert decode(production(status="Queued"), Production).status is Status.QUEUED


def test_an_unknown_type_of_deliverable_is_kept() -> None:
    """The set of types is open; the URL is as it came, and what is not known is in `raw`."""
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
    found = decode(body, Deliverable)
    assert found == Deliverable(
        "Hologram",
        "https://b.example/x?sig=a%2Fb&se=1",
        "Mars",
        "d-1",
        "x.holo",
        "model/holo",
        5,
        "kAFQmDzST7DWlj99KOF/cg==",
    )
    assert found.raw == body
    assert "sig" not in refused({"type": 5, "sasUrl": "https://b.example/?sig=a"}, Deliverable)


def test_an_account_has_its_avatars_and_platforms() -> None:
    """Nested models are read, each with its own `raw`."""
    body = {
        "accountId": ID,
        "avatars": [{"avatarId": OTHER, "name": "Ada", "voice": 1}],
        "connectedPlatforms": ["YouTube", {"name": "X"}],
    }
    found = decode(body, Account)
    assert found.avatars[0].id == OTHER
    assert found.avatars[0].raw == {"avatarId": OTHER, "name": "Ada", "voice": 1}
    assert found.platforms == ("YouTube", {"name": "X"})
    assert found.raw == body


@pytest.mark.parametrize("odd", ["YouTube", {"YouTube": 1}, None, 5])
def test_text_and_objects_are_not_taken_apart_as_lists(odd: object) -> None:
    """A platform's name that stands alone is not one platform for each of its letters."""
    found = decode({"accountId": ID, "connectedPlatforms": odd, "avatars": odd}, Account)
    assert (found.platforms, found.avatars) == ((), ())
    assert found.raw["connectedPlatforms"] == odd


def test_a_submit_says_what_is_documented() -> None:
    """The body has the API's names, leaves out what is None, and never names the account or reference."""
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


@given(st.text(min_size=1, max_size=500).filter(str.strip))
@example("\ud800")
@example('"\\\x00')
def test_any_topic_survives_the_way_to_the_wire(topic: str) -> None:
    """Quotes, control characters and even lone surrogates arrive as they were."""
    body = json.dumps(encode_request(request(topic=topic))).encode()
    assert json.loads(body)["topic"] == topic


def test_names_are_camel_case_but_for_the_listed() -> None:
    """An attribute's field is its camelCase, unless the table of the wire says otherwise."""
    assert field_name(Production, "created_at") == "createdAt"
    assert field_name(Production, "id") == "productionId"
    assert field_name(Deliverable, "content_md5") == "contentMd5"
