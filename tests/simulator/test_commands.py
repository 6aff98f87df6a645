"""Commands for a simulator as lines of text, directly and over HTTP."""

import json
import math

import aiohttp
import pytest

from jarai_async import JaraiClient
from jarai_async.simulator import ControlServer, Simulator, run_command
from tests.support.raw_client import open_simulator
from tests.support.scenarios import request_for


async def test_commands_do_what_the_methods_do(simulator: Simulator, client: JaraiClient) -> None:
    for line in (
        "fault unavailable:fetch:2",
        "fault internal_error:accounts:always",
        'when topic="How tides work" fails step=8 code=500',
        "when 2 awaits-approval inf",
        "when 3 has_fault forbidden on=cancel times=none",
        "when 4 is_rejected",
    ):
        run_command(simulator, line)
    topics = ["How tides work", "Bees", "Owls"]
    first, second, third = [(await client.submit(request_for(simulator, topic=topic))).id for topic in topics]
    ended = await client.wait(first)
    assert (ended.error_code, ended.current_step) == ("500", 8)
    assert simulator.faults.fired["unavailable"] == 2
    assert simulator.productions[second].stages[2] == ("AwaitingApproval", math.inf)
    await client.wait(third)
    run_command(simulator, f"refuse {second} code=OFF_BRAND")
    assert (await client.fetch(second)).error_code == "OFF_BRAND"
    run_command(simulator, "clear")
    assert await client.accounts()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "unknown command ''. Known are fault, clear, when, approve, refuse, left"),
        ("fualt hang", "unknown command 'fualt', did you mean 'fault'?"),
        ("fault", "expected KIND, KIND:ROUTE or KIND:ROUTE:TIMES"),
        ("fault hang:fetch:often", "invalid literal for int"),
        ("fault hang:fecth", "unknown route 'fecth', did you mean 'fetch'?"),
        ("when 3", "add what happens: fails, expires"),
        ("when 3 fials", "unknown rule 'fials', did you mean 'fails'?"),
        ("when 3 fails stop=8", "unexpected keyword argument 'stop'"),
        ("when 3 fails step=x", "could not convert string to float"),
        ("when third=3 fails", "unexpected keyword argument 'third'"),
        ("approve nothing", "there is no production nothing"),
        ("left productions=3", "the quota of this tier is unlimited"),
        ('when topic="Bees fails', "No closing quotation"),
    ],
)
async def test_wrong_command_is_reported_and_changes_nothing(
    simulator: Simulator, client: JaraiClient, line: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        run_command(simulator, line)
    assert str(caught.value).startswith(f"{line}: ")
    production = await client.wait((await client.submit(request_for(simulator))).id)
    assert production.status == "Published"


async def test_control_server_runs_commands_of_programs_on_this_machine(simulator: Simulator) -> None:
    """One in each line; a web page cannot send any."""
    async with ControlServer(simulator) as control, aiohttp.ClientSession() as session:

        async def send(method: str, body: str = "", **headers: str) -> tuple[int, str]:
            async with session.request(method, control.url, data=body, headers=headers) as response:
                return response.status, await response.text()

        assert await send("POST", "fault hang:usage\n\nwhen 1 expires\n") == (204, "")
        status, text = await send("POST", "fault hang:usage:x")
        assert (status, text.startswith("fault hang:usage:x: invalid literal")) == (400, True)
        assert (await send("GET"))[0] == 405
        for headers in ({"Origin": "http://127.0.0.1"}, {"Host": "jarai.example"}):
            assert (await send("POST", "clear", **headers))[0] == 403
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            await client.usage()
            await client.wait((await client.submit(request_for(simulator))).id)
    assert simulator.faults.fired == {"hang": 1}
    assert [status for _, status in next(iter(simulator.productions.values())).timeline][-1] == "Failed"


async def test_restored_productions_continue_where_they_would_be() -> None:
    """The next simulator has their true state, counts them in the quotas, and creates others."""
    changed: list[str] = []
    async with open_simulator(on_change=lambda each: changed.append(each.production_id)) as (first, api):
        ids = [await api.start_production() for _ in range(2)]
        await api.request("DELETE", f"/productions/{ids[1]}")
        saved = json.loads(json.dumps([production.to_dict() for production in first.productions.values()]))
    assert changed == [ids[0], ids[1], ids[1]]
    async with open_simulator(tier="free") as (second, api):
        second.restore(saved)
        for id_ in ids:
            assert second.productions[id_].timeline == first.productions[id_].timeline
        assert await api.start_production() not in ids
        assert (await api.submit()).status == 429  # three productions a day
