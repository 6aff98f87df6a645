"""Reads a journal and writes the files of its report. Blocking.

Each file is written beside its place and then put there, so that it is complete or as before.
"""

import os
from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from attrs import evolve

from jarai_async._errors import ConfigurationError
from jarai_async._journal.database import journal_path
from jarai_async._journal.reader import entry_of
from jarai_async._locations import is_database, reader_of, shown
from jarai_async._report.page import Facts, page
from jarai_async._report.rows import Row, row_of
from jarai_async._report.tables import csv_lines, json_lines
from jarai_async._report.totals import totals_of


def write_report(
    journal: str, now: float, *, html: Path, csv: Path | None = None, json: Path | None = None
) -> list[Path]:
    """Write the report of a journal, which may be in use, and return the files that were written.

    `now` is the Unix time that it names. Raises ConfigurationError where a file cannot be used for the
    report, JournalError, OSError.
    """
    wanted = [file for file in (html, csv, json) if file is not None]
    _check(None if is_database(journal) else journal_path(journal), wanted)
    reader = reader_of(journal)
    folder, spent = reader.folder(), reader.fact("spent")
    rows = [_located(row_of(entry_of(*entry)), folder) for entry in reader.entries()]
    journal = shown(journal)
    facts = Facts(
        journal=journal,
        written_at=now,
        version=version("jarai-async"),
        spent=spent,
        link=partial(relative_url, folder=html.parent, storage=folder if _is_url(folder) else None),
    )
    _write(html, page(rows, facts))
    if csv is not None:
        _write(csv, csv_lines(rows))
    if json is not None:
        _write(json, json_lines(rows, totals_of(rows, spent), journal, now))
    return wanted


def _check(journal: Path | None, wanted: list[Path]) -> None:
    """Check that the files of the report are different ones, and none is the journal's."""
    taken = [_place(journal), _place(journal.with_name(f"{journal.name}-journal"))] if journal else []
    for file in wanted:
        if _place(file) in taken:
            raise ConfigurationError(f"{file} cannot be written: it is the journal, or named twice")
        taken.append(_place(file))


def _place(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def _located(row: Row, folder: str | None) -> Row:
    """Make the paths of files absolute, and each file one.

    They are relative to the folder in which that program ran, and the journal knows its folder of files. A
    later run may have named the same file by an absolute path.
    """
    if folder is None or _is_url(folder):
        return row
    files = [
        file if file.path.is_absolute() else evolve(file, path=Path(folder, *file.path.parts[-2:]))
        for file in row.files
    ]
    return evolve(row, files=tuple({file.path: file for file in files}.values()))


def _is_url(folder: str | None) -> bool:
    """Whether files are in object storage."""
    return folder is not None and "://" in folder


def relative_url(path: Path, folder: Path, storage: str | None = None) -> str:
    """Return the URL of a file from a folder: the whole one if it is on another drive, or in storage."""
    if storage is not None:
        return f"{storage}/{quote(path.as_posix())}"
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:
        return path.as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")), safe="/")


def _write(path: Path, parts: Iterable[str]) -> None:
    temporary = path.with_name(f".{path.name[:100]}-{uuid4()}")
    try:
        with temporary.open("x", encoding="utf-8", newline="") as file:
            file.writelines(parts)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
