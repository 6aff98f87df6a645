"""`Simulator.when`: what happens to the productions that a test has chosen, as the library sees it."""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from jarai_async import JaraiClient, Orchestrator, Outcome, _clock
from jarai_async.simulator import FaultName, ProductionRule, RouteName, Simulator
from jarai_async.simulator._api.fault_kinds import KINDS
from jarai_async.simulator._api.routes import ROUTES
from tests.support.orchestrators import outcomes_of
from tests.support.raw_client import open_simulator
from tests.support.scenarios import request_for


def summary(outcome: Outcome) -> tuple[str, str | None]:
    return outcome.state, outcome.error.code if outcome.error else None


async def test_each_rule_changes_the_productions_that_it_is_about(
    simulator: Simulator, client: JaraiClient
) -> None:
    """By number, by topic, by account or by any condition about the body; the others are as usual."""
    simulator.when(3).fails(step=8, code="VOICE_UNAVAILABLE")
    bees, nothing = simulator.when(topic="Bees").is_rejected(), simulator.when(topic="Beess").fails()
    simulator.when(2, topic="Tides").expires()
    simulator.when(where=lambda body: body.get("metadataMD") == "stop").is_cancelled(after=60)
    topics = ["Tides", "Bees", "Moss", "Tides", "Owls", "Owls"]
    requests = [request_for(simulator, topic=topic, reference=f"{n}") for n, topic in enumerate(topics)]
    requests[5] = request_for(simulator, topic="Owls", reference="5", metadata="stop")
    orchestrator = Orchestrator(client, concurrency=1, expired_retries=0)
    outcomes = {outcome.reference: outcome for outcome in await outcomes_of(orchestrator, requests)}
    assert [summary(outcomes[f"{n}"]) for n in range(6)] == [
        ("published", None),
        ("rejected", "BUDGET_GATE_1_FAILED"),
        ("failed", "VOICE_UNAVAILABLE"),
        ("failed", "PRODUCTION_EXPIRED"),
        ("published", None),
        ("cancelled", None),
    ]
    failed = outcomes["2"].production
    assert failed is not None
    assert (failed.current_step, failed.error_message) == (8, "Step 8 of 15 could not be completed.")
    assert len(simulator.productions) == 5
    assert (bees.matched, nothing.matched) == (1, 0)


async def test_person_refuses_after_two_hours(simulator: Simulator, client: JaraiClient) -> None:
    simulator.when(1).takes(queued=5, producing=600).awaits_approval(2 * 3600, refused=True)
    simulator.when(2).awaits_approval(math.inf)
    first, second = [await client.submit(request_for(simulator, topic=topic)) for topic in ("Bees", "Owls")]
    refused = await client.wait(first.id)
    assert (refused.status, refused.error_code) == ("Failed", "APPROVAL_REFUSED")
    true = simulator.productions[first.id]
    assert [round(time - true.submitted_at) for time, _ in true.timeline] == [0, 5, 605, 7805]
    simulator.refuse(second.id, code="OFF_BRAND")
    refused = await client.fetch(second.id)
    assert (refused.status, refused.error_code) == ("Failed", "OFF_BRAND")
    with pytest.raises(ValueError, match="is Failed: nothing to decide"):
        simulator.refuse(second.id)


async def test_faults_of_a_rule_affect_only_its_productions(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A response is lost, polls fail, and files are damaged, each for one production."""
    simulator.when(topic="Bees").loses_response()
    simulator.when(topic="Owls").has_fault("unavailable", on="fetch", times=2)
    simulator.when(topic="Moss").has_fault("bit_flip", on="download")
    requests = [request_for(simulator, topic=topic, reference=topic) for topic in ("Bees", "Owls", "Moss")]
    outcomes = await outcomes_of(Orchestrator(client), requests)
    assert {outcome.reference: str(outcome.state) for outcome in outcomes} == {
        "Bees": "uncertain",
        "Owls": "published",
        "Moss": "published",
    }
    assert simulator.faults.fired == {"reset_after": 1, "unavailable": 2}
    by_topic = {production.body["topic"]: production for production in simulator.productions.values()}
    for topic in ("Owls", "Moss"):
        files = await client.deliverables(by_topic[topic].production_id)
        await client.download(files[0], tmp_path / topic)
        assert simulator.faults.fired["bit_flip"] == (topic == "Moss")


def rule() -> ProductionRule:
    return Simulator().when()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Simulator().when(0), "nth must be 1 or more"),
        (lambda: rule().fails(step=16), "step must be between 1 and 15"),
        (lambda: rule().takes(producing=-1), "Producing must be 0 or more seconds"),
        (lambda: rule().awaits_approval(-1), "seconds must be 0 or more"),
        (
            lambda: rule().has_fault("reset_aftr"),
            "unknown kind of fault 'reset_aftr', did you mean 'reset_after'",
        ),
        (lambda: rule().has_fault("hang", on="sumbit"), "unknown route 'sumbit', did you mean 'submit'"),
        (lambda: rule().is_rejected(status=200), "status must be that of an error, 400 to 599, not 200"),
        (lambda: rule().loses_response(times=0), "times must be 1 or more, or None for no limit, not 0"),
        (lambda: rule().has_fault("hang", after=-1), "after and seconds must be 0 or more"),
        (
            lambda: Simulator().faults.add("bit_flip"),
            "bit_flip is a fault of downloads: its route is 'download', not 'submit'",
        ),
        (lambda: Simulator().count("sumbit"), "unknown route 'sumbit', did you mean 'submit'"),
        (lambda: Simulator().count("any"), "unknown route 'any'"),
        (lambda: rule().has_fault("xyz"), "unknown kind of fault 'xyz'. Known are bit_flip, cut_body, "),
    ],
)
def test_mistakes_in_a_rule_are_reported(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


async def test_number_of_a_rule_counts_productions_and_not_repeated_submissions(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The client submits the first one three times: with the same key."""
    third = simulator.when(3).fails()
    simulator.faults.add("unavailable", times=2)
    outcomes = await outcomes_of(
        Orchestrator(client, concurrency=1),
        [request_for(simulator, topic=topic, reference=topic) for topic in ("Bees", "Owls", "Moss", "Tides")],
    )
    assert [outcome.reference for outcome in outcomes if outcome.state == "failed"] == ["Moss"]
    assert simulator.count("submit") == 6
    assert third.matched == 4


@pytest.mark.parametrize("seed", range(10))
async def test_latency_does_not_change_the_numbers_of_submissions(seed: int) -> None:
    """Of several that are on their way at once, the third is the one that was sent third."""
    async with (
        Simulator(seed=seed, failure_rate=0.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        simulator.when(3).fails()
        requests = [request_for(simulator, topic=f"{n}", reference=f"{n}") for n in range(5)]
        tickets = [orchestrator.submit(request) for request in requests]
        assert [(await ticket).state == "failed" for ticket in tickets] == [n == 2 for n in range(5)]


async def test_stages_and_timeline_are_in_the_order_of_time(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Also of a production that a rule or a person has changed."""
    simulator.when(1).takes(queued=5, producing=600).awaits_approval(7200, refused=True)
    ids = [(await client.submit(request_for(simulator, topic=topic))).id for topic in ("Bees", "Owls")]
    await client.cancel(ids[1])
    for id_ in ids:
        production = simulator.productions[id_]
        times = [time for time, _ in production.timeline]
        assert times == sorted(times)
        assert [status for _, status in production.timeline] == [status for status, _ in production.stages]
        assert production.stages[0][0] == "Queued"


async def test_429_near_midnight_says_which_limit_it_was() -> None:
    """A client may take two minutes for a rate limit, although the day's quota is used up."""
    left: dict[str, int]
    for day, (left, limit) in enumerate(
        (({"requests": 1}, "day"), ({"productions": 0}, "productions"), ({}, "minute"))
    ):
        async with open_simulator(tier="free", latency=0) as (simulator, api):
            until = datetime(2026, 1, 1 + day, 23, 58, tzinfo=UTC).timestamp()
            await asyncio.sleep(until - _clock.wall())
            simulator.set_left_today(**left)
            responses = (
                [await api.submit() for _ in range(2)]
                if left
                else [await api.get("/usage") for _ in range(11)]
            )
        waits = [response.json["retryAfterSeconds"] for response in responses if response.status == 429]
        limits = [request.limit for request in simulator.requests if request.status == 429]
        assert set(limits) == {limit}
        assert simulator.rate_limited == len(limits) == len(waits)
        assert waits[0] == (60 if limit == "minute" else 120)


def test_names_of_faults_and_routes_are_complete() -> None:
    """Editors and type checkers complete them."""
    assert get_args(FaultName) == tuple(KINDS)
    assert get_args(RouteName) == (*ROUTES, "download", "any")


async def test_quota_that_is_left_today() -> None:
    """It holds until midnight. A tier without the quota has nothing to leave."""
    async with Simulator(tier="free") as simulator:
        simulator.set_left_today(requests=3, productions=1)
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            await client.submit(request_for(simulator))
            await client.submit(request_for(simulator, topic="Bees"))  # after midnight
        first, second = simulator.productions.values()
    assert second.submitted_at - first.submitted_at > 14 * 3600
    with pytest.raises(ValueError, match="the quota of this tier is 100"):
        simulator.set_left_today(requests=101)
    async with Simulator() as unlimited:
        with pytest.raises(ValueError, match="the quota of this tier is unlimited"):
            unlimited.set_left_today(productions=3)
