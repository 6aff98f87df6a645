"""The exceptions: their tree, their attributes, pickling, and that none of them leaks the API key."""

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


def tree(error_class: type[JaraiError] = JaraiError) -> Iterator[type[JaraiError]]:
    yield error_class
    for child in error_class.__subclasses__():
        if child.__name__ in vars(_errors):
            yield from tree(child)


FACTS: dict[str, Any] = {"status": 400, "code": "X", "correlation_id": "c-1", "retry_after": 2.5}
ERRORS: list[JaraiError] = [
    error_class("why", **FACTS) for error_class in tree() if error_class is not InvalidRequestError
]
ERRORS += [InvalidRequestError(["a", "b"]), UncertainSubmitError("why", idempotency_key="k-1", **FACTS)]


def test_docstring_shows_the_tree_of_exceptions() -> None:
    """The docstring of the package lists each class below its base. Each class is public and documented."""
    drawn = re.findall(r"^([ │├└─]*)(\w+Error)\b", jarai_async.__doc__ or "", re.MULTILINE)
    assert [(len(indent), name) for indent, name in drawn] == [
        (
            4 * len([base for base in error_class.__mro__ if issubclass(base, JaraiError)]),
            error_class.__name__,
        )
        for error_class in tree()
    ]
    for error_class in tree():
        assert getattr(jarai_async, error_class.__name__) is error_class
        assert error_class.__name__ in jarai_async.__all__
        assert error_class.__doc__


def pickled(error: JaraiError) -> Any:
    return pickle.loads(pickle.dumps(error))  # noqa: S301  # our own value


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_errors_can_be_copied_and_pickled(error: JaraiError, copied: Any) -> None:
    """Copies and pickles have the same class and attributes."""
    other = copied(error)
    assert type(other) is type(error)
    assert vars(other) == vars(error)
    assert (other.args, str(other), repr(other)) == (error.args, str(error), repr(error))


@pytest.mark.parametrize("error_class", list(tree()), ids=lambda error_class: error_class.__name__)
def test_every_error_has_attributes_and_advice(error_class: type[JaraiError]) -> None:
    """An attribute without a value is None, and the text ends with what to do next."""
    error = error_class(["why"]) if error_class is InvalidRequestError else error_class("why")
    assert [getattr(error, name) for name in FACTS] == [None] * len(FACTS)
    assert str(error) == (f"why. {error_class.advice}" if error_class.advice else "why")
    if error_class is not InvalidRequestError:
        text = str(error_class("why.", **FACTS))
        assert text.startswith("why (400, X, correlation id c-1)")
        assert text.endswith(error_class.advice)


def test_errors_are_subclasses_of_built_in_exceptions() -> None:
    """Code that handles only exceptions of the standard library catches them."""
    assert isinstance(NotSentError("x"), ConnectionError)
    assert isinstance(NoResponseError("x"), ConnectionError)
    assert isinstance(jarai_async.DeadlineExceededError("x"), TimeoutError)
    assert isinstance(ConfigurationError("x"), ValueError)
    assert isinstance(InvalidRequestError(["x"]), ValueError)
    assert not issubclass(ConfigurationError, jarai_async.ApiError)


# --- Secrets ---------------------------------------------------------------------------------------

RESPONSE = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


def response(status: bytes, body: bytes = b"{}") -> bytes:
    return RESPONSE % (status, len(body), body)


# What the server sends, and the error that the submit raises.
SCRIPTS: dict[str, tuple[bytes, type[JaraiError]]] = {
    "401": (
        response(b"401 Unauthorized", b'{"error": "UNAUTHORIZED", "message": "no"}'),
        AuthenticationError,
    ),
    "409": (response(b"409 Conflict", b'{"error": "BUDGET_GATE_1_FAILED"}'), BudgetExceededError),
    "500": (response(b"500 Internal Server Error"), UncertainSubmitError),
    "307": (response(b"307 Temporary Redirect"), UncertainSubmitError),
    "202 without an id": (response(b"202 Accepted"), UncertainSubmitError),
    "connection closed": (b"", UncertainSubmitError),
    "garbage": (b"\x00\x01 what?\r\n\r\n", UncertainSubmitError),
    "a huge header": (b"HTTP/1.1 202 Accepted\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", UncertainSubmitError),
    "a truncated body": (response(b"202 Accepted", b"x" * 100)[:-50], UncertainSubmitError),
}


def everything_printable(error: BaseException) -> str:
    """All that a logger, a debugger or a crash reporter could print of an error and its causes."""
    texts = [str(error), repr(error), str(vars(error)), repr(error.args), repr(pickle.dumps(error))]
    texts += traceback.format_exception(error)
    for cause in (error.__cause__, error.__context__):
        if cause is not None:
            texts.append(everything_printable(cause))
    return "\n".join(texts)


def aiohttp_errors(error: BaseException | None) -> Iterator[BaseException]:
    """The exceptions of aiohttp in the chain of an error."""
    while error is not None:
        if type(error).__module__.startswith("aiohttp"):
            yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("name", SCRIPTS)
async def test_no_error_of_a_submit_leaks_the_key(name: str) -> None:
    """The key is not in the error, in its causes or in the local variables of our frames."""
    script, error_class = SCRIPTS[name]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert KEY.encode() in await reader.readuntil(b"\r\n\r\n")
        writer.write(script)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with JaraiClient(KEY, base_url=f"http://127.0.0.1:{port}") as client:
            with pytest.raises(error_class) as caught:
                await client.submit(request(), idempotency_key="k-1")
            assert KEY not in repr(client)
    assert type(caught.value) is error_class
    assert not list(aiohttp_errors(caught.value))
    assert KEY not in everything_printable(caught.value)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    variables = [frame.locals for frame in report.stack if "jarai_async" in frame.filename]
    assert variables
    assert KEY not in str(variables)


async def test_connection_error_does_not_leak_the_key() -> None:
    """A refused connection is NotSentError, without an exception of aiohttp in its chain."""
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    async with JaraiClient(KEY, base_url=f"http://127.0.0.1:{port}") as client:
        for call in (client.submit(request()), client.fetch(ID)):
            with pytest.raises(NotSentError) as caught:
                await call
            assert not list(aiohttp_errors(caught.value))
            assert KEY not in everything_printable(caught.value)


async def test_uncertain_submit_has_the_cause_and_the_idempotency_key() -> None:
    """The error has the key, status and code of the attempt, and its cause is an error of this library."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            response(b"500 Internal Server Error", b'{"error": "INTERNAL_ERROR", "message": "oops"}')
        )
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
