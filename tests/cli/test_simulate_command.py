"""`jarai simulate`: rules, the state file, new identifiers, and the process in the background."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import aiohttp
import pytest

from jarai_async import JaraiClient, Production, ProductionRequest
from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.commands import main
from jarai_async._cli.simulator_state import StateFile
from jarai_async.simulator import Simulator, run
from tests.cli.helpers import JARAI, start
from tests.support.scenarios import request_for

Printed = pytest.CaptureFixture[str]


def test_simulator_in_the_background_and_its_next_start(tmp_path: Path) -> None:
    """A shell evaluates what it prints. It logs each production, and the next start continues with them."""
    state = tmp_path / "state.jsonl"
    command = [*JARAI, "simulate", "--port=0", "--speed=600", "--failure-rate=0", "--state", str(state)]
    printed = subprocess.run([*command, "--background"], capture_output=True, check=True).stdout.decode()
    lines = [shlex.split(line) for line in printed.splitlines()]
    assert {words[0] for words in lines} == {"export"}
    settings = dict(words[1].split("=", 1) for words in lines)
    ids = {name: settings[f"JARAI_{name.upper()}"] for name in ID_FIELDS}
    log = Path(settings["JARAI_SIMULATOR_LOG"])

    async def submit() -> str:
        key, url, control = (settings[f"JARAI_{name}"] for name in ("API_KEY", "BASE_URL", "CONTROL_URL"))
        async with JaraiClient(key, base_url=url) as client, aiohttp.ClientSession() as session:
            async with session.post(control, data="when topic=Bees fails code=X") as response:
                assert response.status == 204
            request = ProductionRequest.from_dict({"topic": "Bees", **ids})
            return (await client.submit(request)).id

    production_id = asyncio.run(submit())
    os.kill(int(settings["JARAI_SIMULATOR_PID"]), signal.SIGKILL)
    assert f"production 1 was created: {production_id}, Bees" in log.read_text()
    log.unlink()

    with start([part for part in command if not part.startswith(("--speed", "--port"))], tmp_path) as process:
        assert process.stdout is not None
        again = json.loads(process.stdout.readline())
        assert {name: again[name] for name in ID_FIELDS} == ids
        for name in ("JARAI_API_KEY", "JARAI_BASE_URL", "JARAI_CONTROL_URL"):  # a journal belongs to a port
            assert again[name] == settings[name]

        async def ended() -> Production:
            async with JaraiClient(again["JARAI_API_KEY"], base_url=again["JARAI_BASE_URL"]) as client:
                return await client.wait(production_id)

        assert run(ended(), speed=600).error_code == "X"
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fault", "reset_aftr"], "unknown kind of fault 'reset_aftr', did you mean 'reset_after'?"),
        (["--when", "3 fials"], "unknown rule 'fials', did you mean 'fails'?"),
        (["--state", "other.json"], "other.json is not a state of `jarai simulate`"),
        (["--state", "state.jsonl", "--seed", "8"], "state.jsonl belongs to seed 7: leave out --seed"),
        (
            ["--state", "state.jsonl", "--speed", "60"],
            "belongs to speed 600.0: leave out --speed",
        ),
        (["--state", "state.jsonl", "--epoch", "2"], "state.jsonl belongs to epoch 1.0: leave out --epoch"),
        (["--state", "folder/missing.jsonl"], "folder/missing.jsonl"),
    ],
)
def test_mistakes_in_the_options_exit_with_2(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("[]")
    StateFile("state.jsonl", seed=7, epoch=1.0, speed=600.0).close()
    assert main(["simulate", "--port", "0", *options]) == 2
    assert message in capsys.readouterr().err


def test_second_simulator_with_the_same_state_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """Two at once lost each other's productions. The next start after the first has ended is accepted."""
    monkeypatch.chdir(tmp_path)
    first = StateFile("state.jsonl", seed=7, epoch=1.0)
    before = Path("state.jsonl").read_bytes()
    assert main(["simulate", "--port=0", "--state", "state.jsonl"]) == 2
    assert "state.jsonl is in use by another `jarai simulate`: stop that one" in capsys.readouterr().err
    assert Path("state.jsonl").read_bytes() == before
    first.close()
    StateFile("state.jsonl", seed=7, epoch=1.0).close()


async def test_state_file_keeps_the_last_state_of_each_production(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A line that was cut off is left out, and the file is as short as it can be."""
    path = tmp_path / "state.jsonl"
    state = StateFile(str(path), seed=5, epoch=1.0)
    for _ in range(2):
        await client.submit(request_for(simulator))
    first, second = simulator.productions.values()
    state.save(first)
    state.save(second)
    await client.cancel(first.production_id)
    state.save(first)
    state.close()
    with path.open("a") as file:
        file.write('{"production_id": "cut o')
    read = StateFile(str(path), seed=9, epoch=None)
    read.close()
    assert (read.seed, read.epoch) == (5, 1.0)
    assert list(read.productions) == [first.production_id, second.production_id]
    assert read.productions[first.production_id]["stages"][-1] == ["Cancelled", "inf"]
    assert len(path.read_text().splitlines()) == 3


async def test_state_file_keeps_webhooks_with_their_secrets(tmp_path: Path) -> None:
    """Only the owner can read it. The next simulator signs with the same secret, and draws other ones."""
    path, types = tmp_path / "state.jsonl", ["production.published"]
    path.touch(mode=0o644)
    path.write_text('{"jarai_simulator_seed": 5, "epoch": null}\n')
    state = StateFile(str(path), seed=5, epoch=None)
    async with (
        Simulator(seed=5, on_webhook_change=state.save_webhook) as first,
        JaraiClient(first.api_key, base_url=first.base_url) as client,
    ):
        urls = [f"https://example.org/{n}" for n in range(3)]
        kept, changed, deleted = [await client.create_webhook(url, types) for url in urls]
        await client.update_webhook(changed.id, event_types=["production.failed"])
        await client.delete_webhook(deleted.id)
        before = [webhook.to_dict() for webhook in first.webhooks]
    state.close()
    assert path.stat().st_mode & 0o777 == 0o600 or os.name == "nt"
    state = StateFile(str(path), seed=5, epoch=None)
    state.close()
    assert list(state.webhooks) == [kept.id, changed.id]
    async with (
        Simulator(seed=5) as second,
        JaraiClient(second.api_key, base_url=second.base_url) as client,
    ):
        second.restore(state.productions.values(), webhooks=state.webhooks.values())
        assert [webhook.to_dict() for webhook in second.webhooks] == before
        assert second.webhooks[0].signing_secret == kept.signing_secret.reveal()
        added = await client.create_webhook("https://example.org/new", types)
        assert added.id not in {kept.id, changed.id}
        assert added.signing_secret not in {kept.signing_secret, changed.signing_secret}
