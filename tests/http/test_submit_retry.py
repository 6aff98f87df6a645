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
from jarai_async._http.submit_retry import SubmitRetry
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


def submit_retry(*, in_doubt: bool = False) -> SubmitRetry:
    return SubmitRetry(endpoints.submit(ID, b"{}", "my-key"), Random(1), in_doubt=in_doubt)


def may_retry(
    retry: SubmitRetry, error: JaraiError, *, key_honoured: bool = False, outlast_outage: bool = False
) -> bool:
    """Whether the submit may be sent again; if not, the error is raised unchanged."""
    try:
        retry.check(error, key_honoured=key_honoured, outlast_outage=outlast_outage)
    except type(error) as raised:
        if raised is not error:
            raise
        return False
    return True


@pytest.mark.parametrize(
    "error",
    [NO_RESPONSE, SERVER_ERROR, REDIRECT, GATEWAY_TIMEOUT, NO_JSON],
)
def test_submit_in_doubt_is_not_retried_without_an_honoured_idempotency_key(error: JaraiError) -> None:
    """A submit that may have created a production is not sent again, because it could create a duplicate."""
    retry = submit_retry()
    with pytest.raises(UncertainSubmitError, match=error.message) as uncertain:
        retry.check(error, key_honoured=False, outlast_outage=True)
    assert uncertain.value.__cause__ is error
    assert uncertain.value.idempotency_key == "my-key"
    assert retry.failures == 0


@pytest.mark.parametrize("error", [NO_RESPONSE, SERVER_ERROR, NO_JSON])
def test_submit_in_doubt_is_retried_with_an_honoured_idempotency_key(error: JaraiError) -> None:
    """The server recognises the repetition by its key, so no duplicate is created."""
    assert may_retry(submit_retry(), error, key_honoured=True)


@pytest.mark.parametrize("error", [REDIRECT, GATEWAY_TIMEOUT])
def test_some_doubts_are_not_retried_even_with_an_honoured_key(error: JaraiError) -> None:
    """A redirect or an unknown 4xx would be the same again."""
    with pytest.raises(UncertainSubmitError):
        submit_retry().check(error, key_honoured=True, outlast_outage=True)


@pytest.mark.parametrize("key_honoured", [False, True])
@pytest.mark.parametrize("error", [NOT_SENT, UNAVAILABLE, RATE_LIMITED])
def test_refused_submit_is_retried(error: JaraiError, key_honoured: bool) -> None:  # noqa: FBT001
    """A submit that was not sent, or was rejected before anything was done, created nothing."""
    assert may_retry(submit_retry(), error, key_honoured=key_honoured)


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
    assert not may_retry(submit_retry(), error, key_honoured=True, outlast_outage=True)


@pytest.mark.parametrize("error", [NOT_SENT, UNAVAILABLE, RATE_LIMITED])
def test_submit_is_attempted_eight_times(error: JaraiError) -> None:
    """The eighth failure is raised."""
    retry = submit_retry()
    assert [may_retry(retry, error) for _ in range(8)] == [True] * 7 + [False]


def test_submit_in_doubt_is_attempted_eight_times() -> None:
    """With an honoured key, the eighth failure leaves the submit uncertain."""
    retry = submit_retry()
    assert all(may_retry(retry, SERVER_ERROR, key_honoured=True) for _ in range(7))
    with pytest.raises(UncertainSubmitError):
        retry.check(SERVER_ERROR, key_honoured=True, outlast_outage=False)


@pytest.mark.parametrize("error", [NOT_SENT, UNAVAILABLE, NO_RESPONSE])
def test_attempts_are_not_limited_in_an_outage(error: JaraiError) -> None:
    """While JARAI cannot be reached, a job retries its submit for as long as it takes."""
    retry = submit_retry()
    assert all(may_retry(retry, error, key_honoured=True, outlast_outage=True) for _ in range(100))


@pytest.mark.parametrize("error", [RATE_LIMITED, SERVER_ERROR])
def test_attempts_are_limited_while_jarai_can_be_reached(error: JaraiError) -> None:
    """A response other than 503 shows that there is no outage."""
    retry = submit_retry()
    assert all(may_retry(retry, error, key_honoured=True, outlast_outage=True) for _ in range(7))
    with pytest.raises(JaraiError):
        retry.check(error, key_honoured=True, outlast_outage=True)


def test_rejection_after_a_doubt_proves_nothing() -> None:
    """The cause stays the attempt in doubt: the budget, for example, may have been used by that attempt."""
    retry = submit_retry()
    assert may_retry(retry, NO_RESPONSE, key_honoured=True)
    assert may_retry(retry, UNAVAILABLE, key_honoured=True)
    with pytest.raises(UncertainSubmitError, match="no complete response; then: no budget") as uncertain:
        retry.check(OVER_BUDGET, key_honoured=True, outlast_outage=False)
    assert uncertain.value.__cause__ is NO_RESPONSE
    assert uncertain.value.status == 409


def test_latest_doubt_is_the_cause() -> None:
    """Where several attempts were in doubt, the error names the latest of them."""
    retry = submit_retry()
    assert may_retry(retry, NO_RESPONSE, key_honoured=True)
    assert may_retry(retry, SERVER_ERROR, key_honoured=True)
    with pytest.raises(UncertainSubmitError) as uncertain:
        retry.check(UNAUTHORIZED, key_honoured=True, outlast_outage=False)
    assert uncertain.value.__cause__ is SERVER_ERROR
    assert (uncertain.value.status, uncertain.value.code) == (401, "UNAUTHORIZED")
    assert uncertain.value.correlation_id == "c-1"


def test_doubt_of_an_earlier_process_remains_after_a_restart() -> None:
    """A rejection does not settle what an earlier process may have created."""
    with pytest.raises(UncertainSubmitError, match="an earlier attempt is not known; then: wrong key"):
        submit_retry(in_doubt=True).check(UNAUTHORIZED, key_honoured=True, outlast_outage=True)


def test_delay_grows_and_is_never_below_retry_after() -> None:
    """The delay is between 0 and min(20 s, 0.5 s * 2^n), or Retry-After if that is more."""
    retry = submit_retry()
    for longest in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0):
        assert may_retry(retry, UNAVAILABLE)
        delays = [retry.delay(UNAVAILABLE) for _ in range(200)]
        assert 0.9 * longest < max(delays) <= longest
        assert min(delays) < 0.1 * longest
        assert retry.delay(ServiceUnavailableError("later", status=503, retry_after=90)) == 90


def test_eighth_failure_in_an_outage_adds_no_delay() -> None:
    """Each eight attempts begin with a short delay again: `Outage` limits how often they are sent."""
    retry = submit_retry()
    for _ in range(8):
        assert may_retry(retry, UNAVAILABLE, outlast_outage=True)
    assert retry.delay(UNAVAILABLE) == 0
