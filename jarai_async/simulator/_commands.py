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
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from types import NoneType
from typing import Any, get_args

from jarai_async.simulator._common import check_name
from jarai_async.simulator._rules import ProductionRule
from jarai_async.simulator._simulator import Simulator

RULES: dict[str, Callable[..., ProductionRule]] = {
    "fails": ProductionRule.fails,
    "expires": ProductionRule.expires,
    "is_cancelled": ProductionRule.is_cancelled,
    "awaits_approval": ProductionRule.awaits_approval,
    "takes": ProductionRule.takes,
    "is_rejected": ProductionRule.is_rejected,
    "loses_response": ProductionRule.loses_response,
    "has_fault": ProductionRule.has_fault,
}
_TRUTHS = {"true": True, "false": False}


def run_command(simulator: Simulator, line: str) -> None:
    """Run one of these commands. Raises ValueError, with the line and what is wrong with it."""
    try:
        name, *words = shlex.split(line) or [""]
        check_name("command", name, _COMMANDS)
        _COMMANDS[name](simulator, words)
    except KeyError as error:
        raise ValueError(f"{line}: there is no production {error.args[0]}") from None
    except ValueError as error:
        raise ValueError(f"{line}: {error}") from None


def _fault(simulator: Simulator, words: list[str]) -> None:
    parts = words[0].split(":") if len(words) == 1 else []
    if not 1 <= len(parts) <= 3:
        raise ValueError("expected KIND, KIND:ROUTE or KIND:ROUTE:TIMES")
    kind, *more = parts
    options = [f"{name}={value}" for name, value in zip(("on", "times"), more, strict=False)]
    simulator.faults.add(**_options("fault", simulator.faults.add, [f"kind={kind}", *options]))


def _clear(simulator: Simulator, words: list[str]) -> None:
    _options("clear", simulator.faults.clear, words)
    simulator.faults.clear()


def _when(simulator: Simulator, words: list[str]) -> None:
    words = words[words[:1] == ["any"] :]  # as a rule without conditions is printed
    conditions = list(takewhile(lambda word: word.isdigit() or "=" in word, words))
    if conditions == words:
        raise ValueError(f"add what happens: {', '.join(RULES)}")
    chosen = _options("when", simulator.when, conditions)
    name, *rest = words[len(conditions) :]
    name = name.replace("-", "_")
    check_name("rule", name, RULES)
    method = partial(RULES[name], **_options(name, RULES[name], rest))
    method(Simulator().when())  # a rule with mistakes must not remain
    method(simulator.when(**chosen))


def _approve(simulator: Simulator, words: list[str]) -> None:
    if not words:
        raise ValueError("approve needs the identifier of a production")
    for production_id in words:
        simulator.approve(production_id)


def _refuse(simulator: Simulator, words: list[str]) -> None:
    simulator.refuse(**_options("refuse", simulator.refuse, words))


def _left(simulator: Simulator, words: list[str]) -> None:
    options = _options("left", simulator.set_left_today, words)
    if not options:
        raise ValueError("left needs requests=N or productions=N")
    simulator.set_left_today(**options)


_COMMANDS: dict[str, Callable[[Simulator, list[str]], None]] = {
    "fault": _fault,
    "clear": _clear,
    "when": _when,
    "approve": _approve,
    "refuse": _refuse,
    "left": _left,
}


def parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a method that a command can give."""
    given = inspect.signature(function).parameters
    return {name: each for name, each in given.items() if name not in ("self", "where", "rule")}


def _options(command: str, function: Callable[..., object], words: Sequence[str]) -> dict[str, Any]:
    """Return words, each a value or OPTION=VALUE, as arguments of a function. Raises ValueError."""
    known, options = parameters(function), dict[str, Any]()
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            name, text = _next_positional(command, known, options, word), word
        if not known:
            raise ValueError(f"{command} has no options: leave out {word!r}")
        check_name(f"option of {command}", name, known)
        if name in options:
            raise ValueError(f"{command} has two values for {name}")
        options[name] = _value(name, text, known[name].annotation)
    missing = [name for name, each in known.items() if each.default is each.empty and name not in options]
    if missing:
        raise ValueError(f"{command} needs {' and '.join(missing)}")
    return options


def _next_positional(
    command: str, known: dict[str, inspect.Parameter], options: dict[str, Any], word: str
) -> str:
    for name, each in known.items():
        if each.kind is not each.KEYWORD_ONLY and name not in options:
            return name
    names = ", ".join(f"{name}=" for name in known)
    reason = f"name an option: {names}" if known else "it has no options"
    raise ValueError(f"{command} cannot use {word!r}: {reason}")


def _value(name: str, text: str, annotation: Any) -> object:
    """Convert the value of an option. Raises ValueError, with what is expected."""
    types = (annotation, *get_args(annotation))
    if str in types:
        return text
    if NoneType in types and text.lower() in ("none", "always"):
        return None
    convert: Callable[[str], object] = float
    expected = "a number"
    if bool in types:
        convert, expected = _truth, "true or false"
    elif int in types:
        convert, expected = int, "a whole number"
    try:
        return convert(text)
    except (KeyError, ValueError):
        or_always = " or always" if name == "times" else ""
        raise ValueError(f"{name} must be {expected}{or_always}, not {text!r}") from None


def _truth(text: str) -> bool:
    return _TRUTHS[text.lower()]
