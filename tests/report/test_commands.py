"""The commands of a report, as a shell and the command's own parser read them."""

import shutil
import subprocess
from random import Random

import pytest
from attrs import evolve

from jarai_async import OutcomeState
from jarai_async._cli.arguments import build_parser
from jarai_async._printable import printable
from jarai_async._report.commands import commands_for, resume_command, retry_command
from jarai_async._report.rows import Row
from tests.report.pages import HOSTILE

ROW = Row(
    reference="mine",
    topic="Tides",
    account_id="",
    project_type=None,
    production_ids=(),
    production_id=None,
    status=None,
    state="failed",
    outcome=OutcomeState.FAILED,
    is_final=True,
    sent_at=None,
    submitted_at=None,
    ended_at=None,
    phases=(),
    changes=(),
    ends=(),
    files=(),
    error=None,
)
NASTY = "-'\"\\$`!*?~#&;|<>(){}[] \t\n\r\x1b\x7f\xa0é\u202e\u2028\U0001f600\udcff=x"


def words_of(commands: list[str]) -> list[list[str]]:
    """Return the arguments that bash passes to `jarai`, for each command."""
    script = "\n".join(["jarai() { printf '%s\\0' \"$@\" END; }", *commands]).encode(errors="surrogateescape")
    printed = subprocess.run(["bash"], input=script, capture_output=True, check=True).stdout  # noqa: S607
    words = printed.decode(errors="surrogateescape").split("END\0")[:-1]
    return [of_one.split("\0")[:-1] for of_one in words]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("state", ["failed", "uncertain"])
def test_commands_name_the_journal_and_the_reference_exactly(state: str) -> None:
    """Whatever they contain; the text itself is printable."""
    random = Random(1)
    names = ["-", "--resubmit", HOSTILE, NASTY, "$(exit 1)", "'; exit 1; '", *NASTY]
    names += ["".join(random.choices(NASTY, k=random.randint(2, 12))) for _ in range(100)]
    journals = random.sample(names, k=len(names))
    wanted, commands = list[tuple[str, list[str]]](), list[str]()
    for journal, reference in zip(journals, names, strict=True):
        found = commands_for(evolve(ROW, reference=reference, state=state), journal)
        commands += found
        wanted += [(f"./{journal}" if journal.startswith("-") else journal, [reference])] * len(found)
    assert [printable(command) for command in commands] == commands
    parser = build_parser()
    parsed = [parser.parse_args(words) for words in words_of(commands)]
    assert [(options.journal, options.reference) for options in parsed] == wanted


@pytest.mark.parametrize(
    ("state", "is_final", "command"),
    [
        ("rejected", True, "jarai retry batch.db mine"),
        ("rejected", False, "jarai resume batch.db"),
        ("timed_out", False, "jarai resume batch.db"),
        ("files_missing", False, "jarai resume batch.db"),
    ],
)
def test_requests_whose_outcome_is_not_final_are_resumed(state: str, is_final: bool, command: str) -> None:  # noqa: FBT001
    """`jarai retry` would refuse them, or they go on by themselves."""
    assert commands_for(evolve(ROW, state=state, is_final=is_final), "batch.db") == [command]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_commands_for_all_requests_can_be_parsed() -> None:
    """They name the journal alone."""
    for words in words_of([retry_command("-a b"), resume_command("-a b")]):
        assert build_parser().parse_args(words).journal == "./-a b"
