"""Decides, after each failed attempt to submit a production, whether and when it is sent again. Pure.

A submit is sent again only where the failed attempt certainly created nothing, or where the server honours
the idempotency key. Once an attempt may have created a production, a later rejection proves nothing: the
account's budget, for example, may be exceeded because the first attempt has used it.
"""

from random import Random

from jarai_async._api.calls import Call, may_repeat, was_refused
from jarai_async._api.models import Production
from jarai_async._errors import JaraiError, NoResponseError, UncertainSubmitError
from jarai_async._http.retry import Retry

ATTEMPTS = 8  # of one submit, while there is no outage
_RETRY = Retry(attempts=ATTEMPTS)
_OUTAGE_STATUSES = (None, 503)  # no response, or one that says that JARAI is not available


class SubmitRetry:
    """The failed attempts of one submit.

    `in_doubt`: whether an earlier process may have created a production by it.
    """

    def __init__(self, call: Call[Production], random: Random, *, in_doubt: bool = False) -> None:
        self.failures = 0
        self._call = call
        self._random = random
        self._doubt: JaraiError | None = None
        if in_doubt:
            self._doubt = NoResponseError("the response to an earlier attempt is not known")

    def check(self, error: JaraiError, *, key_honoured: bool, outlast_outage: bool) -> None:
        """Record a failure. Raises it where the submit may not be sent again; UncertainSubmitError in doubt.

        With `outlast_outage` the number of attempts is not limited while JARAI cannot be reached.
        """
        if not was_refused(error):
            self._doubt = error
        if may_repeat(self._call, error, idempotency_keys=key_honoured):
            self.failures += 1
            if self.failures % ATTEMPTS or (outlast_outage and error.status in _OUTAGE_STATUSES):
                return
        if self._doubt is None:
            raise error
        raise self._uncertain(self._doubt, error) from self._doubt

    def delay(self, error: JaraiError) -> float:
        """Return the seconds until the submit is sent again after this failure."""
        failures = self.failures % ATTEMPTS
        return _RETRY.delay(failures, error, self._random) if failures else 0.0

    def _uncertain(self, doubt: JaraiError, last: JaraiError) -> UncertainSubmitError:
        """Explain both what left the submit in doubt and how it ended."""
        message = f"the submit may have been accepted: {doubt.message}"
        if last is not doubt:
            message = f"{message}; then: {last.message}"
        return UncertainSubmitError(
            message,
            idempotency_key=self._call.idempotency_key or "",
            status=last.status,
            code=last.code,
            correlation_id=last.correlation_id,
        )
