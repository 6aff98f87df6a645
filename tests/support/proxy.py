"""An HTTP proxy: it forwards plain requests, and opens tunnels for https."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


@asynccontextmanager
async def open_proxy(
    *, host: str | None = None, refuse: bool = False
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Yield the proxy's URL and the request heads that it received.

    Every name leads to `host` if that is given. `refuse`: every request gets a 502.
    """
    received: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        received.append(head)
        method, target, rest = head.split(b" ", 2)
        url = urlsplit(("//" if method == b"CONNECT" else "") + target.decode())
        if refuse:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        there_reader, there_writer = await asyncio.open_connection(host or url.hostname, url.port or 80)
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = f"{url.path}?{url.query}" if url.query else url.path
            there_writer.write(b" ".join((method, path.encode(), rest)))
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await serve(reader, writer)

    listener = await asyncio.start_server(run, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", received
        for task in list(tasks):
            task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
