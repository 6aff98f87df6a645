import os
from collections.abc import AsyncIterator

from aiohttp import web

from jarai_async import JaraiClient, Orchestrator, ProductionRequest
from jarai_async.receiver import Receiver

receiver = Receiver(os.environ["JARAI_WEBHOOK_SECRET"])  # JARAI shows it once, when you create the webhook
ORCHESTRATOR = web.AppKey("orchestrator", Orchestrator)


async def run_orchestrator(app: web.Application) -> AsyncIterator[None]:
    async with JaraiClient() as client, Orchestrator(client, webhooks=receiver) as app[ORCHESTRATOR]:
        yield


async def produce(request: web.Request) -> web.Response:
    ticket = request.app[ORCHESTRATOR].submit(ProductionRequest.from_dict(await request.json()))
    outcome = await ticket
    return web.json_response({"state": outcome.state, "files": [file.type for file in outcome.deliverables]})


app = web.Application()
app.cleanup_ctx.append(run_orchestrator)
app.router.add_post("/jarai", receiver.handle)
app.router.add_post("/productions", produce)

if __name__ == "__main__":
    web.run_app(app, port=8080)
