"""Measured figures and their goals, shown as a table or written as JSON."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attrs import asdict, frozen


@frozen
class Figure:
    """One measured figure. `goal` is empty, and `met` None, for a figure that only informs."""

    name: str
    value: str
    goal: str = ""
    met: bool | None = None


def options(
    description: str | None,
    *,
    arguments: Sequence[str] | None = None,
    picture: bool = False,
    **numbers: int,
) -> argparse.Namespace:
    """Read the command line: `--json`, with `picture` also `--picture`, and these numbers with defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    if picture:
        parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the figures as SVG")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    return parser.parse_args(arguments)


def show(title: str, figures: Sequence[Figure], file: Path | None) -> None:
    """Print figures as a table, and write them to `file` unless it is None."""
    packages = {name: version(name) for name in ("jarai-async", "aiohttp", "attrs", "cattrs")}
    machine: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        **packages,
    }
    width = max(len(figure.name) for figure in figures)
    value_width = max(len(figure.value) for figure in figures)
    print(title)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), end="\n\n")
    for figure in figures:
        verdict = "" if figure.met is None else "met" if figure.met else "MISSED"
        row = f"{figure.name:<{width}}  {figure.value:>{value_width}}  {figure.goal:<10} {verdict}"
        print(row.rstrip())
    if file is not None:
        report = {"title": title, "machine": machine, "figures": [asdict(figure) for figure in figures]}
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
