"""Single mistakes in the library, a sample for each folder: which of them does no test notice?

The tests run once, in a copy of the project, to learn which lines each of them runs. Then each mistake is
made in the copy, and a test that runs its line has to fail. Tests of the same folder are tried first, then
those that run the fewest lines, at most 150 of them; the stress tests and the examples are left out. For a
line that runs when a module is imported, any test of that module counts. A test that hangs notices the
mistake, too.
"""

import argparse
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from attrs import field, frozen
from coverage import CoverageData

from tests.stress.mistakes import Mistake, mistakes
from tests.support.figures import Figure, show

_ROOT = Path(__file__).parents[2]
_PACKAGE = "jarai_async"
_NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "*_cache", ".hypothesis")
_PROGRAMS = ("tests/stress/", "tests/examples/")  # which run nearly every line, and slowly
_MOST_TESTS = 150  # of one mistake
_HANGS_AFTER = 60.0  # seconds of one test
_ENOUGH = 20  # mistakes, for a share of them to mean something
_GOAL = 0.85  # of the mistakes of a folder
_HIGHER_GOALS = {f"{_PACKAGE}/{name}": 0.92 for name in ("_downloads", "_http", "_journal", "_ratelimit")}


@frozen
class Coverage:
    """The tests that run each line of each file, and how many lines each test runs."""

    tests: dict[str, dict[int, set[str]]] = field(factory=dict)
    sizes: Counter[str] = field(factory=Counter)

    @classmethod
    def measure(cls, folder: Path) -> "Coverage":
        """Run the tests in a copy of the project. Raises SystemExit when one of them fails."""
        file = folder / ".coverage"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "--cov", "--cov-context=test"]
        command += [f"--ignore={path}" for path in _PROGRAMS]
        environment = {**os.environ, "COVERAGE_FILE": str(file), "PYTHONPATH": str(folder)}
        done = subprocess.run(
            [*command, "--cov-report=", "--cov-fail-under=0"], cwd=folder, env=environment, check=False
        )
        return cls.read(file) if done.returncode == 0 else sys.exit("the tests have to pass first")

    @classmethod
    def read(cls, file: Path) -> "Coverage":
        """Read what `pytest --cov --cov-context=test` measured."""
        coverage, data = cls(), CoverageData(str(file))
        data.read()
        for name in data.measured_files():
            lines = coverage.tests[_PACKAGE + name.rpartition(f"/{_PACKAGE}")[2]] = {}
            for line, contexts in data.contexts_by_lineno(name).items():
                tests = {context.rpartition("|")[0] for context in contexts} - {""}
                lines[line] = {test for test in tests if not test.startswith(_PROGRAMS)}
                coverage.sizes.update(lines[line])
        return coverage

    def tests_of(self, mistake: Mistake) -> list[str]:
        """Return the tests that have to notice a mistake, the most likely first."""
        lines = self.tests.get(str(mistake.path), {})
        tests = set().union(*(lines.get(line, ()) for line in mistake.lines)) or set().union(*lines.values())
        name = mistake.path.parts[1].removesuffix(".py").strip("_")
        own = f"tests/{name}/", f"tests/test_{name}"
        order = sorted(tests, key=lambda test: (not test.startswith(own), self.sizes[test]))
        return order[:_MOST_TESTS]


class Timer:
    """A pytest plugin that ends the process when one test hangs."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        """Start the time of a test."""
        signal.setitimer(signal.ITIMER_REAL, _HANGS_AFTER)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("folders", metavar="FOLDER", nargs="*", help="or a module; default: every folder")
    command.add_argument("--sample", type=int, default=40, help="mistakes of each folder (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the sample (%(default)s)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    command.add_argument("--coverage", type=Path, metavar="FILE", help="measured by --cov-context=test")


def main(options: argparse.Namespace) -> int:
    """Make a sample of the mistakes of each folder, and print which of them no test notices."""
    os.chdir(_ROOT)
    folders = options.folders or sorted({str(path.parent) for path in Path(_PACKAGE).rglob("*.py")})
    with TemporaryDirectory() as scratch:
        copies = Path(scratch)
        first = shutil.copytree(_ROOT, copies / "first", ignore=_NOT_COPIED)
        coverage = Coverage.read(options.coverage) if options.coverage else Coverage.measure(first)
        figures, everywhere = [], list[bool]()
        context = multiprocessing.get_context("fork")
        with context.Pool(options.processes, _use_copy, (first, copies)) as pool:
            for folder in folders:
                jobs = [(mistake, coverage.tests_of(mistake)) for mistake in _sample(folder, options)]
                noticed = pool.starmap(_is_noticed, jobs, chunksize=1)
                everywhere += noticed
                figures.append(_figure(folder, noticed))
    figures.append(_figure("together", everywhere))
    show("Mistakes that the tests notice", figures, options.json)
    return any(figure.met is False for figure in figures)


def _figure(folder: str, results: Sequence[bool]) -> Figure:
    """Return the share that was noticed. A small sample informs only."""
    count, goal = sum(results), _HIGHER_GOALS.get(folder, _GOAL)
    share = count / len(results) if results else 1.0
    is_met = share >= goal if len(results) >= _ENOUGH else None
    return Figure(folder, f"{count} of {len(results)}, {share:.0%}", f">= {goal:.0%}", is_met)


def _sample(folder: str, options: argparse.Namespace) -> list[Mistake]:
    path = Path(folder)
    everything = [mistake for module in sorted(path.glob("*.py")) or [path] for mistake in mistakes(module)]
    random = Random(f"{options.seed}:{folder}")
    return random.sample(everything, min(options.sample, len(everything)))


def _use_copy(original: Path, folder: Path) -> None:
    """Let this process work in a copy of its own, and import the library and the tests from there."""
    copy = folder / str(os.getpid())
    shutil.copytree(original, copy)
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True  # a file that changes twice a second looks unchanged
    sys.path.insert(0, str(copy))
    for name in [name for name in sys.modules if name.partition(".")[0] in (_PACKAGE, "tests")]:
        del sys.modules[name]


def _is_noticed(mistake: Mistake, tests: list[str]) -> bool:
    source = mistake.path.read_bytes()
    mistake.path.write_bytes(mistake.apply())
    try:
        result = _run(tests)
    finally:
        mistake.path.write_bytes(source)
    text = {"passed": "MISSED", "failed": "noticed"}.get(result, result)
    print(f"{text:<8} {mistake}", flush=True)
    return result != "passed"


def _run(tests: list[str]) -> str:
    """Run tests in a child process that imports the library as it is now: "passed", "failed" or "hangs"."""
    if not tests:
        return "passed"
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.setitimer(signal.ITIMER_REAL, _HANGS_AFTER)  # for the import of the tests
        silence = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(silence, descriptor)
        os._exit(pytest.main(["-qx", "-p", "no:cacheprovider", *tests], plugins=[Timer()]))
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return "hangs"
    return "failed" if status else "passed"
