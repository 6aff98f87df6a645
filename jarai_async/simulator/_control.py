"""A server that runs commands of `_commands` while the simulator serves."""

from types import TracebackType
from typing import Self

from aiohttp import web

from jarai_async._tasks import start, uninterrupted
from jarai_async.simulator._commands import run_command
from jarai_async.simulator._common import LOOPBACK, LOOPBACK_HOSTS
from jarai_async.simulator._reference import command_reference, describe_state
from jarai_async.simulator._simulator import Simulator


class ControlServer:
    """Runs commands for a simulator that are sent by POST to its `url`, one in each line of the body.

    GET returns the list of all commands with examples, and the state: productions, rules, faults, and what
    they have affected. It listens on 127.0.0.1 only, and refuses what a web page sends. The status of a POST
    is 204, or 400 with a text that says which line is wrong; the lines before it were run. Entering raises
    OSError if the port is taken.

        async with ControlServer(simulator) as control:
            print(f'curl --data "when 3 fails step=8" {control.url}')
    """

    def __init__(self, simulator: Simulator, *, port: int = 0) -> None:
        self.url: str = ""
        self._simulator = simulator
        self._port = port
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, LOOPBACK, self._port).start()
        except BaseException:
            await uninterrupted(start(self._runner.cleanup))
            raise
        self.url = f"http://{LOOPBACK}:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await uninterrupted(start(self._runner.cleanup))

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        if request.url.host not in LOOPBACK_HOSTS or "Origin" in request.headers:
            return web.Response(status=403, text="only programs on this machine may send commands\n")
        if request.method == "GET":
            return web.Response(text=f"{command_reference()}\n{describe_state(self._simulator)}")
        if request.method != "POST":
            return web.Response(status=405, text="send commands by POST\n", headers={"Allow": "GET, POST"})
        body = (await request.read()).decode(errors="replace")
        try:
            for line in filter(str.strip, body.splitlines()):
                run_command(self._simulator, line)
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        return web.Response(status=204)
