"""What commands open: the client, and the server that receives webhooks."""

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from jarai_async._api.models import RateLimit
from jarai_async._cli.output import print_message, reason
from jarai_async._client import JaraiClient
from jarai_async._errors import ConfigurationError
from jarai_async.receiver import Receiver
from jarai_async.simulator import Simulator

SECRET: Final = "JARAI_WEBHOOK_SECRET"  # noqa: S105  # the name of the variable, not a secret


def open_client(options: argparse.Namespace, simulator: Simulator | None = None) -> JaraiClient:
    """Return the client that the options describe."""
    return JaraiClient(
        simulator.api_key if simulator else None,
        base_url=simulator.base_url if simulator else options.base_url,
        rate_limit=RateLimit(per_minute=options.per_minute),
        timeout=options.timeout,
        trust_env=simulator is None,
    )


def webhook_secrets() -> list[str]:
    """Return the secrets in the environment. Raises ConfigurationError if there is none."""
    secrets = [secret.strip() for secret in os.environ.get(SECRET, "").split(",") if secret.strip()]
    if not secrets:
        raise ConfigurationError(
            f"no signing secret: set {SECRET} to the one that `jarai webhooks create` printed"
        )
    return secrets


@asynccontextmanager
async def serving(receiver: Receiver, host: str, port: int, path: str = "/") -> AsyncIterator[None]:
    """Receive webhooks, and print where. Raises ConfigurationError if the address cannot be used."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(receiver)
        try:
            url = await stack.enter_async_context(receiver.serve(host, port, path=path))
        except OSError as error:
            raise ConfigurationError(f"cannot listen at {host}:{port}: {reason(error)}") from None
        print_message(f"listening at {url} (press Ctrl-C to stop)")
        print_message("JARAI sends to https URLs only: put a tunnel or a proxy in front of this address")
        yield
