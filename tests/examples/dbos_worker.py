"""Workflows of DBOS that run productions: DBOS decides where each one runs, and runs it again after a crash.

The requests are in the database, added by `Queue.submit`. A workflow may run twice, or on two hosts at once:
the production is paid for once, because a request has one owner.
"""

import asyncio
import os

from dbos import DBOS, DBOSConfig

from jarai_async import JaraiClient
from jarai_async.workers import Worker

workers: dict[str, tuple[Worker, asyncio.AbstractEventLoop]] = {}


@DBOS.step()
async def produce(reference: str) -> str:
    worker, loop = workers["here"]
    production = asyncio.run_coroutine_threadsafe(worker.produce(reference), loop)  # DBOS has another loop
    return str((await asyncio.wrap_future(production)).state)


@DBOS.workflow()
async def make_video(reference: str) -> str:
    return await produce(reference)  # further steps follow here


async def main(references: list[str]) -> dict[str, str]:
    config: DBOSConfig = {"name": "videos", "system_database_url": os.environ["DBOS_DATABASE"]}
    async with JaraiClient() as client, Worker(client, os.environ["JARAI_DATABASE"]) as worker:
        workers["here"] = worker, asyncio.get_running_loop()
        DBOS(config=config)
        DBOS.launch()
        handles = {one: await DBOS.start_workflow_async(make_video, one) for one in references}
        states = {one: await handle.get_result() for one, handle in handles.items()}
        await asyncio.to_thread(DBOS.destroy)
    return states
