"""A web application in any number of processes, on any number of hosts, in front of any number of workers.

    export JARAI_DATABASE=postgresql://... JARAI_WEBHOOK_SECRET=...
    uvicorn queue_app:app --workers 2 --timeout-graceful-shutdown 3
    JARAI_API_KEY=... jarai worker --download-to /mnt/deliverables  # as often as you like, anywhere

Only the workers need the API key. Everything is in the database, so each process may be killed at any time.
The application has no login: add your own.
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
    JaraiError,
    NotFoundError,
    ProductionRequest,
    UncertainSubmitError,
)
from jarai_async.receiver import Receiver
from jarai_async.workers import Queue, QueueTicket

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
receiver = Receiver(os.environ["JARAI_WEBHOOK_SECRET"])  # JARAI shows it once, when you create the webhook
STATUSES = {NotFoundError: 404, UncertainSubmitError: 409}  # for the latter a person has to decide


@asynccontextmanager
async def open_queue(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    async with Queue(os.environ["JARAI_DATABASE"]) as queue:
        queue.listen(receiver)
        yield {"queue": queue}


app = FastAPI(lifespan=open_queue)


def get_queue(request: Request) -> Any:
    return request.state.queue


Open = Annotated[Queue, Depends(get_queue)]


async def get_ticket(queue: Queue, reference: str) -> QueueTicket:
    if ticket := await queue.ticket(reference):
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
async def submit(fields: dict[str, Any], queue: Open) -> dict[str, Any]:
    return (await queue.submit(ProductionRequest.from_dict(fields))).to_dict()


@app.get("/productions")
async def productions(queue: Open) -> dict[str, Any]:
    cursor = await queue.cursor()  # events behind it may be newer than the list
    return {"cursor": cursor, "productions": [ticket.to_dict() for ticket in await queue.tickets()]}


@app.get("/events")
async def events(
    queue: Open, after: int = 0, last_event_id: Annotated[int, Header()] = 0
) -> StreamingResponse:
    cursor = last_event_id or after
    if cursor > await queue.cursor():
        raise InvalidRequestError([f"no event has the cursor {cursor}"])

    async def messages() -> AsyncIterator[str]:
        async for event in queue.events(after=cursor):
            yield f"id: {event.cursor}\ndata: {json.dumps(event.to_dict())}\n\n"

    return StreamingResponse(messages(), media_type="text/event-stream")


@app.get("/productions/{reference:path}/files/{name}")
async def file(reference: str, name: str, queue: Open) -> FileResponse:
    ticket = await get_ticket(queue, reference)
    files = (await ticket).files if ticket.done else {}
    for path in files:
        if path.name == name:
            return FileResponse(path, filename=name)
    raise HTTPException(404)


@app.post("/productions/{reference:path}/cancel", status_code=202)
async def cancel(reference: str, queue: Open) -> dict[str, Any]:
    ticket = await get_ticket(queue, reference)
    with suppress(TimeoutError):  # in an outage it goes on, and the events report it
        async with asyncio.timeout(5):
            await ticket.cancel()
    await ticket.refresh()
    return ticket.to_dict()


@app.post("/productions/{reference:path}/retry", status_code=202)
async def retry(reference: str, queue: Open) -> dict[str, Any]:
    return (await queue.retry(reference)).to_dict()


@app.post("/productions/{reference:path}/resolve", status_code=202)
async def resolve(
    reference: str, queue: Open, production_id: str | None = None, *, resubmit: bool = False
) -> dict[str, Any]:
    return (await queue.resolve(reference, production_id=production_id, resubmit=resubmit)).to_dict()


@app.post("/jarai")
async def receive(request: Request) -> Response:
    return Response(status_code=await receiver.receive(request.stream(), request.headers))
