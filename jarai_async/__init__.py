"""An asyncio SDK for the JARAI Partner API, for hundreds of concurrent productions under one rate limit.

    from jarai_async import JaraiClient, Orchestrator, ProductionRequest

    async with JaraiClient() as client:
        async with Orchestrator(client, download_to="deliverables") as orchestrator:
            async for event in orchestrator.run(requests):
                print(event)

- `JaraiClient` has one method for each call of the API.
- `Orchestrator` runs many productions concurrently and yields an event for each change.
- `read_journal` shows what a journal knows, also while another process has it open.
- `JaraiError` is the base class of all exceptions; the docstring of each says what it means.
- `jarai_async.webhooks` verifies webhook events, and `jarai_async.receiver` receives them.
- `jarai_async.simulator` is a simulation of the API, for tests and experiments on your machine.
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
