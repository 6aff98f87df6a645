"""Every method of the client, against the simulator."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from jarai_async import (
    AuthenticationError,
    BudgetExceededError,
    DeadlineExceededError,
    InvalidRequestError,
    InvalidResponseError,
    JaraiClient,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    Status,
)
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for


async def test_submit_wait_list_and_download(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """These four calls are all that a script needs."""
    submitted = await client.submit(request_for(simulator, project_type="social-video-30s"))
    assert submitted.status == Status.QUEUED
    production = await client.wait(submitted.id)
    assert production.status == Status.PUBLISHED
    deliverables = await client.deliverables(production.id)
    assert {"Video", "ClosedCaptions", "Attribution"} <= {deliverable.type for deliverable in deliverables}
    for deliverable in deliverables:
        path = await client.download(deliverable, tmp_path)
        assert path.parent == tmp_path
        assert path.stat().st_size == deliverable.size


async def test_submit_sends_the_documented_field_names(simulator: Simulator, client: JaraiClient) -> None:
    """Extra fields are sent unchanged; the reference is not sent."""
    request = request_for(
        simulator,
        project_type="podcast-10m",
        metadata="*notes*",
        reference="mine",
        extra={"contentTheme": "sea"},
    )
    production = await client.submit(request, idempotency_key="my-key")
    received = simulator.productions[production.id]
    assert received.body == {
        "topic": "How tides work",
        "languageId": simulator.language_id,
        "countryId": simulator.country_id,
        "avatarId": simulator.avatar_id,
        "projectTypeSlug": "podcast-10m",
        "metadataMD": "*notes*",
        "contentTheme": "sea",
    }
    assert received.idempotency_key == "my-key"


async def test_accounts_performance_and_usage(simulator: Simulator, client: JaraiClient) -> None:
    """Documented fields are attributes; everything the server sent is in `raw`."""
    (account,) = await client.accounts()
    assert account.id == simulator.account_id
    assert simulator.avatar_id in {avatar.id for avatar in account.avatars}
    production = await client.submit(request_for(simulator))
    assert (await client.performance(production.id)).raw["productionId"] == production.id
    assert (await client.usage()).raw


async def test_cancel_stops_a_production_at_jarai(simulator: Simulator, client: JaraiClient) -> None:
    """The server has the production as Cancelled, and `cancel` returns it as such."""
    production = await client.submit(request_for(simulator))
    assert (await client.cancel(production.id)).status == Status.CANCELLED
    now = asyncio.get_running_loop().time()
    assert simulator.productions[production.id].status_at(now) == "Cancelled"


async def test_cancel_of_an_ended_production_returns_its_final_state(
    simulator: Simulator, client: JaraiClient
) -> None:
    """JARAI rejects the cancel, which is not an error where nothing is left to cancel."""
    production = await client.submit(request_for(simulator))
    await client.wait(production.id)
    assert (await client.cancel(production.id)).status == Status.PUBLISHED


async def test_deadline_ends_the_wait_and_not_the_production(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The production continues at JARAI, and can be waited for again."""
    production = await client.submit(request_for(simulator))
    with pytest.raises(DeadlineExceededError):
        await client.wait(production.id, deadline=60)
    assert (await client.wait(production.id)).status == Status.PUBLISHED


async def test_many_waits_share_the_rate_limit(simulator: Simulator, client: JaraiClient) -> None:
    """Fifteen waits at the same time need no orchestrator, and cause no 429."""
    productions = await asyncio.gather(*(client.submit(request_for(simulator)) for _ in range(15)))
    ended = await asyncio.gather(*(client.wait(production.id) for production in productions))
    assert {production.status for production in ended} == {Status.PUBLISHED}
    assert simulator.rate_limited == 0


async def test_wait_retries_while_a_new_production_is_not_found(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Reads may lag behind a submit, so the first 404s are not an error."""
    production = await client.submit(request_for(simulator))
    simulator.faults.add("not_found", on="fetch", times=3)
    assert (await client.wait(production.id)).status == "Published"


# --- Arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "production_id", ["../accounts", "not-a-uuid", "", "0b0e2b1c-9f4e-4d5c-8a57-0123456789ab/x"]
)
async def test_identifier_that_is_not_a_uuid_is_rejected(
    simulator: Simulator, client: JaraiClient, production_id: str
) -> None:
    """Nothing is sent, so no path of the API can be injected."""
    with pytest.raises(InvalidRequestError, match="not a UUID"):
        await client.fetch(production_id)
    assert len(simulator.requests) == 0


async def test_identifier_may_be_a_uuid_object(simulator: Simulator, client: JaraiClient) -> None:
    """Databases and web frameworks return identifiers as `uuid.UUID`."""
    production = await client.submit(request_for(simulator))
    assert (await client.fetch(UUID(production.id))).id == production.id


@pytest.mark.parametrize("key", ["\x00", "a\nb", "é", "x" * 256])
async def test_idempotency_key_that_no_header_can_carry_is_rejected(
    simulator: Simulator, client: JaraiClient, key: str
) -> None:
    """Nothing is sent: otherwise the submit would seem to be in doubt."""
    with pytest.raises(InvalidRequestError, match="idempotency_key"):
        await client.submit(request_for(simulator), idempotency_key=key)
    assert not simulator.productions


async def test_submit_takes_a_production_request(client: JaraiClient) -> None:
    """The error names the type of the argument."""
    with pytest.raises(InvalidRequestError, match="dict"):
        await client.submit({"topic": "x"})  # type: ignore[arg-type]


# --- Errors ----------------------------------------------------------------------------------------


async def test_each_error_response_has_its_class(simulator: Simulator, client: JaraiClient) -> None:
    """The status and the code decide the class of the error, which has the correlation id."""
    with pytest.raises(NotFoundError) as not_found:
        await client.fetch(str(uuid4()))
    assert not_found.value.status == 404
    assert not_found.value.correlation_id
    with pytest.raises(PermissionDeniedError):
        await client.submit(request_for(simulator, account_id=str(uuid4())))
    simulator.revoke(simulator.api_key)
    with pytest.raises(AuthenticationError, match="JARAI_API_KEY"):
        await client.accounts()


async def test_submit_over_budget_is_rejected() -> None:
    """A 409 with the code of a budget gate has its own class, and is not retried."""
    async with Simulator(spend_ceiling=0) as simulator:
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            with pytest.raises(BudgetExceededError) as rejected:
                await client.submit(request_for(simulator))
        assert rejected.value.code == "BUDGET_GATE_1_FAILED"
        assert simulator.count("submit") == 1


@pytest.mark.parametrize("kind", ["wrong_json", "redirect", "huge_body", "empty_body"])
async def test_unusable_response_is_an_invalid_response_error(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """This covers whatever a proxy may put in place of a response."""
    production = await client.submit(request_for(simulator))
    simulator.faults.add(kind, on="fetch", times=None)
    with pytest.raises(InvalidResponseError):
        await client.fetch(production.id)


async def test_response_about_another_production_is_an_error(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A mixed-up response must not end the wrong production."""
    production = await client.submit(request_for(simulator))
    simulator.faults.add("other_production", on="fetch", times=None)
    with pytest.raises(InvalidResponseError, match="is about"):
        await client.fetch(production.id)


async def test_request_without_a_connection_was_not_sent() -> None:
    """The error says that nothing was sent."""
    async with JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client:
        with pytest.raises(NotSentError, match="Nothing was sent"):
            await client.accounts()


async def test_cancel_that_is_rejected_while_the_production_continues_is_an_error(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Only if the production has ended does a rejected cancel not matter."""
    production = await client.submit(request_for(simulator))
    simulator.faults.add("not_found", on="cancel")
    with pytest.raises(NotFoundError):
        await client.cancel(production.id)
    assert (await client.fetch(production.id)).status == Status.QUEUED
