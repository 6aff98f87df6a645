"""Commands that take the URL of a queue in PostgreSQL in place of a journal."""

import asyncio
import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest

from jarai_async import JaraiClient, ProductionRequest
from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.commands import main
from jarai_async.simulator import Simulator
from jarai_async.simulator import run as run_simulated
from jarai_async.workers import Queue
from tests.cli.helpers import JARAI, id_options, lines, write_batch
from tests.support.postgres import working
from tests.support.scenarios import request_for
from tests.support.strategies import ID

IDS: Any = dict.fromkeys(ID_FIELDS, ID)
Printed = pytest.CaptureFixture[str]


def as_url(conninfo: str) -> str:
    parameters = psycopg.conninfo.conninfo_to_dict(conninfo)
    return f"postgresql:///{quote(str(parameters.pop('dbname')))}?{urlencode(parameters)}"


def test_queue_is_listed_and_forgotten_as_a_journal(
    postgres_url: str, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command needs a key or a worker; a request whose submit is in doubt is found as uncertain."""
    monkeypatch.delenv("JARAI_API_KEY", raising=False)
    url = as_url(postgres_url)

    async def fill() -> dict[str, str]:
        async with (
            Simulator(failure_rate=0.0) as simulator,
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Queue(url) as queue,
            working(client, url),
        ):
            assert (await (await queue.submit(request_for(simulator, reference="tides")))).ok
            simulator.faults.add("reset_after", on="submit")
            assert (await (await queue.submit(request_for(simulator, reference="bees")))).state == "uncertain"
            return {name: getattr(simulator, name) for name in ID_FIELDS}

    ids = run_simulated(fill())
    assert main(["journal", url, "--state", "uncertain"]) == 0
    assert [line["reference"] for line in lines(capsys.readouterr().out)] == ["bees"]
    assert main(["run", write_batch(tmp_path, 3), "--journal", url, "--dry-run", *id_options(ids)]) == 0
    assert "3 requests, 3 to be submitted" in capsys.readouterr().err
    assert main(["run", write_batch(tmp_path, 1), "--journal", url, "--simulate"]) == 2
    assert "a queue outlives --simulate" in capsys.readouterr().err
    assert main(["forget", url, "bees"]) == 2
    assert "'bees' has not ended, it is in doubt" in capsys.readouterr().err
    for options, found in [(["--dry-run"], ["tides"]), ([], ["tides"]), ([], [])]:
        assert main(["forget", url, "--older-than", "1d", *options]) == 0
        assert [line["reference"] for line in lines(capsys.readouterr().out)] == found


def test_run_needs_no_key_and_leaves_the_productions_to_the_workers(
    postgres_url: str, tmp_path: Path
) -> None:
    """It adds the batch and follows it; the worker has the files. Run again, it adds nothing."""
    url = as_url(postgres_url)
    quick = ["--when", "3 fails", "--when", "any takes queued=1 producing=1 distributing=1"]
    quick += ["--when", "any awaits_approval 1"]
    environment = {name: value for name, value in os.environ.items() if name != "JARAI_API_KEY"}
    with ExitStack() as stack:

        def start(*command: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [*JARAI, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env=environment,
            )
            stack.enter_context(process)
            stack.callback(process.kill)  # before its block ends, which would wait for it
            return process

        simulator = start("simulate", "--port=0", "--failure-rate=0", *quick)
        assert simulator.stdout is not None
        settings = json.loads(simulator.stdout.readline())
        batch = ["run", write_batch(tmp_path, 3), *id_options(settings), "--journal", url]
        first = start(*batch)
        assert first.stderr is not None
        assert "no worker is running: `jarai worker` starts one" in first.stderr.readline()
        environment |= {name: settings[name] for name in ("JARAI_API_KEY", "JARAI_BASE_URL")}
        worker = start("worker", url, "--download-to=videos")
        events, _ = first.communicate(timeout=100)
        again, _ = (second := start(*batch)).communicate(timeout=100)
        worker.terminate()
        assert worker.wait(timeout=100) == 0
    outcomes = [line["outcome"] for line in lines(events) if line["event"] == "Finished"]
    assert sorted(outcomes) == ["failed", "published", "published"]
    assert [line["event"] for line in lines(again)] == ["Finished"] * 3 + ["Summary"]
    assert first.returncode == second.returncode == 1
    assert len(list(tmp_path.glob("videos/*/manifest.json"))) == 2
    assert not (tmp_path / "deliverables").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--concurrency=5", "the option --concurrency: give it to `jarai worker`"),
        ("--download-to=videos", "the option --download-to: give it to `jarai worker`"),
        ("--cancel-on-exit", "a queue has no --cancel-on-exit: its workers go on"),
    ],
)
def test_run_refuses_options_that_only_a_worker_has(
    option: str, message: str, tmp_path: Path, capsys: Printed
) -> None:
    batch = write_batch(tmp_path, 1, **IDS)
    assert main(["run", batch, "--journal", "postgresql:///jobs", option]) == 2
    assert message in capsys.readouterr().err


def test_run_adds_nothing_where_a_reference_belongs_to_another_request(
    postgres_url: str, tmp_path: Path, capsys: Printed
) -> None:
    url = as_url(postgres_url)

    async def add() -> None:
        async with Queue(url) as queue:
            await queue.submit(ProductionRequest(topic="x", reference="item-1", **IDS))

    asyncio.run(add())
    batch = write_batch(tmp_path, 3, **IDS)
    assert main(["run", batch, "--journal", url]) == 2
    assert "item-1" in capsys.readouterr().err
    assert main(["journal", url]) == 0
    assert [line["reference"] for line in lines(capsys.readouterr().out)] == ["item-1"]


def test_resume_lets_the_workers_look_again(postgres_url: str, capsys: Printed) -> None:
    assert main(["resume", as_url(postgres_url)]) == 0
    assert "the workers look at 0 requests again" in capsys.readouterr().err
