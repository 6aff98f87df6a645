"""A TCP proxy to PostgreSQL, whose connections can be closed, or go silent as if a cable were cut."""

import asyncio
import socket
from contextlib import suppress
from types import TracebackType
from typing import Self

from attrs import define, field
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jarai_async._tasks import stop


@define(eq=False)
class _Line:
    """The connections of one client."""

    port: int
    server: asyncio.Server
    flows: asyncio.Event
    writers: set[asyncio.StreamWriter] = field(factory=set)
    is_refused: bool = False


class SilentProxy:
    """Has a port of its own for each client of the server with this URL."""

    def __init__(self, url: str) -> None:
        self._parameters = conninfo_to_dict(url)
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        for name, line in self._lines.items():
            line.server.close()
            self.refuse(name)
        await asyncio.sleep(0)  # for connections that were accepted just now
        await stop(self._tasks)
        await asyncio.sleep(0)  # for the callbacks of these tasks

    async def open(self, name: str) -> str:
        """Return the URL of the database for a new client, which is its `application_name`, too."""

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                await self._serve(line, reader, writer)

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._is_closed:
                writer.transport.abort()
                return
            task = asyncio.ensure_future(run(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(lambda _: writer.transport.abort())
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        line = self._lines[name] = _Line(server.sockets[0].getsockname()[1], server, asyncio.Event())
        line.flows.set()
        parameters = self._parameters | {"host": "127.0.0.1", "port": line.port, "application_name": name}
        return make_conninfo("", **parameters)

    async def _serve(self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line.is_refused:
            return
        await line.flows.wait()
        connecting = asyncio.ensure_future(self._connect())
        try:
            there_reader, there_writer = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            (await connecting)[1].transport.abort()
            raise
        if line.is_refused:
            there_writer.transport.abort()
            return
        both = {writer, there_writer}
        line.writers |= both
        copies = [
            asyncio.ensure_future(_copy(reader, there_writer, line.flows)),
            asyncio.ensure_future(_copy(there_reader, writer, line.flows)),
        ]
        try:
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            line.writers -= both
            there_writer.transport.abort()
            await stop(copies)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._parameters["host"]), self._parameters.get("port") or 5432
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))

    def abort(self, name: str) -> None:
        """Close the connections of a client."""
        for writer in self._lines[name].writers:
            writer.transport.abort()

    def refuse(self, name: str) -> None:
        """Close the connections of a client, and all that it opens from now on."""
        self._lines[name].is_refused = True
        self.abort(name)

    def accept(self, name: str) -> None:
        """Let a client connect again."""
        self._lines[name].is_refused = False

    async def silence(self, name: str, seconds: float) -> None:
        """Pass nothing on for so long, then close the connections, as keepalives would."""
        self._lines[name].flows.clear()
        await asyncio.sleep(seconds)
        self.abort(name)
        self._lines[name].flows.set()


def unused_port() -> int:
    """Return a port for a server on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    while data := await reader.read(2**16):
        await flows.wait()
        writer.write(data)
        await writer.drain()
