"""File names made from text that a server or a batch file sent: always inside the folder, on any system."""

import re
import unicodedata
from collections.abc import Iterable

_LONGEST = 120  # bytes; file systems allow 255, and a copy elsewhere may add to it
_UNSAFE = re.compile(r'[/\\:*?"<>|]')
_DEVICE = re.compile(  # reserved on Windows
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE
)
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # categories of Unicode


def safe_name(text: str) -> str:
    """Make one path component of any text: never empty, hidden, a device, or longer than 120 bytes."""
    # Control, format (bidi, zero width) and surrogate characters can disguise a name, or cannot be written
    # at all; then NFC, so that a name equals itself on every system
    kept = "".join(char for char in text if unicodedata.category(char) not in _INVISIBLE)
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", kept)).lstrip(" .-~").rstrip(" .")
    if _DEVICE.match(name):
        name = f"_{name}"
    return _shortened(name).rstrip(" .") or "file"


def _shortened(name: str) -> str:
    """Cut to the longest size in bytes, keeping a short extension and whole characters."""
    if len(name.encode()) <= _LONGEST:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) > 10:
        stem, dot, extension = name, "", ""
    room = _LONGEST - len((dot + extension).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + extension


def distinct(names: Iterable[str]) -> list[str]:
    """Make names differ, also where case does not count: the second `a.txt` becomes `a-2.txt`."""
    taken: set[str] = set()
    result = []
    for name in names:
        stem, dot, extension = name.rpartition(".") if "." in name else (name, "", "")
        candidate, n = name, 1
        while candidate.casefold() in taken:
            n += 1
            candidate = f"{stem}-{n}{dot}{extension}"
        taken.add(candidate.casefold())
        result.append(candidate)
    return result
