"""The house: who may import whom, which rooms are pure, and where the doors to the world are."""

import ast
from collections.abc import Iterator
from pathlib import Path

import jarai_async

PACKAGE = Path(jarai_async.__file__).parent

FLOORS = [
    {"_errors", "_names", "_secret", "_turns", "_wire"},
    {"_answers", "_arguments", "_hazards", "_models", "_quotas", "_settings"},
    {"_budget", "_callbacks", "_events", "_sojourn", "_storage"},
    {"_codec"},
    {"_batch", "_forecast", "_intents", "_lifecycle", "_polling", "_protocol", "_reliability", "webhooks"},
    {"_plan", "_subscriptions"},
    # the floors above may do I/O and wait
    {"_clock", "_files", "_journal", "_keys", "_meter", "_places", "_streams"},
    {"_hints", "_retry", "_scheduler", "_transport", "_watch", "receiver"},
    {"_downloads", "_lanes"},
    {"_calls"},
    {"_poller", "_subscriber"},
    {"_client"},
    {"_collector", "_submission"},
    {"_course"},
    {"_runs", "_ticket"},
    {"_leaving", "_memory", "_outlook"},
    {"_orchestrator", "_report", "simulator"},
    {"_habits"},
    {"_webhook_commands"},
    {"_cli"},
    {"__main__"},
]
PURE = set().union(*FLOORS[:6])
WORLD = {"aiohttp", "asyncio", "backoff", "os", "socket", "sqlite3", "threading", "time"}
DOORS = {
    "aiohttp": {"_transport", "receiver", "simulator"},
    "backoff": {"_retry"},
    "cattrs": {"_codec"},
    "rich": {"_report"},
    "sqlite3": {"_journal"},
    "yarl": {"_transport"},
}


def test_every_room_stands_on_one_floor() -> None:
    """The plan names each module of the package, and nothing else."""
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {"simulator"}
    assert sorted(room for floor in FLOORS for room in floor) == sorted(rooms - {"__init__"})


def test_a_room_imports_only_rooms_on_lower_floors() -> None:
    """Dependencies point downwards, and rooms on one floor are strangers."""
    floor_of = {room: level for level, floor in enumerate(FLOORS) for room in floor}
    upwards = [
        (room, other)
        for room in floor_of
        for other in _rooms_used_by(room)
        if other != room and floor_of[other] >= floor_of[room]
    ]
    assert upwards == []


def test_the_lower_floors_know_nothing_of_the_world() -> None:
    """Pure rooms get the time and randomness as arguments: they import nothing that has them."""
    assert {room: _imports(room) & WORLD for room in PURE if _imports(room) & WORLD} == {}


def test_each_door_to_the_world_is_in_one_place() -> None:
    """A library that touches the outside is imported where the plan says, and nowhere else."""
    rooms = [room for floor in FLOORS for room in floor]
    assert {door: {room for room in rooms if door in _imports(room)} for door in DOORS} == DOORS


def test_the_simulator_never_uses_the_library_that_it_tests() -> None:
    """A wrong field name must not cancel itself out."""
    assert _rooms_used_by("simulator") <= {"_clock", "simulator"}


def _files(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def _modules(room: str) -> Iterator[str]:
    """Give each module that a room imports, wherever in its code."""
    for path in _files(room):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module == "jarai_async":
                yield from (f"jarai_async.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "imports are absolute"
                yield str(node.module)


def _imports(room: str) -> set[str]:
    return {module.partition(".")[0] for module in _modules(room)}


def _rooms_used_by(room: str) -> set[str]:
    return {name.split(".")[1] for name in _modules(room) if name.startswith("jarai_async.")}
