"""Databases on simulated time."""

from collections.abc import AsyncIterator

import pytest

from tests.stress.worker_crashes import follow_the_loop, observed_databases


@pytest.fixture
async def simulated_url(postgres_url: str) -> AsyncIterator[str]:
    """The URL of an empty database whose clock, for queues and workers, is that of the loop."""
    await follow_the_loop(postgres_url)
    with observed_databases():
        yield postgres_url
