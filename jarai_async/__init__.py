"""An asyncio SDK for the JARAI Partner API, for hundreds of concurrent productions under one rate limit.

    from jarai_async import JaraiClient, Orchestrator, ProductionRequest

    async with JaraiClient() as client:
        async with Orchestrator(client, download_to="deliverables") as orchestrator:
            async for event in orchestrator.run(requests):
                print(event)

**Calls.** `JaraiClient` has one method for each call of the API. It takes a `ProductionRequest`, and returns
a `Production` with its `Status`, or a `Deliverable`, `Account` (with each `Avatar`), `Performance`, `Usage`,
`Webhook`, `NewWebhook` or `WebhookDelivery`. Their `raw` is what JARAI sent. `RateLimit` says what a client
may use of the rate limit.

**Many productions.** `Orchestrator` runs them at once. `run` yields events: `Submitted`, `StatusChanged`,
`DeliverablesReady`, `Downloaded` or `Finished`; `Event` is any of them. `submit` returns a `Ticket`. Each
request ends with an `Outcome`, with its `OutcomeState` and files, each a `SavedFile`. `Waiting`, with a
`WaitReason`, says what a request waits for, and `Statistics` how far all are. `Polling` sets the intervals.
`read_journal` returns each `JournalEntry` of a journal, also while another process has it open.

**Modules.** `jarai_async.webhooks` verifies webhook events, `jarai_async.receiver` receives them, and
`jarai_async.simulator` is a Partner API on your machine, for tests and experiments. `jarai_async.otel` makes
spans and metrics for OpenTelemetry.

**Errors.** Each has the attributes of `JaraiError`, and a text of one line that says what to do next.

    JaraiError
    ├── ConfigurationError      the client or the orchestrator is set up incorrectly
    │   └── JournalError            the journal cannot be opened, read or written
    ├── InvalidRequestError     the request breaks a documented rule; nothing was sent
    ├── TransportError          the API gave no usable response
    │   ├── NotSentError            no connection: the request never left this process
    │   ├── NoResponseError         sent, but no complete response arrived: it may have been carried out
    │   └── InvalidResponseError    the response is not what the API documents
    ├── UncertainSubmitError    a production may or may not have been created; it is not submitted again
    ├── DeadlineExceededError   your deadline passed; the production continues at JARAI
    ├── ClosedError             the client or the orchestrator was closed; accepted productions continue
    ├── DownloadError           a file could not be downloaded completely
    │   ├── IncompleteDownloadError every attempt was cut off, damaged or too slow
    │   └── FileWriteError          the file could not be written on this machine
    ├── WebhookVerificationError  JARAI did not sign the request
    ├── ProductionFailedError   the production ended as Failed, or JARAI no longer knows it
    └── ApiError                the API responded with an error status
        ├── BadRequestError             400, 413, 422
        ├── AuthenticationError         401
        ├── PermissionDeniedError       403
        ├── NotFoundError               404, 410
        ├── BudgetExceededError         409 with a BUDGET_GATE code
        ├── RateLimitError              429
        ├── ServiceUnavailableError     503 from JARAI itself: rejected before anything was done
        └── ServerError                 any other 5xx
"""

from importlib.metadata import version

from jarai_async._api.models import (
    Account,
    Avatar,
    Deliverable,
    Performance,
    Polling,
    Production,
    ProductionRequest,
    RateLimit,
    Status,
    Usage,
)
from jarai_async._api.webhook_models import NewWebhook, Webhook, WebhookDelivery
from jarai_async._client import JaraiClient
from jarai_async._errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ClosedError,
    ConfigurationError,
    DeadlineExceededError,
    DownloadError,
    FileWriteError,
    IncompleteDownloadError,
    InvalidRequestError,
    InvalidResponseError,
    JaraiError,
    JournalError,
    NoResponseError,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    ProductionFailedError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
    UncertainSubmitError,
    WebhookVerificationError,
)
from jarai_async._events import (
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    Outcome,
    OutcomeState,
    SavedFile,
    StatusChanged,
    Submitted,
)
from jarai_async._journal.reader import JournalEntry, read_journal
from jarai_async._orchestrator.orchestrator import Orchestrator
from jarai_async._orchestrator.statistics import Statistics
from jarai_async._orchestrator.ticket import Ticket
from jarai_async._waiting import Waiting, WaitReason

__all__ = [
    "Account",
    "ApiError",
    "AuthenticationError",
    "Avatar",
    "BadRequestError",
    "BudgetExceededError",
    "ClosedError",
    "ConfigurationError",
    "DeadlineExceededError",
    "Deliverable",
    "DeliverablesReady",
    "DownloadError",
    "Downloaded",
    "Event",
    "FileWriteError",
    "Finished",
    "IncompleteDownloadError",
    "InvalidRequestError",
    "InvalidResponseError",
    "JaraiClient",
    "JaraiError",
    "JournalEntry",
    "JournalError",
    "NewWebhook",
    "NoResponseError",
    "NotFoundError",
    "NotSentError",
    "Orchestrator",
    "Outcome",
    "OutcomeState",
    "Performance",
    "PermissionDeniedError",
    "Polling",
    "Production",
    "ProductionFailedError",
    "ProductionRequest",
    "RateLimit",
    "RateLimitError",
    "SavedFile",
    "ServerError",
    "ServiceUnavailableError",
    "Statistics",
    "Status",
    "StatusChanged",
    "Submitted",
    "Ticket",
    "TransportError",
    "UncertainSubmitError",
    "Usage",
    "WaitReason",
    "Waiting",
    "Webhook",
    "WebhookDelivery",
    "WebhookVerificationError",
    "read_journal",
]

__version__ = version("jarai-async")

for _name in __all__:
    globals()[_name].__module__ = __name__  # the public name, in tracebacks, documentation and pickles
