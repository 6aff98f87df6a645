"""The library with deliberate bugs: each mutant breaks one rule of the protocol, and a campaign must find it.

A mutant is a change of the source, made in a copy of the package. Some mutants show only where a program
crashes; those of workers are looked for by the tests of workers. A mutant is outdated when its text is no
longer in the source; then it has to be adapted.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

import jarai_async

_PACKAGE = Path(jarai_async.__file__).parent
_ROOT = Path(__file__).parents[2]
_WORLDS = ("worlds", "--seeds", "400")
_CRASHES = ("crashes", "--scenarios", "4", "--every", "7", "--doubles", "300")
_TESTS = ("-x", "-q", "-p", "no:cacheprovider", "--import-mode", "append", "-o", "pythonpath=")


@frozen
class Mutant:
    """In `module` the text `old` becomes `new`."""

    name: str
    module: str
    old: str
    new: str
    needs_crashes: bool = False
    is_of_workers: bool = False

    @property
    def path(self) -> Path:
        """The file of the module."""
        return _PACKAGE / f"{self.module}.py"

    def command(self) -> list[str]:
        """Return the command that has to find it."""
        if self.is_of_workers:
            return [sys.executable, "-m", "pytest", *_TESTS, str(_ROOT / "tests" / "postgres")]
        campaign = _CRASHES if self.needs_crashes else _WORLDS
        return [sys.executable, "-m", "tests.stress", *campaign, "--until-failure"]


MUTANTS = (
    Mutant(
        "send before the journal is written",
        "_orchestrator/submission",
        "another submit\n        await self._journal.save(intent)\n",
        "another submit\n        asyncio.get_running_loop().call_later(0.5, self._journal.put, intent)\n",
        needs_crashes=True,
    ),
    Mutant(
        "send without a note in the journal",
        "_orchestrator/submission",
        "intent.stage = Stage.SENDING",
        "intent.stage = Stage.PLANNED",
        needs_crashes=True,
    ),
    Mutant(
        "resend in doubt without idempotency keys",
        "_http/submit_retry",
        "return self._honours_keys and self._sent_at",
        "return self._sent_at",
        needs_crashes=True,
    ),
    Mutant(
        "retry any submit",
        "_api/calls",
        'return call.method != "POST" or (idempotency_keys and',
        "return True or (idempotency_keys and",
    ),
    Mutant(
        "a rejected repeat ends the doubt",
        "_http/submit_retry",
        "        if self._doubt is None:\n            raise error",
        "        if created_nothing(error) or self._doubt is None:\n            raise error",
    ),
    Mutant(
        "the doubt is not kept in the journal",
        "_journal/database",
        "(str(Stage.IN_DOUBT), str(Stage.SENDING))",
        "(str(Stage.PLANNED), str(Stage.SENDING))",
        needs_crashes=True,
    ),
    Mutant(
        "acknowledge an event before it is handled",
        "_orchestrator/run",
        "        self._last = await anext(self._stream)\n",
        "        self._last = await anext(self._stream)\n        self._last[0].acknowledge(self._last[1])\n",
    ),
    Mutant(
        "a new key for each attempt",
        "_orchestrator/submission",
        "submit(permit, call, state",
        "submit(permit, endpoints.submit(intent.account_id, intent.body, str(uuid4())), state",
    ),
    Mutant(
        "any 5xx means not accepted",
        "_api/calls",
        "    NotSentError,\n    ServiceUnavailableError,\n    ClosedError,\n)\n\n\ndef created",
        "    NotSentError,\n    ServerError,\n    ClosedError,\n)\n\n\ndef created",
    ),
    Mutant(
        "an unreadable 202 means not accepted",
        "_api/calls",
        "_CREATED_NOTHING = (\n",
        "_CREATED_NOTHING = (\n    InvalidResponseError,\n",
    ),
    Mutant(
        "accept a response about another production",
        "_api/endpoints",
        "if location_id not in (None, production.id):",
        "if False:",
    ),
    Mutant(
        "an event that was not taken is not repeated",
        "_orchestrator/job",
        "if publish is not None and intent.acknowledged < intent.sequence:",
        "if publish is not None and intent.acknowledged > intent.sequence:",
        needs_crashes=True,
    ),
    Mutant(
        "do not verify the checksum of a file",
        "_downloads/download",
        "is_right = all(checksum.is_guess for checksum in self._mismatches(digests))",
        "is_right = True",
    ),
    Mutant(
        "submit again before a read is answered",
        "_http/outage",
        "self.needs_read, self._doubt_at = True, now",
        "self.needs_read, self._doubt_at = False, now",
    ),
    Mutant(
        "list the files again at every attempt",
        "_downloads/links",
        "if now - self._read_at < _MIN_INTERVAL:",
        "if False:",
    ),
    Mutant(
        "one folder for two references",
        "_downloads/file_names",
        'return f"{safe_name(reference, 80)}-{production_id}"',
        "return safe_name(reference, 80)",
    ),
    Mutant(
        "a worker that was superseded writes on",
        "_postgres/writer",
        "WHERE reference = %s AND epoch = %s RETURNING id",
        "WHERE reference = %s AND epoch >= 0 * %s RETURNING id",
        is_of_workers=True,
    ),
    Mutant(
        "a lease that has ended is not noticed",
        "_postgres/workers",
        "WHERE NOT jarai.lives(id) RETURNING id",
        "WHERE false RETURNING id",
        is_of_workers=True,
    ),
    Mutant(
        "requests that procrastinate has lost are not put again",
        "_postgres/workers",
        "        if look_for_lost:\n",
        "        if False:\n",
        is_of_workers=True,
    ),
    Mutant(
        "slots that were granted are not counted",
        "_ratelimit/shared_model",
        "                granted.append(kind)\n                limiter.acquire(Kind.READ, now, now)\n",
        "                granted.append(kind)\n",
        is_of_workers=True,
    ),
)


def outdated() -> list[str]:
    """Return the names of the mutants whose text is not in the source exactly once."""
    return [mutant.name for mutant in MUTANTS if mutant.path.read_text("utf-8").count(mutant.old) != 1]


def survivors() -> list[str]:
    """Try each mutant and return the names of those that no campaign found."""
    return [mutant.name for mutant in MUTANTS if not _is_found(mutant)]


def _is_found(mutant: Mutant) -> bool:
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "jarai_async"
        shutil.copytree(_PACKAGE, copy)
        text = mutant.path.read_text("utf-8").replace(mutant.old, mutant.new)
        (copy / mutant.path.relative_to(_PACKAGE)).write_text(text, "utf-8")
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        # The current folder comes first on the path, so the copy is what is imported.
        done = subprocess.run(
            mutant.command(), cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    signs = (" failed", " error") if mutant.is_of_workers else ("tests.stress replay",)
    found = done.returncode == 1 and any(sign in done.stdout for sign in signs)
    last = done.stdout.strip().splitlines()[-1] if found else done.stderr[-300:]
    print(f"{'found' if found else 'SURVIVED':<8}  {mutant.name:<60} {last[:150]}", flush=True)
    return found
