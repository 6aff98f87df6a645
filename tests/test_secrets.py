"""The API key and signed URLs do not leak into errors or logs."""

import copy
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jarai_async import JaraiClient, JaraiError
from jarai_async._secret import Secret
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for

FAULTS = [
    "internal_error",
    "gateway_html",
    "reset_after",
    "hang",
    "truncated_json",
    "cut_body",
    "wrong_json",
    "empty_body",
    "huge_body",
    "redirect",
    "other_production",
    "unauthorized",
    "not_found",
]


def everything_printable(error: BaseException) -> str:
    """All that a crash reporter can print: the chain, the local variables of each frame, and the pickle."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join([*report.format(), repr(error), repr(error.__dict__), repr(pickle.dumps(error))])


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("method", ["submit", "fetch"])
async def test_no_error_leaks_the_key(
    simulator: Simulator,
    client: JaraiClient,
    kind: str,
    method: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its text, chain, local variables and pickle, and the log, do not contain the key."""
    caplog.set_level(logging.DEBUG)
    production = await client.submit(request_for(simulator))
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "submit": lambda: client.submit(request_for(simulator)),
        "fetch": lambda: client.fetch(production.id),
    }
    simulator.faults.add(kind, on=method, times=None)
    try:
        await calls[method]()
    except JaraiError as error:
        printable = everything_printable(error)
    else:
        printable = ""  # the Location header was enough
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("jarai_async")]
    assert simulator.api_key not in printable + "".join(logged)


@pytest.mark.parametrize("kind", ["not_found", "bit_flip", "cut_body", "redirect", "hang"])
async def test_no_download_error_leaks_the_signed_url(
    simulator: Simulator, client: JaraiClient, kind: str, tmp_path: Path
) -> None:
    """A signed URL gives anyone access to the file for an hour."""
    production = await client.submit(request_for(simulator))
    await client.wait(production.id)
    deliverable = (await client.deliverables(production.id))[0]
    simulator.faults.add(kind, on="download", times=None)
    with pytest.raises(JaraiError) as failure:
        await client.download(deliverable, tmp_path)
    printable = everything_printable(failure.value)
    assert "?se=" in deliverable.url
    assert deliverable.url.rpartition("?se=")[2] not in printable


def test_secret_is_never_printed() -> None:
    """`repr`, `str` and format strings do not show it, and it cannot be copied or pickled."""
    secret = Secret("jarai_live_abc")
    assert secret.reveal() == "jarai_live_abc"
    assert {repr(secret), str(secret), f"{secret}", f"{secret!r}"} == {"<Secret>"}
    assert "abc" not in str([secret])
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            copied(secret)
