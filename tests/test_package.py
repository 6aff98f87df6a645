"""The public names of the package: their module, their order, pickling, type hints and the version."""

import inspect
import pickle
import pydoc
import re
import tomllib
import typing
from pathlib import Path

import attrs
import pytest

import jarai_async
from jarai_async import otel, receiver, simulator, testing, webhooks
from jarai_async._api.codec import decode
from tests.support.deliveries import SECRET, body
from tests.support.strategies import production

PROJECT = Path(__file__).parents[1]
PUBLIC = [
    (module, name)
    for module in (jarai_async, otel, receiver, testing, webhooks)
    for name in typing.cast("list[str]", module.__all__)
]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value))
def test_public_name_belongs_to_its_public_module(module: typing.Any, name: str) -> None:
    """Tracebacks, documentation and pickles name the module that users import from."""
    value = getattr(module, name)
    assert value.__module__ == module.__name__
    assert pickle.loads(pickle.dumps(value)) is value  # noqa: S301  # our own value
    assert value.__doc__


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value))
def test_type_hints_of_public_names_can_be_resolved(module: typing.Any, name: str) -> None:
    """Every annotation can be evaluated, also by the name of the public module."""
    value = getattr(module, name)
    typing.get_type_hints(value)
    for _, function in inspect.getmembers(value, inspect.isfunction) if isinstance(value, type) else ():
        typing.get_type_hints(function)
    if isinstance(value, type) and attrs.has(value):
        attrs.resolve_types(value)


def test_public_names_are_sorted() -> None:
    """Each `__all__` is sorted and has no duplicates."""
    for module in (jarai_async, otel, receiver, testing, webhooks):
        assert sorted(set(module.__all__), key=lambda name: (name.islower(), name)) == list(module.__all__)


def test_docstring_of_the_package_names_every_public_name() -> None:
    """`help(jarai_async)` begins with a map of them."""
    assert set(jarai_async.__all__) <= set(re.findall(r"\w+", jarai_async.__doc__ or ""))


def test_models_and_events_can_be_decoded_and_pickled() -> None:
    """The codec and pickle work with the public modules of the models."""
    decoded = decode(production(), jarai_async.Production)
    event = webhooks.verify(body(), webhooks.sign(body(), SECRET), SECRET)
    for value in (decoded, event):
        copied = pickle.loads(pickle.dumps(value))  # noqa: S301  # our own value
        assert (type(copied), copied, copied.raw) == (type(value), value, value.raw)


def test_version_is_that_of_the_project() -> None:
    """`__version__` is read from the metadata of the installed package."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert jarai_async.__version__ == project["version"]


def test_help_of_the_simulator_can_be_read() -> None:
    """It leaves out the inherited members of an event loop; names that it does not list can be imported."""
    text = pydoc.plain(pydoc.render_doc(simulator))
    assert len(text.splitlines()) < 1200
    rare = re.findall(r"`(\w+)`", (simulator.__doc__ or "").partition("Further names")[2])
    assert "SimulatedEventLoop" in rare
    assert all(hasattr(simulator, name) and name not in simulator.__all__ for name in rare)
