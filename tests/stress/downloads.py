"""Files under 24 faults, each at 100 places of the file, once and always: what is kept must be the file.

A real client fetches one file over loopback HTTP in simulated time, from the storage in `_storage`, where
each fault is a few lines. Half of the lists give a size and a checksum, half say nothing, as documented.

- *whole*: the file is there, and is one that storage had.
- *error*: a clear error, and nothing in the folder.
- *corrupt*: under the file's name stands something else. There must be none.
- *left*: anything else in the folder. There must be none.
- *fired*: answers that were spoilt; of the full disk, downloads that met it.

"Once" spoils one answer (or a few, as its name says), "always" each one that the fault fits: no file can be
had where all answers are wrong, and a clear error is then the best there is.
"""

import asyncio
import contextlib
import resource
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
_BUDGET = RateLimit(per_minute=10**6, per_day=10**9)
_GOAL = 18  # of the faults finish with the whole file, at every place


async def attempt(name: str, cut: int, folder: Path, *, always: bool, tells: bool) -> Counter[str]:
    """Fetch the file once under a fault, and see what is there."""
    storage = Storage(FAULTS[name], cut, always, tells)
    found: Counter[str] = Counter()
    async with (
        serving(storage) as origin,
        JaraiClient(
            "jarai_test_x", base_url=f"{origin}/v1/partner", rate_limit=_BUDGET, random=Random(cut)
        ) as client,
    ):
        (deliverable,) = await client.deliverables(PRODUCTION)
        try:
            with _full_disk(cut if name == DISK_FULL else None):
                await client.download(deliverable, folder / "video.mp4")
        except DownloadError:
            found["error"] = 1
    found["fired"] = storage.fired
    return found + await asyncio.to_thread(_look, folder, failed=bool(found["error"]))


def _look(folder: Path, *, failed: bool) -> Counter[str]:
    """Count what is in the folder, and empty it."""
    found: Counter[str] = Counter()
    for path in folder.iterdir():
        if path.name == "video.mp4":
            found["whole" if path.read_bytes() in (OLD, NEW) and not failed else "corrupt"] += 1
        else:
            found["left"] += 1
        path.unlink()
    return found


@contextlib.contextmanager
def _full_disk(size: int | None) -> Iterator[None]:
    """Let no file grow beyond this size: the operating system itself refuses the write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def campaign(name: str, points: int, *, always: bool) -> Counter[str]:
    """Fetch the file under one fault at so many places: after its first byte, ..., before its last."""
    total: Counter[str] = Counter()
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp))
    for n in range(points):
        cut = 1 + n * (SIZE - 2) // max(1, points - 1)
        total += await attempt(name, cut, folder, always=always, tells=n % 2 == 1)
    await asyncio.to_thread(folder.rmdir)
    return total


def main() -> None:
    chosen = options(__doc__, points=100)
    rows: list[Figure] = []
    sums: Counter[str] = Counter()
    finished: Counter[bool] = Counter()
    for name in FAULTS:
        both = [run(campaign(name, chosen.points, always=always)) for always in (False, True)]
        for always, found in enumerate(both):
            finished[bool(always)] += found["whole"] == chosen.points
            sums += found
        cells = ["".join(f"{found[column]:8}" for column in _COLUMNS) for found in both]
        rows.append(Figure(name, "   ".join(cells)))
    head = "".join(f"{column:>8}" for column in _COLUMNS)
    rows = [Figure("ONCE, and ALWAYS", f"{head}   {head}"), *rows]
    rows.append(Figure("corrupt", str(sums["corrupt"]), "0", sums["corrupt"] == 0))
    rows.append(Figure("left behind", str(sums["left"]), "0", sums["left"] == 0))
    for always, title in ((False, "once"), (True, "always")):
        goal = "" if always else f">= {_GOAL}"
        met = None if always else finished[always] >= _GOAL
        rows.append(Figure(f"faults that finish whole, {title}", f"{finished[always]}", goal, met))
    show(f"{len(FAULTS)} faults, {chosen.points} places each", rows, chosen.json)


if __name__ == "__main__":
    main()
