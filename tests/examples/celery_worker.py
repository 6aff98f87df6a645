"""Tasks of Celery that run productions: Celery decides which process runs each one.

    celery -A celery_worker worker --pool threads --concurrency 500

The requests are in the database, added by `Queue.submit`. A task may run twice, or on two hosts at once: the
production is paid for once, because a request has one owner.
"""

import asyncio
import os
import threading
from contextlib import AsyncExitStack

from celery import Celery
from celery.signals import worker_init, worker_shutdown

from jarai_async import JaraiClient
from jarai_async.workers import Worker

app = Celery("videos", broker=os.environ["CELERY_BROKER"], backend=os.environ["CELERY_BACKEND"])
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)  # a task of a dead process runs again
loop, resources = asyncio.new_event_loop(), AsyncExitStack()
workers: list[Worker] = []  # the one of this process


@app.task  # type: ignore[untyped-decorator]
def produce(reference: str) -> str:
    return str(asyncio.run_coroutine_threadsafe(workers[0].produce(reference), loop).result().state)


async def start() -> None:
    client = await resources.enter_async_context(JaraiClient())
    workers.append(await resources.enter_async_context(Worker(client, os.environ["JARAI_DATABASE"])))


@worker_init.connect  # type: ignore[untyped-decorator]
def start_worker(**_: object) -> None:
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(start(), loop).result()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def stop_worker(**_: object) -> None:
    asyncio.run_coroutine_threadsafe(resources.aclose(), loop).result()  # hands over to the other processes
