"""Spans and metrics, as the SDK's in-memory exporters receive them, against the events and the simulator."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jarai_async import JaraiClient, Orchestrator, StatusChanged, Submitted
from jarai_async.otel import Telemetry
from jarai_async.simulator import Simulator
from tests.support.orchestrators import library_tasks
from tests.support.scenarios import request_for, requests_for


class Exported:
    """Providers, and what they have exported."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracer_provider.get_tracer("tests")

    def observe(self, orchestrator: Orchestrator) -> Telemetry:
        return Telemetry(
            orchestrator, tracer_provider=self.tracer_provider, meter_provider=self.meter_provider
        )

    def productions(self) -> list[ReadableSpan]:
        """Return the spans of productions, and check that none has a parent."""
        spans = [span for span in self._spans.get_finished_spans() if span.name == "jarai.production"]
        assert {span.parent for span in spans} <= {None}
        return spans

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data = self._reader.get_metrics_data()
        assert data is not None
        (of_scope,) = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        (found,) = [list(metric.data.data_points) for metric in of_scope.metrics if metric.name == name]
        return found

    def values(self, name: str, attribute: str) -> dict[str, float]:
        """Return the values of a counter, by an attribute, where they are not zero."""
        return {point.attributes[attribute]: point.value for point in self.points(name) if point.value}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_production_has_a_span_from_its_acceptance_to_its_end() -> None:
    """With its statuses at the times of the events, and a link to the span that submitted it."""
    exported = Exported()
    async with (
        Simulator(failure_rate=0.0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
        exported.observe(orchestrator) as telemetry,
    ):
        with exported.tracer.start_as_current_span("handler") as handler:
            ticket = telemetry.submit(
                request_for(simulator, reference="mine", project_type="social-video-30s")
            )
        outcome = await ticket
        events = [event async for event in ticket.events()]
    (span,) = exported.productions()
    assert outcome.submitted_at is not None
    assert span.start_time == pytest.approx(outcome.submitted_at.timestamp() * 1e9, abs=1000)
    assert span.end_time == pytest.approx(outcome.finished_at.timestamp() * 1e9, abs=1000)
    changes = [event for event in events if isinstance(event, Submitted | StatusChanged)]
    assert [event.name for event in span.events] == [event.production.status for event in changes]
    assert [link.context.span_id for link in span.links] == [handler.get_span_context().span_id]
    assert span.status.status_code is trace.StatusCode.UNSET
    assert outcome.production is not None
    assert attributes(span) == {
        "jarai.outcome": "published",
        "jarai.project_type": "social-video-30s",
        "jarai.reference": "mine",
        "jarai.account.id": simulator.account_id,
        "jarai.production.id": outcome.production.id,
        "jarai.requests": outcome.request_count,
        "jarai.files": 0,
    }


async def test_failed_rejected_and_uncertain_requests_have_spans_with_their_error() -> None:
    """One that JARAI did not accept takes no time. They are linked to the span around the block."""
    exported = Exported()
    with exported.tracer.start_as_current_span("script") as script:
        async with Simulator(failure_rate=1.0, spend_ceiling=2) as simulator:
            simulator.faults.add("reset_after", on="submit")
            async with (
                JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
                Orchestrator(client) as orchestrator,
                exported.observe(orchestrator),
            ):
                async for _ in orchestrator.run(requests_for(simulator, 3)):
                    pass
    spans = {attributes(span)["jarai.outcome"]: span for span in exported.productions()}
    assert {outcome: attributes(span)["error.type"] for outcome, span in spans.items()} == {
        "uncertain": "UncertainSubmitError",
        "rejected": "BUDGET_GATE_1_FAILED",
        "failed": "PIPELINE_STEP_FAILED",
    }
    for outcome, span in spans.items():
        assert span.status.status_code is trace.StatusCode.ERROR
        assert [link.context.span_id for link in span.links] == [script.get_span_context().span_id]
        assert (span.start_time == span.end_time) == (outcome != "failed")


async def test_webhook_that_is_created_is_not_counted_as_a_submit() -> None:
    """A count of submits is a count of what may cost money."""
    exported = Exported()
    async with (
        Simulator() as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
        exported.observe(orchestrator),
    ):
        webhook = await client.create_webhook("https://example.org/", ["production.published"])
        await client.test_webhook(webhook.id)
        await client.delete_webhook(webhook.id)
    assert exported.values("jarai.requests", "jarai.kind") == {"read": 3}


async def test_metrics_are_the_figures_of_the_simulator_and_of_the_events() -> None:
    """Requests by kind, 429s, outcomes, durations and lags; what is in flight ends as zero."""
    exported = Exported()
    async with Simulator(failure_rate=0.0, approval="auto") as simulator:
        simulator.faults.add("reset_after", on="submit")
        simulator.faults.add("rate_limited", on="fetch", seconds=20)
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client) as orchestrator,
            exported.observe(orchestrator),
        ):
            tickets = [orchestrator.submit(request) for request in requests_for(simulator, 5)]
            events = [event for ticket in tickets[1:] async for event in ticket.events()]
            outcomes = [await ticket for ticket in tickets]
            sent = orchestrator.statistics().requests
        received = Counter(request.route for request in simulator.requests)
    assert exported.values("jarai.requests", "jarai.kind") == {kind: n for kind, n in sent.items() if n}
    assert sent["submit"] == received["submit"]
    assert [point.value for point in exported.points("jarai.requests.rejected")] == [1]
    assert exported.values("jarai.outcomes", "jarai.outcome") == {"published": 4, "uncertain": 1}
    assert exported.values("jarai.productions", "jarai.state") == {}
    (duration,) = exported.points("jarai.production.duration")
    spent = [one.finished_at - one.submitted_at for one in outcomes if one.submitted_at is not None]
    assert duration.sum == pytest.approx(sum(time.total_seconds() for time in spent))
    (lag,) = exported.points("jarai.lag")
    changes = [event for event in events if isinstance(event, StatusChanged)]
    assert lag.count == len(changes)
    times = [(event.observed_at - event.changed_after).total_seconds() for event in changes]
    assert lag.sum == pytest.approx(sum(times) / 2)


async def test_productions_in_flight_are_reported_until_the_block_ends(tmp_path: Path) -> None:
    """And again by the next process, which also reports a production that it did not submit, once."""
    exported = Exported()
    journal = tmp_path / "journal"
    async with (
        Simulator(failure_rate=0.0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        async with Orchestrator(client, journal=journal) as orchestrator:
            async with exported.observe(orchestrator):
                for request in requests_for(simulator, 3):
                    orchestrator.submit(request)
                await asyncio.sleep(100)
                states = exported.values("jarai.productions", "jarai.state")
                assert states == {"in_flight": 3}
            assert exported.values("jarai.productions", "jarai.state") == {}
            assert [name for name in library_tasks() if "telemetry" in name] == []
        assert exported.productions() == []
        async with Orchestrator(client, journal=journal) as orchestrator, exported.observe(orchestrator):
            outcomes = [await ticket for ticket in await orchestrator.resume()]
    starts = sorted(span.start_time or 0 for span in exported.productions())
    accepted = sorted(outcome.submitted_at.timestamp() for outcome in outcomes if outcome.submitted_at)
    assert starts == pytest.approx([time * 1e9 for time in accepted], abs=1000)


async def test_end_that_the_journal_does_not_have_yet_is_not_missed(tmp_path: Path) -> None:
    """A ticket has its outcome before the event of it is committed."""
    exported = Exported()
    async with (
        Simulator(spend_ceiling=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, journal=tmp_path / "journal") as orchestrator,
    ):
        for number in range(50):
            with exported.tracer.start_as_current_span("script"):
                async with exported.observe(orchestrator) as telemetry:
                    await telemetry.submit(request_for(simulator, reference=str(number)))
    assert len(exported.productions()) == 50
    assert exported.values("jarai.outcomes", "jarai.outcome") == {"rejected": 50}


async def test_nothing_secret_is_exported() -> None:
    """No key, no signed URL and no topic; text from outside is printable."""
    exported = Exported()
    async with (
        Simulator(failure_rate=0.0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, collect_for_review=True) as orchestrator,
        exported.observe(orchestrator) as telemetry,
    ):
        await telemetry.submit(request_for(simulator, topic="A secret plan", reference="a\x1b[2J\u202e"))
        key = simulator.api_key
    (span,) = exported.productions()
    assert attributes(span)["jarai.reference"] == "a\\x1b[2J\\u202e"
    text = f"{span.to_json()} {exported.points('jarai.requests')}"
    assert "secret" not in text
    assert "sig=" not in text
    assert key not in text
