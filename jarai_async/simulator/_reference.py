"""The commands of `_commands`, and the state of a simulator, as text for a person."""

import inspect
from collections import Counter
from collections.abc import Iterable
from textwrap import fill, indent
from typing import Any, get_args

from jarai_async import _clock
from jarai_async.simulator._api.faults import Faults
from jarai_async.simulator._api.routes import RouteName
from jarai_async.simulator._commands import RULES, parameters
from jarai_async.simulator._rules import ProductionRule
from jarai_async.simulator._simulator import Simulator

_COMMANDS = """\
commands:
  fault KIND[:ROUTE[:TIMES]]    a fault for the next requests: TIMES is 1 by default, a number, or always
  clear                         remove all faults
  when [NTH] [topic=TEXT] [account_id=ID] RULE [OPTION=VALUE ...]
                                what happens to the productions that are submitted from now on and match
  approve ID [ID ...]           a person approves productions
  refuse ID [code=CODE] [message=TEXT]
                                a person refuses a production
  left [requests=N] [productions=N]
                                what is left of the quotas of the tier until midnight (UTC)

examples:
  fault reset_after:submit:2
  when 3 fails step=8
  when topic="How tides work" awaits_approval 7200 refused=true
  when 2 topic=Bees has_fault bit_flip on=download
  left productions=3
"""


def command_reference() -> str:
    """Return the list of all commands, rules, kinds of faults and routes, with examples."""
    rules = "\n".join(f"  {_usage(name)}\n      {_summary(name)}" for name in RULES)
    table = [line[2:] for line in (inspect.getdoc(Faults) or "").splitlines() if line.startswith("    ")]
    kinds, routes = "\n".join(table), fill(", ".join(get_args(RouteName)), 100)
    return f"{_COMMANDS}\nrules:\n{rules}\n\nkinds of faults:\n{kinds}\n\nroutes:\n{indent(routes, '  ')}\n"


def _usage(name: str) -> str:
    words = [name]
    for option, each in parameters(RULES[name]).items():
        word = option.upper() if each.kind is not each.KEYWORD_ONLY else f"{option}={_kind(each.annotation)}"
        words.append(word if each.default is each.empty else f"[{word}]")
    return " ".join(words)


def _kind(annotation: Any) -> str:
    types = (annotation, *get_args(annotation))
    return "TEXT" if str in types else "true" if bool in types else "N" if int in types else "NUMBER"


def _summary(name: str) -> str:
    return (inspect.getdoc(getattr(ProductionRule, name)) or "").partition("\n")[0].partition(" Raises")[0]


def describe_state(simulator: Simulator) -> str:
    """Return the productions, rules and faults of a simulator, and what they have affected."""
    now, counts = _clock.monotonic(), Counter(request.route for request in simulator.requests)
    productions = (
        f"{each.ordinal} {each.status_at(now)} {production_id} {each.body['topic']!r}"
        for production_id, each in simulator.productions.items()
    )
    sections = {
        "requests so far": (f"{route}: {count}" for route, count in counts.items()),
        "productions": productions,
        "rules": (f"{rule}; {rule.matched} submissions have matched" for rule in simulator.rules),
        "faults to come": simulator.faults.pending,
        "faults so far": (f"{kind}: {count}" for kind, count in simulator.faults.fired.items()),
    }
    return "".join(_section(title, lines) for title, lines in sections.items())


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n  ".join((f"{title}:", *(tuple(lines) or ("none",)))) + "\n"
