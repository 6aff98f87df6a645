"""`jarai worker`: runs the productions of a queue in PostgreSQL until it is stopped."""

import argparse
import os
from typing import TYPE_CHECKING, Final

from jarai_async import _clock
from jarai_async._cli import output
from jarai_async._cli.client import open_client
from jarai_async._cli.options import Commands, add_remote, add_speed, count, duration
from jarai_async._cli.signals import stop_event
from jarai_async._errors import ConfigurationError
from jarai_async._locations import with_postgres
from jarai_async._tasks import start, stop

if TYPE_CHECKING:
    from jarai_async.workers import Worker

DATABASE: Final = "JARAI_DATABASE"
LEASE: Final = 15.0  # seconds
_INTERVAL = 300.0  # seconds between two lines about the progress


def add_worker(commands: Commands) -> None:
    """Add the command."""
    details = (
        "Start as many as you like, on any hosts: they share the rate limit, and continue with the "
        "productions of one that dies. Ctrl-C and SIGTERM hand them over at once. Programs add requests with "
        "`jarai_async.workers.Queue`, people with `jarai run BATCH --journal URL`, which needs no API key "
        "and follows them. Needs the extra `postgres`."
    )
    worker = add_remote(commands, "worker", "run the productions of a queue in PostgreSQL", details)
    worker.add_argument(
        "database", metavar="URL", nargs="?", help=f"such as postgresql://db/jarai (default: {DATABASE})"
    )
    concurrency_help = "maximum number of productions in flight in this process (default: %(default)s)"
    worker.add_argument("--concurrency", metavar="N", type=count, default=100, help=concurrency_help)
    folder_help = (
        "a folder that all workers see, or a URL such as s3://bucket/videos, for a folder with the files of "
        "each production"
    )
    worker.add_argument("--download-to", metavar="FOLDER", help=folder_help)
    review_help = "also download files for review while a production is AwaitingApproval"
    worker.add_argument("--review", action="store_true", help=review_help)
    deadline_help = "stop waiting for a production this long after it was accepted, such as 2h30m"
    worker.add_argument("--deadline", metavar="DURATION", type=duration, help=deadline_help)
    lease_help = "how long without a sign of life until others continue its productions (default: 15s)"
    worker.add_argument("--lease", metavar="DURATION", type=duration, default=LEASE, help=lease_help)
    worker.add_argument("--name", help="what the database and the log call it (default: host and process)")
    add_speed(worker)


async def run(options: argparse.Namespace) -> int:
    """Work until Ctrl-C, SIGTERM or SIGHUP. Raises ConfigurationError, JournalError."""
    url = options.database or os.environ.get(DATABASE)
    if not url:
        raise ConfigurationError(f"no database: give its URL, or set {DATABASE}")
    stopped = stop_event()
    new_worker: type[Worker] = with_postgres("jarai_async.workers").Worker
    async with (
        open_client(options) as client,
        new_worker(
            client,
            url,
            concurrency=options.concurrency,
            download_to=options.download_to,
            deadline=options.deadline,
            collect_for_review=options.review,
            lease=options.lease,
            name=options.name,
        ) as worker,
    ):
        output.print_message(f"{worker.name} works for {worker.location} (press Ctrl-C to stop)")
        working, shown = start(worker.run), ""
        try:
            while not stopped.is_set():
                await _clock.wait_until(_clock.monotonic() + _INTERVAL, stopped)
                statistics = str(worker.statistics())
                if statistics != shown and not options.quiet:
                    output.print_message(statistics)
                shown = statistics
        finally:
            await stop([working])
    output.print_message("stopped; the other workers, or this one when it is started again, continue")
    return 0
