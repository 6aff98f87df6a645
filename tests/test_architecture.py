"""Which folder may import which, which modules are pure, and which module uses each library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import jarai_async

PACKAGE = Path(jarai_async.__file__).parent

LAYERS = (  # each imports only from those listed before it
    ("_printable",),
    ("_clock", "_errors", "_secret", "_tasks"),
    ("_urls",),
    ("_waiting",),
    ("_api",),
    ("_events",),
    ("_ratelimit",),
    ("_http",),
    ("_polling",),
    ("_forecast",),
    ("_downloads",),
    ("_journal",),
    ("_postgres",),
    ("_locations",),
    ("_report",),
    ("_engine",),
    ("_client",),
    ("webhooks",),
    ("receiver",),
    ("_orchestrator",),
    ("_worker",),
    ("workers",),
    ("otel",),
    ("simulator",),
    ("testing",),
    ("_cli",),
    ("__main__",),
)
UNITS = [unit for layer in LAYERS for unit in layer]
PURE = (
    "_api",
    "_errors",
    "_events",
    "_forecast",
    "_polling",
    "_printable",
    "_ratelimit",
    "_report",
    "_secret",
    "_urls",
    "_waiting",
)
IMPURE_MODULES = {
    "_polling.poller",
    "_polling.watch",
    "_ratelimit.scheduler",
    "_ratelimit.account_queue",
    "_report.writer",
}
IMPURE = {"aiohttp", "asyncio", "backoff", "os", "socket", "sqlite3", "threading", "time"}
USED_IN = {
    "aiohttp": {"_http.sessions", "_http.transport", "receiver", "simulator"},
    "backoff": {"_http.retry"},
    "cattrs": {"_api.codec"},
    "jinja2": {"_report.page"},
    "obstore": {"_downloads.object_folder"},
    "opentelemetry": {"otel"},
    "procrastinate": {"_postgres.job_queue"},
    "psycopg": {"_postgres.database"},
    "psycopg_pool": {"_postgres.database"},
    "rich": {"_cli.progress_bar", "_cli.table"},
    "shtab": {"_cli.completion"},
    "sqlite3": {"_journal.database"},
    "yarl": {"_http.sessions", "_http.transport"},
}


def test_every_module_belongs_to_one_layer() -> None:
    """`LAYERS` lists every folder and every module at the root of the package."""
    units = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(UNITS) == sorted(units - {"__init__"})


def test_each_layer_imports_only_lower_layers() -> None:
    """This also excludes cycles between folders."""
    layer_of = {unit: number for number, layer in enumerate(LAYERS) for unit in layer}
    upwards = [
        (module, imported)
        for module, path in _modules()
        for imported in _imports(path)
        if imported.startswith("jarai_async.")
        and (other := imported.split(".")[1]) != (unit := module.split(".")[0])
        and layer_of[other] >= layer_of[unit]
    ]
    assert upwards == []


def test_pure_modules_do_no_io() -> None:
    """They import nothing that does I/O or reads a clock: the time is an argument."""
    pure = [
        (module, path)
        for module, path in _modules()
        if module.split(".")[0] in PURE and module not in IMPURE_MODULES
    ]
    imported = {module: _libraries(path) & IMPURE for module, path in pure}
    assert {module: names for module, names in imported.items() if names} == {}


def test_each_library_is_used_in_few_modules() -> None:
    """To replace a library, only the modules in `USED_IN` change."""
    used: dict[str, set[str]] = {library: set() for library in USED_IN}
    for module, path in _modules():
        for library in _libraries(path) & USED_IN.keys():
            used[library].add("simulator" if module.startswith("simulator") else module)
    assert used == USED_IN


def test_tasks_are_started_in_one_module() -> None:
    """`_tasks.start` works under eager task factories too; a TaskGroup may be used as well."""
    started = {
        module
        for module, path in _modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future")
        if not (isinstance(node.value, ast.Name) and node.value.id == "group")
    }
    assert started == {"_tasks"}


def test_simulator_imports_nothing_of_the_client() -> None:
    """Otherwise a wrong field name would be wrong on both sides, and no test would fail."""
    used = {
        imported
        for module, path in _modules()
        if module.startswith("simulator")
        for imported in _imports(path)
        if imported.startswith("jarai_async.")
    }
    assert {name for name in used if name.split(".")[1] not in ("_clock", "_tasks", "simulator")} == set()


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            yield name, path


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "jarai_async":
            yield from (f"jarai_async.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module)


def _libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in _imports(path)}
