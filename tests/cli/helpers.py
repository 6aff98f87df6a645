"""What the tests of the commands share: batch files, JSON lines and a terminal."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pyte

from jarai_async._cli.batch_file import ID_FIELDS

JARAI = [sys.executable, "-m", "jarai_async"]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def write_batch(folder: Path, count: int, **fields: str) -> str:
    """Write a batch of `count` requests and return its path; identifiers that are not given are left out."""
    path = folder / "batch.jsonl"
    rows = [{"topic": f"topic {n}", "reference": f"item-{n}"} | fields for n in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def id_options(ids: dict[str, str]) -> list[str]:
    """Return the command-line options that fill in the identifiers of a batch."""
    return [f"--{name.replace('_', '-')}={ids[name]}" for name in ID_FIELDS]


def terminal_output(command: list[str], cwd: Path, *, columns: int = 80, stdout: int | None = None) -> str:
    """Run a command with a terminal of its own, and return what it prints there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, columns))
    printed = b""
    with subprocess.Popen(command, stdout=stdout or theirs, stderr=theirs, cwd=cwd):
        os.close(theirs)
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
            while part := os.read(ours, 65_536):
                printed += part
    os.close(ours)
    return printed.decode()


def on_screen(printed: str, *, columns: int) -> list[str]:
    """Return the lines that a high terminal shows after this was printed, without empty ones."""
    screen = pyte.Screen(columns, 200)
    screen.set_mode(pyte.modes.LNM)  # a line feed returns the carriage, as terminals are set up
    pyte.Stream(screen).feed(printed)
    return [line.rstrip() for line in screen.display if line.strip()]


def run_command(served: dict[str, str], folder: Path, count: int, *options: str) -> list[str]:
    """Return the command that runs a new batch on the served simulator."""
    return [*JARAI, "run", write_batch(folder, count), "--speed", "600", *id_options(served), *options]


def start(command: list[str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)


def wait_for_event(process: subprocess.Popen[str], name: str) -> None:
    """Read what a command prints up to the next event of this name."""
    assert process.stdout is not None
    assert any(f'"{name}"' in line for line in iter(process.stdout.readline, "")), "the command has ended"
