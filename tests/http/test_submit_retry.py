"""Whether a failed submit is sent again. Pure; `test_submit_faults` tests the same through a client."""

from random import Random

import pytest

from jarai_async import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ClosedError,
    ConfigurationError,
    InvalidResponseError,
    JaraiError,
    NoResponseError,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    UncertainSubmitError,
)
from jarai_async._api import endpoints
from jarai_async._http.submit_retry import KEY_VALID, SubmitRetry
from tests.support.strategies import ID

NOT_SENT = NotSentError("no connection")
UNAVAILABLE = ServiceUnavailableError("maintenance", status=503)
NO_RESPONSE = NoResponseError("no complete response")
SERVER_ERROR = ServerError("crashed", status=500)
RATE_LIMITED = RateLimitError("too many requests", status=429)
UNAUTHORIZED = AuthenticationError("wrong key", status=401, code="UNAUTHORIZED", correlation_id="c-1")
OVER_BUDGET = BudgetExceededError("no budget", status=409)
NO_JSON = InvalidResponseError("no JSON", status=202)
REDIRECT = InvalidResponseError("a redirect", status=307)
GATEWAY_TIMEOUT = ApiError("timeout of a gateway", status=408)
UNKNOWN_4XX = ApiError("not documented", status=418)


class FailingSubmit:
    """A submit whose attempts fail."""

    def __init__(self, *, key_honoured: bool = False, in_doubt: bool = False) -> None:
        call = endpoints.submit(ID, b"{}", "my-key")
        self.retry = SubmitRetry(
            call,
            Random(1),
            what="'tides'",
            honours_keys=key_honoured,
            in_doubt=in_doubt,
            sent_at=0.0 if in_doubt else None,
        )

    def fail(self, error: JaraiError, *, now: float = 0.0, outlast_outage: bool = False) -> None:
        """Send once and fail with this error. Raises what the submit raises if it may not be sent again."""
        self.retry.before_attempt(now)
        self.retry.after_failure(error, now, outlast_outage=outlast_outage)

    def may_retry(self, error: JaraiError, *, outlast_outage: bool = False) -> bool:
        """Fail once; return whether the submit may be sent again. If not, the error is raised unchanged."""
        try:
            self.fail(error, outlast_outage=outlast_outage)
        except type(error) as raised:
            if raised is not error:
                raise
            return False
        return True


@pytest.mark.parametrize(
    "error", [NO_RESPONSE, SERVER_ERROR, REDIRECT, GATEWAY_TIMEOUT, UNKNOWN_4XX, NO_JSON]
)
def test_submit_in_doubt_is_not_retried_without_idempotency_key(error: JaraiError) -> None:
    """A submit that may have created a production is not sent again, because it could create a duplicate."""
    submit = FailingSubmit()
    with pytest.raises(UncertainSubmitError, match=error.message) as uncertain:
        submit.fail(error, outlast_outage=True)
    assert uncertain.value.__cause__ is error
    assert uncertain.value.idempotency_key == "my-key"
    assert submit.retry.failures == 0


@pytest.mark.parametrize("error", [NO_RESPONSE, SERVER_ERROR, NO_JSON])
def test_submit_in_doubt_is_retried_with_idempotency_key(error: JaraiError) -> None:
    """The server recognises the repetition by its key, so no duplicate is created."""
    assert FailingSubmit(key_honoured=True).may_retry(error)


@pytest.mark.parametrize("error", [REDIRECT, UNKNOWN_4XX])
def test_some_doubts_are_not_retried_even_with_an_honoured_key(error: JaraiError) -> None:
    """A redirect and an unknown 4xx are permanent: a retry would get the same response."""
    with pytest.raises(UncertainSubmitError):
        FailingSubmit(key_honoured=True).fail(error, outlast_outage=True)


@pytest.mark.parametrize("key_honoured", [False, True])
@pytest.mark.parametrize("error", [NOT_SENT, UNAVAILABLE, RATE_LIMITED])
def test_refused_submit_is_retried(error: JaraiError, *, key_honoured: bool) -> None:
    """A submit that was not sent, or was rejected before anything was done, created nothing."""
    assert FailingSubmit(key_honoured=key_honoured).may_retry(error)


@pytest.mark.parametrize(
    "error",
    [
        UNAUTHORIZED,
        OVER_BUDGET,
        BadRequestError("a wrong field", status=400),
        PermissionDeniedError("a missing scope", status=403),
        NotFoundError("no such account", status=404),
        ConfigurationError("no TLS"),
        ClosedError("closed"),
    ],
)
def test_permanent_rejection_is_not_retried(error: JaraiError) -> None:
    """It is raised unchanged: nothing was created, and the same submit would be rejected again."""
    assert not FailingSubmit(key_honoured=True).may_retry(error, outlast_outage=True)


@pytest.mark.parametrize("error", [NOT_SENT, UNAVAILABLE, RATE_LIMITED])
def test_submit_is_attempted_eight_times(error: JaraiError) -> None:
    """The eighth failure is raised."""
    submit = FailingSubmit()
    assert [submit.may_retry(error) for _ in range(8)] == [True] * 7 + [False]


def test_submit_in_doubt_is_attempted_eight_times() -> None:
    """With an honoured key, the eighth failure leaves the submit uncertain."""
    submit = FailingSubmit(key_honoured=True)
    assert all(submit.may_retry(SERVER_ERROR) for _ in range(7))
    with pytest.raises(UncertainSubmitError):
        submit.fail(SERVER_ERROR)


@pytest.mark.parametrize("error", [NOT_SENT, UNAVAILABLE, NO_RESPONSE])
def test_attempts_are_not_limited_in_an_outage(error: JaraiError) -> None:
    """While JARAI cannot be reached, a job retries its submit for as long as it takes."""
    submit = FailingSubmit(key_honoured=True)
    assert all(submit.may_retry(error, outlast_outage=True) for _ in range(100))


@pytest.mark.parametrize("error", [RATE_LIMITED, SERVER_ERROR])
def test_attempts_are_limited_while_jarai_can_be_reached(error: JaraiError) -> None:
    """A response other than 503 shows that there is no outage."""
    submit = FailingSubmit(key_honoured=True)
    assert all(submit.may_retry(error, outlast_outage=True) for _ in range(7))
    with pytest.raises(JaraiError):
        submit.fail(error, outlast_outage=True)


def test_rejection_after_a_doubt_proves_nothing() -> None:
    """The cause stays the attempt in doubt: the budget, for example, may have been used by that attempt."""
    submit = FailingSubmit(key_honoured=True)
    assert submit.may_retry(NO_RESPONSE)
    assert submit.may_retry(UNAVAILABLE)
    with pytest.raises(UncertainSubmitError, match="no complete response; then: no budget") as uncertain:
        submit.fail(OVER_BUDGET)
    assert uncertain.value.__cause__ is NO_RESPONSE
    assert uncertain.value.status == 409


KEY_IN_USE = ApiError("a request with this key is in progress", status=409, code="IDEMPOTENCY_CONFLICT")


def test_submit_whose_key_is_in_use_is_waited_for() -> None:
    """The attempt in doubt is still being carried out: it is sent again with the same key, after a pause."""
    submit = FailingSubmit(key_honoured=True)
    assert submit.may_retry(NO_RESPONSE)
    for _ in range(6):
        assert submit.may_retry(KEY_IN_USE)
        assert submit.retry.delay(KEY_IN_USE) >= 10
    with pytest.raises(UncertainSubmitError) as uncertain:
        submit.fail(KEY_IN_USE, outlast_outage=True)
    assert uncertain.value.__cause__ is NO_RESPONSE


@pytest.mark.parametrize("in_doubt", [False, True])
def test_conflict_is_not_waited_for_without_a_doubt_or_an_honoured_key(*, in_doubt: bool) -> None:
    """Another 409 is permanent."""
    with pytest.raises(UncertainSubmitError):
        FailingSubmit(key_honoured=not in_doubt, in_doubt=in_doubt).fail(KEY_IN_USE)


def test_latest_doubt_is_the_cause() -> None:
    """Where several attempts were in doubt, the error names the latest of them."""
    submit = FailingSubmit(key_honoured=True)
    assert submit.may_retry(NO_RESPONSE)
    assert submit.may_retry(SERVER_ERROR)
    with pytest.raises(UncertainSubmitError) as uncertain:
        submit.fail(UNAUTHORIZED)
    assert uncertain.value.__cause__ is SERVER_ERROR
    assert (uncertain.value.status, uncertain.value.code) == (401, "UNAUTHORIZED")
    assert uncertain.value.correlation_id == "c-1"


def test_doubt_of_an_earlier_process_remains_after_a_restart() -> None:
    """A rejection does not settle what an earlier process may have created."""
    with pytest.raises(UncertainSubmitError, match="is not known; then: wrong key"):
        FailingSubmit(key_honoured=True, in_doubt=True).fail(UNAUTHORIZED, outlast_outage=True)


def test_delay_grows_and_is_never_below_retry_after() -> None:
    """The delay is between 0 and min(20 s, 0.5 s * 2^n), or Retry-After if that is more."""
    submit = FailingSubmit()
    for longest in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0):
        assert submit.may_retry(UNAVAILABLE)
        delays = [submit.retry.delay(UNAVAILABLE) for _ in range(200)]
        assert 0.9 * longest < max(delays) <= longest
        assert min(delays) < 0.1 * longest
        assert submit.retry.delay(ServiceUnavailableError("later", status=503, retry_after=90)) == 90


def test_eighth_failure_in_an_outage_adds_no_delay() -> None:
    """Every series of eight attempts begins with a short delay: `Outage` limits how often they are sent."""
    submit = FailingSubmit()
    for _ in range(8):
        assert submit.may_retry(UNAVAILABLE, outlast_outage=True)
    assert submit.retry.delay(UNAVAILABLE) == 0


def test_submit_in_doubt_is_not_retried_after_its_idempotency_key_expired() -> None:
    """After 23 hours the server may not recognise the key, and would create a duplicate."""
    submit = FailingSubmit(key_honoured=True)
    submit.fail(NO_RESPONSE)
    submit.fail(UNAVAILABLE, now=KEY_VALID - 1, outlast_outage=True)
    with pytest.raises(UncertainSubmitError, match="no complete response"):
        submit.retry.before_attempt(KEY_VALID)
    with pytest.raises(UncertainSubmitError, match="no complete response; then: maintenance"):
        submit.retry.after_failure(UNAVAILABLE, KEY_VALID, outlast_outage=True)


def test_key_of_a_submit_without_a_doubt_does_not_expire() -> None:
    """As long as every attempt was refused, the server has not stored the key."""
    submit = FailingSubmit(key_honoured=True)
    for day in range(10):
        submit.fail(NOT_SENT, now=day * 86_400.0, outlast_outage=True)
    submit.fail(NO_RESPONSE, now=10 * 86_400.0)
    submit.retry.before_attempt(10 * 86_400.0 + KEY_VALID - 1)
