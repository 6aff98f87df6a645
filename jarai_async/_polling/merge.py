"""Adds up what several processes have learned of durations. Pure.

All that is exported are sums over observations, so what one process has seen since it last looked is the
difference between two of its exports, and can be added to what all have seen.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

_NAMES: Final = ("project_type", "status")  # what the sums are of


def added(total: Mapping[str, Any], now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the total with what was learned between the exports `before` and `now`.

    Without a total, or where its age bins are those of another version, that is `now`.
    """
    if total.get("ages") != now["ages"] or before.get("ages") != now["ages"]:
        return dict(now)
    return {
        "ages": now["ages"],
        "counts": _added(total["counts"], now["counts"], before["counts"]),
        "steps": _added(total.get("steps", []), now.get("steps", []), before.get("steps", [])),
    }


def _added(
    total: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]], before: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    totals, earlier = _by_name(total), _by_name(before)
    for name, item in _by_name(now).items():
        own, known = earlier.get(name, {}), totals.get(name)
        totals[name] = item if known is None else {key: _sum(known, item, own, key) for key in item}
    return [dict(item) for item in totals.values()]


def _by_name(items: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    return {tuple(item.get(name) for name in _NAMES): item for item in items}


def _sum(total: Mapping[str, Any], now: Mapping[str, Any], before: Mapping[str, Any], key: str) -> Any:
    value = now[key]
    if key in _NAMES or key not in total:
        return value
    if isinstance(value, list):
        earlier = before.get(key) or [0.0] * len(value)
        return [max(0.0, t + n - b) for t, n, b in zip(total[key], value, earlier, strict=True)]
    return total[key] + value - before[key] if key in before else total[key]
