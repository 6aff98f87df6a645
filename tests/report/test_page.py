"""The page: text from outside is only text, nothing is loaded, and links and commands work."""

import base64
import hashlib
import html
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urljoin

import pytest

from jarai_async import ConfigurationError
from jarai_async._printable import printable
from jarai_async._report.writer import write_report
from tests.report.conftest import STATES, Batch
from tests.report.pages import HOSTILE, Page


@pytest.fixture
def text(batch: Batch, tmp_path: Path) -> str:
    path = tmp_path / "page.html"
    write_report(str(batch.journal), 0.0, html=path)
    return path.read_text(encoding="utf-8")


def test_hostile_text_is_shown_as_text_and_nothing_else(text: str) -> None:
    """It makes no element and no attribute, and characters that change the order of text are escaped."""
    page = Page(text)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert {name for _, attributes in page.elements for name in attributes if name.startswith("on")} == set()
    assert printable(HOSTILE) in page.texts["b"]
    assert printable(f"About {HOSTILE}") in page.texts["small"]
    assert "{{ 7 * 7 }}" in text
    assert set("\u202e\u2066\x1b") & set(text) == set()


def test_policy_allows_only_the_script_and_the_style_of_the_page(text: str) -> None:
    """By their hashes; there is no other style, no handler and no address that is loaded."""
    page = Page(text)
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    for tag in ("script", "style"):
        (source,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert [name for _, attributes in page.elements for name in attributes if name in ("src", "style")] == []
    assert "http://" not in text
    assert "https://" not in text


def test_each_request_has_a_row_with_its_state_and_its_line(text: str) -> None:
    """Also one that has no production: its end is marked."""
    page = Page(text)
    states = [cell["data-state"] for cell in page.all("td") if "data-state" in cell]
    assert states == list(STATES.values())
    lines = [line for line in page.all("svg") if "data-start" in line]
    assert len(lines) == len(STATES)
    assert {line["viewbox"] for line in lines} == {lines[0]["viewbox"]}
    assert lines[0]["data-start"] == "0"  # the first one was sent at once
    length = int(lines[0]["viewbox"].split()[2])
    assert all(0 <= int(line["data-start"]) < length for line in lines)
    paths = [path["d"] for path in page.all("path") if path["class"] == "approval"]
    ends = [int(start) + int(seconds) for start, seconds in re.findall(r"M(\d+) 5h(\d+)", " ".join(paths))]
    assert max(ends) == pytest.approx(length, abs=1)  # the one that waits for a person
    titles = [title for title in page.texts["title"] if "Producing" in title]
    assert len(titles) == 5
    assert any("AwaitingApproval" in title and "collecting" not in title for title in titles)
    assert any(re.fullmatch(r"Queued \d+ s, Producing (9|10) min( \d+ s)?", title) for title in titles)


@pytest.mark.parametrize("place", ["beside.html", "elsewhere/below/report.html"])
def test_links_lead_to_the_files_from_wherever_the_report_is(
    batch: Batch, place: str, tmp_path: Path
) -> None:
    """Relative links, which also work for names that a URL cannot hold unchanged."""
    report = batch.folder.parent / place if place == "beside.html" else tmp_path / place
    report.parent.mkdir(parents=True, exist_ok=True)
    write_report(str(batch.journal), 0.0, html=report)
    links = [link["href"] for link in Page(report.read_text(encoding="utf-8")).all("a")]
    links.remove("#problems")
    assert len(links) > 9
    for link in links:
        assert not link.startswith("/")
        assert Path(unquote(urljoin(report.as_uri(), link).removeprefix("file://"))).is_file()


def test_problems_have_the_commands_that_decide_them(batch: Batch, text: str) -> None:
    """The journal is named as the user named it, and an uncertain submit has both decisions."""
    codes = [html.unescape(code) for code in re.findall(r"<code>(.*?)</code>", text)]
    assert "None" not in text
    journal = batch.journal
    assert codes == [
        f"jarai retry {journal}",
        f"jarai resume {journal}",
        f"jarai resolve {journal} doubt --production-id ID",
        f"jarai resolve {journal} doubt --resubmit",
        f"jarai retry {journal} failing",
        f"jarai retry {journal} 'over budget'",
    ]


def test_report_of_a_journal_in_use_is_that_of_the_closed_one(batch: Batch, text: str) -> None:
    """Up to what was written in between: the checkpoint."""
    in_use = Page(batch.written_in_use.decode())
    assert [one for one in in_use.elements if one[0] == "path"] == [
        one for one in Page(text).elements if one[0] == "path"
    ]


@pytest.mark.parametrize("name", ["batch.db", "batch.db-journal", "link.html"])
def test_journal_is_never_overwritten(batch: Batch, name: str, tmp_path: Path) -> None:
    """Neither under its name nor through a link, nor is one file written twice."""
    before = batch.journal.read_bytes()
    link = tmp_path / "link.html"
    link.symlink_to(batch.journal)
    target = link if name == "link.html" else batch.journal.with_name(name)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_report(str(batch.journal), 0.0, html=tmp_path / "report.html", json=target)
    with pytest.raises(ConfigurationError, match="named twice"):
        write_report(str(batch.journal), 0.0, html=tmp_path / "same", csv=tmp_path / "same")
    assert batch.journal.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["link.html"]


def test_failed_write_leaves_the_earlier_report(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Jinja2 the message says what to install; no part of a file is left."""
    report = tmp_path / "report.html"
    report.write_text("earlier")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigurationError, match=re.escape("pip install 'jarai-async[report]'")):
        write_report(str(batch.journal), 0.0, html=report)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]
    report.unlink()
    report.mkdir()
    monkeypatch.undo()
    with pytest.raises(OSError, match=r"report\.html"):
        write_report(str(batch.journal), 0.0, html=report)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
