"""Commands that take the URL of a queue in PostgreSQL in place of a journal."""

from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
import pytest

from jarai_async import JaraiClient
from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.commands import main
from jarai_async.simulator import Simulator
from jarai_async.simulator import run as run_simulated
from jarai_async.workers import Queue
from tests.cli.helpers import id_options, lines, write_batch
from tests.support.postgres import working
from tests.support.scenarios import request_for

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
