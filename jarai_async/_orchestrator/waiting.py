"""Why a production does not go on: read from the objects that make it wait."""

from jarai_async import _clock
from jarai_async._api.calls import Kind
from jarai_async._api.models import Status
from jarai_async._engine import Engine
from jarai_async._errors import DownloadError, JaraiError
from jarai_async._http.availability import is_unavailable
from jarai_async._http.request_log import Repetition
from jarai_async._orchestrator.state import JobState
from jarai_async._waiting import Waiting, WaitReason


def accepted_waits(state: JobState) -> Waiting | None:
    """Return what a production waits for that JARAI has accepted; None while it is produced or collected."""
    engine, log, watch = state.context.engine, state.log, state.watch
    is_parked = watch is not None and watch.status == Status.AWAITING_APPROVAL
    if watch is not None and is_parked and not state.cancel_requested:
        detail = "a person approves it in JARAI Studio"
        return Waiting(reason=WaitReason.APPROVAL, since=_clock.utc_at(watch.since), detail=detail)
    for kind in log.queued:
        if (found := engine.sender.waits.of_request(kind)) is not None:
            return found
    for repetition in log.repeated:
        return repetition_waits(engine, repetition)
    if watch is None or watch.status.is_terminal:
        return None
    if (found := engine.sender.waits.for_quota_or_key(Kind.POLL)) is not None:
        return found
    return None if watch.failure is None else _failure_waits(engine, watch.failure, None)


def slot_waits(state: JobState) -> Waiting | None:
    """Return whether a request waits for a slot, since when, and behind how many others."""
    if (place := state.slot.place) is None:
        return None
    detail = f"place {state.slot.ahead + 1} in the queue"
    return Waiting(reason=WaitReason.SLOT, since=place.since, detail=detail)


def repetition_waits(engine: Engine, repetition: Repetition) -> Waiting:
    """Return the wait of a request that failed and is repeated."""
    return _failure_waits(engine, repetition.error, repetition.pause)


def _failure_waits(engine: Engine, error: JaraiError, pause: _clock.Deadline | None) -> Waiting:
    """Return the wait for the next attempt, or for the end of the outage that this error is part of."""
    is_download = isinstance(error, DownloadError)
    availability = engine.downloader.availability if is_download else engine.sender.availability
    if availability.is_down and is_unavailable(error):
        detail = error.reason if is_download else f"JARAI: {error.reason}"  # a download names blob storage
        return Waiting(reason=WaitReason.OUTAGE, since=availability.down_since, detail=detail)
    until = None if pause is None else pause.utc
    return Waiting(reason=WaitReason.RETRY, until=until, detail=error.reason)
