import asyncio

import pytest

from jarai_async import Deliverable, JaraiClient
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for


@pytest.fixture
async def video(simulator: Simulator, client: JaraiClient) -> Deliverable:
    """The video of a finished production."""
    production = await client.submit(request_for(simulator))
    await client.wait(production.id)
    # At the start of a second: the signed URLs of a list differ from those of a later second.
    await asyncio.sleep(1 - asyncio.get_running_loop().time() % 1)
    deliverables = await client.deliverables(production.id)
    return next(deliverable for deliverable in deliverables if deliverable.type == "Video")
