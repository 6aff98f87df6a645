"""Decides, after each failed attempt to submit a production, whether and when it is sent again. Pure.

A submit is sent again only where the failed attempt certainly created nothing, or where the server honours
the idempotency key. Once an attempt may have created a production, a later rejection proves nothing: the
account's budget, for example, may be exceeded because the first attempt has used it.
"""

from datetime import UTC, datetime
from random import Random

from jarai_async._api.calls import Call, created_nothing, is_key_in_use, may_repeat
from jarai_async._api.models import Production
from jarai_async._errors import JaraiError, NoResponseError, UncertainSubmitError
from jarai_async._http.retry import Retry

ATTEMPTS = 8  # of one submit, while there is no outage
KEY_VALID = 23 * 3600.0  # seconds: servers that honour idempotency keys keep them for a day or more
_KEY_IN_USE_PAUSE = 10.0  # seconds
_RETRY = Retry(attempts=ATTEMPTS)
_OUTAGE_STATUSES = (None, 503)  # no response, or one that says that JARAI is not available


class SubmitRetry:
    """The attempts of one submit.

    With `honours_keys` the server honours idempotency keys. `in_doubt` says that an earlier process may have
    created a production by this submit, which it first sent at `sent_at` (Unix time; None if not known), and
    `doubt` is the reason, if it is known. `what` names the request in the text of an UncertainSubmitError.
    """

    def __init__(
        self,
        call: Call[Production],
        random: Random,
        *,
        what: str,
        honours_keys: bool,
        in_doubt: bool = False,
        sent_at: float | None = None,
        doubt: JaraiError | None = None,
    ) -> None:
        self.failures = 0
        self._call = call
        self._random = random
        self._honours_keys = honours_keys
        self._sent_at = sent_at
        self._what = what
        self._doubt = (doubt or NoResponseError("its response is not known")) if in_doubt else None

    def check_doubt(self, now: float) -> None:
        """Raise UncertainSubmitError if it is in doubt and the server may have forgotten its key.

        `now` is Unix time, here and below.
        """
        if self._doubt is not None and not self._recognises_key(now):
            raise self._uncertain(self._doubt, self._doubt) from self._doubt

    def before_attempt(self, now: float) -> None:
        """Record that the submit is about to be sent. Raises UncertainSubmitError, as `check_doubt` does."""
        self.check_doubt(now)
        if self._doubt is None:
            self._sent_at = now

    def after_failure(self, error: JaraiError, now: float, *, outlast_outage: bool) -> None:
        """Record a failed attempt, and raise `error` if the submit may not be sent again.

        With `outlast_outage` the number of attempts is not limited while JARAI cannot be reached. If the key
        is in use, the attempt in doubt is still being carried out, so it is waited for. Raises
        UncertainSubmitError instead where a production may have been created.
        """
        recognises_key = self._recognises_key(now)
        in_progress = self._doubt is not None and recognises_key and is_key_in_use(error)
        if not (in_progress or created_nothing(error)):
            self._doubt = error
        may_send_again = in_progress or may_repeat(self._call, error, idempotency_keys=recognises_key)
        if may_send_again and (self._doubt is None or recognises_key):
            self.failures += 1
            if self.failures % ATTEMPTS or (outlast_outage and error.status in _OUTAGE_STATUSES):
                return
        if self._doubt is None:
            raise error
        raise self._uncertain(self._doubt, error) from self._doubt

    def _recognises_key(self, now: float) -> bool:
        """Whether the server would recognise a repetition by its idempotency key."""
        return self._honours_keys and self._sent_at is not None and now - self._sent_at < KEY_VALID

    def delay(self, error: JaraiError) -> float:
        """Return the seconds until the submit is sent again after this failure."""
        failures = self.failures % ATTEMPTS
        delay = _RETRY.delay(failures, error, self._random) if failures else 0.0
        return max(delay, _KEY_IN_USE_PAUSE) if is_key_in_use(error) else delay

    def _uncertain(self, doubt: JaraiError, last: JaraiError) -> UncertainSubmitError:
        """Explain both what left the submit in doubt and how it ended."""
        reason = doubt.message if last is doubt else f"{doubt.message}; then: {last.message}"
        return UncertainSubmitError(
            f"{describe_doubt(self._what, self._sent_at)}: {reason}",
            idempotency_key=self._call.idempotency_key or "",
            status=last.status,
            code=last.code,
            correlation_id=last.correlation_id,
        )


def describe_request(topic: str, account_id: str, reference: str | None) -> str:
    """Name a request, so that a person can find it in JARAI Studio."""
    name = f"reference {reference[:100]!r}, " if reference else ""
    return f"{topic[:80]!r} ({name}account {account_id})"


def describe_doubt(what: str, sent_at: float | None) -> str:
    """Say that a submit, which was first sent at `sent_at` (Unix time), may have been accepted."""
    sent = "" if sent_at is None else f", sent {datetime.fromtimestamp(sent_at, UTC):%Y-%m-%d %H:%M:%S} UTC,"
    return f"the submit of {what}{sent} may have been accepted"
