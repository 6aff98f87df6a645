"""What a test reads from the simulator, or sets up in it, without a request to the API."""

import asyncio

import pytest

from jarai_async import JaraiClient
from jarai_async.simulator import Simulator
from tests.support.endpoint import open_endpoint
from tests.support.scenarios import request_for

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # noqa: S105  # of the tests


async def test_files_are_those_that_a_published_production_delivers(
    client: JaraiClient, simulator: Simulator
) -> None:
    """The names and sizes equal those in the list of deliverables."""
    production = await client.submit(request_for(simulator, project_type="article"))
    await client.wait(production.id)
    listed = {item.file_name: item.size for item in await client.deliverables(production.id)}
    files = simulator.files(production.id)
    assert {name: len(data) for name, data in files.items()} == listed
    with pytest.raises(KeyError):
        simulator.files("another")


async def test_added_webhooks_get_signed_events_without_a_request(
    client: JaraiClient, simulator: Simulator
) -> None:
    """Each webhook has its own identifier and the secret that the test chose."""
    async with open_endpoint() as endpoint:
        for number in range(2):
            added = simulator.add_webhook(endpoint.url, ["production.queued"], signing_secret=SECRET)
            assert added is simulator.webhooks[number]
        assert len({webhook.webhook_id for webhook in simulator.webhooks}) == 2
        assert simulator.count() == 0
        await client.submit(request_for(simulator))
        await asyncio.sleep(60)
    assert [arrival.name[0] for arrival in endpoint.arrivals] == ["production.queued"] * 2
    assert all(arrival.is_signed(SECRET) for arrival in endpoint.arrivals)


@pytest.mark.parametrize(
    ("url", "types", "secret", "message"),
    [
        ("http://example.org/", ["production.queued"], SECRET, "Missing or wrong: endpointUrl"),
        ("https://example.org/", [], SECRET, "Missing or wrong: eventTypes"),
        ("https://example.org/", ["production.publishd"], SECRET, "did you mean 'production.published'"),
        ("https://example.org/", ["production.queued"], "c2hvcnQ", "base64url of 16 bytes or more"),
        ("https://example.org/", ["production.queued"], "not base64url of any size!", "base64url of 16"),
    ],
)
def test_webhook_that_the_api_would_reject_is_not_added(
    url: str, types: list[str], secret: str, message: str
) -> None:
    simulator = Simulator()
    with pytest.raises(ValueError, match=message) as caught:
        simulator.add_webhook(url, types, signing_secret=secret)
    assert secret not in str(caught.value)
    assert simulator.webhooks == []
