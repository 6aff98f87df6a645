"""Submits through a client, under every fault: no duplicate is ever created."""

import asyncio

import pytest

from jarai_async import (
    AuthenticationError,
    JaraiClient,
    JaraiError,
    NoResponseError,
    ServerError,
    ServiceUnavailableError,
    UncertainSubmitError,
)
from jarai_async.simulator import FaultKind, Simulator
from jarai_async.simulator._api.responses import error_response
from tests.support.scenarios import request_for

RETRIED = {"unavailable", "rate_limited", "rate_limited_html"}
REJECTED = {"unauthorized", "not_found"}
ACCEPTED = {
    "deep_json", "no_number", "wrong_type", "truncated_json", "wrong_json", "empty_body", "missing_id",
    "unknown_status", "slow", "cut_body", "huge_body",
}  # fmt: skip
IN_DOUBT = {
    "internal_error", "internal_error_after", "unavailable_html", "gateway_html", "reset_before",
    "reset_after", "hang_before", "hang", "missing_id_and_location", "redirect",
    "other_production", "other_location", "timeout_html",
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(IN_DOUBT))
async def test_lost_response_is_not_retried_without_idempotency_keys(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """A submit that may have been carried out is sent once, and the error says what to do."""
    simulator.faults.add(kind, on="submit", times=None)
    with pytest.raises(UncertainSubmitError, match="JARAI Studio") as uncertain:
        await client.submit(request_for(simulator), idempotency_key="my-key")
    assert simulator.count("submit") == simulator.faults.fired[kind] == 1
    assert len(simulator.productions) <= 1
    assert uncertain.value.idempotency_key == "my-key"
    assert isinstance(uncertain.value.__cause__, JaraiError)
    assert client.engine.limiter.in_flight == 0


@pytest.mark.parametrize("kind", sorted(RETRIED | REJECTED | ACCEPTED))
async def test_submit_never_creates_a_duplicate(simulator: Simulator, client: JaraiClient, kind: str) -> None:
    """A refused submit is retried where that helps; an accepted one is never sent again."""
    simulator.faults.add(kind, on="submit", seconds=5)
    error = None
    try:
        await client.submit(request_for(simulator))
    except JaraiError as raised:
        error = raised
    assert simulator.count("submit") == (2 if kind in RETRIED else 1)
    assert len(simulator.productions) == (0 if kind in REJECTED else 1)
    assert (error is not None) == (kind in REJECTED)
    assert client.engine.limiter.in_flight == 0


@pytest.mark.parametrize("kind", ["missing_id", "truncated_json", "cut_body", "huge_body"])
async def test_accepted_submit_with_an_unusable_body_is_found_by_its_location(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """The Location header names the production as well, and it counts once it has arrived."""
    simulator.faults.add(kind, on="submit")
    production = await client.submit(request_for(simulator))
    assert production.id in simulator.productions


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "internal_error_after", "truncated_json"])
async def test_lost_response_is_retried_with_idempotency_keys(kind: str) -> None:
    """The same key brings the production of the first attempt: there is no duplicate."""
    async with (
        Simulator(idempotency_keys=True) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.add(kind, on="submit", times=2)
        production = await client.submit(request_for(simulator))
        assert list(simulator.productions) == [production.id]


async def test_retries_after_different_failures_create_one_production() -> None:
    """With honoured keys, two lost responses and a 503 are followed by a success."""
    async with (
        Simulator(idempotency_keys=True) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.add("reset_after", times=2)
        simulator.faults.add("unavailable")
        production = await client.submit(request_for(simulator))
        assert list(simulator.productions) == [production.id]
        assert simulator.count("submit") == 4


async def test_submit_whose_key_is_in_use_is_sent_again_until_it_is_done() -> None:
    """The server answers 409 while it still carries out the first attempt."""
    response = error_response(409, "IDEMPOTENCY_CONFLICT", "A request with this key is in progress.")

    async with (
        Simulator(idempotency_keys=True) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.kinds["in_use"] = FaultKind(lambda _, __: response, executes=False)
        simulator.faults.add("reset_after")
        simulator.faults.add("in_use", times=3)
        production = await client.submit(request_for(simulator))
        assert list(simulator.productions) == [production.id]
        assert simulator.count("submit") == 5
        assert 30 < asyncio.get_running_loop().time() < 90


@pytest.mark.parametrize("rejection", ["unauthorized", "not_found"])
async def test_rejected_retry_leaves_a_submit_in_doubt(rejection: str) -> None:
    """With honoured keys, a rejection of the second attempt says nothing about the first."""
    async with (
        Simulator(idempotency_keys=True) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.add("reset_after")
        simulator.faults.add(rejection)
        with pytest.raises(UncertainSubmitError) as uncertain:
            await client.submit(request_for(simulator), idempotency_key="my-key")
        assert len(simulator.productions) == 1
        assert simulator.count("submit") == 2
        assert isinstance(uncertain.value.__cause__, NoResponseError)
        assert uncertain.value.idempotency_key == "my-key"


async def test_rejection_without_a_doubt_is_raised_as_it_is() -> None:
    """A 503 created nothing, so the 401 that follows is the result."""
    async with (
        Simulator() as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.add("unavailable")
        simulator.faults.add("unauthorized")
        with pytest.raises(AuthenticationError):
            await client.submit(request_for(simulator))


async def test_submit_that_stays_in_doubt_is_given_up_after_eight_attempts() -> None:
    """With honoured keys too, the number of attempts is limited, and the last doubt is the cause."""
    async with (
        Simulator(idempotency_keys=True) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.add("internal_error", times=None)
        with pytest.raises(UncertainSubmitError) as uncertain:
            await client.submit(request_for(simulator))
        assert simulator.count("submit") == 8
        assert isinstance(uncertain.value.__cause__, ServerError)


async def test_submit_is_retried_after_503s(simulator: Simulator, client: JaraiClient) -> None:
    """JARAI's own 503 says that nothing was done, so sending the submit again is safe."""
    simulator.faults.add("unavailable", on="submit", times=3)
    await client.submit(request_for(simulator))
    assert len(simulator.productions) == 1


async def test_submit_raises_the_503_after_eight_attempts(simulator: Simulator, client: JaraiClient) -> None:
    """The client itself does not wait for the end of an outage."""
    simulator.faults.add("unavailable", times=None)
    with pytest.raises(ServiceUnavailableError):
        await client.submit(request_for(simulator))
    assert simulator.count("submit") == 8


async def test_cancelled_submit_logs_its_idempotency_key(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A submit that is cancelled in flight may have created a production; the log says by which key."""
    simulator.faults.add("hang", on="submit")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await client.submit(request_for(simulator))
    (production,) = simulator.productions.values()
    assert str(production.idempotency_key) in caplog.text
