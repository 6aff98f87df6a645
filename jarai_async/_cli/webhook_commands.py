"""`jarai webhooks`: what one does about webhooks by hand, and a look at what they tell.

Who has a signing secret can send what you take for JARAI's. So it is printed once, by `create`, when JARAI
shows it, and read from the environment only: each process of a machine sees the arguments of all others. A
signed URL opens a file to anyone for an hour, so none is printed.
"""

import argparse
import asyncio
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jarai_async._api import wire
from jarai_async._api.webhook_models import DeliverableReady, NewWebhook, Webhook, WebhookEvent
from jarai_async._cli import output
from jarai_async._cli.output import for_each
from jarai_async._cli.signals import stopping, until
from jarai_async._client import JaraiClient
from jarai_async._errors import ConfigurationError, InvalidResponseError, NoResponseError, ServerError
from jarai_async.receiver import Receiver

_SECRET = "JARAI_WEBHOOK_SECRET"  # noqa: S105  # where it is, not what
_QUERY = re.compile(r"(://[^\s?]*)\?\S*")


async def run(options: argparse.Namespace) -> int:
    """Do what `options.action` names, and give the exit code."""
    return await _ACTIONS[options.action](options)


# --- Actions -------------------------------------------------------------------------------------


async def _list(options: argparse.Namespace) -> int:
    async with JaraiClient(base_url=options.base_url) as client:
        for webhook in await client.webhooks():
            output.print_line(webhook_line(webhook))
    return 0


async def _create(options: argparse.Namespace) -> int:
    async with JaraiClient(base_url=options.base_url) as client:
        try:
            created = await client.create_webhook(
                options.endpoint_url,
                options.event_types,
                account_ids=options.account,
                account_scope_id=options.scope,
            )
        except (NoResponseError, InvalidResponseError, ServerError) as error:
            output.print_error(error)
            output.print_error("if `jarai webhooks list` shows it, delete it: its secret is lost")
            return 1
    return _hand_over(created)


def _hand_over(created: NewWebhook) -> int:
    """Print the secret with its webhook, this once."""
    try:
        output.print_line(webhook_line(created) | {"signingSecret": created.signing_secret.reveal()})
    except OSError as error:
        output.print_error(f"the secret cannot be written: {error.strerror or error}")
        output.print_error(f"delete the webhook, {created.id}: without its secret it is of no use")
        output.abandon_output()
        return 1
    output.print_error(
        f"the signing secret is not shown again: keep it with your secrets, and set {_SECRET} to it"
    )
    return 0


async def _delete(options: argparse.Namespace) -> int:
    async with JaraiClient(base_url=options.base_url) as client:

        async def delete(webhook_id: str) -> dict[str, Any]:
            await client.delete_webhook(webhook_id)
            return {"webhookId": webhook_id, "deleted": True}

        return await for_each(options.webhook_id, delete)


async def _test(options: argparse.Namespace) -> int:
    async with JaraiClient(base_url=options.base_url) as client:
        await client.test_webhook(options.webhook_id)
    output.print_error("a test event is on its way to the webhook's endpoint")
    return 0


async def _listen(options: argparse.Namespace) -> int:
    stop = stopping()
    failures: list[OSError] = []

    def show(event: WebhookEvent) -> None:
        try:
            output.print_line(event_line(event))
        except OSError as error:  # nobody reads any more, or the disk is full
            failures.append(error)
            stop.set()

    with _receiver_log_shown():
        await _serve(Receiver(_secrets(), show), options, stop)
    if failures:
        output.print_error(f"the output cannot be written: {failures[0].strerror or failures[0]}")
        output.abandon_output()
    return 1 if failures else 0


async def _serve(receiver: Receiver, options: argparse.Namespace, stop: asyncio.Event) -> None:
    host, port = options.host, options.port
    try:
        async with receiver, receiver.serve(host, port, path=options.path) as url:
            output.print_error(f"listening at {url} until Ctrl-C")
            output.print_error("JARAI sends to https only: put a tunnel or a proxy in front of it")
            await until(stop)
    except OSError as error:
        raise ConfigurationError(f"cannot listen at {host}:{port}: {error.strerror or error}") from None


def _secrets() -> list[str]:
    secrets = [one.strip() for one in os.environ.get(_SECRET, "").split(",") if one.strip()]
    if not secrets:
        raise ConfigurationError(f"no signing secret: set {_SECRET} to what `jarai webhooks create` printed")
    return secrets


@contextmanager
def _receiver_log_shown() -> Iterator[None]:
    """Tell a person what the receiver logs: above all, why it refused what it refused."""
    log, handler = logging.getLogger("jarai_async"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("jarai: %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


# --- Lines ---------------------------------------------------------------------------------------


def webhook_line(webhook: Webhook) -> dict[str, Any]:
    """Give a webhook as JSON values; its secret is not among them."""
    return {
        "webhookId": webhook.id,
        "endpointUrl": webhook.endpoint_url,
        "eventTypes": webhook.event_types,
        "accountIds": webhook.account_ids,
        "accountScopeId": webhook.account_scope_id,
        "createdAt": webhook.created_at.isoformat() if webhook.created_at else None,
    }


def event_line(event: WebhookEvent) -> dict[str, Any]:
    """Give an event as JSON values, in the form of its envelope, without signed URLs.

    Of deliverables that is their types; of all other data, URLs without their query strings.
    """
    return {
        "eventType": event.event_type,
        "productionId": event.production_id,
        "accountId": event.account_id,
        "sequenceNumber": event.sequence_number,
        "timestamp": event.timestamp.isoformat(),
        "eventId": event.event_id,
        "correlationId": event.correlation_id,
        "truncated": event.truncated,
        "data": _bare(_types(event) if isinstance(event, DeliverableReady) else event.data),
    }


def _types(event: DeliverableReady) -> dict[str, list[Any]]:
    """List the types of the deliverables that an event names; how it does so is inferred."""
    listed = event.data.get(wire.LISTS[wire.DELIVERABLES])
    items = listed if isinstance(listed, list) else []
    return {"deliverables": [one.get("type") for one in items if isinstance(one, dict)]}


def _bare(value: Any) -> Any:
    """Cut the query string off each URL in a JSON value."""
    if isinstance(value, str):
        return _QUERY.sub(r"\1", value)
    if isinstance(value, dict):
        return {name: _bare(one) for name, one in value.items()}
    return [_bare(one) for one in value] if isinstance(value, list) else value


_ACTIONS = {"list": _list, "create": _create, "delete": _delete, "test": _test, "listen": _listen}
