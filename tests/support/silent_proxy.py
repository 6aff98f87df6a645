"""A TCP proxy to a Unix socket, whose connections can be closed, or go silent as if a cable were cut."""

import asyncio
import socket
from types import TracebackType
from typing import Self

from attrs import define, field


@define
class _Line:
    """The connections of one client."""

    server: asyncio.Server
    flows: asyncio.Event
    writers: set[asyncio.StreamWriter] = field(factory=set)


class SilentProxy:
    """Listens for any number of clients, each on a port of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, line in self._lines.items():
            line.server.close()
            self.abort(name)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def open(self, name: str) -> int:
        """Return the port for a new client."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(line, reader, writer)
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                self._tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        line = self._lines[name] = _Line(server, asyncio.Event())
        line.flows.set()
        return int(server.sockets[0].getsockname()[1])

    async def _serve(
        self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await line.flows.wait()
        there_reader, there_writer = await asyncio.open_unix_connection(self._path)
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
            for copy in copies:
                copy.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
            there_writer.close()

    def abort(self, name: str) -> None:
        """Close the connections of a client."""
        for writer in self._lines[name].writers:
            writer.transport.abort()

    async def silence(self, name: str, seconds: float) -> None:
        """Pass nothing on for so long, then close the connections, as keepalives would."""
        self._lines[name].flows.clear()
        await asyncio.sleep(seconds)
        self.abort(name)
        self._lines[name].flows.set()

    async def unused_port(self) -> int:
        """Return a port for another server."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return int(free.getsockname()[1])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    while data := await reader.read(2**16):
        await flows.wait()
        writer.write(data)
        await writer.drain()
