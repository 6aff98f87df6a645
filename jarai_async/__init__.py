"""An asyncio SDK for the JARAI Partner API: hundreds of productions within one request budget.

    from jarai_async import JaraiClient, Orchestrator, ProductionRequest

    async with JaraiClient() as client:
        async with Orchestrator(client, download_to="deliverables") as orchestrator:
            async for event in orchestrator.run(requests):
                print(event)

`JaraiClient` has one method for each thing that the API can do. `Orchestrator` runs any number of
productions at once and tells what becomes of each. `jarai_async.simulator` is the API on this machine.
"""

from jarai_async._callbacks import NewWebhook, Webhook, WebhookDelivery
from jarai_async._client import JaraiClient
from jarai_async._errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    DeadlineExceededError,
    DownloadError,
    FileWriteError,
    IncompleteDownloadError,
    InvalidAnswerError,
    InvalidRequestError,
    JaraiError,
    JournalError,
    NoAnswerError,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    ProductionFailedError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    StoppedError,
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
    StatusChanged,
    Submitted,
)
from jarai_async._models import (
    Account,
    Avatar,
    Budget,
    Deliverable,
    Performance,
    Polling,
    Production,
    ProductionRequest,
    Status,
    Usage,
)
from jarai_async._orchestrator import Orchestrator
from jarai_async._outlook import Statistics
from jarai_async._ticket import Ticket

__all__ = [
    "Account",
    "ApiError",
    "AuthenticationError",
    "Avatar",
    "BadRequestError",
    "Budget",
    "BudgetExceededError",
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
    "InvalidAnswerError",
    "InvalidRequestError",
    "JaraiClient",
    "JaraiError",
    "JournalError",
    "NewWebhook",
    "NoAnswerError",
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
    "RateLimitError",
    "ServerError",
    "ServiceUnavailableError",
    "Statistics",
    "Status",
    "StatusChanged",
    "StoppedError",
    "Submitted",
    "Ticket",
    "UncertainSubmitError",
    "Usage",
    "Webhook",
    "WebhookDelivery",
    "WebhookVerificationError",
]
