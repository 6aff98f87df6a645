"""The wait helpers of others, set to the same productions: waits lost, 429s, lag; and work paid for twice.

In simulated time over loopback HTTP, against the simulator at 60 requests a minute, daily quotas off; no
production fails. The same for every row: our client submits the productions, a minute passes until the
budget is whole again, then the row waits for all of them at once, in one `gather`. Of 200, none has ended
by then. The figures of openai and azure-core vary a little from run to run (a few waits, some requests).

- *jarai-async*: `JaraiClient.wait`, which shares its poller with the `Orchestrator`.
- *backoff*: a bare GET, on a session with `raise_for_status=True`, under two decorators as in its README:
  `on_predicate(expo, max_value=60)` over `on_exception(expo, ClientError, max_tries=8, jitter=None)`.
  (The README's other limit, `max_time`, reads the machine's clock: here it would never be reached.)
- *replicate*: `predictions.async_get`, then `async_wait`: every half second; a GET is tried ten times.
- *openai*: `vector_stores.files.poll`: every second; each request is tried three times.
- *azure-core*: `AsyncLROPoller` over `AsyncLROBasePolling`: every 30 seconds; a GET is tried four times. It
  is a kit for clients rather than a client: here with `AsyncRetryPolicy()`, as those made with it have.

All settings are the defaults. Most have some that would serve better here, and none was made for 200 jobs
on 60 requests a minute: this shows what happens to who does not think of it. The last three talk through
`_adapter`, which gives them the `Retry-After` that all three obey.

- *Lost*: the wait raised, and nobody learns what becomes of the production, which goes on.
- *Lag*: from the true end of a production to the return of its wait, on average over those that returned.
  Who loses many leaves the budget to the few that remain: compare it only among those that lose none.
- *Minutes*: until the last wait had returned or raised.

The second table makes one call that creates, and counts the productions that there are then, each of them
paid for: where the answer is lost (the connection is reset) once, where it is lost each time, and where it
is a 500 each time, all of them after the work was done. JARAI is not known to honour idempotency keys, and
the simulator does not.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import aiohttp
import backoff
from attrs import define, field, frozen

from benchmarks._adapter import adapter, session_of, submission, submit_url
from benchmarks._bench import topics
from jarai_async import JaraiClient, RateLimit
from jarai_async.simulator import Simulator, run
from tests.support.figures import Figure, options, show

_ENDS = ("Published", "Failed", "Cancelled")
_IDS = ("account_id", "language_id", "country_id", "avatar_id")
_BUDGET = RateLimit(per_day=10**9)
_WINDOW = 60.0  # seconds
_LEFT_OUT = "left out: pip install '.[benchmarks]'"


@frozen
class Waiter:
    """What a row does: wait for the end of one production, and create one."""

    wait: Callable[[str], Awaitable[object]]
    create: Callable[[], Awaitable[object]]


def _ours(simulator: Simulator) -> JaraiClient:
    dice = random.Random("peers")
    return JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=_BUDGET, random=dice)


def _requests(simulator: Simulator, count: int) -> list[Any]:
    return topics(count, {name: getattr(simulator, name) for name in _IDS})


@asynccontextmanager
async def jarai_async(simulator: Simulator) -> AsyncIterator[Waiter]:
    async with _ours(simulator) as client:
        yield Waiter(client.wait, lambda: client.submit(_requests(simulator, 1)[0]))


@asynccontextmanager
async def exponential(simulator: Simulator) -> AsyncIterator[Waiter]:
    persistent = backoff.on_exception(backoff.expo, aiohttp.ClientError, max_tries=8, jitter=None)
    async with session_of(simulator, raise_for_status=True) as session:

        @backoff.on_predicate(backoff.expo, lambda status: status not in _ENDS, max_value=60)
        @persistent
        async def wait(production_id: str) -> object:
            async with session.get(f"{simulator.base_url}/productions/{production_id}") as response:
                return (await response.json())["status"]

        @persistent
        async def create() -> object:
            async with session.post(submit_url(simulator), json=submission(simulator)) as response:
                return await response.json()

        yield Waiter(wait, create)


@asynccontextmanager
async def replicate(simulator: Simulator) -> AsyncIterator[Waiter]:
    library: Any = import_module("replicate")

    def shape(production_id: str, status: str) -> dict[str, Any]:
        told = "succeeded" if status in _ENDS else "starting" if status == "Queued" else "processing"
        return {"id": production_id, "model": "any/any", "version": "any", "status": told}

    async with adapter(simulator, shape) as url:
        client = library.Client("any", base_url=url)

        async def wait(production_id: str) -> object:
            prediction = await client.predictions.async_get(production_id)
            return await prediction.async_wait()

        yield Waiter(wait, lambda: client.predictions.async_create(version="any", input={}))


@asynccontextmanager
async def openai(simulator: Simulator) -> AsyncIterator[Waiter]:
    library: Any = import_module("openai")

    def shape(production_id: str, status: str) -> dict[str, Any]:
        told = "completed" if status in _ENDS else "in_progress"
        kind = {"object": "vector_store.file", "vector_store_id": "any", "created_at": 0, "usage_bytes": 0}
        return {"id": production_id, "status": told, **kind}

    async with adapter(simulator, shape) as url, library.AsyncOpenAI(api_key="any", base_url=url) as client:
        files = client.vector_stores.files
        yield Waiter(
            lambda production_id: files.poll(production_id, vector_store_id="any"),
            lambda: files.create("any", file_id="any"),
        )


@asynccontextmanager
async def azure_core(simulator: Simulator) -> AsyncIterator[Waiter]:
    core: Any = import_module("azure.core")
    polling: Any = import_module("azure.core.polling.async_base_polling")
    policies: Any = import_module("azure.core.pipeline.policies")
    request: Any = import_module("azure.core.rest").HttpRequest
    poller: Any = import_module("azure.core.polling").AsyncLROPoller
    pipeline = [policies.RequestIdPolicy(), policies.ContentDecodePolicy(), policies.AsyncRetryPolicy()]

    def shape(production_id: str, status: str) -> dict[str, Any]:
        return {"id": production_id, "status": "Succeeded" if status in _ENDS else "Running"}

    async with adapter(simulator, shape) as url, core.AsyncPipelineClient(url, policies=pipeline) as client:

        async def send(method: str, path: str) -> Any:
            answer = await client.send_request(
                request(method, f"{url}{path}"), _return_pipeline_response=True
            )
            answer.http_response.raise_for_status()
            return answer

        async def wait(production_id: str) -> object:
            first = await send("GET", f"/operations/{production_id}")
            method = polling.AsyncLROBasePolling()
            return await poller(client, first, lambda answer: answer, method).result()

        yield Waiter(wait, lambda: send("POST", "/operations"))


ROWS: dict[str, Callable[[Simulator], AbstractAsyncContextManager[Waiter]]] = {
    "jarai-async": jarai_async,
    "backoff": exponential,
    "replicate": replicate,
    "openai": openai,
    "azure-core": azure_core,
}


@define
class Waits:
    """What became of the waits of one row: seconds of lag of those that returned, errors of the others."""

    lags: list[float] = field(factory=list)
    errors: Counter[str] = field(factory=Counter)

    async def follow(self, waiter: Waiter, production_id: str, ends: float) -> None:
        """Wait for one that truly ends at this moment."""
        try:
            await waiter.wait(production_id)
        except Exception as error:  # noqa: BLE001  # whatever a library raises when it gives up
            self.errors[type(error).__name__] += 1
        else:
            self.lags.append(asyncio.get_running_loop().time() - ends)


async def waits(name: str, count: int) -> list[Figure]:
    """Wait for so many productions at once."""
    random.seed(name)  # the dice of the libraries that do not take their own
    async with Simulator(seed="peers", tier="standard", daily_quotas=False, failure_rate=0.0) as simulator:
        async with _ours(simulator) as client:
            submits = (client.submit(request) for request in _requests(simulator, count))
            ids = [production.id for production in await asyncio.gather(*submits)]
        await asyncio.sleep(_WINDOW)
        clock, found = asyncio.get_running_loop().time, Waits()
        start, before, refused = clock(), len(simulator.requests), simulator.rate_limited
        ends = {one: max(start, simulator.productions[one].timeline[-1][0]) for one in ids}
        async with ROWS[name](simulator) as waiter:
            await asyncio.gather(*(found.follow(waiter, one, ends[one]) for one in ids))
            minutes = (clock() - start) / 60
        lag = sum(found.lags) / len(found.lags) if found.lags else math.nan
        sent, lost = len(simulator.requests) - before, found.errors.total()
        refused = simulator.rate_limited - refused
        value = f"{lost:5} {refused:7} {sent:9} {lag:9.1f} s {minutes:9.1f}"
        raised = ", ".join(f"{error} {times}" for error, times in found.errors.most_common())
        return [Figure(_title(name), value), *([Figure("  raised", raised)] if raised else [])]


async def paid(name: str, fault: str, times: int | None) -> int:
    """Count what one call makes where its answer is spoilt so many times, None for always."""
    random.seed(name)
    async with Simulator(seed="peers", tier="standard", daily_quotas=False) as simulator:
        simulator.faults.add(fault, on="submit", times=times)
        async with ROWS[name](simulator) as waiter:
            with contextlib.suppress(Exception):  # each library's own; what it did is what counts
                await waiter.create()
        return len(simulator.productions)


async def duplicates(name: str) -> list[Figure]:
    """Count what one call makes under each fault."""
    made = [
        await paid(name, "reset_after", 1),
        await paid(name, "reset_after", None),
        await paid(name, "internal_error_after", None),
    ]
    return [Figure(_title(name), "{:9} {:12} {:11}".format(*made))]


def _title(name: str) -> str:
    return f"{name} {version(name)}"


def _rows(measure: Callable[[str], Coroutine[Any, Any, list[Figure]]]) -> list[Figure]:
    figures: list[Figure] = []
    for name in ROWS:
        try:
            version(name)
        except PackageNotFoundError:
            figures.append(Figure(name, _LEFT_OUT))
        else:
            figures += run(measure(name))
    return figures


def main() -> None:
    logging.disable()  # what each tells of its retries
    chosen = options(__doc__, productions=200)
    figures = [
        Figure("WAITS", " lost    429s  requests         lag   minutes"),
        *_rows(lambda name: waits(name, chosen.productions)),
        Figure("PAID FOR ONE CALL", "lost once  lost always  500 always"),
        *_rows(duplicates),
    ]
    title = f"{chosen.productions} productions waited for at once, at 60 requests a minute"
    show(title, figures, chosen.json)


if __name__ == "__main__":
    main()
