"""A TCP server that sends exactly the bytes that a test needs."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(
    script: Script, *, port: int = 0, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run `script` for each request. Yield the server's URL and the request heads received so far."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            received.append(await reader.readuntil(b"\r\n\r\n"))
            await script(reader, writer)
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", port, ssl=ssl_context)
    async with listener:
        yield f"http{'s' if ssl_context else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}", received


def reply_with(data: bytes) -> Script:
    """Return a script that sends these bytes and closes the connection."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return script
