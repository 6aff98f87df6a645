"""The report as one HTML page that loads nothing, and that works without its script, too.

Everything from outside is made printable and then escaped, by the template engine and for every value. The
page forbids every script and every style but its own, by their hashes.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from jarai_async._errors import ConfigurationError
from jarai_async._printable import printable
from jarai_async._report import charts, commands, text, totals
from jarai_async._report.rows import Row

_OPEN: Final = 10  # problems of one kind that are shown without a click
_LONG: Final = 20  # times the longest production: then each line starts at its own start
_CLASSES: Final = {  # colours in the style sheet
    "Queued": "queued",
    "sending": "queued",
    "Producing": "producing",
    "requests": "producing",
    "median": "producing",
    "AwaitingApproval": "approval",
    "Distributing": "distributing",
    "collecting": "collecting",
    "published": "published",
    "files_missing": "missing",
    "failed": "failed",
    "rejected": "rejected",
    "uncertain": "uncertain",
    "cancelled": "cancelled",
    "not_submitted": "planned",
    "90th percentile": "light",
    "timed_out": "unfinished",
    "not_found": "unfinished",
    "inaccessible": "unfinished",
}


@frozen(kw_only=True)
class Facts:
    """What a page says besides its rows.

    `journal` is its path as the user wrote it, and `spent` its checkpoint of the rate limit, if it has one.
    `link` returns the relative URL of a file.
    """

    journal: str
    written_at: float
    version: str
    spent: Any
    link: Callable[[Path], str]


def page(rows: Sequence[Row], facts: Facts) -> Iterator[str]:
    """Return the page in parts. Raises ConfigurationError if Jinja2 is not installed."""
    known = totals.totals_of(rows, facts.spent)
    axis = charts.clock_axis(known.first, known.last)
    timeline, durations = Timeline(rows, axis), totals.durations_of(rows)
    template, style, script = _template("report.html.jinja"), _source("report.css"), _source("report.js")
    parts: Iterator[str] = template.generate(
        facts=facts,
        rows=rows,
        totals=known,
        problems=totals.problems_of(rows),
        durations=durations,
        statuses=totals.in_order({status: 0 for of_type in durations for status in of_type.statuses}),
        axis=axis,
        charts=_charts(rows, axis),
        timeline=timeline,
        open_problems=_OPEN,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        commands_for=commands.commands_for,
        retry_command=commands.retry_command(facts.journal),
        resume_command=commands.resume_command(facts.journal),
    )
    return parts


def _template(name: str) -> Any:
    try:
        import jinja2  # noqa: PLC0415  # an optional extra
        from markupsafe import Markup  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError("a report needs Jinja2: pip install 'jarai-async[report]'") from None

    def finalize(value: Any) -> Any:
        return printable(value) if type(value) is not Markup and isinstance(value, str) else value

    environment = jinja2.Environment(
        autoescape=True,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "duration": text.duration,
        "moment": text.moment,
        "size": text.size,
        "safe_class": safe_class,
        "words": text.words,
    }
    return environment.from_string(_source(name))


def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def safe_class(name: str) -> str:
    """Return the class of a state or status, which is never made of text from outside."""
    return _CLASSES.get(name, "other")


def _charts(rows: Sequence[Row], axis: charts.Axis) -> list[tuple[str, str, charts.Chart]]:
    return [
        ("In flight", "productions, by status", charts.in_flight(rows, axis)),
        ("Ended", "requests, by state", charts.ended(rows, axis)),
        ("API requests", "per minute, of the requests that ended then", charts.requests(rows, axis)),
        ("Lag, at most", "seconds in which a change of status was not seen", charts.lag(rows, axis)),
    ]


class Timeline:
    """The line of each request: on the axis of the clock, or from its own start. Units are seconds."""

    def __init__(self, rows: Sequence[Row], axis: charts.Axis) -> None:
        self.axis = axis
        longest = max((self._end(row) - row.start for row in rows if row.start is not None), default=0.0)
        self.own_axis = charts.duration_axis(longest)
        self.is_own = longest * _LONG < axis.length
        self.statuses = totals.in_order({phase.status: 0 for row in rows for phase in row.phases})

    def _end(self, row: Row) -> float:
        is_open = any(phase.end is None for phase in row.phases)
        return self.axis.start + self.axis.length if is_open else max(row.times(), default=0.0)

    def offset(self, row: Row) -> int:
        """Return when a row starts, from the start of the axis."""
        return round((row.start or self.axis.start) - self.axis.start)

    def view(self, row: Row) -> str:
        """Return the part of the line that is shown at first."""
        if self.is_own:
            return f"{self.offset(row)} 0 {self.own_axis.length:.0f} 10"
        return f"0 0 {self.axis.length:.0f} 10"

    def paths(self, row: Row) -> Iterator[tuple[str, str]]:
        """Return the class and the path of each phase, and of each end."""
        start, last = self.axis.start, self.axis.start + self.axis.length
        for phase in row.phases:
            end = last if phase.end is None else phase.end
            yield safe_class(phase.status), f"M{phase.start - start:.0f} 5h{max(end - phase.start, 0):.0f}"
        for one in row.ends:
            yield f"end {safe_class(one.state)}", f"M{one.at - start:.0f} 0v10"

    def title(self, row: Row) -> str:
        """Describe the line in words."""
        last = self.axis.start + self.axis.length
        return ", ".join(
            f"{phase.status} {text.duration((last if phase.end is None else phase.end) - phase.start)}"
            for phase in row.phases
        )
