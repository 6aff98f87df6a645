"""Beyond one machine: a queue on PostgreSQL, and any number of workers that share one rate limit.

    pip install "jarai-async[postgres]"

Anywhere, without an API key:

    async with Queue("postgresql://db/jarai") as queue:
        ticket = await queue.submit(request)  # it is in the database when this returns
        outcome = await ticket

On any number of hosts, in as many processes:

    async with JaraiClient() as client, Worker(client, "postgresql://db/jarai", concurrency=500) as worker:
        await worker.run()

`Worker.produce(reference)` runs a request that another engine hands to a worker (tests/examples has programs
for DBOS and for Celery): as often as it likes, also in two workers at once.

The first worker or queue makes the tables, in the schema `jarai`. No request is lost or paid for twice,
whichever process is killed, paused or cut off, and whatever becomes of the database, as long as it keeps
what it has committed: with a replica that may take over, use synchronous replication. Where JARAI honours
idempotency keys no submit is ever in doubt; without them, those that were on their way from a worker that
died end as `uncertain`.
"""

from jarai_async._worker.queue import Queue
from jarai_async._worker.queue_ticket import QueueTicket
from jarai_async._worker.worker import Worker

__all__ = ["Queue", "QueueTicket", "Worker"]

for _name in __all__:
    globals()[_name].__module__ = __name__  # the public module, in tracebacks and documentation
