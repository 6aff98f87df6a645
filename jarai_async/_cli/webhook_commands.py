"""The commands `jarai webhooks COMMAND`: their options, and one function each.

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

from jarai_async._api import wire
from jarai_async._api.webhook_models import NewWebhook, WebhookEvent
from jarai_async._cli import output
from jarai_async._cli.client import SECRET, open_client, serving, webhook_secrets
from jarai_async._cli.examples import EXAMPLES
from jarai_async._cli.json_lines import webhook_event_line, webhook_line
from jarai_async._cli.options import Commands, add_command, add_port, add_remote, url_path
from jarai_async._cli.results import WEBHOOKS, add_json, shown_results
from jarai_async._cli.signals import stop_event, wait_for
from jarai_async._cli.streams import OutputError
from jarai_async._errors import InvalidResponseError, NoResponseError, ServerError
from jarai_async.receiver import Receiver


def add_webhooks(commands: Commands) -> None:
    """Add the commands."""
    summary = "manage webhooks and print their events"
    webhooks = commands.add_parser(
        "webhooks", help=summary, description=f"{summary.capitalize()}.", epilog=EXAMPLES["webhooks"]
    )
    actions = webhooks.add_subparsers(dest="action", required=True, metavar="COMMAND")
    add_json(add_remote(actions, "list", "list webhooks, without their signing secrets"))
    _add_create(actions)
    delete = add_remote(actions, "delete", "delete webhooks")
    delete.add_argument("webhook_id", metavar="WEBHOOK_ID", nargs="+")
    test = add_remote(actions, "test", "ask JARAI to send a test event to a webhook's endpoint")
    test.add_argument("webhook_id", metavar="WEBHOOK_ID")
    _add_listen(actions)


def _add_create(actions: Commands) -> None:
    details = "Prints the webhook with its signing secret. Store the secret: JARAI does not show it again."
    create = add_remote(actions, "create", "create a webhook for your endpoint", details)
    accounts = create.add_mutually_exclusive_group()
    accounts.add_argument(
        "--account",
        metavar="ID",
        action="append",
        default=[],
        help="send only the events of this account (can be repeated)",
    )
    accounts.add_argument("--scope", metavar="ID", help="send only the events of this account scope")
    create.add_argument("endpoint_url", metavar="URL", help="https URL of your endpoint")
    create.add_argument(
        "event_types",
        nargs="*",
        metavar="EVENT",
        default=wire.SUBSCRIBED,
        help=f"event types to send (default: {', '.join(wire.SUBSCRIBED)})",
    )


def _add_listen(actions: Commands) -> None:
    details = (
        "Prints only events that are signed with the secret in JARAI_WEBHOOK_SECRET. While you replace a "
        "secret, set both, separated by a comma. JARAI sends to https URLs only: put a tunnel or a proxy "
        "in front."
    )
    listen = add_command(actions, "listen", "print webhook events as JSON lines until Ctrl-C", details)
    listen.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add_port(listen, default=8080)
    path_help = "path of the endpoint (default: %(default)s)"
    listen.add_argument("--path", type=url_path, default="/", help=path_help)


async def run(options: argparse.Namespace) -> int:
    """Run the command named by `options.action` and return its exit code."""
    return await _ACTIONS[options.action](options)


async def _list(options: argparse.Namespace) -> int:
    async with (
        open_client(options) as client,
        shown_results(WEBHOOKS, options) as show,
    ):
        webhooks = await client.webhooks()
        for webhook in webhooks:
            await show(webhook_line(webhook))
    if not webhooks:
        output.print_message("there are no webhooks")
    return 0


async def _create(options: argparse.Namespace) -> int:
    await output.check_output()  # the secret is shown only once, so where it goes is checked first
    async with open_client(options) as client:
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
        f"the signing secret is not shown again: store it safely, and set {SECRET} to it to receive events"
    )
    return 0


def _save(line: dict[str, Any]) -> str:
    """Write a line to a new file that only its owner can read, and return its path. Raises OSError."""
    file, path = tempfile.mkstemp(prefix="jarai-webhook-", suffix=".json")
    with os.fdopen(file, "w", encoding="utf-8") as saved:
        json.dump(line, saved)
    return path


async def _delete(options: argparse.Namespace) -> int:
    async with open_client(options) as client:

        async def delete(webhook_id: str) -> dict[str, Any]:
            await client.delete_webhook(webhook_id)
            return {"webhookId": webhook_id, "deleted": True}

        return await output.print_each(options.webhook_id, delete)


async def _test(options: argparse.Namespace) -> int:
    async with open_client(options) as client:
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
        async with serving(Receiver(webhook_secrets(), show), options.host, options.port, options.path):
            await wait_for(stop)
    if failures:
        output.print_message(f"stopped: {failures[0]}")
    return 1 if failures else 0


_ACTIONS = {"list": _list, "create": _create, "delete": _delete, "test": _test, "listen": _listen}
