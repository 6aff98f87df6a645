"""Spans and metrics of an orchestrator for OpenTelemetry. Needs the extra `otel`.

    async with Orchestrator(client, journal="app.db") as orchestrator, Telemetry(orchestrator):
        ...

It reads `Orchestrator.events` and `Orchestrator.statistics`, as your own program could, so it costs nothing
where it is not used. Spans and metrics have references, identifiers, project types, statuses and error codes,
but no topic, no URL and no key.

There is one span, `jarai.production`, for each end of a request. It begins when JARAI accepted the
production, and its events are the statuses that this process saw. It is the root of a trace of its own,
because a production lives longer than the code that submits it. It is linked to the span that was current
when `Telemetry.submit` was called, or else when the block was entered.

| metric                      | kind                  | attributes                                     |
|-----------------------------|-----------------------|------------------------------------------------|
| `jarai.requests`            | counter               | `jarai.kind`: submit, poll, read, ...          |
| `jarai.requests.rejected`   | counter               | none: the requests that were answered with 429 |
| `jarai.productions`         | up-down counter       | `jarai.state`: waiting, in_flight or parked    |
| `jarai.outcomes`            | counter               | `jarai.outcome`: published, uncertain, ...     |
| `jarai.production.duration` | histogram, in seconds | `jarai.outcome`, `jarai.project_type`          |
| `jarai.lag`                 | histogram, in seconds | none                                           |

The duration is from acceptance to end. The lag is from a change of status to its observation, estimated as
half of the time between the two polls.
"""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from contextvars import Context as TaskContext
from datetime import datetime
from types import TracebackType
from typing import Self

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("jarai_async.otel needs: pip install 'jarai-async[otel]'") from _error

from jarai_async._api.models import ProductionRequest
from jarai_async._errors import JournalError
from jarai_async._events import Event, Finished, Outcome, StatusChanged, Submitted
from jarai_async._orchestrator.orchestrator import Orchestrator
from jarai_async._orchestrator.statistics import Statistics
from jarai_async._orchestrator.ticket import Ticket
from jarai_async._printable import printable
from jarai_async._tasks import start, stop

__all__ = ["Telemetry"]

_log = logging.getLogger("jarai_async")


class Telemetry:
    """Reports an orchestrator to OpenTelemetry, from the begin of its own `async with` block to the end.

    - `tracer_provider`, `meter_provider`: by default the global ones.
    - `interval`: seconds between two looks at the statistics, for `jarai.requests` and `jarai.productions`.

    Use one for each client: the requests of a client are counted for all of its orchestrators.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        interval: float = 30.0,
    ) -> None:
        self._orchestrator = orchestrator
        self._interval = interval
        self._spans = _Spans(trace.get_tracer("jarai_async", tracer_provider=tracer_provider))
        self._metrics = _Metrics(metrics.get_meter("jarai_async", meter_provider=meter_provider))
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._spans.default_link = trace.get_current_span().get_span_context()
        self._events = self._orchestrator.events(after=self._orchestrator.cursor)
        context = TaskContext()
        self._tasks = [
            start(self._read_events, name="jarai telemetry events", context=context),
            start(self._read_statistics, name="jarai telemetry statistics", context=context),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await stop(self._tasks)
        self._metrics.observe(self._orchestrator.statistics())
        self._metrics.close()
        await self._orchestrator.context.journal.flush()  # a ticket has its outcome before that is committed
        last = self._orchestrator.cursor
        with suppress(JournalError, StopAsyncIteration):
            while self._events.cursor < last:
                self._record(await anext(self._events))

    def submit(self, request: ProductionRequest, *, deadline: float | None = None) -> Ticket:
        """Do the same as `Orchestrator.submit`, and link the production's span to the current one."""
        ticket = self._orchestrator.submit(request, deadline=deadline)
        self._spans.links[ticket.reference] = trace.get_current_span().get_span_context()
        return ticket

    async def _read_events(self) -> None:
        try:
            async for event in self._events:
                self._record(event)
        except JournalError as error:
            _log.warning("spans and metrics of later events are missing: %s", error)

    def _record(self, event: Event) -> None:
        self._spans.record(event)
        self._metrics.record(event)

    async def _read_statistics(self) -> None:
        while True:
            self._metrics.observe(self._orchestrator.statistics())
            await asyncio.sleep(self._interval)


class _Spans:
    """Makes a span of the events of a request when it ends."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self.links: dict[str, trace.SpanContext] = {}  # by reference
        self.default_link = trace.INVALID_SPAN_CONTEXT
        self._statuses: dict[str, list[tuple[str, datetime]]] = {}  # of requests that have not ended

    def record(self, event: Event) -> None:
        match event:
            case Submitted() | StatusChanged():
                status = printable(event.production.status)
                self._statuses.setdefault(event.reference, []).append((status, event.observed_at))
            case Finished():
                self._end(event.outcome, self._statuses.pop(event.reference, []))

    def _end(self, outcome: Outcome, statuses: list[tuple[str, datetime]]) -> None:
        link = self.links.pop(outcome.reference, self.default_link)
        span = self._tracer.start_span(
            "jarai.production",
            context=Context(),
            links=[trace.Link(link)] if link.is_valid else (),
            start_time=_nanoseconds(outcome.submitted_at or outcome.finished_at),
            attributes=_span_attributes(outcome),
        )
        for status, time in statuses:
            span.add_event(status, timestamp=_nanoseconds(time))
        if outcome.error is not None:
            span.set_status(trace.StatusCode.ERROR, str(outcome.state))
        span.end(_nanoseconds(outcome.finished_at))


class _Metrics:
    """Counts and measures."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._requests = meter.create_counter("jarai.requests", "{request}")
        self._rejected = meter.create_counter("jarai.requests.rejected", "{request}")
        self._productions = meter.create_up_down_counter("jarai.productions", "{production}")
        self._outcomes = meter.create_counter("jarai.outcomes", "{request}")
        self._durations = meter.create_histogram("jarai.production.duration", "s")
        self._lags = meter.create_histogram("jarai.lag", "s")
        self._sent = Counter[str]()
        self._rate_limited = 0
        self._states = Counter[str]()

    def record(self, event: Event) -> None:
        match event:
            case StatusChanged():
                self._lags.record((event.observed_at - event.changed_after).total_seconds() / 2)
            case Finished(outcome=outcome):
                self._outcomes.add(1, {"jarai.outcome": str(outcome.state)})
                if outcome.submitted_at is not None:
                    seconds = (outcome.finished_at - outcome.submitted_at).total_seconds()
                    self._durations.record(seconds, _duration_attributes(outcome))

    def observe(self, statistics: Statistics) -> None:
        """Count what has changed since the last call."""
        for kind, count in statistics.requests.items():
            self._requests.add(count - self._sent[kind], {"jarai.kind": kind})
        self._sent = Counter(statistics.requests)
        self._rejected.add(statistics.rate_limited - self._rate_limited)
        self._rate_limited = statistics.rate_limited
        for name in ("waiting", "in_flight", "parked"):
            self._set_state(name, getattr(statistics, name))

    def close(self) -> None:
        """Take back the productions of this process: another one may continue with them."""
        for name in self._states:
            self._set_state(name, 0)

    def _set_state(self, name: str, count: int) -> None:
        self._productions.add(count - self._states[name], {"jarai.state": name})
        self._states[name] = count


def _span_attributes(outcome: Outcome) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = _duration_attributes(outcome) | {
        "jarai.reference": printable(outcome.reference),
        "jarai.account.id": outcome.request.account_id,
        "jarai.requests": outcome.request_count,
        "jarai.files": len(outcome.files),
    }
    if outcome.production is not None:
        attributes["jarai.production.id"] = outcome.production.id
    if outcome.error is not None:
        attributes["error.type"] = printable(outcome.error.code or type(outcome.error).__name__)
    return attributes


def _duration_attributes(outcome: Outcome) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {"jarai.outcome": str(outcome.state)}
    if outcome.request.project_type is not None:
        attributes["jarai.project_type"] = printable(outcome.request.project_type)
    return attributes


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp() * 1e6) * 1000
