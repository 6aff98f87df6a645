"""The words of the command line: every command, its arguments and what they are for."""

import argparse
from importlib.metadata import version
from typing import Any, Final

from jarai_async._api import wire

IDS: Final = ("account_id", "language_id", "country_id", "avatar_id")
TIERS: Final = tuple(wire.REQUESTS_PER_MINUTE)


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands; `command` is the name of the chosen one."""
    whole = argparse.ArgumentParser(
        prog="jarai",
        description="Productions of the JARAI Partner API, by the batch or by hand.",
        epilog="The API key is read from JARAI_API_KEY. Exit codes: 0 all done; 1 something is not, "
        "the last lines say what; 2 nothing was sent: the command, batch or configuration is wrong.",
    )
    whole.add_argument("--version", action="version", version=version("jarai-async"))
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_resume(commands)
    _add_plan(commands)
    _add_simulate(commands)
    for name, help_ in (
        ("status", "show where productions stand"),
        ("cancel", "stop productions for real"),
    ):
        _add_remote(commands, name, help_).add_argument("production_id", nargs="+")
    deliverables = _add_remote(commands, "deliverables", "list a production's files, or fetch them")
    deliverables.add_argument("production_id")
    deliverables.add_argument("--download-to", metavar="FOLDER", help="fetch the files into this folder")
    _add_remote(commands, "accounts", "list the accounts that the key can reach")
    _add_webhooks(commands)
    _add(commands, "journal", "show what a journal knows").add_argument("journal")
    resolve = _add_remote(commands, "resolve", "decide what became of a submit that is in doubt")
    resolve.add_argument("journal")
    resolve.add_argument("reference")
    decision = resolve.add_mutually_exclusive_group(required=True)
    decision.add_argument("--production-id", help="it was created: this is what JARAI Studio shows for it")
    decision.add_argument("--resubmit", action="store_true", help="it was not: submit it with the next run")
    return whole


def _add(commands: Any, name: str, help_: str) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=help_)
    return added


def _add_remote(commands: Any, name: str, help_: str) -> argparse.ArgumentParser:
    added = _add(commands, name, help_)
    added.add_argument("--base-url", help="of the API (JARAI_BASE_URL)")
    return added


def _add_run(commands: Any) -> None:
    run = _add_remote(commands, "run", "submit, follow and collect a batch of productions")
    _add_batch(run)
    run.add_argument(
        "--journal",
        metavar="FILE",
        help="remembers what was submitted: the same run again goes on with it (BATCH.journal; none with "
        "--simulate or standard input)",
    )
    _add_following(run)
    run.add_argument("--simulate", action="store_true", help="use the embedded simulator, on its fast clock")
    _add_world(run)


def _add_resume(commands: Any) -> None:
    resume = _add_remote(commands, "resume", "go on with all that a journal knows")
    resume.add_argument("journal")
    resume.add_argument(
        "--speed", type=_speed, help="simulated seconds in a real one, as `jarai simulate` has"
    )
    _add_following(resume)


def _add_following(added: argparse.ArgumentParser) -> None:
    added.add_argument("--download-to", metavar="FOLDER", default="deliverables", help="(%(default)s)")
    added.add_argument("--concurrency", type=int, default=100, help="productions in flight (%(default)s)")
    added.add_argument("--review", action="store_true", help="fetch files in AwaitingApproval already")
    added.add_argument(
        "--deadline", type=float, metavar="SECONDS", help="how long to wait for one production"
    )
    added.add_argument("--cancel-on-exit", action="store_true", help="cancel what still runs on Ctrl-C")


def _add_plan(commands: Any) -> None:
    foreseen = _add(
        commands, "plan", "foresee what a batch will take, without a key and before it costs anything"
    )
    _add_batch(foreseen)
    foreseen.add_argument("--tier", choices=TIERS, required=True, help="of your subscription")
    foreseen.add_argument("--concurrency", type=_places, help="productions in flight (as recommended)")


def _add_batch(added: argparse.ArgumentParser) -> None:
    added.add_argument("batch", help="JSON Lines, or CSV with a header; - for standard input")
    for name in (*IDS, "project_type"):
        added.add_argument(f"--{name.replace('_', '-')}", help=f"for lines without {name}")


def _add_webhooks(commands: Any) -> None:
    webhooks = _add(commands, "webhooks", "have events sent to you, and watch them come")
    webhooks.epilog = (
        "`create` prints a webhook's signing secret, once; `listen` reads it from JARAI_WEBHOOK_SECRET."
    )
    actions = webhooks.add_subparsers(dest="action", required=True, metavar="COMMAND")
    _add_remote(actions, "list", "list the webhooks, without their secrets")
    _add_create(actions)
    _add_remote(actions, "delete", "end webhooks").add_argument("webhook_id", nargs="+")
    _add_remote(actions, "test", "have a test event sent to a webhook's endpoint").add_argument("webhook_id")
    listen = _add(actions, "listen", "receive events, and print each as a JSON line, until Ctrl-C")
    listen.epilog = (
        "Only what is signed is printed. The secret is read from JARAI_WEBHOOK_SECRET (several, with commas "
        "between, while one replaces another). JARAI sends to https only: a tunnel or a proxy goes in front."
    )
    listen.add_argument("--host", default="127.0.0.1", help="(%(default)s)")
    listen.add_argument("--port", type=_port, default=8080, help="0 is a free one (%(default)s)")
    listen.add_argument("--path", type=_path, default="/", help="that events are sent to (%(default)s)")


def _add_create(actions: Any) -> None:
    create = _add_remote(actions, "create", "have events sent to an endpoint of yours")
    whose = create.add_mutually_exclusive_group()
    whose.add_argument(
        "--account",
        metavar="ID",
        action="append",
        default=[],
        help="only events of this account; may be repeated",
    )
    whose.add_argument("--scope", metavar="ID", help="only events of this account scope")
    create.add_argument("endpoint_url", metavar="URL", help="of your endpoint: https")
    create.add_argument(
        "event_types",
        nargs="*",
        metavar="EVENT",
        default=wire.SUBSCRIBED,
        help=f"types of events (all that are known: {', '.join(wire.SUBSCRIBED)})",
    )


def _add_simulate(commands: Any) -> None:
    simulate = _add(commands, "simulate", "serve a local Partner API until Ctrl-C")
    simulate.add_argument("--port", type=_port, default=8765, help="on 127.0.0.1 (%(default)s)")
    _add_world(simulate)


def _add_world(added: argparse.ArgumentParser) -> None:
    """Options of the simulator, and of the clock that it shares with whoever uses it."""
    added.add_argument("--tier", choices=TIERS, default="enterprise", help="of the simulator (%(default)s)")
    added.add_argument("--seed", type=int, default=0, help="of the simulator (%(default)s)")
    added.add_argument(
        "--speed",
        type=_speed,
        help="simulated seconds in a real one: give `jarai simulate` and `jarai run` the same",
    )


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed < float("inf"):
        raise ValueError
    return speed


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65_536:
        raise ValueError
    return port


def _path(text: str) -> str:
    if not text.startswith("/") or "?" in text or "#" in text:
        raise ValueError
    return text


def _places(text: str) -> int:
    places = int(text)
    if places < 1:
        raise ValueError
    return places
