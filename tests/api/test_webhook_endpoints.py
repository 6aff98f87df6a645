"""Webhook subscriptions on the client: each thing that can be done, and the secret that is shown once."""

import json
import logging
import pickle
import traceback
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

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
from jarai_async.simulator import Simulator
from jarai_async.webhooks import WebhookTest, sign, verify
from tests.support.endpoint import open_endpoint
from tests.support.strategies import ID, answer

URL = "https://example.org/jarai"
TYPES = ["production.published", "production.failed"]


async def test_a_webhook_lives_from_its_creation_to_its_end(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Create, list, read, change and delete."""
    created = await client.create_webhook(URL, TYPES, account_ids=[simulator.account_id])
    (truth,) = simulator.webhooks
    assert (truth.webhook_id, truth.endpoint_url, list(truth.event_types)) == (created.id, URL, TYPES)
    assert truth.account_ids == created.account_ids == (simulator.account_id,)
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


async def test_a_scope_is_sent_as_it_is(simulator: Simulator, client: JaraiClient) -> None:
    """In place of accounts."""
    created = await client.create_webhook(URL, TYPES, account_scope_id=simulator.account_id)
    assert created.account_scope_id == simulator.webhooks[0].account_scope_id == simulator.account_id


async def test_the_secret_verifies_what_comes(simulator: Simulator, client: JaraiClient) -> None:
    """A test event arrives, is genuine by the secret that was shown, and is among the deliveries."""
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


async def test_the_secret_is_shown_by_nothing(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Not by `repr`, a format, a pickle, as a dictionary, in `raw`, nor in the log."""
    caplog.set_level(logging.DEBUG)
    created = await client.create_webhook(URL, TYPES)
    secret = created.signing_secret.reveal()
    assert secret == simulator.webhooks[0].signing_secret
    as_seen = [repr(created), f"{created}", str(attrs.asdict(created)), str(created.raw), caplog.text]
    assert secret not in "".join([*as_seen, repr(await client.webhooks()), repr(simulator.webhooks)])
    assert created.raw["endpointUrl"] == URL
    assert "signingSecret" not in created.raw
    with pytest.raises(TypeError):
        pickle.dumps(created)


@pytest.mark.parametrize("fields", [{"webhookId": "x"}, {"webhookId": None}, {"signingSecret": ["AAEC"]}])
def test_an_odd_answer_does_not_show_the_secret(fields: dict[str, Any]) -> None:
    """Nor the local names of the frames of its error."""
    body = {"webhookId": ID, "signingSecret": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"} | fields
    with pytest.raises(InvalidResponseError) as caught:
        webhook_endpoints.create(URL, TYPES).read(answer(body, 201))
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = [str(frame.locals) for frame in report.stack if "jarai_async" in frame.filename]
    assert shown
    assert "AAECAwQF" not in "".join([*shown, str(caught.value)])


def test_little_is_required_of_an_answer() -> None:
    """What is not documented may be missing or odd."""
    body = {"webhookId": ID, "signingSecret": "s", "eventTypes": "all", "createdAt": 5, "more": 1}
    created = webhook_endpoints.create(URL, TYPES).read(answer(body))
    assert isinstance(created, NewWebhook)
    assert (created.id, created.event_types, created.created_at) == (ID, (), None)
    assert created.raw["more"] == 1
    assert len(webhook_endpoints.deliveries(ID).read(answer([{}]))) == 1


@pytest.mark.parametrize(
    ("url", "types", "options", "fault"),
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
        (URL, TYPES, {"account_ids": [ID], "account_scope_id": ID}, "exclude"),
    ],
)
async def test_what_breaks_a_documented_rule_is_not_sent(
    client: JaraiClient, url: str, types: Sequence[str], options: dict[str, Any], fault: str
) -> None:
    """The fault is named, and costs no request."""
    with pytest.raises(InvalidRequestError, match=fault):
        await client.create_webhook(url, types, **options)


async def test_every_fault_is_named_at_once(simulator: Simulator, client: JaraiClient) -> None:
    """Nobody likes to be told one after the other; nothing is sent."""
    with pytest.raises(InvalidRequestError) as caught:
        await client.create_webhook("x", [], account_ids=["y"])
    assert len(caught.value.problems) == 3
    with pytest.raises(InvalidRequestError, match="nothing to change"):
        await client.update_webhook(ID)
    assert simulator.requests == []


CALLS: dict[str, Callable[[JaraiClient, str], Any]] = {
    "webhook": lambda client, one: client.webhook(one),
    "update_webhook": lambda client, one: client.update_webhook(one, event_types=TYPES),
    "delete_webhook": lambda client, one: client.delete_webhook(one),
    "webhook_deliveries": lambda client, one: client.webhook_deliveries(one),
    "test_webhook": lambda client, one: client.test_webhook(one),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_webhook_that_there_is_not(simulator: Simulator, client: JaraiClient, name: str) -> None:
    """An identifier that is none is not sent; an unknown one is not found."""
    with pytest.raises(InvalidRequestError, match="webhook_id is not a UUID"):
        await CALLS[name](client, "../accounts")
    assert simulator.requests == []
    with pytest.raises(NotFoundError):
        await CALLS[name](client, str(uuid4()))
    assert simulator.count(name, 404) == 1


@pytest.mark.parametrize("keys", [False, True])
async def test_a_creation_in_doubt_is_not_repeated(simulator: Simulator, keys: bool) -> None:  # noqa: FBT001
    """A second webhook would double every event; that keys are honoured is said of submits."""
    simulator.faults.add("internal_error_after", on="create_webhook")
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=keys) as client:
        with pytest.raises(ServerError):
            await client.create_webhook(URL, TYPES)
    assert len(simulator.webhooks) == simulator.count("create_webhook") == 1


async def test_a_refused_creation_and_a_lost_read_are_repeated(
    simulator: Simulator, client: JaraiClient
) -> None:
    """As with all other calls: what provably did nothing, or is harmless."""
    simulator.faults.add("unavailable", on="create_webhook")
    simulator.faults.add("reset_after", on="update_webhook")
    created = await client.create_webhook(URL, TYPES)
    await client.update_webhook(created.id, endpoint_url=URL)
    assert [simulator.count(route) for route in ("create_webhook", "update_webhook")] == [2, 2]
    assert len(simulator.webhooks) == 1


async def test_a_key_needs_its_scope(simulator: Simulator) -> None:
    """To write is not to read."""
    key = simulator.add_key("webhooks:read")
    async with JaraiClient(key, base_url=simulator.base_url) as client:
        assert await client.webhooks() == []
        with pytest.raises(PermissionDeniedError):
            await client.create_webhook(URL, TYPES)


def test_signing_is_what_the_simulator_does_too() -> None:
    """Two that were written apart agree."""
    from jarai_async.simulator import SimulatedWebhook  # noqa: PLC0415

    body = json.dumps({"a": "ü"}).encode()
    for secret in ("AAECAwQFBgcICQoLDA0ODxAREhM", "_-ECAwQFBgcICQoLDA0ODxAREhM="):
        webhook = SimulatedWebhook(ID, 1, URL, (), (), None, secret, 0.0)
        assert sign(body, secret) == {"X-JARAI-Signature": webhook.signature(body)}
