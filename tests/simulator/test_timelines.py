"""The timelines of simulated productions, over real HTTP and on simulated time."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import _clock
from jarai_async.simulator import usual_durations
from jarai_async.simulator._productions.timelines import TERMINAL, TimelineOptions, draw_timeline
from tests.support.raw_client import INFINITY, UNKNOWN_ID, open_simulator


async def test_idempotency_key_returns_the_first_response() -> None:
    """With `idempotency_keys` a resubmission creates nothing, and another body is rejected."""
    async with open_simulator(idempotency_keys=True) as (simulator, api):
        headers = {"Idempotency-Key": "k1"}
        first = await api.submit(headers=headers)
        await asyncio.sleep(3600)
        second = await api.submit(headers=headers)
        other = await api.submit(headers=headers, topic="Else")
        fresh = await api.submit(headers={"Idempotency-Key": "k2"})
    assert second.json == first.json
    assert second.headers["Location"] == first.headers["Location"]
    assert (other.status, other.error) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert fresh.json["productionId"] != first.json["productionId"]
    assert [production.idempotency_key for production in simulator.productions.values()] == ["k1", "k2"]


async def test_idempotency_key_is_ignored_by_default() -> None:
    """By default the same key creates a duplicate, as the real API may do."""
    async with open_simulator() as (simulator, api):
        for _ in range(2):
            await api.start_production(headers={"Idempotency-Key": "k1"})
    assert len(simulator.productions) == 2


@pytest.mark.parametrize("time", [0.0, 10.0, 154.9, 200.0, 304.9])
async def test_cancel_ends_a_production_in_any_status(time: float) -> None:
    """A cancelled production changes to Cancelled at once, and stays so."""
    async with open_simulator() as (simulator, api):
        production_id = await api.start_production()
        await asyncio.sleep(time)
        response = await api.request("DELETE", f"/productions/{production_id}")
        again = await api.request("DELETE", f"/productions/{production_id}")
        await asyncio.sleep(1000)
        assert await api.status(production_id) == "Cancelled"
    assert [(each.status, each.json["status"]) for each in (response, again)] == [(200, "Cancelled")] * 2
    assert simulator.productions[production_id].timeline[-1] == (time, "Cancelled")


async def test_cancel_of_a_published_production_is_rejected() -> None:
    """A terminal status never changes: cancelling returns 409."""
    async with open_simulator() as (_, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        response = await api.request("DELETE", f"/productions/{production_id}")
        assert await api.status(production_id) == "Published"
    assert (response.status, response.error) == (409, "PRODUCTION_NOT_CANCELLABLE")


async def test_cancel_of_a_failed_production_is_rejected() -> None:
    """A failed production stays Failed."""
    async with open_simulator(failure_rate=1.0) as (simulator, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        before = simulator.productions[production_id].timeline
        response = await api.request("DELETE", f"/productions/{production_id}")
        assert await api.status(production_id) == "Failed"
    assert (response.status, response.error) == (409, "PRODUCTION_NOT_CANCELLABLE")
    assert simulator.productions[production_id].timeline == before


async def test_production_waits_for_a_person() -> None:
    """With `approval="person"` a production stays AwaitingApproval until `approve`, and then continues."""
    async with open_simulator(approval="person", durations=usual_durations) as (simulator, api):
        production_id = await api.start_production()
        with pytest.raises(ValueError, match="Queued"):
            simulator.approve(production_id)
        await asyncio.sleep(7 * 86_400)
        assert await api.status(production_id) == "AwaitingApproval"
        simulator.approve(production_id)
        assert await api.status(production_id) == "Distributing"
        await asyncio.sleep(1000)
        assert await api.status(production_id) == "Published"
        with pytest.raises(KeyError):
            simulator.approve(UNKNOWN_ID)


async def test_durations_of_mixed_and_automatic_approval() -> None:
    """About 70 % of mixed approvals and all automatic ones take seconds."""
    waits: dict[str, list[float]] = {"mixed": [], "auto": []}
    for approval, seconds in waits.items():
        async with open_simulator(approval=approval, durations=usual_durations) as (simulator, api):
            for _ in range(200):
                await api.start_production()
            for production in simulator.productions.values():
                starts = {status: start for start, status in production.timeline}
                seconds.append(starts["Distributing"] - starts["AwaitingApproval"])
    assert max(waits["auto"]) <= 15
    assert 0.6 <= sum(wait <= 15 for wait in waits["mixed"]) / 200 <= 0.8
    assert max(waits["mixed"]) > 1200


async def test_expired_production_has_its_error_code() -> None:
    """A production that expires in the queue fails after ten minutes with PRODUCTION_EXPIRED."""
    async with open_simulator(expiry_rate=1.0) as (_, api):
        production_id = await api.start_production()
        await asyncio.sleep(599)
        assert await api.status(production_id) == "Queued"
        await asyncio.sleep(1)
        body = (await api.get(f"/productions/{production_id}")).json
    assert (body["status"], body["errorCode"]) == ("Failed", "PRODUCTION_EXPIRED")


async def test_failed_production_has_an_error() -> None:
    """A production fails during Producing, with a code and a message."""
    async with open_simulator(failure_rate=1.0) as (simulator, api):
        production_id = await api.start_production()
        await asyncio.sleep(155)
        body = (await api.get(f"/productions/{production_id}")).json
        deliverables = await api.get(f"/productions/{production_id}/deliverables")
    failed_at, status = simulator.productions[production_id].timeline[-1]
    assert status == "Failed"
    assert 10 <= failed_at < 155
    assert body["errorCode"] == "PIPELINE_STEP_FAILED"
    assert str(body["currentStep"]) in body["errorMessage"]
    assert deliverables.error == "DELIVERABLES_NOT_READY"


async def test_durations_decide_the_end_and_may_use_unknown_statuses() -> None:
    """A last stage that is terminal stays, and so does a status that JARAI does not document."""
    stages = [("Queued", 5.0), ("Rendering", 5.0), ("Producing", 5.0), ("Failed", 0.0)]
    async with open_simulator(durations=lambda _, __: stages) as (simulator, api):
        production = simulator.productions[await api.start_production()]
    assert production.timeline == (
        (0, "Queued"),
        (5, "Rendering"),
        (10, "Producing"),
        (15, "Failed"),
    )


@pytest.mark.parametrize(
    ("project_type", "typical"), [("social-video-30s", 18 * 60), ("podcast", 105 * 60), ("book", 105 * 60)]
)
def test_usual_durations_are_as_documented(project_type: str, typical: float) -> None:
    """A short video takes about 18 minutes, long form 1 to 3 hours, in nine of ten cases."""
    rng = random.Random(5)
    drawn = sorted(dict(usual_durations(rng, project_type))["Producing"] for _ in range(1000))
    assert drawn[500] == pytest.approx(typical, rel=0.05)
    assert drawn[50] > typical * 0.6
    assert drawn[950] < typical * 1.6


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "no stages"),
        ([("Queued", -1.0)], "cannot last"),
        ([("Queued", float("nan"))], "cannot last"),
        ([("Published", 1.0), ("Queued", 1.0)], "terminal"),
    ],
)
def test_impossible_stages_are_rejected(stages: list[tuple[str, float]], message: str) -> None:
    """A mistake in `durations` raises an error that describes it."""
    options = TimelineOptions(lambda _, __: stages)
    with pytest.raises(ValueError, match=message):
        draw_timeline(random.Random(1), "article", options)


@given(st.integers(), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["auto", "mixed", "person"]))
def test_every_timeline_ends_with_one_terminal_status(
    seed: int, failure: float, expiry: float, approval: Any
) -> None:
    """Whatever the options, the last stage is terminal and endless, and no other is terminal."""
    options = TimelineOptions(usual_durations, failure, expiry, approval)
    stages = draw_timeline(random.Random(seed), "article", options).stages
    assert stages[-1] in (("Published", INFINITY), ("Failed", INFINITY))
    assert TERMINAL.isdisjoint(status for status, _ in stages[:-1])
    assert stages[0][0] == "Queued"
    assert 0 <= stages[0][1] <= 600
    approvals = [seconds for status, seconds in stages if status == "AwaitingApproval"]
    assert len(approvals) == (stages[-1][0] == "Published")
    assert (approvals == [INFINITY]) == (approval == "person" and approvals != [])


async def test_submission_is_executed_even_if_the_client_disconnects() -> None:
    """Every submission that arrived was executed, whether or not its client waited for the response."""
    async with open_simulator(latency=1.0) as (simulator, api):

        async def submit_with_timeout() -> bool:
            try:
                async with asyncio.timeout(0.8):
                    return (await api.submit()).status == 202
            except TimeoutError:
                return False

        responses = sum(await asyncio.gather(*(submit_with_timeout() for _ in range(200))))
        await asyncio.sleep(60)
    assert 0 < responses < len(simulator.productions) < 200
    assert len(simulator.productions) == simulator.count("submit") > simulator.count("submit", 202)


async def test_the_same_seed_gives_the_same_productions() -> None:
    """Identifiers, timelines and keys depend on the seed and the order, not on the number of requests."""

    async def run(seed: int, polls: int) -> tuple[Any, ...]:
        async with open_simulator(seed=seed, latency=0.05, durations=usual_durations, failure_rate=0.3) as (
            simulator,
            api,
        ):
            for _ in range(5):
                production_id = await api.start_production()
                for _ in range(polls):
                    await api.status(production_id)
            stages = {each.production_id: each.stages for each in simulator.productions.values()}
            return simulator.api_key, simulator.accounts, stages

    assert await run(1, 0) == await run(1, 3)
    assert await run(1, 0) != await run(2, 0)


async def test_mean_latency_is_as_configured() -> None:
    """The mean time from request to response is about `latency`."""
    async with open_simulator(latency=0.2) as (_, api):
        for _ in range(250):
            await api.get("/accounts")
        assert 0.15 < _clock.monotonic() / 250 < 0.25
