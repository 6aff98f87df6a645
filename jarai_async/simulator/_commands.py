"""Commands for a simulator, as lines of text: for the command line, and for a simulator that is running.

    fault KIND[:ROUTE[:TIMES]]     a fault, as `Faults.add` adds it; TIMES is a number, or "always"
    clear                          removes all faults
    when [NTH] [topic=TEXT] [account_id=ID] WHAT [NAME=VALUE ...]
                                   a rule, as `Simulator.when` makes it; WHAT is a method of `ProductionRule`
    approve ID [ID ...]            a person approves productions
    refuse ID [code=CODE]          a person refuses one
    left [requests=N] [productions=N]  what is left of the quotas until midnight

For example `when topic="How tides work" fails step=8` and `when 3 awaits_approval 7200 refused=true`.
"""

import inspect
import shlex
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, TypeVar, get_args

from jarai_async.simulator._rules import ProductionRule
from jarai_async.simulator._simulator import Simulator

T = TypeVar("T")

_RULES: dict[str, Callable[..., ProductionRule]] = {
    "fails": ProductionRule.fails,
    "expires": ProductionRule.expires,
    "is_cancelled": ProductionRule.is_cancelled,
    "awaits_approval": ProductionRule.awaits_approval,
    "takes": ProductionRule.takes,
    "is_rejected": ProductionRule.is_rejected,
    "loses_response": ProductionRule.loses_response,
    "has_fault": ProductionRule.has_fault,
}
_WORDS = {"true": True, "false": False, "none": None, "always": None}


def run_command(simulator: Simulator, line: str) -> None:
    """Run one of these commands. Raises ValueError, with the line and what is wrong with it."""
    try:
        name, *words = shlex.split(line) or [""]
        _find("command", name, _COMMANDS)(simulator, words)
    except KeyError as error:
        raise ValueError(f"{line}: there is no production {error.args[0]}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{line}: {error}") from None


def _fault(simulator: Simulator, words: list[str]) -> None:
    parts = words[0].split(":") if len(words) == 1 else []
    if not 1 <= len(parts) <= 3:
        raise ValueError("expected KIND, KIND:ROUTE or KIND:ROUTE:TIMES")
    kind, route, times = (*parts, *("submit", "1")[len(parts) - 1 :])
    simulator.faults.add(kind, on=route, times=None if times == "always" else int(times))


def _clear(simulator: Simulator, _: list[str]) -> None:
    simulator.faults.clear()


def _when(simulator: Simulator, words: list[str]) -> None:
    conditions = list(takewhile(lambda word: word.isdigit() or "=" in word, words))
    if conditions == words:
        raise ValueError(f"add what happens: {', '.join(_RULES)}")
    name, *arguments = words[len(conditions) :]
    method = _find("rule", name.replace("-", "_"), _RULES)
    _call(method, Simulator().when(), *arguments)  # a rule with mistakes must not remain
    _call(method, _call(simulator.when, *conditions), *arguments)


def _approve(simulator: Simulator, words: list[str]) -> None:
    for production_id in words:
        simulator.approve(production_id)


_COMMANDS: dict[str, Callable[[Simulator, list[str]], object]] = {
    "fault": _fault,
    "clear": _clear,
    "when": _when,
    "approve": _approve,
    "refuse": lambda simulator, words: _call(simulator.refuse, *words),
    "left": lambda simulator, words: _call(simulator.set_left_today, *words),
}


def _find(what: str, name: str, known: Mapping[str, T]) -> T:
    if name in known:
        return known[name]
    similar = get_close_matches(name, known, n=1)
    hint = f", did you mean {similar[0]!r}?" if similar else "."
    raise ValueError(f"unknown {what} {name!r}{hint} Known are {', '.join(known)}")


def _call(function: Callable[..., T], *arguments: object) -> T:
    """Call a function with arguments of which those in text are values, or NAME=VALUE."""
    signature = inspect.signature(function)
    named = dict(word.split("=", 1) for word in arguments if isinstance(word, str) and "=" in word)
    positional = [word for word in arguments if not (isinstance(word, str) and "=" in word)]
    bound = signature.bind(*positional, **named)
    for name, value in bound.arguments.items():
        if isinstance(value, str):
            bound.arguments[name] = _value(value, signature.parameters[name].annotation)
    return function(*bound.args, **bound.kwargs)


def _value(text: str, annotation: Any) -> object:
    """Convert an argument, unless its parameter accepts text."""
    if str in (annotation, *get_args(annotation)):
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return int(text) if text.isdigit() else float(text)
