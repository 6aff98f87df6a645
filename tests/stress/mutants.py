"""The library broken on purpose: each mutant breaks one rule of the protocol, and the campaign must find out.

A mutant is a patch of the source, made in a copy of it; where the source has changed so that a patch does not
fit any more that is said. Some mutants can only be seen where a program dies.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import field, frozen

import jarai_async

_SOURCE = Path(jarai_async.__file__).parent
_CAMPAIGN = Path(__file__).with_name("campaign.py")
_FAULTS = ("--seeds", "400", "--crashes", "0")
_DEATHS = ("--seeds", "0", "--crashes", "4", "--every", "7", "--doubles", "300")


@frozen
class Mutant:
    """In `room` the text `old` becomes `new`."""

    name: str
    room: str
    old: str
    new: str
    dies: bool = field(default=False)


MUTANTS = (
    Mutant(
        "send before the journal",
        "_orchestrator/submission",
        "            await self._journal.save(self._intent)\n\n    def _returned",
        "            loop = asyncio.get_running_loop()\n"
        "            loop.call_later(0.5, self._journal.put, self._intent)\n\n    def _returned",
        dies=True,
    ),
    Mutant(
        "send without a word in the journal",
        "_orchestrator/submission",
        "Stage.SENDING, self",
        "Stage.PLANNED, self",
        dies=True,
    ),
    Mutant(
        "resend in doubt without keys",
        "_orchestrator/submission",
        "return self._client._caller.idempotency_keys and young",
        "return young",
        dies=True,
    ),
    Mutant(
        "retry any submit",
        "_api/calls",
        'return call.method != "POST" or (idempotency_keys and',
        "return True or (idempotency_keys and",
    ),
    Mutant(
        "no taint",
        "_http/sender",
        "            if not doubts:\n",
        "            if created_nothing(error) or not doubts:\n",
    ),
    Mutant(
        "taint not kept",
        "_journal/journal",
        "(str(Stage.IN_DOUBT), str(Stage.SENDING))",
        "(str(Stage.PLANNED), str(Stage.SENDING))",
        dies=True,
    ),
    Mutant(
        "told before it was taken",
        "_orchestrator/run",
        "        self._taken = await anext(self._stream)\n",
        "        self._taken = await anext(self._stream)\n"
        "        self._taken[0].acknowledge(self._taken[1])\n",
    ),
    Mutant(
        "a fresh key for each attempt",
        "_orchestrator/submission",
        "intent.body, intent.key, self.meter",
        "intent.body, str(uuid4()), self.meter",
    ),
    Mutant(
        "any 5xx is a refusal",
        "_api/calls",
        "    NotSentError,\n    ServiceUnavailableError,\n    ClosedError,\n)\n\n\ndef created",
        "    NotSentError,\n    ServerError,\n    ClosedError,\n)\n\n\ndef created",
    ),
    Mutant(
        "an unreadable 202 is a refusal",
        "_api/calls",
        "_CREATED_NOTHING = (\n",
        "_CREATED_NOTHING = (\n    InvalidResponseError,\n",
    ),
    Mutant(
        "an answer of another is believed",
        "_api/endpoints",
        "if location_id not in (None, production.id):",
        "if False:",
    ),
    Mutant(
        "the first overwrites the second",
        "_journal/entries",
        "event.production.id in self.expired",
        "event.production.id is None",
    ),
    Mutant(
        "the length and sum of a file do not count",
        "_downloads/download",
        "            await self._verify()\n",
        "",
    ),
)


def survivors() -> tuple[int, list[str]]:
    """Try each; gives how many there are, and those that the campaign did not find."""
    return len(MUTANTS), [mutant.name for mutant in MUTANTS if not _is_found(mutant)]


def _is_found(mutant: Mutant) -> bool:
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "jarai_async"
        shutil.copytree(_SOURCE, copy)
        room = copy / f"{mutant.room}.py"
        text = room.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            raise SystemExit(f"the mutant {mutant.name!r} does not fit the source any more")
        room.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        numbers = _DEATHS if mutant.dies else _FAULTS
        command = [sys.executable, str(_CAMPAIGN), *numbers, "--kills", "0", "--until-failure"]
        environment = {**os.environ, "PYTHONPATH": folder}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = done.returncode == 1 and "campaign.py --replay" in done.stdout
    last = done.stdout.strip().splitlines()[-1:] if found else [done.stderr[-300:]]
    print(f"{'found' if found else 'SURVIVED':<8}  {mutant.name:<45} {''.join(last)[:150]}", flush=True)
    return found
