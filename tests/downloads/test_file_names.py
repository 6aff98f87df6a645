"""File names made from hostile text are safe and unique."""

import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarai_async import Deliverable
from jarai_async._downloads.file_names import file_name, folder_name, safe_name, unique_names
from tests.support.strategies import HOSTILE_NAMES

DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"}
DEVICES |= {f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"}

# Text made of dangerous pieces is drawn as often as any other text.
pieces = st.sampled_from(
    ["..", "/", "\\", "~", "-", " ", ".", "con", "COM1", ".txt", "\u202e", "e", "\u0301", "\x00"]
)
texts = st.text() | st.lists(pieces, max_size=12).map("".join) | st.sampled_from(HOSTILE_NAMES)


def assert_safe(name: str) -> None:
    assert name
    assert len(name.encode()) <= 121  # with the underscore before a device
    assert name == unicodedata.normalize("NFC", name)
    assert not set(name) & set('/\\:*?"<>|')
    assert not any(unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" for char in name)
    assert name[0] not in " .-~"
    assert name[-1] not in " ."
    assert name.partition(".")[0].rstrip(" ").lower() not in DEVICES
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        assert path.parts == (name,)
        assert not path.is_absolute()


@given(texts)
def test_safe_name_is_one_path_component(text: str) -> None:
    """It is never empty, hidden, a command-line option, a device or too long, and never leaves its folder."""
    assert_safe(safe_name(text))


@pytest.mark.parametrize("text", HOSTILE_NAMES)
def test_hostile_name_becomes_a_file_in_its_folder(text: str, tmp_path: Path) -> None:
    """A file can be created under each name of the corpus, and it is in the intended folder."""
    assert_safe(safe_name(text))
    path = tmp_path / safe_name(text)
    path.write_bytes(b"x")
    assert [entry.resolve() for entry in tmp_path.iterdir()] == [path.resolve()]


@given(texts)
def test_safe_name_is_idempotent(text: str) -> None:
    """So that names can be compared."""
    assert safe_name(safe_name(text)) == safe_name(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("video.mp4", "video.mp4"),
        ("Was die Gezeiten bewegt (2).srt", "Was die Gezeiten bewegt (2).srt"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("-.bashrc", "bashrc"),
        ("con.txt", "_con.txt"),
        ("CON .txt", "_CON .txt"),
        ("console.txt", "console.txt"),
        ("e\u200d\u0301.txt", "\u00e9.txt"),
        ("", "file"),
        ("...", "file"),
        ("x" * 300 + ".mp4", "x" * 116 + ".mp4"),
        ("é" * 300 + ".mp4", "é" * 58 + ".mp4"),
        ("a" + "é" * 300 + ".mp4", "a" + "é" * 57 + ".mp4"),
        ("x." + "y" * 300, "x." + "y" * 118),
    ],
)
def test_safe_name_changes_only_unsafe_parts(text: str, name: str) -> None:
    """A long name is cut, but keeps its extension and contains no half characters."""
    assert safe_name(text) == name


@given(st.lists(texts))
@example(["a.txt", "a.txt", "a-2.txt", "A.TXT", "a"])
@example(["file", "", "..", "FILE"])
@example(["ß", "SS", "ẞ"])
def test_unique_names_has_no_duplicates(originals: list[str]) -> None:
    """Not even on a file system that ignores case, and each name is still safe."""
    names = unique_names(map(safe_name, originals))
    assert len(names) == len(originals)
    assert len({name.casefold() for name in names}) == len(names)
    assert unique_names(names) == names
    for name in names:
        assert name[0] not in " .-~"
        assert not set(name) & set('/\\:*?"<>|')
        assert len(name.encode()) < 200


def test_first_of_duplicate_names_is_unchanged() -> None:
    """The others get a number before their extension, which never makes them equal to another name."""
    assert unique_names(["a.txt", "a.txt", "A.txt", "a-2.txt", "b", "b"]) == [
        *("a.txt", "a-2.txt", "A-3.txt", "a-2-2.txt", "b", "b-2")
    ]


def test_parameters_of_a_content_type_are_ignored() -> None:
    """The extension is that of the media type, in any case."""
    for content_type in ("text/vtt", "text/vtt; charset=utf-8", " Text/VTT;charset=utf-8"):
        assert file_name(Deliverable("Captions", content_type=content_type)) == "Captions.vtt"


@pytest.mark.parametrize(
    ("listed", "path", "content_type", "name"),
    [
        (None, "final%20cut.mp4", None, "Video.mp4"),
        (None, "final cut.MP4", "what/ever", "Video.MP4"),
        (None, "a.mp4", "application/octet-stream", "Video.mp4"),
        (None, "a.mp4", "text/vtt", "Video.vtt"),
        (None, "a.b/c", None, "Video"),
        (None, "a.", None, "Video"),
        (None, "v1.2", None, "Video"),
        (None, "a.extension", None, "Video"),
        (None, "a.m%2F4", None, "Video"),
        (None, "a.mp\u0664", None, "Video"),
        ("cut.mov", "a.mp4", "text/vtt", "cut.mov"),
        ("Cut 1.2", "a.mp4", None, "Cut 1.2.mp4"),
        ("Nr. one.", "a", "text/vtt", "Nr. one.vtt"),
        ("cut", "a.b/c", "application/octet-stream", "cut"),
    ],
)
def test_extension_is_that_of_the_url_if_nothing_else_gives_one(
    listed: str | None, path: str, content_type: str | None, name: str
) -> None:
    """Only a short one of ASCII letters and digits, and never one of the query."""
    url = f"https://h/{path}?se=1&sig=a.txt"
    assert file_name(Deliverable("Video", url, file_name=listed, content_type=content_type)) == name


@given(st.text(), texts)
def test_name_with_an_extension_of_any_url_is_safe(url: str, listed: str) -> None:
    assert_safe(file_name(Deliverable(listed, f"https://h/{url}", content_type=url)))
    assert_safe(file_name(Deliverable(url, url, file_name=listed)))


def test_folders_of_two_productions_are_always_distinct() -> None:
    """Whatever their references have in common, and even if their ids begin alike, on any file system."""
    ids = [f"11111111-1111-4111-8111-{n:012}" for n in range(6)]
    references = ["x" * 300 + "a", "x" * 300 + "b", "a?b", "a:b", "e\u0301", "\u00c9"]
    names = [folder_name(reference, id_) for reference, id_ in zip(references, ids, strict=True)]
    assert len({unicodedata.normalize("NFD", name).casefold() for name in names}) == len(names)
    assert max(len(name.encode()) for name in names) <= 120
    assert len({folder_name("same", id_) for id_ in ids}) == len(ids)
