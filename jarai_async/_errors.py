"""What can go wrong, by meaning.

    JaraiError
    ├── ConfigurationError      the client was set up wrongly; nothing was sent
    │   └── JournalError            the journal cannot be opened, read or written
    ├── InvalidRequestError     the request breaks a documented rule; nothing was sent
    ├── TransportError          no usable response from the API
    │   ├── NotSentError            no connection: the request never left this process
    │   ├── NoResponseError         sent, but no complete response came: it may have been carried out
    │   └── InvalidResponseError    the response is not what the API documents
    ├── UncertainSubmitError    a production may or may not have been created: never sent again
    ├── DeadlineExceededError   the time that you gave is over; the production goes on
    ├── ClosedError             you closed what was waiting; the production goes on
    ├── DownloadError           a file could not be fetched whole
    │   ├── IncompleteDownloadError what came was broken or too slow, again and again
    │   └── FileWriteError          this machine could not keep it
    ├── WebhookVerificationError  what came is not a webhook that JARAI signed
    ├── ProductionFailedError   the production itself ended as Failed, or is gone
    └── ApiError                the API answered with an error
        ├── BadRequestError             400, 413, 422
        ├── AuthenticationError         401
        ├── PermissionDeniedError       403
        ├── NotFoundError               404
        ├── BudgetExceededError         409 with a BUDGET_GATE code
        ├── RateLimitError              429
        ├── ServiceUnavailableError     JARAI's own 503: refused before anything was done
        └── ServerError                 any other 5xx

Every one of them has `status`, `code`, `message`, `correlation_id` and `retry_after` (None where the
answer had none), and ends with what to do next. None holds a request, a header or a body, so none
can give away the API key; none is chained to an exception of the HTTP library, whose `repr` does.
"""

from collections.abc import Iterable
from typing import ClassVar


class JaraiError(Exception):
    """Base of all errors of this library.

    Attributes: `message`; `status` (HTTP), `code` (JARAI's own), `correlation_id` (quote it to JARAI's
    support) and `retry_after` (seconds), each None where there is none.
    """

    advice: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        correlation_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.correlation_id = correlation_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        facts = [str(fact) for fact in (self.status, self.code) if fact is not None]
        if self.correlation_id:
            facts.append(f"correlation id {self.correlation_id}")
        text = f"{self.message.rstrip('.')} ({', '.join(facts)})" if facts else self.message
        return f"{text.rstrip('.')}. {self.advice}" if self.advice else text


class ConfigurationError(JaraiError, ValueError):
    """The client or the orchestrator was given something that it cannot work with."""


class JournalError(ConfigurationError):
    """The journal cannot be opened, read or written: in use, damaged, no space, no permission."""

    advice = "Nothing is submitted that cannot be written down first; what is under way goes on at JARAI."


class InvalidRequestError(JaraiError, ValueError):
    """A request breaks documented rules; `problems` names each of them. Nothing was sent."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))

    def __reduce__(self) -> tuple[type["InvalidRequestError"], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class TransportError(JaraiError):
    """The API gave no usable response: nothing was sent, no response came, or it cannot be read."""


class NotSentError(TransportError, ConnectionError):
    """No connection could be made, so the request never left this process."""

    advice = "Nothing was sent: check the network and the base URL, then try again."


class NoResponseError(TransportError, ConnectionError):
    """The request left, and no whole answer came back."""

    advice = "It may have been carried out: reading again is safe."


class InvalidResponseError(TransportError):
    """The answer is not what the API documents: a gateway's page, broken JSON, a redirect."""

    advice = "If it goes on, check the base URL, then report it to JARAI with the correlation id."


class UncertainSubmitError(JaraiError):
    """A submit whose answer was lost: the production may have been created, and may be paid for.

    It is not sent again by itself. `idempotency_key` is the key that it carried, `__cause__` what
    happened. With `JaraiClient(idempotency_keys=True)` it would be sent again, with the same key.
    """

    advice = "Look in JARAI Studio whether it was created, then `Orchestrator.resolve` it."

    def __init__(self, message: str, *, idempotency_key: str = "", **facts: object) -> None:
        super().__init__(message, **facts)  # type: ignore[arg-type]  # passed on as they are
        self.idempotency_key = idempotency_key


class DeadlineExceededError(JaraiError, TimeoutError):
    """The deadline for waiting is over. The production goes on at JARAI."""

    advice = "Wait for it again with its production id, or cancel it."


class ClosedError(JaraiError):
    """The orchestrator was left, or the client closed, while this was under way."""

    advice = "A production that was accepted goes on at JARAI: wait for it with its production id."


class DownloadError(JaraiError):
    """A deliverable could not be fetched whole; nothing half-written stands under its name."""

    advice = "Nothing incomplete was kept: download it again."


class IncompleteDownloadError(DownloadError):
    """What came was not the whole file: cut, damaged, too slow, or a passing error of the blob store."""


class FileWriteError(DownloadError):
    """A file could not be kept on this machine: no space, no permission, a name in the way."""

    advice = "Make room or choose another folder, then download it again."


class WebhookVerificationError(JaraiError):
    """What came is not signed with your secret, or is not a webhook's event: do nothing with it.

    Its text is for you; to whoever sent it say 401, and nothing else.
    """

    advice = "Check that the secret is this subscription's, and that the body is passed on as it came."


class ProductionFailedError(JaraiError):
    """The production ended as `Failed`; `code` is JARAI's `errorCode`.

    `PRODUCTION_EXPIRED` means that it was never begun and is safe to submit again at once (documented).
    """


class ApiError(JaraiError):
    """The API answered with an error status that has no class of its own."""

    advice = "The code and the message are JARAI's; quote the correlation id to its support."


class BadRequestError(ApiError):
    """400, 413 or 422 (not documented): the request is wrong, and that is permanent."""

    advice = "Correct the request: sending the same again cannot succeed."


class AuthenticationError(ApiError):
    """401: the key is missing, unknown or revoked."""

    advice = "Check the API key (JARAI_API_KEY)."


class PermissionDeniedError(ApiError):
    """403: the key, the partner or the account may not do this."""

    advice = "Check the key's scopes, and that the account is active and yours."


class NotFoundError(ApiError):
    """404: no such thing, or not yet."""

    advice = "Check the identifier and the base URL, and that it belongs to this key's partner."


class BudgetExceededError(ApiError):
    """409 BUDGET_GATE_n_FAILED: the account's budget does not allow it; nothing was started."""

    advice = "Raise the account's budget in JARAI Studio, or wait for the next month."


class RateLimitError(ApiError):
    """429: the request budget is spent; `retry_after` says for how many seconds."""

    advice = "The client waits by itself; other programs may share this key's budget."


class ServiceUnavailableError(ApiError):
    """JARAI's own 503: maintenance; refused before anything was done (inferred)."""

    advice = "Try again later."


class ServerError(ApiError):
    """A 5xx that does not say whether the request was carried out."""

    advice = "It may have been carried out: reading again is safe."
