"""The API key and signed URLs: nowhere but in the requests that need them."""

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


def as_a_crash_reporter_sees_it(error: BaseException) -> str:
    """Everything that can be read off an exception: its chain, each frame's local names, its pickle."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join([*report.format(), repr(error), repr(error.__dict__), repr(pickle.dumps(error))])


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("what", ["submit", "fetch"])
async def test_no_error_gives_the_key_away(
    simulator: Simulator,
    client: JaraiClient,
    kind: str,
    what: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither its text, its chain, its frames' local names, its pickle, nor what was logged."""
    caplog.set_level(logging.DEBUG)
    production = await client.submit(request_for(simulator))
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "submit": lambda: client.submit(request_for(simulator)),
        "fetch": lambda: client.fetch(production.id),
    }
    simulator.faults.add(kind, on=what, times=None)
    try:
        await calls[what]()
    except JaraiError as error:
        shown = as_a_crash_reporter_sees_it(error)
    else:
        shown = ""  # the answer's Location was enough
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("jarai_async")]
    assert simulator.api_key not in shown + "".join(ours)


@pytest.mark.parametrize("kind", ["not_found", "bit_flip", "cut_body", "redirect", "hang"])
async def test_no_error_gives_a_signed_url_away(
    simulator: Simulator, client: JaraiClient, kind: str, tmp_path: Path
) -> None:
    """A signature opens a file to anyone for an hour."""
    production = await client.submit(request_for(simulator))
    await client.wait(production.id)
    deliverable = (await client.deliverables(production.id))[0]
    simulator.faults.add(kind, on="download", times=None)
    with pytest.raises(JaraiError) as failure:
        await client.download(deliverable, tmp_path)
    shown = as_a_crash_reporter_sees_it(failure.value)
    assert "?se=" in deliverable.url
    assert deliverable.url.rpartition("?se=")[2] not in shown


def test_a_secret_is_shown_by_nothing() -> None:
    """Not by `repr`, `str`, a format, nor a pickle."""
    secret = Secret("jarai_live_abc")
    assert "abc" not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret.reveal() == "jarai_live_abc"
