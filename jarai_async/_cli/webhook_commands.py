"""The commands `jarai webhooks COMMAND`: one function each.

Anyone who has a signing secret can forge webhooks. So only `create` prints it, once, and `listen` reads it
from the environment: command-line arguments are visible to every process on the machine. Signed URLs, which
open a file to anyone for an hour, are never printed.
"""

import argparse
import asyncio
import json
import os
import tempfile
from typing import Any

from jarai_async._api.webhook_models import NewWebhook, WebhookEvent
from jarai_async._cli import output
from jarai_async._cli.json_lines import webhook_event_line, webhook_line
from jarai_async._cli.results import WEBHOOKS, shown_results
from jarai_async._cli.signals import stop_event, wait_for
from jarai_async._cli.streams import OutputError
from jarai_async._client import JaraiClient
from jarai_async._errors import ConfigurationError, InvalidResponseError, NoResponseError, ServerError
from jarai_async.receiver import Receiver

_SECRET = "JARAI_WEBHOOK_SECRET"  # noqa: S105  # the name of the variable, not a secret


async def run(options: argparse.Namespace) -> int:
    """Run the command named by `options.action` and return its exit code."""
    return await _ACTIONS[options.action](options)


async def _list(options: argparse.Namespace) -> int:
    async with (
        JaraiClient(base_url=options.base_url, trust_env=True) as client,
        shown_results(WEBHOOKS, options) as show,
    ):
        for webhook in await client.webhooks():
            await show(webhook_line(webhook))
    return 0


async def _create(options: argparse.Namespace) -> int:
    await output.check_output()  # the secret is shown only once, so where it goes is checked first
    async with JaraiClient(base_url=options.base_url, trust_env=True) as client:
        try:
            webhook = await client.create_webhook(
                options.endpoint_url,
                options.event_types,
                account_ids=options.account,
                account_scope_id=options.scope,
            )
        except (NoResponseError, InvalidResponseError, ServerError, asyncio.CancelledError) as error:
            output.print_message(str(error) or "interrupted")
            output.print_message(
                "if `jarai webhooks list` shows the webhook, delete it and create it again: "
                "its signing secret is lost"
            )
            return 1
    return await _print_with_secret(webhook)


async def _print_with_secret(webhook: NewWebhook) -> int:
    line = webhook_line(webhook) | {"signingSecret": webhook.signing_secret.reveal()}
    try:
        await output.print_line(line)
    except OutputError as error:
        output.print_message(error)
        try:
            output.print_message(f"the webhook with its signing secret was saved in {_save(line)}")
        except OSError:
            output.print_message(
                f"delete webhook {webhook.id} and create it again: its signing secret is lost"
            )
        return 1
    output.print_message(
        f"the signing secret is not shown again: store it safely, and set {_SECRET} to it to receive events"
    )
    return 0


def _save(line: dict[str, Any]) -> str:
    """Write a line to a new file that only its owner can read, and return its path. Raises OSError."""
    file, path = tempfile.mkstemp(prefix="jarai-webhook-", suffix=".json")
    with os.fdopen(file, "w", encoding="utf-8") as saved:
        json.dump(line, saved)
    return path


async def _delete(options: argparse.Namespace) -> int:
    async with JaraiClient(base_url=options.base_url, trust_env=True) as client:

        async def delete(webhook_id: str) -> dict[str, Any]:
            await client.delete_webhook(webhook_id)
            return {"webhookId": webhook_id, "deleted": True}

        return await output.print_each(options.webhook_id, delete)


async def _test(options: argparse.Namespace) -> int:
    async with JaraiClient(base_url=options.base_url, trust_env=True) as client:
        await client.test_webhook(options.webhook_id)
    output.print_message("JARAI will send a test event to the webhook's endpoint")
    return 0


async def _listen(options: argparse.Namespace) -> int:
    stop = stop_event()
    failures: list[OutputError] = []

    async def show(event: WebhookEvent) -> None:
        try:
            await output.print_line(webhook_event_line(event))
        except OutputError as error:
            failures.append(error)
            stop.set()

    with output.log_messages(verbose=2):  # above all, why a webhook is rejected
        await _serve(Receiver(_secrets(), show), options, stop)
    if failures:
        output.print_message(f"stopped: {failures[0]}")
    return 1 if failures else 0


async def _serve(receiver: Receiver, options: argparse.Namespace, stop: asyncio.Event) -> None:
    host, port = options.host, options.port
    try:
        async with receiver, receiver.serve(host, port, path=options.path) as url:
            output.print_message(f"listening at {url} (press Ctrl-C to stop)")
            output.print_message(
                "JARAI sends to https URLs only: put a tunnel or a proxy in front of this address"
            )
            await wait_for(stop)
    except OSError as error:
        raise ConfigurationError(f"cannot listen at {host}:{port}: {output.reason(error)}") from None


def _secrets() -> list[str]:
    secrets = [secret.strip() for secret in os.environ.get(_SECRET, "").split(",") if secret.strip()]
    if not secrets:
        raise ConfigurationError(
            f"no signing secret: set {_SECRET} to the one that `jarai webhooks create` printed"
        )
    return secrets


_ACTIONS = {"list": _list, "create": _create, "delete": _delete, "test": _test, "listen": _listen}
