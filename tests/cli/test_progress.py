"""What a terminal shows while a batch runs, at several widths, and what is written without a terminal."""

import sys
from contextlib import redirect_stderr
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from attrs import evolve

from jarai_async import Statistics, _clock
from jarai_async._cli.commands import main
from jarai_async._cli.progress import Progress, shown
from jarai_async._cli.report import BatchReport
from jarai_async._journal.entries import Stage
from tests.cli.helpers import JARAI, lines, on_screen, terminal_output, write_batch
from tests.cli.test_report import producing, submitted
from tests.support.journals import intent

FAILING = ("--seed", "13")  # the second production of a built-in simulator fails
HOSTILE = "[/bold]é\x1b[2J\r\njarai: 200 published\u202e\u2028[link=https://x]"
BAR = "━"
STATISTICS = Statistics(
    requests={},
    rate_limited=0,
    per_minute=300,
    free_now=12,
    left_today=None,
    waiting=0,
    in_flight=5,
    parked=0,
    finished=0,
    lag=8.2,
    webhook_coverage=None,
    expected_finish=None,
)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


async def screen(report: BatchReport, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that a terminal shows while the batch runs."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    end = _clock.utc() + timedelta(minutes=40)

    async def statistics() -> Statistics:
        return evolve(STATISTICS, expected_finish=end)

    progress = Progress(report)
    progress.update()
    progress.update_figures(await statistics())
    async with shown(progress, statistics, 1, quiet=False):
        while BAR not in terminal.getvalue():
            pass  # a thread draws it
        printed = terminal.getvalue()
    assert on_screen(terminal.getvalue(), columns=columns) == []  # it is removed at the end
    return on_screen(printed, columns=columns)


def half_done() -> BatchReport:
    """200 requests in many states."""
    report = BatchReport(200)
    for number in range(150):
        report.add(submitted(str(number)))
    for number in range(100):
        report.add(producing(str(number)))
    return report


@pytest.mark.parametrize(("columns", "beside_the_bar"), [(50, False), (80, True), (100, True)])
async def test_count_bar_states_and_figures_are_readable(
    columns: int,
    beside_the_bar: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No text is cut off: where there is no room beside the bar, the states have a line of their own."""
    first, *others = await screen(half_done(), columns, monkeypatch)
    states, figures = (
        "50 to submit, 50 queued, 100 producing",
        "12/300 requests free, lag 8 s, ends in about 40 min",
    )
    assert first.startswith(f"0/200 {BAR * 10}")
    assert first.endswith(states) is beside_the_bar
    assert " ".join(others) == (figures if beside_the_bar else f"{states} {figures}")
    assert len(first) < columns


async def test_status_of_the_server_is_plain_text_in_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither markup nor an escape sequence."""
    report = BatchReport(1)
    report.add(producing("a", status=HOSTILE))
    shown_lines = await screen(report, 120, monkeypatch)
    assert r"1 [/bold]é\x1b[2J\r\njarai: 200 published\u202e\u2028[link=https://x]" in shown_lines[0]


async def test_end_that_has_passed_is_called_later_than_expected() -> None:
    """What counts is the estimate that was made when everything had been submitted."""
    end = _clock.utc() + timedelta(hours=9)
    current = evolve(STATISTICS, expected_finish=end, waiting=1)
    progress = Progress(BatchReport(1))
    progress.update_figures(current)
    current = evolve(current, expected_finish=_clock.utc() - timedelta(minutes=1), waiting=0)
    progress.update_figures(current)
    progress.update_figures(evolve(current, expected_finish=end, left_today=1200))
    expected = "12/300 requests free (1,200 today), lag 8 s, ends in about 9 h 0 min, later than expected"
    assert progress.figures == expected


async def test_end_is_not_forecast_before_the_requests_of_the_journal_are_resumed() -> None:
    """Until then they count as to be submitted again, so the first forecast was hours too late."""
    end = _clock.utc() + timedelta(hours=9)
    begun = [intent(name, stage=Stage.ACCEPTED) for name in "ab"]
    for waiting, is_known in ((3, False), (1, True)):
        current = evolve(STATISTICS, expected_finish=end, waiting=waiting)
        progress = Progress(BatchReport(3, begun))
        progress.update_figures(current)
        assert ("ends in about" in progress.figures) is is_known


def test_terminal_shows_failures_and_the_summary_while_a_program_reads_events(tmp_path: Path) -> None:
    """The bar, on standard error, is gone at the end."""
    command = [*JARAI, "run", write_batch(tmp_path, 4), "--simulate", *FAILING]
    with (tmp_path / "events.jsonl").open("w") as events:
        printed = terminal_output(command, tmp_path, columns=100, stdout=events.fileno())
    *published, summary = lines((tmp_path / "events.jsonl").read_text())
    assert "0/4 " in printed
    assert "requests free" in printed
    failed, *kinds, cost, last = on_screen(printed, columns=100)
    assert " failed: Step " in failed
    assert kinds[0] == "     3 published"
    assert kinds[1].startswith("     1 failed: ")
    assert cost.startswith("took ")
    assert last.startswith(
        "4 submitted, 4 finished: 3 published, 1 failed, 0 rejected, 0 lost; files in simulated-"
    )
    assert summary["outcomes"] == {"published": 3, "failed": 1}
    assert summary["requests"]["submit"] == 4
    assert {event["event"] for event in published} >= {"Submitted", "Finished"}


@pytest.mark.parametrize("reason", ["dumb", "no rich", "quiet", "no terminal"])
def test_progress_without_a_bar(
    reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a line now and then, and nothing with --quiet. Rich is optional. Only events go to a pipe."""
    terminal = StringIO() if reason == "no terminal" else Terminal()
    options = ["--simulate", "--failure-rate=0", "--download-to", str(tmp_path / "files")]
    monkeypatch.setenv("COLUMNS", "400")
    if reason == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    if reason == "no rich":
        monkeypatch.setitem(sys.modules, "rich.console", None)
        monkeypatch.delitem(sys.modules, "jarai_async._cli.progress_bar", raising=False)
    if reason == "quiet":
        options.append("--quiet")
    with redirect_stderr(terminal):
        assert main(["run", write_batch(tmp_path, 1), *options]) == 0
    printed = terminal.getvalue()
    assert "\x1b" not in printed
    assert ("jarai: 0/1 finished; 1 to submit; " in printed) is (reason != "quiet")
    assert ("pip install 'jarai-async[cli]'" in printed) is (reason == "no rich")
    assert printed.splitlines()[-1].startswith("1 submitted, 1 finished: 1 published")
    assert lines(capsys.readouterr().out)[-1]["event"] == "Summary"
