"""File names made from untrusted text: valid on any system, and always inside their folder."""

import mimetypes
import re
import unicodedata
from collections.abc import Iterable

from jarai_async._api.models import Deliverable
from jarai_async._urls import url_parts

_MAX_LENGTH = 120  # bytes; file systems allow 255, and a copy elsewhere may lengthen the name
_UNSAFE = re.compile(r'[/\\:*?"<>|]')
_EXTENSION = re.compile(r"\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,8}$")
_DEVICE = re.compile(  # reserved on Windows
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE
)
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode categories


def file_name(deliverable: Deliverable) -> str:
    """Return a safe name for a deliverable's file: the server's, or one made of its type and platform.

    Where the server's name has no extension, it is that of the content type, or else of the URL's path.
    """
    stem = "-".join(filter(None, (deliverable.type, deliverable.platform)))
    name = safe_name(deliverable.file_name or stem)
    if deliverable.file_name and _EXTENSION.search(name):
        return name
    return safe_name(name + (_extension_by_type(deliverable) or _extension_in_url(deliverable)))


def _extension_by_type(deliverable: Deliverable) -> str:
    content_type = (deliverable.content_type or "").partition(";")[0].strip().lower()
    generic = content_type == "application/octet-stream"
    return "" if generic else mimetypes.guess_extension(content_type) or ""


def _extension_in_url(deliverable: Deliverable) -> str:
    found = _EXTENSION.search(url_parts(deliverable.url).path)
    return found[0] if found else ""


def folder_name(reference: str, production_id: str) -> str:
    """Name the folder of a production: readable by its reference, and distinct by its id."""
    return f"{safe_name(reference, 80)}-{production_id}"


def safe_name(text: str, max_length: int = _MAX_LENGTH) -> str:
    """Turn any text into one path component: never empty, hidden, a device, or longer than `max_length`."""
    # Control, format (bidi, zero width) and surrogate characters can disguise a name or cannot be written at
    # all. NFC makes equal names equal on every system.
    visible = "".join(char for char in text if unicodedata.category(char) not in _INVISIBLE)
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", visible)).lstrip(" .-~").rstrip(" .")
    if _DEVICE.match(name):
        name = f"_{name}"
    return _shorten(name, max_length).rstrip(" .") or "file"


def _shorten(name: str, max_length: int) -> str:
    """Cut a name to the maximum length in bytes, keeping a short extension and complete characters."""
    if len(name.encode()) <= max_length:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) > 10:
        stem, dot, extension = name, "", ""
    stem_length = max_length - len((dot + extension).encode())
    return stem.encode()[:stem_length].decode(errors="ignore") + dot + extension


def unique_names(names: Iterable[str]) -> list[str]:
    """Make names unique, ignoring case: the second `a.txt` becomes `a-2.txt`."""
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
