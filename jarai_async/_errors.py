"""The exceptions that this library raises. The docstring of the package shows their tree.

Every exception has the attributes of `JaraiError`, which are exact. Its text is one printable line, and most
end with what to do next. No exception holds a request, a header or a body, so none can leak the API key. None
is chained to an exception of the HTTP library, whose `repr` may contain the key.
"""

from collections.abc import Iterable

from jarai_async._printable import printable

_SHOWN_PROBLEMS = 5  # in a message: a batch may have hundreds


class JaraiError(Exception):
    """Base class of all exceptions of this library.

    Attributes: `message`; `status`, the HTTP status; `code`, JARAI's error code; `correlation_id`, to quote
    to JARAI support; `retry_after`, in seconds. All but `message` are None where they do not apply. `advice`
    says what to do next, and is the end of the text.
    """

    advice: str = ""

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

    @property
    def reason(self) -> str:
        """The text without `advice`, for a caller that knows what to do next."""
        status = None if f"status {self.status}" in self.message else self.status
        facts = [str(fact) for fact in (status, self.code) if fact is not None]
        if self.correlation_id:
            facts.append(f"correlation id {self.correlation_id}")
        return printable(f"{self.message.rstrip('.')} ({', '.join(facts)})" if facts else self.message)

    def __str__(self) -> str:
        return f"{self.reason.rstrip('.')}. {printable(self.advice)}" if self.advice else self.reason


class ConfigurationError(JaraiError, ValueError):
    """An argument or a setting of the client, the orchestrator or the receiver is invalid."""


class JournalError(ConfigurationError):
    """The journal cannot be opened, read or written: it is in use or damaged, or there is no space."""


class InvalidRequestError(JaraiError, ValueError):
    """The request breaks documented rules, or its reference does not allow it; `problems` lists all reasons.

    The message has the first five of them. No submit was sent.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        shown, more = self.problems[:_SHOWN_PROBLEMS], len(self.problems) - _SHOWN_PROBLEMS
        super().__init__("; ".join([*shown, f"and {more} more"] if more > 0 else shown))

    def __reduce__(self) -> tuple[type["InvalidRequestError"], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class TransportError(JaraiError):
    """The API gave no usable response: nothing was sent, no response arrived, or it cannot be read."""


class NotSentError(TransportError, ConnectionError):
    """No connection could be made, so the request never left this process."""

    advice = "Nothing was sent: check the network and the base URL, then try again."


class NoResponseError(TransportError, ConnectionError):
    """The request was sent, but no complete response arrived."""

    advice = "The request may have been carried out. It is safe to repeat a read."


class InvalidResponseError(TransportError):
    """The response is not what the API documents: a gateway's page, invalid JSON or a redirect."""

    advice = "If this persists, check the base URL, then report it to JARAI with the correlation id."


class UncertainSubmitError(JaraiError):
    """No usable response to a submit arrived: the production may have been created, and may cost money.

    By default the library does not send it again, since that could create a second production. With
    `JaraiClient(idempotency_keys=True)` the client does, with the same key. `idempotency_key` is the key that
    was sent, and `__cause__`, if set, is the error that left the submit in doubt.
    """

    advice = "Check in JARAI Studio whether it was created before you submit it again."

    def __init__(self, message: str, *, idempotency_key: str = "", **facts: object) -> None:
        super().__init__(message, **facts)  # type: ignore[arg-type]  # passed on unchanged
        self.idempotency_key = idempotency_key


class DeadlineExceededError(JaraiError, TimeoutError):
    """Your deadline passed before the production ended. The production continues at JARAI."""

    advice = "Wait for it again with its production id, or cancel it."


class ClosedError(JaraiError):
    """The client or the orchestrator was closed while this operation was in progress."""

    advice = "An accepted production continues at JARAI: wait for it again with its production id."


class DownloadError(JaraiError):
    """A deliverable could not be downloaded completely. No partial file is left under its name."""

    advice = "No incomplete file was kept: download it again."


class IncompleteDownloadError(DownloadError):
    """The file arrived incomplete, damaged or too slowly, or blob storage had a temporary error."""


class FileWriteError(DownloadError):
    """The file could not be written on this machine: no space, no permission, or the path is taken."""

    advice = "Make room or choose another folder, then download it again."


class WebhookVerificationError(JaraiError):
    """The request is not signed with your secret: ignore it.

    The message is for you. Respond to the sender with status 401 and nothing else.
    """

    advice = "Check that the secret is that of this webhook, and that the body is passed on unmodified."


class ProductionFailedError(JaraiError):
    """The production ended as `Failed`, or JARAI no longer knows it. `code` is JARAI's `errorCode`.

    `PRODUCTION_EXPIRED` means that JARAI never started it. Submitting it again at once is safe (documented).
    """


class ApiError(JaraiError):
    """The API responded with an error status. A status with a specific meaning has a subclass."""

    advice = "The code and the message are JARAI's. Quote the correlation id to JARAI support."


class BadRequestError(ApiError):
    """400, 413 or 422 (the last is not documented): the request is wrong; repeating it cannot succeed."""

    advice = "Correct the request: sending the same request again cannot succeed."


class AuthenticationError(ApiError):
    """401: the API key is missing, unknown or revoked."""

    advice = "Check the API key (JARAI_API_KEY)."


class PermissionDeniedError(ApiError):
    """403: the key, the partner or the account is not permitted to do this."""

    advice = "Check the key's scopes, and that the account is active and yours."


class NotFoundError(ApiError):
    """404 or 410: the resource does not exist, not yet, or no longer."""

    advice = "Check the identifier and the base URL, and that it belongs to this key's partner."


class BudgetExceededError(ApiError):
    """409 BUDGET_GATE_n_FAILED: the account's budget does not allow it; nothing was started (documented)."""

    advice = "Raise the account's budget in JARAI Studio, or wait for the next month."


class RateLimitError(ApiError):
    """429: the rate limit is exhausted; `retry_after` is the number of seconds to wait."""

    advice = "The client waits automatically. Other programs may be using the same rate limit."


class ServiceUnavailableError(ApiError):
    """503 with JARAI's own error code: maintenance; rejected before anything was done (inferred)."""

    advice = "Try again later."


class ServerError(ApiError):
    """Any other 5xx, which does not say whether the request was carried out."""

    advice = "The request may have been carried out. It is safe to repeat a read."
