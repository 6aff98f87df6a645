"""What is known of the requests that are made for one purpose."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from attrs import define, field


@define(eq=False)
class Meter:
    """What is known of the requests that are made for one purpose.

    `sent_at` is when the last one left: what its answer says was true at that moment or later. `in_doubt`
    means that a submit left of which it is not known whether it created a production. `withdrawn` may be set
    to keep a submit from being sent, or sent again. `frozen` is called when a submit has to wait for its
    account's next day; `departing` is awaited before a submit leaves, and `returned` called when it came back
    without a production, so that both can be written down. `patient` requests wait while the key is refused.
    """

    requests: int = 0
    sending: bool = False
    sent_at: datetime | None = None
    in_doubt: bool = False
    withdrawn: bool = False
    patient: bool = False
    frozen: Callable[[], None] | None = field(default=None, repr=False)
    departing: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    returned: Callable[[], None] | None = field(default=None, repr=False)
