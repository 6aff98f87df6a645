"""The wait helpers of other libraries, waiting for the same productions: lost waits, 429s, lag, duplicates.

In simulated time over loopback HTTP, with the simulator at 60 requests a minute and daily quotas off. No
production fails. For every library our client submits the productions, a minute passes until the complete
rate limit is available again, and then the library waits for all of them at once, in one `gather`. Of 200
productions none has ended by then. The figures of openai and azure-core vary a little from run to run (a few
waits, some requests).

- *jarai-async*: `JaraiClient.wait`, which shares its poller with the `Orchestrator`.
- *backoff*: a plain GET, on a session with `raise_for_status=True`, under two decorators as in its README:
  `on_predicate(expo, max_value=60)` over `on_exception(expo, ClientError, max_tries=8, jitter=None)`.
  (The README's other limit, `max_time`, reads the machine's clock, so it would never be reached here.)
- *replicate*: `predictions.async_get`, then `async_wait`: every half second; it tries a GET ten times.
- *openai*: `vector_stores.files.poll`: every second; it tries each request three times.
- *azure-core*: `AsyncLROPoller` over `AsyncLROBasePolling`: every 30 seconds; it tries a GET four times. It
  is a toolkit for clients rather than a client: here with `AsyncRetryPolicy()`, as clients made with it have.

All settings are the defaults. Most libraries have some that would do better here, and none was made for 200
jobs on 60 requests a minute: this shows what happens if they are not changed. The last three use `_adapter`,
which sends the `Retry-After` header that all three obey.

- *Lost*: the wait raised, so the caller does not learn how the production ends. It continues at JARAI.
- *Lag*: from the end of a production to the return of its wait, the mean of the waits that returned. If a
  library loses many waits, the others have more of the rate limit: compare only libraries that lose none.
- *Minutes*: until the last wait had returned or raised.

The second table makes one call that creates a production, and counts the productions that exist afterwards;
each of them has to be paid for. The response is lost (connection reset) once, or every time, or is a 500
every time, always after the production was created. JARAI is not known to support idempotency keys, and the
simulator does not support them here.

    pip install ".[benchmarks]" && python -m benchmarks.peers
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

from benchmarks._adapter import adapter, open_session, submission, submit_url
from benchmarks._bench import open_client, requests_for
from jarai_async import JaraiClient
from jarai_async.simulator import Simulator, run
from tests.support.figures import Figure, options, show

_ENDS = ("Published", "Failed", "Cancelled")
_WINDOW = 60.0  # seconds
_NOT_INSTALLED = "not installed: pip install '.[benchmarks]'"


@frozen
class Waiter:
    """What a library does: wait for the end of a production, and create one."""

    wait: Callable[[str], Awaitable[object]]
    create: Callable[[], Awaitable[object]]


def _our_client(simulator: Simulator) -> JaraiClient:
    return open_client(simulator, random=random.Random("peers"))


@asynccontextmanager
async def jarai_async(simulator: Simulator) -> AsyncIterator[Waiter]:
    async with _our_client(simulator) as client:
        yield Waiter(client.wait, lambda: client.submit(requests_for(simulator, 1)[0]))


@asynccontextmanager
async def exponential(simulator: Simulator) -> AsyncIterator[Waiter]:
    retry = backoff.on_exception(backoff.expo, aiohttp.ClientError, max_tries=8, jitter=None)
    async with open_session(simulator, raise_for_status=True) as session:

        @backoff.on_predicate(backoff.expo, lambda status: status not in _ENDS, max_value=60)
        @retry
        async def wait(production_id: str) -> object:
            async with session.get(f"{simulator.base_url}/productions/{production_id}") as response:
                return (await response.json())["status"]

        @retry
        async def create() -> object:
            async with session.post(submit_url(simulator), json=submission(simulator)) as response:
                return await response.json()

        yield Waiter(wait, create)


@asynccontextmanager
async def replicate(simulator: Simulator) -> AsyncIterator[Waiter]:
    library: Any = import_module("replicate")

    def shape(production_id: str, status: str) -> dict[str, Any]:
        state = "succeeded" if status in _ENDS else "starting" if status == "Queued" else "processing"
        return {"id": production_id, "model": "any/any", "version": "any", "status": state}

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
        state = "completed" if status in _ENDS else "in_progress"
        kind = {"object": "vector_store.file", "vector_store_id": "any", "created_at": 0, "usage_bytes": 0}
        return {"id": production_id, "status": state, **kind}

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
            response = await client.send_request(
                request(method, f"{url}{path}"), _return_pipeline_response=True
            )
            response.http_response.raise_for_status()
            return response

        async def wait(production_id: str) -> object:
            first = await send("GET", f"/operations/{production_id}")
            method = polling.AsyncLROBasePolling()
            return await poller(client, first, lambda response: response, method).result()

        yield Waiter(wait, lambda: send("POST", "/operations"))


LIBRARIES: dict[str, Callable[[Simulator], AbstractAsyncContextManager[Waiter]]] = {
    "jarai-async": jarai_async,
    "backoff": exponential,
    "replicate": replicate,
    "openai": openai,
    "azure-core": azure_core,
}


@define
class Waits:
    """The waits of one library: seconds of lag of those that returned, error types of the others."""

    lags: list[float] = field(factory=list)
    errors: Counter[str] = field(factory=Counter)

    async def follow(self, waiter: Waiter, production_id: str, ends_at: float) -> None:
        """Wait for a production that ends at this time."""
        try:
            await waiter.wait(production_id)
        except Exception as error:  # noqa: BLE001  # whatever a library raises when it gives up
            self.errors[type(error).__name__] += 1
        else:
            self.lags.append(asyncio.get_running_loop().time() - ends_at)


async def wait_for_all(name: str, count: int) -> list[Figure]:
    """Wait for this many productions at once."""
    random.seed(name)  # for libraries that use the global random generator
    async with Simulator(seed="peers", tier="standard", daily_quotas=False, failure_rate=0.0) as simulator:
        async with _our_client(simulator) as client:
            submits = (client.submit(request) for request in requests_for(simulator, count))
            ids = [production.id for production in await asyncio.gather(*submits)]
        await asyncio.sleep(_WINDOW)
        clock, waits = asyncio.get_running_loop().time, Waits()
        start, sent_before, rejected_before = clock(), len(simulator.requests), simulator.rate_limited
        ends = {item: max(start, simulator.productions[item].timeline[-1][0]) for item in ids}
        async with LIBRARIES[name](simulator) as waiter:
            await asyncio.gather(*(waits.follow(waiter, item, ends[item]) for item in ids))
            minutes = (clock() - start) / 60
        lag = sum(waits.lags) / len(waits.lags) if waits.lags else math.nan
        sent, lost = len(simulator.requests) - sent_before, waits.errors.total()
        rejected = simulator.rate_limited - rejected_before
        value = f"{lost:5} {rejected:7} {sent:9} {lag:9.1f} s {minutes:9.1f}"
        raised = ", ".join(f"{error} {times}" for error, times in waits.errors.most_common())
        return [Figure(_title(name), value), *([Figure("  raised", raised)] if raised else [])]


async def count_created(name: str, fault: str, times: int | None) -> int:
    """Count what one call creates if its response has a fault this many times, or always for None."""
    random.seed(name)
    async with Simulator(seed="peers", tier="standard", daily_quotas=False) as simulator:
        simulator.faults.add(fault, on="submit", times=times)
        async with LIBRARIES[name](simulator) as waiter:
            with contextlib.suppress(Exception):  # only the productions count, not what is raised
                await waiter.create()
        return len(simulator.productions)


async def duplicates(name: str) -> list[Figure]:
    """Count what one call creates under each fault."""
    created = [
        await count_created(name, "reset_after", 1),
        await count_created(name, "reset_after", None),
        await count_created(name, "internal_error_after", None),
    ]
    return [Figure(_title(name), "{:9} {:12} {:11}".format(*created))]


def _title(name: str) -> str:
    return f"{name} {version(name)}"


def _rows(measure: Callable[[str], Coroutine[Any, Any, list[Figure]]]) -> list[Figure]:
    figures: list[Figure] = []
    for name in LIBRARIES:
        try:
            version(name)
        except PackageNotFoundError:
            figures.append(Figure(name, _NOT_INSTALLED))
        else:
            figures += run(measure(name))
    return figures


def main() -> None:
    logging.disable()  # the libraries log their retries
    chosen = options(__doc__, productions=200)
    figures = [
        Figure("WAITS", " lost    429s  requests         lag   minutes"),
        *_rows(lambda name: wait_for_all(name, chosen.productions)),
        Figure("CREATED BY ONE CALL", "lost once  lost always  500 always"),
        *_rows(duplicates),
    ]
    title = f"{chosen.productions} productions waited for at once, at 60 requests a minute"
    show(title, figures, chosen.json)


if __name__ == "__main__":
    main()
