"""A web application with aiohttp: it takes requests by POST, and a page shows all productions.

    export JARAI_API_KEY=... JARAI_WEBHOOK_SECRET=...
    python aiohttp_app.py    # at http://127.0.0.1:8080, or another PORT

Everything is in the journal, so the application may be killed at any time. It has no login: add your own.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from jarai_async import (
    InvalidRequestError,
    JaraiClient,
    JaraiError,
    NotFoundError,
    Orchestrator,
    ProductionRequest,
    Ticket,
    UncertainSubmitError,
)
from jarai_async.receiver import Receiver

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
receiver = Receiver(os.environ["JARAI_WEBHOOK_SECRET"])  # JARAI shows it once, when you create the webhook
STATUSES = {NotFoundError: 404, UncertainSubmitError: 409}  # for the latter a person has to decide
ORCHESTRATOR = web.AppKey("orchestrator", Orchestrator)
routes = web.RouteTableDef()


async def run_orchestrator(app: web.Application) -> AsyncIterator[None]:
    async with (
        JaraiClient() as client,
        Orchestrator(
            client, journal="app.db", journal_wait=60, download_to="files", webhooks=receiver
        ) as orchestrator,
    ):
        await orchestrator.resume()  # continues what an earlier process has left
        app[ORCHESTRATOR] = orchestrator
        yield


@web.middleware
async def show_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidRequestError as error:
        return web.json_response({"problems": error.problems}, status=422)
    except json.JSONDecodeError as error:
        return web.json_response({"problems": [f"the body is not JSON: {error}"]}, status=422)
    except JaraiError as error:
        return web.json_response({"problems": [str(error)]}, status=STATUSES.get(type(error), 502))


async def get_ticket(request: web.Request) -> Ticket:
    if ticket := await request.app[ORCHESTRATOR].ticket(request.match_info["reference"]):
        return ticket
    raise web.HTTPNotFound


@routes.get("/")
async def page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(Path(__file__).with_name("page.html"))


@routes.post("/productions")
async def submit(request: web.Request) -> web.Response:
    ticket = request.app[ORCHESTRATOR].submit(ProductionRequest.from_dict(await request.json()))
    await ticket.recorded()  # from now on it survives a crash
    return web.json_response(ticket.to_dict(), status=202)


@routes.get("/productions")
async def productions(request: web.Request) -> web.Response:
    orchestrator = request.app[ORCHESTRATOR]
    cursor = orchestrator.cursor  # events behind it may be newer than the list
    tickets = [ticket.to_dict() for ticket in await orchestrator.tickets()]
    return web.json_response({"cursor": cursor, "productions": tickets})


@routes.get("/events")
async def events(request: web.Request) -> web.StreamResponse:
    try:
        after = int(request.headers.get("Last-Event-ID") or request.query.get("after", "0"))
    except ValueError:
        raise web.HTTPBadRequest from None
    stream = request.app[ORCHESTRATOR].events(after=after)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for event in stream:
        await response.write(f"id: {event.cursor}\ndata: {json.dumps(event.to_dict())}\n\n".encode())
    return response


@routes.get("/productions/{reference:.+}/files/{name}")
async def file(request: web.Request) -> web.FileResponse:
    ticket = await get_ticket(request)
    files = (await ticket).files if ticket.done else {}
    for path in files:
        if path.name == request.match_info["name"]:
            return web.FileResponse(path, headers={"Content-Disposition": "attachment"})
    raise web.HTTPNotFound


@routes.post("/productions/{reference:.+}/cancel")
async def cancel(request: web.Request) -> web.Response:
    ticket = await get_ticket(request)
    with suppress(TimeoutError):  # in an outage it goes on, and the events report it
        async with asyncio.timeout(5):
            await ticket.cancel()
    return web.json_response(ticket.to_dict(), status=202)


@routes.post("/productions/{reference:.+}/retry")
async def retry(request: web.Request) -> web.Response:
    ticket = await request.app[ORCHESTRATOR].retry(request.match_info["reference"])
    return web.json_response(ticket.to_dict(), status=202)


@routes.post("/productions/{reference:.+}/resolve")
async def resolve(request: web.Request) -> web.Response:
    created, resubmit = request.query.get("production_id"), request.query.get("resubmit") == "true"
    ticket = await request.app[ORCHESTRATOR].resolve(
        request.match_info["reference"], production_id=created, resubmit=resubmit
    )
    return web.json_response(ticket.to_dict(), status=202)


app = web.Application(middlewares=[show_errors])
app.cleanup_ctx.append(run_orchestrator)
app.router.add_post("/jarai", receiver.handle)
app.router.add_routes(routes)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8080"))
    web.run_app(
        app, host="127.0.0.1", port=port, shutdown_timeout=3
    )  # seconds for open pages, after a SIGTERM
