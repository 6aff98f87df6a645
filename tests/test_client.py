"""The client against a faithful server: each thing that the API can do, and each way in which it fails."""

import asyncio
import warnings
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from jarai_async import (
    AuthenticationError,
    BudgetExceededError,
    ClosedError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    InvalidResponseError,
    JaraiClient,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    ServerError,
    Status,
    UncertainSubmitError,
)
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for


async def test_a_production_goes_from_request_to_files(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Submit, wait, list and download are all that a script needs."""
    submitted = await client.submit(request_for(simulator, project_type="social-video-30s"))
    assert submitted.status == Status.QUEUED
    production = await client.wait(submitted.id)
    assert production.status == Status.PUBLISHED
    deliverables = await client.deliverables(production.id)
    assert {"Video", "ClosedCaptions", "Attribution"} <= {one.type for one in deliverables}
    for one in deliverables:
        path = await client.download(one, tmp_path)
        assert path.parent == tmp_path
        assert path.stat().st_size == one.size


async def test_what_the_request_says_is_what_the_server_gets(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Names become those of the API, further fields go as they are, the reference stays here."""
    request = request_for(
        simulator,
        project_type="podcast-10m",
        metadata="*notes*",
        reference="mine",
        extra={"contentTheme": "sea"},
    )
    production = await client.submit(request, idempotency_key="my-key")
    sent = simulator.productions[production.id]
    assert sent.body == {
        "topic": "How tides work",
        "languageId": simulator.language_id,
        "countryId": simulator.country_id,
        "avatarId": simulator.avatar_id,
        "projectTypeSlug": "podcast-10m",
        "metadataMD": "*notes*",
        "contentTheme": "sea",
    }
    assert sent.idempotency_key == "my-key"


async def test_accounts_performance_and_usage_are_read(simulator: Simulator, client: JaraiClient) -> None:
    """What is documented is an attribute, all else is in `raw`."""
    (account,) = await client.accounts()
    assert account.id == simulator.account_id
    assert simulator.avatar_id in {avatar.id for avatar in account.avatars}
    production = await client.submit(request_for(simulator))
    assert (await client.performance(production.id)).raw["productionId"] == production.id
    assert (await client.usage()).raw


async def test_cancel_stops_a_production_for_real(simulator: Simulator, client: JaraiClient) -> None:
    """The server's own view is Cancelled, and so is the answer."""
    production = await client.submit(request_for(simulator))
    assert (await client.cancel(production.id)).status == Status.CANCELLED
    now = asyncio.get_running_loop().time()
    assert simulator.productions[production.id].status_at(now) == "Cancelled"


async def test_cancelling_what_has_ended_tells_how_it_ended(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A refusal to cancel is no error where there is nothing left to cancel."""
    production = await client.submit(request_for(simulator))
    await client.wait(production.id)
    assert (await client.cancel(production.id)).status == Status.PUBLISHED


async def test_a_deadline_ends_the_waiting_and_not_the_production(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The production goes on at JARAI."""
    production = await client.submit(request_for(simulator))
    with pytest.raises(DeadlineExceededError):
        await client.wait(production.id, deadline=60)
    assert (await client.wait(production.id)).status == Status.PUBLISHED


async def test_many_waits_share_the_polls(simulator: Simulator, client: JaraiClient) -> None:
    """Waiting for fifteen at once needs no orchestrator, and causes no 429."""
    productions = await asyncio.gather(*(client.submit(request_for(simulator)) for _ in range(15)))
    ended = await asyncio.gather(*(client.wait(production.id) for production in productions))
    assert {production.status for production in ended} == {Status.PUBLISHED}
    assert simulator.rate_limited == 0


@pytest.mark.parametrize("wrong", ["../accounts", "not-a-uuid", "", "0b0e2b1c-9f4e-4d5c-8a57-0123456789ab/x"])
async def test_only_an_identifier_reaches_a_path(
    simulator: Simulator, client: JaraiClient, wrong: str
) -> None:
    """What is not a UUID is refused before anything is sent."""
    with pytest.raises(InvalidRequestError, match="not a UUID"):
        await client.fetch(wrong)
    assert len(simulator.requests) == 0


async def test_errors_are_named_by_meaning(simulator: Simulator, client: JaraiClient) -> None:
    """A status and its code become a class, with the correlation id to quote."""
    with pytest.raises(NotFoundError) as unknown:
        await client.fetch(str(uuid4()))
    assert unknown.value.status == 404
    assert unknown.value.correlation_id
    with pytest.raises(PermissionDeniedError):
        await client.submit(request_for(simulator, account_id=str(uuid4())))
    simulator.revoke(simulator.api_key)
    with pytest.raises(AuthenticationError, match="JARAI_API_KEY"):
        await client.accounts()


async def test_a_production_over_budget_is_rejected_up_front() -> None:
    """409 with a budget gate's code is its own error, sent once."""
    async with Simulator(spend_ceiling=0) as simulator:
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            with pytest.raises(BudgetExceededError) as rejected:
                await client.submit(request_for(simulator))
        assert rejected.value.code == "BUDGET_GATE_1_FAILED"
        assert simulator.count("submit") == 1


@pytest.mark.parametrize(
    "kind", ["internal_error", "gateway_html", "reset_before", "truncated_json", "empty_body"]
)
async def test_a_read_is_repeated_after_what_passes(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """Reading again is safe, whatever became of the first answer."""
    simulator.faults.add(kind, on="accounts", times=2)
    assert len(await client.accounts()) == 1
    assert simulator.faults.fired[kind] == 2


async def test_a_read_gives_up_after_four_attempts(simulator: Simulator, client: JaraiClient) -> None:
    """A fault that stays is reported as it was met."""
    simulator.faults.add("internal_error", on="accounts", times=None)
    with pytest.raises(ServerError):
        await client.accounts()
    assert simulator.faults.fired["internal_error"] == 4


@pytest.mark.parametrize("kind", ["wrong_json", "redirect", "huge_body", "empty_body"])
async def test_an_answer_that_is_none_is_one_clear_error(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """Whatever a proxy makes of an answer, it is an error of ours."""
    production = await client.submit(request_for(simulator))
    simulator.faults.add(kind, on="fetch", times=None)
    with pytest.raises(InvalidResponseError):
        await client.fetch(production.id)


async def test_an_answer_about_another_production_is_refused(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A mixed-up answer must not end the wrong production."""
    production = await client.submit(request_for(simulator))
    simulator.faults.add("other_production", on="fetch", times=None)
    with pytest.raises(InvalidResponseError, match="is about"):
        await client.fetch(production.id)


@pytest.mark.parametrize(
    "kind", ["reset_before", "reset_after", "internal_error_after", "missing_id_and_location", "hang"]
)
async def test_a_submit_in_doubt_is_never_sent_again(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """Without known key support there is one attempt, and an error that says what to do."""
    simulator.faults.add(kind, on="submit", times=None)
    with pytest.raises(UncertainSubmitError, match="JARAI Studio") as doubt:
        await client.submit(request_for(simulator), idempotency_key="k-1")
    assert doubt.value.idempotency_key == "k-1"
    assert len(simulator.productions) <= 1
    assert simulator.faults.fired[kind] == 1


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "internal_error_after", "truncated_json"])
async def test_with_known_key_support_a_submit_in_doubt_is_sent_again(kind: str) -> None:
    """The same key gets the first answer: one production, whatever was lost."""
    async with Simulator(idempotency_keys=True) as simulator:
        simulator.faults.add(kind, on="submit", times=2)
        async with JaraiClient(
            simulator.api_key, base_url=simulator.base_url, idempotency_keys=True
        ) as client:
            production = await client.submit(request_for(simulator))
        assert list(simulator.productions) == [production.id]


async def test_a_refused_submit_is_repeated(simulator: Simulator, client: JaraiClient) -> None:
    """JARAI's own 503 says that nothing was done, so sending again is safe."""
    simulator.faults.add("unavailable", on="submit", times=3)
    await client.submit(request_for(simulator))
    assert len(simulator.productions) == 1


@pytest.mark.parametrize("kind", ["missing_id", "truncated_json"])
async def test_an_accepted_submit_without_a_body_is_found_by_its_location(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """The Location header names the production as well."""
    simulator.faults.add(kind, on="submit")
    production = await client.submit(request_for(simulator))
    assert production.id in simulator.productions


async def test_no_connection_is_said_to_be_one() -> None:
    """Nothing was sent, so nothing is uncertain."""
    async with JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client:
        with pytest.raises(NotSentError, match="Nothing was sent"):
            await client.accounts()


async def test_a_session_of_ones_own_is_used_and_left_open(simulator: Simulator) -> None:
    """The library closes what it opened, and nothing else."""
    async with aiohttp.ClientSession() as session:
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url, session=session) as client:
            production = await client.submit(request_for(simulator))
            await client.wait(production.id)
            for one in await client.deliverables(production.id):
                assert one.url
        assert not session.closed
    assert simulator.leaks == []


async def test_a_closed_client_says_so(simulator: Simulator) -> None:
    """Using a client after its block is a mistake with a name."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        pass
    with pytest.raises(ClosedError, match="closed"):
        await client.accounts()


def test_the_key_and_the_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No argument is needed where the environment has them."""
    monkeypatch.setenv("JARAI_API_KEY", "jarai_live_from-the-environment")
    monkeypatch.setenv("JARAI_BASE_URL", "https://mock.example/v1/partner/")
    client = JaraiClient()
    assert "https://mock.example/v1/partner," in repr(client)
    assert "environment" not in repr(client)


@pytest.mark.parametrize("key", ["", "jarai_live_a b", "jarai_live_a\n", "jarai_live_\u00e9"])
def test_a_key_that_no_header_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A line break from a file, say, is named before it is sent; the key itself is not."""
    monkeypatch.delenv("JARAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError) as refused:
        JaraiClient(key)
    assert "jarai_live" not in str(refused.value)


def test_a_key_of_another_service_is_warned_about() -> None:
    """A key without JARAI's prefix may be someone else's: said, and used."""
    with pytest.warns(UserWarning, match="jarai_"):
        JaraiClient("sk-something")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        JaraiClient("jarai_older-key")


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "https://", "https://user@host/", "https://host/?a=1", "nonsense", "http://[::1"]
)
def test_a_base_url_that_cannot_be_one_is_refused(url: str) -> None:
    """An address is checked before a key is sent to it."""
    with pytest.raises(ConfigurationError, match="base_url"):
        JaraiClient("jarai_test_x", base_url=url)
