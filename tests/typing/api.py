"""The public API as users see it: type-checked, never run."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, assert_never, assert_type

import aiohttp
from aiohttp import web

from jarai_async import (
    Account,
    ApiError,
    BudgetExceededError,
    Deliverable,
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    InvalidRequestError,
    JaraiClient,
    JaraiError,
    JournalEntry,
    NewWebhook,
    Orchestrator,
    Outcome,
    OutcomeState,
    Performance,
    Polling,
    Production,
    ProductionRequest,
    RateLimit,
    Statistics,
    Status,
    StatusChanged,
    Submitted,
    Ticket,
    UncertainSubmitError,
    Usage,
    WaitReason,
    Webhook,
    WebhookDelivery,
    __version__,
    read_journal,
)
from jarai_async.otel import Telemetry
from jarai_async.receiver import Receiver
from jarai_async.simulator import (
    ControlServer,
    Deliverability,
    ProductionRule,
    SimulatedEventLoop,
    Simulator,
    run_command,
)
from jarai_async.testing import JaraiTestCase
from jarai_async.webhooks import ProductionFailed, ProductionQueued, WebhookEvent, sign, verify

assert_type(__version__, str)

request = ProductionRequest(topic="Tides", account_id="a", language_id="b", country_id="c", avatar_id="d")
full = ProductionRequest(
    topic="Tides",
    account_id="a",
    language_id="b",
    country_id="c",
    avatar_id="d",
    project_type="social-video-30s",
    metadata="# Markdown",
    reference="mine",
    extra={"further": [1, None]},
)
assert_type(ProductionRequest.from_dict({"topic": "Tides"}), ProductionRequest)
assert_type(full.to_dict(), dict[str, Any])


def journal_reading(path: Path) -> None:
    for entry in read_journal(path):
        assert_type(entry, JournalEntry)
        assert_type(entry.request, ProductionRequest)
        assert_type(entry.production_ids, tuple[str, ...])
        assert_type(entry.stage, str)
        assert_type(entry.cancel_requested, bool)
        assert_type(entry.state, OutcomeState | None)
        assert_type(entry.events, tuple[Event, ...])
        assert_type(entry.ended_at, datetime | None)


async def client_methods(session: aiohttp.ClientSession, production_id: str) -> None:
    JaraiClient(
        "key", base_url="https://h", session=session, rate_limit=RateLimit(per_minute=10, per_day=None)
    )
    async with JaraiClient(idempotency_keys=True, random=Random(1)) as client:
        assert_type(client, JaraiClient)
        production = await client.submit(request, idempotency_key="key")
        assert_type(production, Production)
        assert_type(await client.submit(request), Production)
        assert_type(await client.fetch(production.id), Production)
        assert_type(await client.wait(production_id, deadline=3_600), Production)
        assert_type(await client.cancel(production_id), Production)
        deliverables = await client.deliverables(production_id)
        assert_type(deliverables, list[Deliverable])
        assert_type(await client.download(deliverables[0], "folder"), Path)
        assert_type(await client.download(deliverables[0], Path("a.mp4")), Path)
        await client.download(
            deliverables[0],
            "a.mp4",
            progress=lambda done, size: assert_type((done, size), tuple[int, int | None]),
        )
        assert_type(await client.accounts(), list[Account])
        assert_type(await client.performance(production_id), Performance)
        assert_type(await client.usage(), Usage)
        await client.close()


async def webhook_methods(client: JaraiClient) -> None:
    created = await client.create_webhook("https://h", ["webhook.test"], account_ids=["a"])
    assert_type(created, NewWebhook)
    assert_type(created.signing_secret.reveal(), str)
    assert_type(await client.webhooks(), list[Webhook])
    assert_type(await client.webhook(created.id), Webhook)
    assert_type(await client.update_webhook(created.id, event_types=("a", "b")), Webhook)
    assert_type(await client.webhook_deliveries(created.id), list[WebhookDelivery])
    await client.test_webhook(created.id)
    await client.delete_webhook(created.id)


def webhook_verification(body: bytes, headers: Mapping[str, str]) -> str:
    event = verify(body, sign(body, "secret"), ["old", "new"])
    assert_type(event, WebhookEvent)
    match verify(body, headers, "secret"):
        case ProductionFailed(error_code=code):
            assert_type(code, str | None)
        case ProductionQueued(status=status, expires_at=expires_at):
            assert_type(status, Status | None)
            assert_type(expires_at, datetime | None)
    assert_type(event.data, Mapping[str, Any])
    return f"{event.production_id} {event.sequence_number}"


async def webhook_receiver(stream: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
    async def on_event(event: WebhookEvent) -> None: ...

    async with Receiver("secret", on_event) as receiver, receiver.serve(port=0, path="/hook") as url:
        assert_type(url, str)
        assert_type(await receiver.receive(b"", headers), int)
        assert_type(await receiver.receive(stream, headers), int)
        assert_type(receiver.add_listener(on_event), Callable[[], None])
        assert_type(receiver.set_secret(["old", "new"]), None)
    Receiver(on_event=on_event)
    Receiver(["old", "new"], lambda _: None)
    web.Application().router.add_post("/", receiver.handle)


def model_attributes(
    production: Production, deliverable: Deliverable, account: Account, outcome: Outcome
) -> None:
    assert_type(production.status, Status)
    assert_type(production.status.is_terminal, bool)
    assert_type(Status.PUBLISHED, Status)
    as_text: str = production.id
    as_text = production.status
    assert_type(production.created_at, datetime | None)
    assert_type(production.raw, Mapping[str, Any])
    assert_type(deliverable.url, str)
    assert_type(deliverable.size, int | None)
    as_text = account.avatars[0].id
    assert_type(outcome.state, OutcomeState)
    assert_type(outcome.ok, bool)
    assert_type(outcome.is_final, bool)
    assert_type(outcome.to_dict(), dict[str, Any])
    assert_type(outcome.production, Production | None)
    assert_type(outcome.files, Mapping[Path, Deliverable])
    assert_type(outcome.error, JaraiError | None)
    del as_text


async def request_stream() -> AsyncIterator[ProductionRequest]:
    yield request


async def orchestrator_batch(client: JaraiClient, requests: Iterable[ProductionRequest]) -> None:
    async with Orchestrator(
        client,
        concurrency=100,
        download_to=Path("deliverables"),
        polling=Polling(min_interval=5, max_interval=60.0),
        collect_for_review=True,
        deadline=3_600,
        cancel_on_exit=True,
    ) as orchestrator:
        assert_type(orchestrator, Orchestrator)
        async for event in orchestrator.run(requests):
            assert_type(event, Event)
            assert_type(event_text(event), str)
        run = orchestrator.run(request_stream())
        assert_type(await anext(run), Event)
        await run.aclose()
        Orchestrator(client, download_to="deliverables")


def event_text(event: Event) -> str:
    match event:
        case Submitted(reference=reference, production=production):
            return f"{reference} {production.id}"
        case StatusChanged(status=Status.PUBLISHED | Status.FAILED):
            pass
        case StatusChanged(previous=previous, status=status, changed_after=after, observed_at=before):
            assert_type(previous, Status)
            assert_type(status, Status)
            assert_type(before - after > before - after, bool)
            return f"{previous} -> {status}"
        case DeliverablesReady(deliverables=deliverables, final=True):
            assert_type(deliverables, tuple[Deliverable, ...])
            return f"{len(deliverables)} files"
        case Downloaded(path=path, deliverable=deliverable):
            return f"{path.name} {deliverable.type}"
        case Finished(outcome=outcome):
            return outcome_text(outcome)
    assert_type(event.production, Production | None)
    return f"{event.sequence}"


def outcome_text(outcome: Outcome) -> str:
    match outcome.state:
        case OutcomeState.PUBLISHED | OutcomeState.FAILED | OutcomeState.CANCELLED:
            return "ended"
        case OutcomeState.REJECTED | OutcomeState.UNCERTAIN | OutcomeState.TIMED_OUT:
            return f"{outcome.error}"
        case OutcomeState.NOT_FOUND | OutcomeState.INACCESSIBLE:
            return f"{outcome.error}"
        case never:
            assert_never(never)


async def orchestrator_tickets(orchestrator: Orchestrator) -> None:
    ticket = orchestrator.submit(request)
    assert_type(ticket, Ticket)
    assert_type(orchestrator.submit(request, deadline=60), Ticket)
    assert_type(await ticket, Outcome)
    assert_type(await ticket.outcome(), Outcome)
    assert_type(await ticket.task, Outcome)
    waiting: Awaitable[Outcome] = ticket
    assert_type(await waiting, Outcome)
    assert_type(await ticket.recorded(), None)
    assert_type(ticket.reference, str)
    assert_type(ticket.status, Status | None)
    assert_type(ticket.production, Production | None)
    text: str | None = ticket.production_id
    assert_type(ticket.cancel_requested, bool)
    assert_type(ticket.done, bool)
    assert_type(ticket.to_dict(), dict[str, Any])
    assert_type(ticket.expected_finish, datetime | None)
    if (reason := ticket.waiting_for) is not None and reason.reason is WaitReason.SLOT:
        assert_type(reason.since, datetime | None)
        assert_type(reason.until, datetime | None)
        assert_type(reason.detail, str)
        assert_type(reason.to_dict(), dict[str, Any])
    async for event in ticket.events():
        assert_type(event, Event)
        assert_type(event.to_dict(), dict[str, Any])
    await ticket.cancel()
    assert_type(await orchestrator.resolve("mine", production_id="id"), Ticket)
    assert_type(await orchestrator.retry("mine"), Ticket)
    assert_type(orchestrator.cursor, int)
    del text


def orchestrator_statistics(orchestrator: Orchestrator) -> None:
    statistics = orchestrator.statistics()
    assert_type(statistics, Statistics)
    assert_type(statistics.requests["poll"], int)
    assert_type(statistics.left_today, int | None)
    assert_type(statistics.waiting + statistics.in_flight + statistics.parked + statistics.finished, int)
    assert_type(statistics.lag, float | None)
    assert_type(statistics.expected_finish, datetime | None)
    assert_type(str(statistics), str)
    assert_type(statistics.to_dict(), dict[str, Any])


def error_attributes(error: Exception) -> None:
    match error:
        case InvalidRequestError(problems=problems):
            assert_type(problems, tuple[str, ...])
        case UncertainSubmitError(idempotency_key=key):
            assert_type(key, str)
        case BudgetExceededError() | ApiError():
            assert_type(error.status, int | None)
        case JaraiError(code=code, retry_after=seconds):
            assert_type(code, str | None)
            assert_type(seconds, float | None)


async def simulator_options() -> None:
    async with Simulator(seed=1, deliverability=Deliverability(loss=0.2)) as simulator:
        JaraiClient(simulator.api_key, base_url=simulator.base_url)
        ProductionRequest(topic="Tides", **simulator.ids)
        rule = simulator.when(3, topic="Tides", account_id="a", where=lambda body: "topic" in body)
        assert_type(rule, ProductionRule)
        rule.fails(step=8, code="A", message="b").expires().is_cancelled(after=60).loses_response()
        rule.takes(queued=1, producing=2.5, distributing=3).awaits_approval(7200, refused=True, code="A")
        rule.is_rejected(status=409, code="A").has_fault("hang", on="fetch", times=None, seconds=1)
        simulator.set_left_today(requests=3, productions=3)
        simulator.restore([production.to_dict() for production in simulator.productions.values()])
        run_command(simulator, "when 3 fails step=8")
        async with ControlServer(simulator, port=0) as control:
            assert_type(control.url, str)
        simulator.refuse("id", code="A", message="b")
        simulator.deliverability = Deliverability(loss=1, event_types=["production.published"])
    SimulatedEventLoop(epoch=datetime.now(UTC))


class TestOfAUser(JaraiTestCase):
    epoch = datetime(2026, 1, 1, tzinfo=UTC)

    def new_simulator(self) -> Simulator:
        return Simulator(tier="free")

    async def test(self) -> None:
        assert_type(self.simulator, Simulator)
        assert_type(self.client, JaraiClient)


def type_errors(client: JaraiClient, production: Production, requests: Sequence[ProductionRequest]) -> None:
    """Each line is a type error. mypy also reports an ignore comment that is not needed."""
    ProductionRequest("Tides")  # type: ignore[call-arg]  # keyword-only
    ProductionRequest(topic="Tides")  # type: ignore[call-arg]  # required fields
    production.status = Status.QUEUED  # type: ignore[misc]  # frozen
    client.submit(requests)  # type: ignore[arg-type, unused-coroutine]  # one request at a time
    client.fetch(0)  # type: ignore[arg-type, unused-coroutine]  # text or UUID
    Orchestrator(client, 100)  # type: ignore[call-arg]  # keyword-only


async def telemetry(orchestrator: Orchestrator) -> None:
    async with Telemetry(orchestrator, tracer_provider=None, meter_provider=None, interval=30) as telemetry:
        assert_type(telemetry, Telemetry)
        assert_type(telemetry.submit(request, deadline=3600), Ticket)
