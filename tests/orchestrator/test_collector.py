"""Downloads of an orchestrator: files for review, and text that no file can hold."""

from pathlib import Path
from random import Random

from jarai_async import DeliverablesReady, Downloaded, JaraiClient, Orchestrator
from jarai_async.simulator import Simulator
from tests.support.orchestrators import events_by_reference, outcomes_of
from tests.support.scenarios import request_for, requests_for


def _slow_approval(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 20), ("Producing", 900), ("AwaitingApproval", 3600), ("Distributing", 60)]


async def test_files_for_review_are_downloaded_again_if_they_change(tmp_path: Path) -> None:
    """Files are downloaded in AwaitingApproval; at the end, those that differ are replaced."""
    async with (
        Simulator(durations=_slow_approval, failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        orchestrator = Orchestrator(client, download_to=tmp_path, collect_for_review=True)
        (events,) = (await events_by_reference(orchestrator, requests_for(simulator, 1))).values()
    ready = [event for event in events if isinstance(event, DeliverablesReady)]
    assert [event.final for event in ready] == [False, True]
    names = [event.path.name for event in events if isinstance(event, Downloaded)]
    assert len(set(names)) == len(ready[1].deliverables)
    assert names.count("attribution.json") == 2  # the simulator changes this file after the approval
    assert names.count("video-youtube.mp4") == 1
    (folder,) = {event.path.parent for event in events if isinstance(event, Downloaded)}
    assert b"preliminary" not in (folder / "attribution.json").read_bytes()


async def test_text_that_is_not_unicode_fails_no_job(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A lone surrogate in a topic or reference, which no file can hold, does not fail the job."""
    request = request_for(simulator, topic="a lone \ud800 surrogate", reference="x\ud800")
    (outcome,) = await outcomes_of(Orchestrator(client, download_to=tmp_path), [request])
    assert outcome.ok
