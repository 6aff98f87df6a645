"""What the library has logged."""

import logging
from collections.abc import Iterable


def besides_events(records: Iterable[logging.LogRecord]) -> list[logging.LogRecord]:
    """Return the records at INFO or above that are not about one submit or end of a production."""
    events = ("Submitted", "Finished")
    return [
        record
        for record in records
        if record.levelno >= logging.INFO and record.__dict__.get("jarai", {}).get("event") not in events
    ]
