"""Commands for a simulator as lines of text, directly and over HTTP."""

import inspect
import json
import math
import re
from typing import get_args

import aiohttp
import pytest

from jarai_async import JaraiClient
from jarai_async.simulator import (
    ControlServer,
    FaultName,
    ProductionRule,
    RouteName,
    Simulator,
    command_reference,
    run_command,
)
from tests.support.raw_client import open_simulator
from tests.support.scenarios import request_for


async def test_commands_do_what_the_methods_do(simulator: Simulator, client: JaraiClient) -> None:
    for line in (
        "fault unavailable:fetch:2",
        "fault internal_error:accounts:always",
        'when topic="How tides work" fails step=8 code=500',
        "when any takes queued=9",
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
        ("", "unknown command ''. Known are approve, clear, fault, left, refuse, when"),
        ("fualt hang", "unknown command 'fualt', did you mean 'fault'?"),
        ("fault", "expected KIND, KIND:ROUTE or KIND:ROUTE:TIMES"),
        ("fault hang:fetch:often", "times must be a whole number or always, not 'often'"),
        ("fault hang:fetch:0", "times must be 1 or more"),
        ("fault bit_flip", "bit_flip is a fault of downloads: its route is 'download'"),
        ("clear all", "clear cannot use 'all': it has no options"),
        ("fault hang:fecth", "unknown route 'fecth', did you mean 'fetch'?"),
        ("when 3", "add what happens: fails, expires"),
        ("when 3 fials", "unknown rule 'fials', did you mean 'fails'?"),
        (
            "when 3 fails stepp=8",
            "'stepp', did you mean 'step'. Known are code, message, step",
        ),
        ("when 3 fails 8", "fails cannot use '8': name an option: step=, code=, message="),
        ("when 3 fails step=8 step=9", "fails has two values for step"),
        ("when 3 expires after=8", "expires has no options: leave out 'after=8'"),
        ("when 3 is_cancelled", "is_cancelled needs after"),
        ("when 3 is_rejected status=200", "status must be that of an error"),
        ("when 3 awaits_approval 9 refused=maybe", "refused must be true or false, not 'maybe'"),
        ("when 3 awaits_approval soon", "seconds must be a number, not 'soon'"),
        ("when 3 fails step=eight", "step must be a whole number, not 'eight'"),
        ("when third=3 fails", "unknown option of when 'third'. Known are account_id, nth, topic"),
        ("approve", "approve needs the identifier of a production"),
        ("left", "left needs requests=N or productions=N"),
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
        assert (status, text.startswith("fault hang:usage:x: times must be a whole")) == (400, True)
        assert (await send("PUT"))[0] == 405
        for headers in ({"Origin": "http://127.0.0.1"}, {"Host": "jarai.example"}):
            assert (await send("POST", "clear", **headers))[0] == 403
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            await client.usage()
            await client.wait((await client.submit(request_for(simulator))).id)
    assert simulator.faults.fired == {"hang": 1}
    assert [status for _, status in next(iter(simulator.productions.values())).timeline][-1] == "Failed"


async def test_control_server_lists_its_commands_and_the_state(simulator: Simulator) -> None:
    """What can be sent, what was set up, and whether it has affected anything."""
    async with (
        ControlServer(simulator) as control,
        aiohttp.ClientSession() as session,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        simulator.when(1, topic="Bees").fails(step=8)
        simulator.when(topic="Owls").has_fault("bit_flip", on="download", times=None)
        simulator.faults.add("unavailable", times=2)
        production = await client.submit(request_for(simulator, topic="Bees"))
        simulator.faults.add("hang", on="usage")
        async with session.get(control.url) as response:
            assert (response.status, response.content_type) == (200, "text/plain")
            reference, _, state = (await response.text()).partition("requests so far:\n")
    assert reference.strip() == command_reference().strip()
    lines = [line.strip() for line in state.splitlines()]
    assert lines[0] == "submit: 3"
    assert lines[2].startswith("1 Queued ")
    assert lines[2].endswith(f" {production.id} 'Bees'")
    assert lines[3:] == [
        "rules:",
        "when 1 topic='Bees': fails step=8 code=PIPELINE_STEP_FAILED; 1 submissions have matched",
        "when topic='Owls': has_fault kind=bit_flip on=download times=always; 0 submissions have matched",
        "faults to come:",
        "bit_flip:download:always (when topic='Owls': has_fault kind=bit_flip on=download times=always)",
        "hang:usage:1",
        "faults so far:",
        "unavailable: 2",
    ]


def test_reference_is_complete() -> None:
    """Every rule, kind of fault and route; `jarai simulate --help` shows it."""
    text = command_reference()
    rules = {name for name, value in vars(ProductionRule).items() if inspect.isfunction(value)} - {"matches"}
    names = {name for name in rules if not name.startswith("_")} | {
        *get_args(FaultName),
        *get_args(RouteName),
    }
    assert names <= set(re.findall(r"\w+", text))
    assert max(map(len, text.splitlines())) <= 110
    for example in re.findall(r"^  ((?:fault|when) .*\w)$", text.partition("examples:")[2], re.MULTILINE):
        run_command(Simulator(), example)


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
