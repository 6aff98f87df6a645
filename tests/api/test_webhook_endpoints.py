"""The webhook methods of the client, and the signing secret, which is shown only once."""

import json
import logging
import pickle
import traceback
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest

from jarai_async import (
    InvalidRequestError,
    InvalidResponseError,
    JaraiClient,
    NewWebhook,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    Webhook,
)
from jarai_async._api import webhook_endpoints
from jarai_async._api.models import NIL_ID
from jarai_async.simulator import Simulator
from jarai_async.webhooks import WebhookTest, sign, verify
from tests.support.endpoint import open_endpoint
from tests.support.strategies import ID, response

URL = "https://example.org/jarai"
TYPES = ["production.published", "production.failed"]


async def test_webhook_is_created_listed_updated_and_deleted(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Each method has its effect on the simulator, and returns what it did."""
    created = await client.create_webhook(URL, TYPES, account_ids=[UUID(simulator.account_id)])
    (stored,) = simulator.webhooks
    assert (stored.webhook_id, stored.endpoint_url, list(stored.event_types)) == (created.id, URL, TYPES)
    assert stored.account_ids == created.account_ids == (simulator.account_id,)
    (listed,) = await client.webhooks()
    assert listed == await client.webhook(created.id)
    assert (type(listed), listed.event_types) == (Webhook, tuple(TYPES))
    assert listed.created_at == created.created_at
    changed = await client.update_webhook(created.id, event_types=["webhook.test"], endpoint_url=URL + "/2")
    assert (changed.event_types, changed.endpoint_url) == (("webhook.test",), URL + "/2")
    assert changed.account_ids == (simulator.account_id,)
    assert (await client.update_webhook(created.id, account_ids=[])).account_ids == ()
    await client.delete_webhook(created.id)
    assert await client.webhooks() == []
    assert simulator.webhooks == []
    with pytest.raises(NotFoundError):
        await client.delete_webhook(created.id)


async def test_account_scope_is_sent(simulator: Simulator, client: JaraiClient) -> None:
    """A webhook can be created for an account scope instead of a list of accounts."""
    created = await client.create_webhook(URL, TYPES, account_scope_id=UUID(simulator.account_id))
    assert created.account_scope_id == simulator.webhooks[0].account_scope_id == simulator.account_id


async def test_signing_secret_verifies_a_test_event(simulator: Simulator, client: JaraiClient) -> None:
    """A test event arrives, its signature is valid, and it is listed among the deliveries."""
    async with open_endpoint() as endpoint:
        created = await client.create_webhook(endpoint.url, ["webhook.test"])
        await client.test_webhook(created.id)
        while not (deliveries := await client.webhook_deliveries(created.id)):
            assert len(simulator.deliveries) == 1
    (arrival,) = endpoint.arrivals
    event = verify(arrival.body, arrival.headers, created.signing_secret.reveal())
    assert isinstance(event, WebhookTest)
    assert deliveries[0].event_id == event.event_id
    assert (deliveries[0].status, deliveries[0].response_status, deliveries[0].attempts) == (
        *("Delivered", 204),
        1,
    )
    assert deliveries[0].attempted_at is not None


async def test_signing_secret_does_not_leak(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not in the `repr`, a format string, `asdict`, `raw` or the log, and cannot be pickled."""
    caplog.set_level(logging.DEBUG)
    created = await client.create_webhook(URL, TYPES)
    secret = created.signing_secret.reveal()
    assert secret == simulator.webhooks[0].signing_secret
    texts = [repr(created), f"{created}", str(attrs.asdict(created)), str(created.raw), caplog.text]
    assert secret not in "".join([*texts, repr(await client.webhooks()), repr(simulator.webhooks)])
    assert created.raw["endpointUrl"] == URL
    assert "signingSecret" not in created.raw
    with pytest.raises(TypeError):
        pickle.dumps(created)


@pytest.mark.parametrize("fields", [{"signingSecret": ["AAEC"]}, {"signingSecret": {"value": "AAEC"}}])
def test_error_for_an_invalid_response_does_not_leak_the_secret(fields: dict[str, Any]) -> None:
    """Neither its text nor the local variables of its frames show the secret."""
    body = {"webhookId": ID, "signingSecret": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"} | fields
    with pytest.raises(InvalidResponseError) as caught:
        webhook_endpoints.create(URL, TYPES).read(response(body, 201))
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    variables = [str(frame.locals) for frame in report.stack if "jarai_async" in frame.filename]
    assert variables
    assert "AAECAwQF" not in "".join([*variables, str(caught.value)])


def test_undocumented_fields_are_optional() -> None:
    """A field that is not documented may be missing or have any type."""
    body = {"webhookId": ID, "signingSecret": "s", "eventTypes": "all", "createdAt": 5, "more": 1}
    created = webhook_endpoints.create(URL, TYPES).read(response(body))
    assert isinstance(created, NewWebhook)
    assert (created.id, created.event_types, created.created_at) == (ID, (), None)
    assert created.raw["more"] == 1
    assert len(webhook_endpoints.deliveries(ID).read(response([{}]))) == 1


@pytest.mark.parametrize(
    ("url", "types", "options", "problem"),
    [
        ("http://example.org/", TYPES, {}, "endpoint_url"),
        ("example.org", TYPES, {}, "endpoint_url"),
        ("https://", TYPES, {}, "endpoint_url"),
        ("https://[", TYPES, {}, "endpoint_url"),
        ("https://exämple.org", TYPES, {}, "endpoint_url"),
        (None, TYPES, {}, "endpoint_url"),
        (URL, [], {}, "event_types"),
        (URL, "webhook.test", {}, "event_types"),
        (URL, [""], {}, "event_types"),
        (URL, None, {}, "event_types"),
        (URL, TYPES, {"account_ids": ["x"]}, "account_ids"),
        (URL, TYPES, {"account_ids": ID}, "account_ids"),
        (URL, TYPES, {"account_ids": [ID] * 51}, "at most 50"),
        (URL, TYPES, {"account_scope_id": "x"}, "account_scope_id"),
        (URL, TYPES, {"account_ids": [ID], "account_scope_id": ID}, "cannot be combined"),
    ],
)
async def test_invalid_webhook_is_not_sent(
    client: JaraiClient, url: str, types: Sequence[str], options: dict[str, Any], problem: str
) -> None:
    """Arguments that break a documented rule raise InvalidRequestError, which names them."""
    with pytest.raises(InvalidRequestError, match=problem):
        await client.create_webhook(url, types, **options)


async def test_all_problems_of_a_webhook_are_reported_at_once(
    simulator: Simulator, client: JaraiClient
) -> None:
    """One error lists every problem, and nothing is sent."""
    with pytest.raises(InvalidRequestError) as caught:
        await client.create_webhook("x", [], account_ids=["y"])
    assert len(caught.value.problems) == 3
    with pytest.raises(InvalidRequestError, match="nothing to change"):
        await client.update_webhook(ID)
    assert simulator.requests == []


CALLS: dict[str, Callable[[JaraiClient, str], Any]] = {
    "webhook": lambda client, webhook_id: client.webhook(webhook_id),
    "update_webhook": lambda client, webhook_id: client.update_webhook(webhook_id, event_types=TYPES),
    "delete_webhook": lambda client, webhook_id: client.delete_webhook(webhook_id),
    "webhook_deliveries": lambda client, webhook_id: client.webhook_deliveries(webhook_id),
    "test_webhook": lambda client, webhook_id: client.test_webhook(webhook_id),
}


@pytest.mark.parametrize("name", CALLS)
async def test_unknown_webhook_id(simulator: Simulator, client: JaraiClient, name: str) -> None:
    """An id that is not a UUID is not sent; an unknown UUID is NotFoundError."""
    with pytest.raises(InvalidRequestError, match="webhook_id is not a UUID"):
        await CALLS[name](client, "../accounts")
    assert simulator.requests == []
    with pytest.raises(NotFoundError):
        await CALLS[name](client, str(uuid4()))
    assert simulator.count(name, 404) == 1


@pytest.mark.parametrize("odd", [{}, {"webhookId": 5}, {"id": ID}, {"webhookId": ID, "createdAt": "now"}])
def test_nothing_odd_hides_the_signing_secret_of_a_new_webhook(odd: dict[str, object]) -> None:
    """It is shown only once; without an id the webhook can be found in the list."""
    answer = response({"signingSecret": "AAECAwQFBgcICQoLDA0ODw"} | odd, 201)
    created = webhook_endpoints.create(URL, TYPES).read(answer)
    assert created.signing_secret.reveal() == "AAECAwQFBgcICQoLDA0ODw"
    assert created.id == (ID if odd.get("webhookId") == ID else NIL_ID)
    assert created.raw == odd


@pytest.mark.parametrize("keys", [False, True])
async def test_webhook_creation_in_doubt_is_not_retried(simulator: Simulator, keys: bool) -> None:  # noqa: FBT001
    """A second webhook would duplicate every event. Idempotency keys apply to submits only."""
    simulator.faults.add("internal_error_after", on="create_webhook")
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=keys) as client:
        with pytest.raises(ServerError):
            await client.create_webhook(URL, TYPES)
    assert len(simulator.webhooks) == simulator.count("create_webhook") == 1


async def test_rejected_creation_and_lost_update_are_retried(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A creation that certainly did nothing is retried, and so is an update, which is idempotent."""
    simulator.faults.add("unavailable", on="create_webhook")
    simulator.faults.add("reset_after", on="update_webhook")
    created = await client.create_webhook(URL, TYPES)
    await client.update_webhook(created.id, endpoint_url=URL)
    assert [simulator.count(route) for route in ("create_webhook", "update_webhook")] == [2, 2]
    assert len(simulator.webhooks) == 1


async def test_creating_a_webhook_needs_the_write_scope(simulator: Simulator) -> None:
    """A key with only the scope `webhooks:read` can list webhooks, but not create one."""
    key = simulator.add_key("webhooks:read")
    async with JaraiClient(key, base_url=simulator.base_url) as client:
        assert await client.webhooks() == []
        with pytest.raises(PermissionDeniedError):
            await client.create_webhook(URL, TYPES)


def test_signature_equals_that_of_the_simulator() -> None:
    """The library and the simulator implement the signature independently."""
    from jarai_async.simulator import SimulatedWebhook  # noqa: PLC0415

    body = json.dumps({"a": "ü"}).encode()
    for secret in ("AAECAwQFBgcICQoLDA0ODxAREhM", "_-ECAwQFBgcICQoLDA0ODxAREhM="):
        webhook = SimulatedWebhook(ID, 1, URL, (), (), None, secret, 0.0)
        assert sign(body, secret) == {"X-JARAI-Signature": webhook.signature(body)}
