import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response

from jarai_async import JaraiClient, Orchestrator, ProductionRequest
from jarai_async.receiver import Receiver

receiver = Receiver(os.environ["JARAI_WEBHOOK_SECRET"])


@asynccontextmanager
async def run_orchestrator(app: FastAPI) -> AsyncIterator[None]:
    async with JaraiClient() as client, Orchestrator(client, webhooks=receiver) as app.state.orchestrator:
        yield


app = FastAPI(lifespan=run_orchestrator)


@app.post("/jarai")
async def receive(request: Request) -> Response:
    return Response(status_code=await receiver.receive(request.stream(), request.headers))


@app.post("/productions")
async def produce(request: Request) -> dict[str, Any]:
    outcome = await app.state.orchestrator.submit(ProductionRequest.from_dict(await request.json()))
    return {"state": outcome.state, "files": [file.type for file in outcome.deliverables]}
