"""Workers of one queue that crash, stop and lose their database, in one event loop on simulated time.

Each is a `CrashableProcess` on a machine of its own. PostgreSQL is a real server; its clock is that of the
loop. A transaction is work that the loop cannot see, so the clock stands still meanwhile, unless the process
has crashed or is stopped. At every boundary of a transaction (before it, before its commit, after it) a
process looks whether what the test waits for has come about, and if so, the test strikes there.
"""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import Context
from random import Random
from typing import Any, TypeVar, TypeVarTuple
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo

from jarai_async import JaraiClient, _clock
from jarai_async._postgres import schema
from jarai_async._postgres.database import Connection, Database
from jarai_async._postgres.job_queue import JobQueue
from jarai_async._worker import queue, worker
from jarai_async.simulator import Simulator
from jarai_async.workers import Queue, Worker
from tests.stress.crashes import CrashableLoop, CrashableProcess, Machine, current_process
from tests.support.shared_limits import FOLLOW_THE_LOOP

T = TypeVar("T")
Args = TypeVarTuple("Args")

LEASE = 15.0  # seconds
_RECONNECTED = 30.0  # seconds
_END_SESSIONS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE usename = %s AND datname = current_database()
"""


class WorkerLoop(CrashableLoop):
    """An event loop whose processes use libraries that wait for their own sockets."""

    def __init__(self) -> None:
        self.processes: weakref.WeakSet[WorkerProcess] = weakref.WeakSet()
        super().__init__()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let the clock stand still, as long as the process runs."""
        process = current_process()
        if not isinstance(process, WorkerProcess):
            with super().hold():
                yield
            return
        process.holds += 1
        try:
            yield
        finally:
            process.holds -= 1

    def _is_held(self) -> bool:
        return super()._is_held() or any(
            each.holds and each.is_running and not each.is_cut_off for each in self.processes
        )

    def add_reader(self, fd: Any, callback: Callable[[*Args], Any], *args: *Args) -> None:
        """Call when a socket can be read, as long as the process runs."""
        process = current_process()
        if isinstance(process, WorkerProcess):
            process.readers[fd] = (callback, args)
            if not process.is_running:
                return
        super().add_reader(fd, callback, *args)

    def pause_reader(self, fd: Any) -> None:
        """Call no more until the process adds it again."""
        super().remove_reader(fd)

    def remove_reader(self, fd: Any) -> bool:
        """Call no more."""
        process = current_process()
        if isinstance(process, WorkerProcess):
            process.readers.pop(fd, None)
        return super().remove_reader(fd)


class WorkerProcess(CrashableProcess):
    """A process with a worker, which uses the database as a user of its own."""

    def __init__(self, name: str, role: str, loop: WorkerLoop) -> None:
        super().__init__(Machine(loop), loop)
        self.name = name
        self.role = role
        self.holds = 0
        self.is_cut_off = False
        self.readers: dict[Any, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self.strike: Callable[[], None] = lambda: None
        self.task: asyncio.Task[None] | None = None
        self._loop_of_sockets = loop
        loop.processes.add(self)

    @property
    def is_running(self) -> bool:
        """Whether it has not crashed and is not stopped."""
        return not self.crashed and self.machine.awake.is_set()

    async def until(self, event: asyncio.Event) -> None:
        """Wait for an event. Raises what its program raises before."""
        assert self.task is not None
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            self.task.result()

    def reconnected(self) -> None:
        """Let the clock stand still again while it waits for the database."""
        self.is_cut_off = False

    def pause_reading(self) -> None:
        """Leave what arrives in the sockets, also those of libraries."""
        super().pause_reading()
        for descriptor in self.readers:
            self._loop_of_sockets.pause_reader(descriptor)

    def resume_reading(self) -> None:
        """Read what has arrived."""
        super().resume_reading()
        for descriptor, (callback, args) in list(self.readers.items()):
            self.context.run(self._loop_of_sockets.add_reader, descriptor, callback, *args)

    def crash(self) -> None:
        """Run no step any more."""
        super().crash()
        for descriptor in self.readers:
            self._loop_of_sockets.pause_reader(descriptor)


class ObservedDatabase(Database):
    """A database whose clock is that of the loop. Its process may be struck at each boundary."""

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def with_time(connection: Connection) -> T:
            await connection.execute("SELECT set_config('jarai.time', %s, true)", (repr(_clock.wall()),))
            result = await work(connection)
            await _boundary()
            return result

        await _boundary()
        result = await super().transaction(with_time)
        await _boundary()
        return result


async def _boundary() -> None:
    process = current_process()
    if isinstance(process, WorkerProcess):
        Context().run(process.strike)
        if process.crashed:
            await asyncio.Event().wait()
        if not process.is_running:
            await asyncio.sleep(0)  # in which it is stopped


class WorkerWorld:
    """A simulator, a database, a queue outside of all workers, and the workers."""

    def __init__(self, url: str, simulator: Simulator, queue: Queue, loop: WorkerLoop) -> None:
        self.simulator = simulator
        self.queue = queue
        self.processes: list[WorkerProcess] = []
        self._url = url
        self._loop = loop
        self._users = uuid4().hex
        self._admin = psycopg.connect(url, autocommit=True)

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; while it is executed, nothing else happens."""
        cursor = self._admin.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def start(self, name: str, *, keys: bool = False, **options: Any) -> WorkerProcess:
        """Start a worker."""
        role = f"{self._users}_{name}"
        self.sql(f'CREATE ROLE "{role}" SUPERUSER LOGIN')
        process = WorkerProcess(name, role, self._loop)
        self.processes.append(process)
        process.task = asyncio.create_task(process.run(self._work(process, keys=keys, **options)))
        return process

    async def _work(self, process: WorkerProcess, *, keys: bool, **options: Any) -> None:
        client = JaraiClient(
            self.simulator.api_key,
            base_url=self.simulator.base_url,
            idempotency_keys=keys,
            random=Random(process.name),
        )
        url = make_conninfo(self._url, user=process.role)
        async with client, Worker(client, url, lease=LEASE, name=process.name, **options) as worker:
            await worker.run()

    def kill(self, process: WorkerProcess) -> None:
        """End a process as SIGKILL does."""
        process.crash()
        self._end_sessions(process.role)
        self.sql("UPDATE jarai.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")

    def stop(self, process: WorkerProcess, seconds: float) -> None:
        """Stop a process for a while, as SIGSTOP does."""
        process.machine.sleep(seconds, stops_clock=False)
        self.sql("UPDATE jarai.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")

    def cut_off(self, process: WorkerProcess, seconds: float) -> None:
        """Refuse the database to a process for a while."""
        self.sql(f'ALTER ROLE "{process.role}" NOLOGIN')
        self._cut(process, seconds)
        self._loop.call_later(seconds, self.sql, f'ALTER ROLE "{process.role}" LOGIN')

    def restart_database(self) -> None:
        """End all sessions of workers, as a crash of the database does; then leases count from now on."""
        name = self.sql("SELECT current_database()")[0][0]
        self.sql(f"ALTER DATABASE {name} SET jarai.started = '{_clock.wall()!r}'")
        for process in self.processes:
            self._cut(process, 0.0)

    def depose(self, process: WorkerProcess) -> None:
        """Let the others believe that a process is dead, which goes on."""
        self.sql("UPDATE jarai.workers SET seen_at = 0 WHERE name = %s", process.name)

    def _cut(self, process: WorkerProcess, seconds: float) -> None:
        """End its sessions. The pauses of its pool need a clock that does not stand still meanwhile."""
        self._end_sessions(process.role)
        process.is_cut_off = True
        self._loop.call_later(3 * seconds + _RECONNECTED, process.reconnected)

    def _end_sessions(self, users: str) -> None:
        self.sql(_END_SESSIONS, users)


@asynccontextmanager
async def worker_world(url: str, **options: Any) -> AsyncIterator[WorkerWorld]:
    """Yield a world on an empty database, in a `WorkerLoop`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WorkerLoop)
    async with AsyncExitStack() as stack:
        await follow_the_loop(url)
        simulator = await stack.enter_async_context(Simulator(**options))
        yield WorkerWorld(url, simulator, await stack.enter_async_context(Queue(url)), loop)


async def follow_the_loop(url: str) -> None:
    """Create the tables of an empty database, whose clock will be that of each transaction's loop."""
    database = Database(url)
    await database.open()
    await schema.create(database)
    await JobQueue(database).open()
    await database.read(FOLLOW_THE_LOOP)
    await database.close()


@contextmanager
def observed_databases() -> Iterator[None]:
    """Let workers and queues use an `ObservedDatabase`."""
    modules: list[Any] = [queue, worker]
    for module in modules:
        module.Database = ObservedDatabase
    try:
        yield
    finally:
        for module in modules:
            module.Database = Database
