"""A web application with FastAPI: it takes requests by POST, and a page shows all productions.

    export JARAI_API_KEY=... JARAI_WEBHOOK_SECRET=...
    uvicorn fastapi_app:app --workers 1 --timeout-graceful-shutdown 3

One worker, because a journal belongs to one process. After a SIGTERM uvicorn cancels the event streams of
open pages when these 3 seconds are over, and logs that with a traceback. Everything is in the journal, so the
application may be killed at any time. It has no login: add your own.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

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


@asynccontextmanager
async def run_orchestrator(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    async with (
        JaraiClient() as client,
        Orchestrator(
            client, journal="app.db", journal_wait=60, download_to="files", webhooks=receiver
        ) as orchestrator,
    ):
        await orchestrator.resume()  # continues what an earlier process has left
        yield {"orchestrator": orchestrator}


app = FastAPI(lifespan=run_orchestrator)


def get_orchestrator(request: Request) -> Any:
    return request.state.orchestrator


Running = Annotated[Orchestrator, Depends(get_orchestrator)]


async def get_ticket(orchestrator: Orchestrator, reference: str) -> Ticket:
    if ticket := await orchestrator.ticket(reference):
        return ticket
    raise HTTPException(404)


@app.exception_handler(JaraiError)
async def show_error(_: Request, error: JaraiError) -> JSONResponse:
    if isinstance(error, InvalidRequestError):
        return JSONResponse({"problems": error.problems}, status_code=422)
    return JSONResponse({"problems": [str(error)]}, status_code=STATUSES.get(type(error), 502))


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/productions", status_code=202)
async def submit(fields: dict[str, Any], orchestrator: Running) -> dict[str, Any]:
    ticket = orchestrator.submit(ProductionRequest.from_dict(fields))
    await ticket.recorded()  # from now on it survives a crash
    return ticket.to_dict()


@app.get("/productions")
async def productions(orchestrator: Running) -> dict[str, Any]:
    cursor = orchestrator.cursor  # events behind it may be newer than the list
    return {"cursor": cursor, "productions": [ticket.to_dict() for ticket in await orchestrator.tickets()]}


@app.get("/events")
async def events(
    orchestrator: Running, after: int = 0, last_event_id: Annotated[int, Header()] = 0
) -> StreamingResponse:
    stream = orchestrator.events(after=last_event_id or after)

    async def messages() -> AsyncIterator[str]:
        async for event in stream:
            yield f"id: {event.cursor}\ndata: {json.dumps(event.to_dict())}\n\n"

    return StreamingResponse(messages(), media_type="text/event-stream")


@app.get("/productions/{reference:path}/files/{name}")
async def file(reference: str, name: str, orchestrator: Running) -> FileResponse:
    ticket = await get_ticket(orchestrator, reference)
    files = (await ticket).files if ticket.done else {}
    for path in files:
        if path.name == name:
            return FileResponse(path, filename=name)
    raise HTTPException(404)


@app.post("/productions/{reference:path}/cancel", status_code=202)
async def cancel(reference: str, orchestrator: Running) -> dict[str, Any]:
    ticket = await get_ticket(orchestrator, reference)
    with suppress(TimeoutError):  # in an outage it goes on, and the events report it
        async with asyncio.timeout(5):
            await ticket.cancel()
    return ticket.to_dict()


@app.post("/productions/{reference:path}/retry", status_code=202)
async def retry(reference: str, orchestrator: Running) -> dict[str, Any]:
    return (await orchestrator.retry(reference)).to_dict()


@app.post("/productions/{reference:path}/resolve", status_code=202)
async def resolve(
    reference: str, orchestrator: Running, production_id: str | None = None, *, resubmit: bool = False
) -> dict[str, Any]:
    return (await orchestrator.resolve(reference, production_id=production_id, resubmit=resubmit)).to_dict()


@app.post("/jarai")
async def receive(request: Request) -> Response:
    return Response(status_code=await receiver.receive(request.stream(), request.headers))
