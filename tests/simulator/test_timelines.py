"""What becomes of simulated productions, over real HTTP and on simulated time."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import _clock
from jarai_async.simulator import usual_durations
from jarai_async.simulator._productions.timelines import TERMINAL, TimelineOptions, draw_timeline
from tests.support.raw_client import INFINITY, MISSING, open_world


async def test_a_repeated_key_gets_the_first_answer_where_keys_are_honoured() -> None:
    """With `idempotency_keys` a resubmission starts nothing, and another body is refused."""
    async with open_world(idempotency_keys=True) as (simulator, api):
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
    assert [one.idempotency_key for one in simulator.productions.values()] == ["k1", "k2"]


async def test_a_repeated_key_means_nothing_where_keys_are_not_honoured() -> None:
    """By default the same key starts a second production, as the API may well do."""
    async with open_world() as (simulator, api):
        for _ in range(2):
            await api.start(headers={"Idempotency-Key": "k1"})
    assert len(simulator.productions) == 2


@pytest.mark.parametrize("moment", [0.0, 10.0, 154.9, 200.0, 304.9])
async def test_cancelling_ends_what_is_not_over(moment: float) -> None:
    """Whatever a production is doing, cancelling ends it at that moment and for good."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(moment)
        reply = await api.call("DELETE", f"/productions/{production_id}")
        again = await api.call("DELETE", f"/productions/{production_id}")
        await asyncio.sleep(1000)
        assert await api.status(production_id) == "Cancelled"
    assert [(one.status, one.json["status"]) for one in (reply, again)] == [(200, "Cancelled")] * 2
    assert simulator.productions[production_id].timeline[-1] == (moment, "Cancelled")


async def test_cancelling_comes_too_late_for_what_is_published() -> None:
    """A terminal status never changes: cancelling gets 409."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        reply = await api.call("DELETE", f"/productions/{production_id}")
        assert await api.status(production_id) == "Published"
    assert (reply.status, reply.error) == (409, "PRODUCTION_NOT_CANCELLABLE")


async def test_cancelling_comes_too_late_for_what_has_failed() -> None:
    """A failed production keeps its failure."""
    async with open_world(failure_rate=1.0) as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        before = simulator.productions[production_id].timeline
        reply = await api.call("DELETE", f"/productions/{production_id}")
        assert await api.status(production_id) == "Failed"
    assert (reply.status, reply.error) == (409, "PRODUCTION_NOT_CANCELLABLE")
    assert simulator.productions[production_id].timeline == before


async def test_a_production_waits_for_its_person() -> None:
    """With `approval="person"` nothing happens until it is approved, and then the rest does."""
    async with open_world(approval="person", durations=usual_durations) as (simulator, api):
        production_id = await api.start()
        with pytest.raises(ValueError, match="Queued"):
            simulator.approve(production_id)
        await asyncio.sleep(7 * 86_400)
        assert await api.status(production_id) == "AwaitingApproval"
        simulator.approve(production_id)
        assert await api.status(production_id) == "Distributing"
        await asyncio.sleep(1000)
        assert await api.status(production_id) == "Published"
        with pytest.raises(KeyError):
            simulator.approve(MISSING)


async def test_approval_is_mostly_quick_when_mixed_and_always_when_automatic() -> None:
    """Some 70 % of mixed approvals and all automatic ones take seconds."""
    waits: dict[str, list[float]] = {"mixed": [], "auto": []}
    for approval, seen in waits.items():
        async with open_world(approval=approval, durations=usual_durations) as (simulator, api):
            for _ in range(200):
                await api.start()
            for production in simulator.productions.values():
                moments = {status: moment for moment, status in production.timeline}
                seen.append(moments["Distributing"] - moments["AwaitingApproval"])
    assert max(waits["auto"]) <= 15
    assert 0.6 <= sum(wait <= 15 for wait in waits["mixed"]) / 200 <= 0.8
    assert max(waits["mixed"]) > 1200


async def test_an_expired_production_says_so() -> None:
    """A production that nobody picks up fails after ten minutes with PRODUCTION_EXPIRED."""
    async with open_world(expiry_rate=1.0) as (_, api):
        production_id = await api.start()
        await asyncio.sleep(599)
        assert await api.status(production_id) == "Queued"
        await asyncio.sleep(1)
        body = (await api.get(f"/productions/{production_id}")).json
    assert (body["status"], body["errorCode"]) == ("Failed", "PRODUCTION_EXPIRED")


async def test_a_failed_production_says_why() -> None:
    """One that fails on the way does so while it is produced, with a code and a message."""
    async with open_world(failure_rate=1.0) as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(155)
        body = (await api.get(f"/productions/{production_id}")).json
        refused = await api.get(f"/productions/{production_id}/deliverables")
    moment, status = simulator.productions[production_id].timeline[-1]
    assert status == "Failed"
    assert 10 <= moment < 155
    assert body["errorCode"] == "PIPELINE_STEP_FAILED"
    assert str(body["currentStep"]) in body["errorMessage"]
    assert refused.error == "DELIVERABLES_NOT_READY"


async def test_durations_may_decide_the_end_and_use_any_status() -> None:
    """A last stage that is terminal holds, and a status that nobody has heard of is passed through."""
    stages = [("Queued", 5.0), ("Rendering", 5.0), ("Producing", 5.0), ("Failed", 0.0)]
    async with open_world(durations=lambda _, __: stages) as (simulator, api):
        production = simulator.productions[await api.start()]
    assert production.timeline == (
        (0, "Queued"),
        (5, "Rendering"),
        (10, "Producing"),
        (15, "Failed"),
    )


@pytest.mark.parametrize(
    ("kind", "typical"), [("social-video-30s", 18 * 60), ("podcast", 105 * 60), ("book", 105 * 60)]
)
def test_the_usual_durations_are_the_documented_ones(kind: str, typical: float) -> None:
    """Short videos take about 18 minutes, long form 1 to 3 hours, in nine of ten cases."""
    rng = random.Random(5)
    drawn = sorted(dict(usual_durations(rng, kind))["Producing"] for _ in range(1000))
    assert drawn[500] == pytest.approx(typical, rel=0.05)
    assert drawn[50] > typical * 0.6
    assert drawn[950] < typical * 1.6


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ([], "no stage"),
        ([("Queued", -1.0)], "cannot last"),
        ([("Queued", float("nan"))], "cannot last"),
        ([("Published", 1.0), ("Queued", 1.0)], "terminal"),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages: list[tuple[str, float]], complaint: str) -> None:
    """Whoever writes durations learns of a mistake rather than of a strange world."""
    options = TimelineOptions(lambda _, __: stages)
    with pytest.raises(ValueError, match=complaint):
        draw_timeline(random.Random(1), "article", options)


@given(st.integers(), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["auto", "mixed", "person"]))
def test_every_fate_ends_or_waits(seed: int, failure: float, expiry: float, approval: Any) -> None:
    """Whatever the options, a fate ends in one terminal status, and passes through nothing after it."""
    options = TimelineOptions(usual_durations, failure, expiry, approval)
    stages = draw_timeline(random.Random(seed), "article", options).stages
    assert stages[-1] in (("Published", INFINITY), ("Failed", INFINITY))
    assert TERMINAL.isdisjoint(status for status, _ in stages[:-1])
    assert stages[0][0] == "Queued"
    assert 0 <= stages[0][1] <= 600
    waits = [seconds for status, seconds in stages if status == "AwaitingApproval"]
    assert len(waits) == (stages[-1][0] == "Published")
    assert (waits == [INFINITY]) == (approval == "person" and waits != [])


async def test_a_client_that_leaves_finds_its_submission_executed_or_not() -> None:
    """Every submission that arrived was executed, whether or not its answer was waited for."""
    async with open_world(latency=1.0) as (simulator, api):

        async def hasty() -> bool:
            try:
                async with asyncio.timeout(0.8):
                    return (await api.submit()).status == 202
            except TimeoutError:
                return False

        answered = sum(await asyncio.gather(*(hasty() for _ in range(200))))
        await asyncio.sleep(60)
    assert 0 < answered < len(simulator.productions) < 200
    assert len(simulator.productions) == simulator.count("submit") > simulator.count("submit", 202)


async def test_the_same_seed_is_the_same_world() -> None:
    """Identifiers, fates and keys depend on the seed and the ordinal, not on who asks how often."""

    async def world(seed: int, polls: int) -> tuple[Any, ...]:
        async with open_world(seed=seed, latency=0.05, durations=usual_durations, failure_rate=0.3) as (
            simulator,
            api,
        ):
            for _ in range(5):
                production_id = await api.start()
                for _ in range(polls):
                    await api.status(production_id)
            fates = [(one.production_id, one.drawn) for one in simulator.productions.values()]
            return simulator.api_key, simulator.accounts, fates

    assert await world(1, 0) == await world(1, 3)
    assert await world(1, 0) != await world(2, 0)


async def test_latency_is_as_asked() -> None:
    """The mean time to an answer is about the latency that was asked for."""
    async with open_world(latency=0.2) as (_, api):
        for _ in range(250):
            await api.get("/accounts")
        assert 0.15 < _clock.monotonic() / 250 < 0.25
