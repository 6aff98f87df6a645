"""The tree of errors: by meaning, with its facts, picklable, and never with a secret in it."""

import asyncio
import copy
import pickle
import re
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import jarai_async
from jarai_async import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InvalidRequestError,
    InvalidResponseError,
    JaraiClient,
    JaraiError,
    NoResponseError,
    NotSentError,
    ServerError,
    UncertainSubmitError,
    _errors,
)
from tests.support.strategies import ID, request

KEY = "jarai_test_VGhlS2V5"


def tree(kind: type[JaraiError] = JaraiError) -> Iterator[type[JaraiError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == _errors.__name__:
            yield from tree(child)


FACTS: dict[str, Any] = {"status": 400, "code": "X", "correlation_id": "c-1", "retry_after": 2.5}
ERRORS: list[JaraiError] = [kind("why", **FACTS) for kind in tree() if kind is not InvalidRequestError]
ERRORS += [InvalidRequestError(["a", "b"]), UncertainSubmitError("why", idempotency_key="k-1", **FACTS)]


def test_the_tree_is_drawn_as_it_is() -> None:
    """The docstring shows each class, at its place, and each class is public and explains itself."""
    drawn = re.findall(r"^([ │├└─]*)(\w+Error)\b", _errors.__doc__ or "", re.MULTILINE)
    assert [(len(indent), name) for indent, name in drawn] == [
        (4 * len([each for each in kind.__mro__ if issubclass(each, JaraiError)]), kind.__name__)
        for kind in tree()
    ]
    for kind in tree():
        assert getattr(jarai_async, kind.__name__) is kind
        assert kind.__name__ in jarai_async.__all__
        assert kind.__doc__


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301
def test_errors_survive_copies_and_pickles(error: JaraiError, copied: Any) -> None:
    """An error may come from another process, with all its facts."""
    found = copied(error)
    assert type(found) is type(error)
    assert vars(found) == vars(error)
    assert (found.args, str(found), repr(found)) == (error.args, str(error), repr(error))


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_every_error_has_its_facts(kind: type[JaraiError]) -> None:
    """Each fact is None where there is none, and the text ends with what to do next."""
    error = kind(["why"]) if kind is InvalidRequestError else kind("why")
    assert [getattr(error, name) for name in FACTS] == [None] * len(FACTS)
    assert str(error) == (f"why. {kind.advice}" if kind.advice else "why")
    if kind is not InvalidRequestError:
        told = str(kind("why.", **FACTS))
        assert told.startswith("why (400, X, correlation id c-1)")
        assert told.endswith(kind.advice)


def test_errors_are_also_what_python_calls_them() -> None:
    """Who knows only the standard library catches them, too."""
    assert isinstance(NotSentError("x"), ConnectionError)
    assert isinstance(NoResponseError("x"), ConnectionError)
    assert isinstance(jarai_async.DeadlineExceededError("x"), TimeoutError)
    assert isinstance(ConfigurationError("x"), ValueError)
    assert isinstance(InvalidRequestError(["x"]), ValueError)
    assert not issubclass(ConfigurationError, jarai_async.ApiError)


# --- Secrets ---------------------------------------------------------------------------------------

ANSWER = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


def replied(status: bytes, body: bytes = b"{}") -> bytes:
    return ANSWER % (status, len(body), body)


# What a server sends, and the error that a submit then ends in.
SCRIPTS: dict[str, tuple[bytes, type[JaraiError]]] = {
    "401": (replied(b"401 Unauthorized", b'{"error": "UNAUTHORIZED", "message": "no"}'), AuthenticationError),
    "409": (replied(b"409 Conflict", b'{"error": "BUDGET_GATE_1_FAILED"}'), BudgetExceededError),
    "500": (replied(b"500 Internal Server Error"), UncertainSubmitError),
    "307": (replied(b"307 Temporary Redirect"), UncertainSubmitError),
    "202 without an id": (replied(b"202 Accepted"), UncertainSubmitError),
    "nothing": (b"", UncertainSubmitError),
    "garbage": (b"\x00\x01 what?\r\n\r\n", UncertainSubmitError),
    "a huge header": (b"HTTP/1.1 202 Accepted\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", UncertainSubmitError),
    "a cut body": (replied(b"202 Accepted", b"x" * 100)[:-50], UncertainSubmitError),
}


def shown(error: BaseException) -> str:
    """All that a logger, a debugger or a crash reporter could print of an error and of those behind it."""
    found = [str(error), repr(error), str(vars(error)), repr(error.args), repr(pickle.dumps(error))]
    found += traceback.format_exception(error)
    for behind in (error.__cause__, error.__context__):
        if behind is not None:
            found.append(shown(behind))
    return "\n".join(found)


def foreign(error: BaseException | None) -> Iterator[BaseException]:
    """Those behind an error that are not ours; ours that carry one through a retry are looked through."""
    while error is not None:
        if type(error).__module__.startswith("aiohttp"):
            yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("name", SCRIPTS)
async def test_no_error_shows_the_key(name: str) -> None:
    """Neither an error of a submit, nor any behind it, nor their locals on our stack give the key away."""
    script, kind = SCRIPTS[name]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert KEY.encode() in await reader.readuntil(b"\r\n\r\n")
        writer.write(script)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with JaraiClient(KEY, base_url=f"http://127.0.0.1:{port}") as client:
            with pytest.raises(kind) as caught:
                await client.submit(request(), idempotency_key="k-1")
            assert KEY not in repr(client)
    assert type(caught.value) is kind
    assert not list(foreign(caught.value))
    assert KEY not in shown(caught.value)
    locals_ = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    own = [frame.locals for frame in locals_.stack if "jarai_async" in frame.filename]
    assert own
    assert KEY not in str(own)


async def test_no_connection_does_not_show_the_key() -> None:
    """A refused connection is NotSentError, without aiohttp's error behind it."""
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    async with JaraiClient(KEY, base_url=f"http://127.0.0.1:{port}") as client:
        for call in (client.submit(request()), client.fetch(ID)):
            with pytest.raises(NotSentError) as caught:
                await call
            assert not list(foreign(caught.value))
            assert KEY not in shown(caught.value)


async def test_an_uncertain_submit_says_what_happened() -> None:
    """It carries the key of the attempt, its status and code, and the error behind it is ours."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(replied(b"500 Internal Server Error", b'{"error": "INTERNAL_ERROR", "message": "oops"}'))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with JaraiClient(KEY, base_url=f"http://127.0.0.1:{port}") as client:
            with pytest.raises(UncertainSubmitError, match="may have been accepted: oops") as caught:
                await client.submit(request(), idempotency_key="k-1")
    error = caught.value
    assert (error.status, error.code, error.idempotency_key) == (500, "INTERNAL_ERROR", "k-1")
    assert type(error.__cause__) is ServerError
    assert not isinstance(error, InvalidResponseError)
