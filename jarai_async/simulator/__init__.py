"""A local Partner API for tests, benchmarks and experiments.

It serves real HTTP on 127.0.0.1, and records what the real API does not show: the true state of every
production at any time, and every request that arrived. So a test can check that a program submitted nothing
twice, that it stayed within its rate limit, and how late it noticed a change. It can also add faults, which
are the same in every run.

    async with Simulator(seed=7, tier="standard") as simulator:
        simulator.faults.add("reset_after", on="submit")
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            ...
        assert len(simulator.productions) == 1

How it works:

1. The same seed gives the same run. The timeline of a production is drawn at submission, from the seed and
   the number of productions before it, so it does not depend on which requests arrive, or how often.
2. A production needs no background task: its status is a function of its timeline and the time.
3. All times are the event loop's. Inside `run`, or in a `SimulatedEventLoop`, hours pass in seconds for both
   the client and the simulator. In an ordinary loop the simulator runs in real time.
4. The rate limit is a true rolling window, so a client that exceeds it by a single request receives a 429.
5. Where JARAI documents nothing, the simulator makes an assumption, which the docstring of its module
   lists as inferred.
6. Webhooks are off until a program subscribes. Then the simulator posts each event, to this machine only.

It does not simulate the content or quality of what JARAI produces.

Further names have a help of their own, and are not listed below: `SimulatedEventLoop`; `FaultKind`,
`FaultContext` and `Response` for kinds of faults of your own; and, for annotations, the types of what a
simulator returns: `SimulatedAccount`, `SimulatedWebhook`, `SimulatedEvent`, `Delivery`, `RequestIds`,
`Stage`.
"""

from inspect import isclass, isfunction

from jarai_async.simulator._api.fault_kinds import FaultContext as FaultContext
from jarai_async.simulator._api.fault_kinds import FaultKind as FaultKind
from jarai_async.simulator._api.fault_kinds import FaultName
from jarai_async.simulator._api.faults import Faults
from jarai_async.simulator._api.rate_limits import TierName
from jarai_async.simulator._api.request_log import RequestRecord
from jarai_async.simulator._api.responses import Layout
from jarai_async.simulator._api.responses import Response as Response
from jarai_async.simulator._api.routes import RouteName
from jarai_async.simulator._blobs.storage import BlobStorage
from jarai_async.simulator._commands import run_command
from jarai_async.simulator._control import ControlServer
from jarai_async.simulator._event_loop import SimulatedEventLoop as SimulatedEventLoop
from jarai_async.simulator._event_loop import run
from jarai_async.simulator._ground_truth import GroundTruth as GroundTruth
from jarai_async.simulator._ground_truth import RequestIds as RequestIds
from jarai_async.simulator._productions.state import SimulatedAccount as SimulatedAccount
from jarai_async.simulator._productions.state import SimulatedProduction
from jarai_async.simulator._productions.timelines import Approval, Durations, usual_durations
from jarai_async.simulator._productions.timelines import Stage as Stage
from jarai_async.simulator._reference import command_reference
from jarai_async.simulator._rules import ProductionRule
from jarai_async.simulator._simulator import Simulator
from jarai_async.simulator._webhooks.delivery import (
    Deliverability,
)
from jarai_async.simulator._webhooks.delivery import (
    Delivery as Delivery,
)
from jarai_async.simulator._webhooks.delivery import (
    SimulatedEvent as SimulatedEvent,
)
from jarai_async.simulator._webhooks.delivery import (
    SimulatedWebhook as SimulatedWebhook,
)

__all__ = [
    "Approval",
    "BlobStorage",
    "ControlServer",
    "Deliverability",
    "Durations",
    "FaultName",
    "Faults",
    "Layout",
    "ProductionRule",
    "RequestRecord",
    "RouteName",
    "SimulatedProduction",
    "Simulator",
    "TierName",
    "command_reference",
    "run",
    "run_command",
    "usual_durations",
]

for _value in list(globals().values()):
    if _value in (GroundTruth, RequestIds):  # pdoc finds fields without values only in their own module
        continue
    if (isclass(_value) or isfunction(_value)) and _value.__module__.startswith(f"{__name__}."):
        _value.__module__ = __name__
