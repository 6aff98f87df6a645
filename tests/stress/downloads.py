"""Download a file under 24 faults, each at 100 positions in the file, once and always.

A real client downloads one file over loopback HTTP in simulated time, from the server in `faulty_storage`.
Half of the lists of deliverables give a size and a checksum, the other half give neither, as documented.

- *whole*: the file is complete and is one that the storage had.
- *error*: the download raised an error, and the folder is empty.
- *corrupt*: the file has other contents. There must be none.
- *left*: other files are left in the folder. There must be none.
- *fired*: corrupted responses; for the full disk, downloads that met it.

"Once" corrupts one response (or a few, as the fault's name says), "always" each one to which the fault
applies. If all responses are corrupt, no file can be downloaded, and an error is the best possible result.
"""

import asyncio
import contextlib
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from jarai_async import DownloadError, JaraiClient, RateLimit
from jarai_async.simulator import run
from tests.stress.faulty_storage import DISK_FULL, FAULTS, NEW, OLD, PRODUCTION, SIZE, Storage, serving
from tests.support.figures import Figure, options, show

_COLUMNS = ("whole", "error", "corrupt", "left", "fired")
_RATE_LIMIT = RateLimit(per_minute=10**6, per_day=10**9)
_GOAL = 23  # faults of which one leaves the complete file, at every position


async def download_under(
    fault: str, folder: Path, *, position: int, always: bool, full_list: bool
) -> Counter[str]:
    """Download the file under a fault. Return the result, counted by the columns."""
    storage = Storage(FAULTS[fault], position, always, full_list)
    result: Counter[str] = Counter()
    async with serving(storage) as origin:
        base_url, random = f"{origin}/v1/partner", Random(position)
        async with JaraiClient(
            "jarai_test_x", base_url=base_url, rate_limit=_RATE_LIMIT, random=random
        ) as client:
            (deliverable,) = await client.deliverables(PRODUCTION)
            try:
                with full_disk(position if fault == DISK_FULL else None):
                    await client.download(deliverable, folder / "video.mp4")
            except DownloadError:
                result["error"] = 1
    result["fired"] = storage.fired
    return result + await asyncio.to_thread(_empty_folder, folder, failed=bool(result["error"]))


def _empty_folder(folder: Path, *, failed: bool) -> Counter[str]:
    """Remove all files in the folder. Return how many there were of each kind."""
    result: Counter[str] = Counter()
    for path in folder.iterdir():
        if path.name == "video.mp4":
            result["whole" if path.read_bytes() in (OLD, NEW) and not failed else "corrupt"] += 1
        else:
            result["left"] += 1
        path.unlink()
    return result


@contextlib.contextmanager
def full_disk(size: int | None) -> Iterator[None]:
    """Make the operating system reject writes beyond this file size, in bytes; None: no limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def download_at_all_positions(fault: str, points: int, *, always: bool) -> Counter[str]:
    """Download the file under one fault at `points` positions, from its first byte to its last."""
    total: Counter[str] = Counter()
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp))
    for n in range(points):
        position = 1 + n * (SIZE - 2) // max(1, points - 1)
        total += await download_under(fault, folder, position=position, always=always, full_list=n % 2 == 1)
    await asyncio.to_thread(folder.rmdir)
    return total


def main(arguments: list[str]) -> int:
    """Print the results of all faults. Return 1 if a goal was missed."""
    chosen = options(__doc__, arguments=arguments, points=100)
    once = {fault: run(download_at_all_positions(fault, chosen.points, always=False)) for fault in FAULTS}
    always = {fault: run(download_at_all_positions(fault, chosen.points, always=True)) for fault in FAULTS}
    head = "".join(f"{column:>8}" for column in _COLUMNS)
    figures = [Figure("ONCE, and ALWAYS", f"{head}   {head}")]
    figures += [Figure(fault, f"{_cells(once[fault])}   {_cells(always[fault])}") for fault in FAULTS]
    figures += _summary([*once.values()], [*always.values()], chosen.points)
    show(f"{len(FAULTS)} faults, {chosen.points} places each", figures, chosen.json)
    return int(any(figure.met is False for figure in figures))


def _cells(result: Counter[str]) -> str:
    return "".join(f"{result[column]:8}" for column in _COLUMNS)


def _summary(once: list[Counter[str]], always: list[Counter[str]], points: int) -> list[Figure]:
    corrupt, left = (sum(result[column] for result in once + always) for column in ("corrupt", "left"))
    whole_once, whole_always = (
        sum(result["whole"] == points for result in results) for results in (once, always)
    )
    return [
        Figure("corrupt", str(corrupt), "0", corrupt == 0),
        Figure("left behind", str(left), "0", left == 0),
        Figure("faults that finish whole, once", str(whole_once), f">= {_GOAL}", whole_once >= _GOAL),
        Figure("faults that finish whole, always", str(whole_always)),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
