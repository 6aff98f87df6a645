"""Productions that other queues hand to workers: `Worker.produce`, called by DBOS and by Celery."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent
_COMMON = """
import asyncio, os, sys, threading
from contextlib import suppress
from jarai_async.simulator import Simulator, SimulatedEventLoop, run
from jarai_async.workers import Queue
from tests.support.scenarios import requests_for

async def add(simulator):
    os.environ |= {"JARAI_API_KEY": simulator.api_key, "JARAI_BASE_URL": simulator.base_url}
    async with Queue(os.environ["JARAI_DATABASE"]) as queue:
        return [(await queue.submit(request)).reference for request in requests_for(simulator, 3)]
"""
_DBOS = f"""{_COMMON}
async def main():
    async with Simulator(approval="auto", failure_rate=0.0) as simulator:
        import dbos_worker
        print(sorted((await dbos_worker.main(await add(simulator))).items()))
        assert simulator.count("submit") == 3
run(main(), speed=300)
"""
_CELERY = f"""{_COMMON}
asyncio.new_event_loop = lambda: SimulatedEventLoop(speed=300)
import celery_worker
names = ("data_folder_in", "data_folder_out", "control_folder")
celery_worker.app.conf.broker_transport_options = {{name: os.environ["HOME"] for name in names}}
if len(sys.argv) > 1:
    celery_worker.app.worker_main(["worker", "--pool", "threads", "--concurrency", "3", "--without-gossip"])
    sys.exit()

async def main():
    async with Simulator(approval="auto", failure_rate=0.0) as simulator:
        references = await add(simulator)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", os.environ["PROGRAM"], "worker")
        try:
            results = [celery_worker.produce.delay(reference) for reference in [*references, references[0]]]
            states = [await asyncio.to_thread(result.get, timeout=60) for result in results]
            process.terminate()
            await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        print(sorted(zip(references, states)))
        assert simulator.count("submit") == 3
run(main(), speed=300)
"""


@pytest.mark.parametrize(("engine", "program"), [("dbos", _DBOS), ("celery", _CELERY)])
def test_engine_runs_each_production_once(
    tmp_path: Path, postgres_url: str, engine: str, program: str
) -> None:
    pytest.importorskip(engine, reason="of the extra `dev`")
    output = tmp_path / "output"  # no pipe: one that a process of the engine still had would never end
    with output.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={
                "JARAI_DATABASE": postgres_url,
                "DBOS_DATABASE": f"sqlite:///{tmp_path / 'dbos.db'}",
                "CELERY_BROKER": "filesystem://",
                "CELERY_BACKEND": f"file://{tmp_path}",
                "PROGRAM": program,
                "PYTHONPATH": f"{EXAMPLES}:{EXAMPLES.parents[1]}",
                "HOME": str(tmp_path),
            },
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=100,
        )
    assert done.returncode == 0, output.read_text()
    published = [(f"item-{number}", "published") for number in range(3)]
    assert str(published) in output.read_text()
