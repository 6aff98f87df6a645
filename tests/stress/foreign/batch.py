"""Run `jarai run` against a server that was written from the contract alone, as a new user would.

The command gets a Ctrl-C and a SIGKILL, and is run again after each. Requests whose submit is in doubt are
then settled by `jarai resolve` with what the server knows, as a person would with JARAI Studio, and the
command is run a last time, also for files that were late. What it reported and downloaded is compared with
what the server knows. All of it runs in real time, and takes some minutes.

A file that only the end of the connection bounds is rejected on purpose: nothing shows that it is complete.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from tests.stress.foreign.check import BAD, compare, needless_doubts
from tests.stress.foreign.server import KEY, Server
from tests.support.figures import Figure, show

LANGUAGE, COUNTRY = "4b7d3c52-8f4e-4a53-9a51-6f2f8a1f0c11", "9a1c8f6e-3d2b-4f6a-8f0e-2b6b7c5d4e3f"
ROOT = str(Path(__file__).parents[3])
JOURNAL, FILES = "batch.db", "out"
_INTERRUPTIONS = ((15.0, signal.SIGINT), (25.0, signal.SIGKILL))
_LONGEST = 1_800.0  # seconds for one run


@define
class Command:
    """The command `jarai` in a folder. `text` is what it wrote to stderr."""

    folder: Path
    environment: Mapping[str, str]
    text: list[str] = field(factory=list)

    async def __call__(
        self, *arguments: str, after: float = _LONGEST, number: signal.Signals = signal.SIGKILL
    ) -> list[Any]:
        """Run the command, send it a signal after these seconds, and return the JSON lines that it wrote."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jarai_async", *arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        timer = asyncio.get_running_loop().call_later(after, process.send_signal, number)
        output, errors = await process.communicate()
        timer.cancel()
        self.text.append(errors.decode())
        return [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith(b"}\n")]


async def run_batch(server: Server, folder: Path, count: int) -> tuple[Counter[str], list[str]]:
    """Run a batch of so many requests. Return the results, counted, and what the command wrote."""
    settings = {"JARAI_BASE_URL": server.base_url, "JARAI_API_KEY": KEY, "PYTHONPATH": ROOT}
    jarai, kills = Command(folder, {**os.environ, **settings}), []
    accounts = await jarai("accounts")
    requests = [_request(number, accounts[number % len(accounts)]) for number in range(count)]
    (folder / "batch.jsonl").write_text("\n".join(map(json.dumps, requests)))
    run = ("run", "batch.jsonl", "--concurrency=30", f"--journal={JOURNAL}", f"--download-to={FILES}")
    for after, number in _INTERRUPTIONS:
        await jarai(*run, after=after, number=number)
        kills.append(time.time())
    await jarai(*run)
    doubts = [entry["reference"] for entry in await jarai("journal", JOURNAL) if entry["stage"] == "in doubt"]
    result = Counter({"uncertain, but answered": len(needless_doubts(server.ledger(), doubts, kills[1:]))})
    created = {production["topic"]: production["id"] for production in server.ledger()["productions"]}
    for topic in doubts:
        decision = f"--production-id={created[topic]}" if topic in created else "--resubmit"
        await jarai("resolve", JOURNAL, topic, decision)
    await jarai(*run)
    outcomes = {entry["reference"]: _outcome(entry) for entry in await jarai("journal", JOURNAL)}
    result += compare(server.ledger(), outcomes, folder / FILES)
    return result + Counter({"uncertain, and settled": len(doubts)}), jarai.text


def topic_of(number: int) -> str:
    """Return a topic with what a name may have. It is the reference of its request, too."""
    return f"Topic {number}: les marées, 潮汐 & <tides>/..\\{number}"


def _request(number: int, account: Mapping[str, Any]) -> dict[str, Any]:
    topic = topic_of(number)
    ids = {"account_id": account["accountId"], "avatar_id": account["avatars"][number % 2]}
    return {"topic": topic, "reference": topic, "language_id": LANGUAGE, "country_id": COUNTRY, **ids}


def _outcome(entry: Mapping[str, Any]) -> tuple[str, str | None]:
    stage = entry["status"].lower() if entry["stage"] == "accepted" else entry["stage"]  # with files missing
    return entry.get("outcome") or stage, entry.get("productionId")


async def _serve_and_run(seed: int, folder: Path, count: int) -> tuple[Counter[str], list[str]]:
    server = Server(seed, count)
    async with server.serving():
        return await run_batch(server, folder, count)


def main(arguments: Sequence[str]) -> int:
    """Print the results. Return 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress foreign",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--productions", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--messages", action="store_true", help="print what the command wrote to stderr")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        result, messages = asyncio.run(_serve_and_run(options.seed, Path(name), options.productions))
    figures = [Figure(key, f"{value:,}") for key, value in sorted(result.items()) if key not in BAD]
    figures += [Figure(key, str(result[key]), "0", result[key] == 0) for key in BAD]
    figures.append(Figure("seconds", f"{time.monotonic() - started:.0f}"))
    if options.messages:
        print(*messages, sep="\n---\n")
    show(f"A server from the contract alone, seed {options.seed}", figures, options.json)
    return int(any(figure.met is False for figure in figures))
