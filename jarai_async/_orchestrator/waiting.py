"""Why a production does not go on: read from the objects that make it wait."""

from jarai_async import _clock
from jarai_async._api.calls import Kind
from jarai_async._api.models import Status
from jarai_async._http.request_log import Repetition
from jarai_async._orchestrator.state import JobState
from jarai_async._waiting import Waiting, WaitReason


def accepted_waits(state: JobState) -> Waiting | None:
    """Return what a production waits for that JARAI has accepted; None while it is produced or collected."""
    sender, log, watch = state.context.engine.sender, state.log, state.watch
    is_watched = watch is not None and not watch.status.is_terminal
    if watch is not None and watch.status == Status.AWAITING_APPROVAL:
        detail = "a person approves it in JARAI Studio"
        return Waiting(reason=WaitReason.APPROVAL, since=_clock.utc_at(watch.since), detail=detail)
    for kind in log.queued:
        if (found := sender.waits(kind)) is not None:
            return found
    for repetition in log.repeated:
        return repetition_waits(repetition)
    if watch is None or not is_watched:
        return None
    if (found := sender.waits_for_quota_or_key(Kind.POLL)) is None and watch.failure is not None:
        return Waiting(reason=WaitReason.RETRY, detail=f"polling it failed: {watch.failure.reason}")
    return found


def slot_waits(state: JobState) -> Waiting | None:
    """Return whether a request waits for a slot, since when, and behind how many others."""
    if (place := state.slot.place) is None:
        return None
    detail = f"place {state.slot.ahead + 1} in the queue"
    return Waiting(reason=WaitReason.SLOT, since=place.since, detail=detail)


def repetition_waits(repetition: Repetition) -> Waiting:
    """Return the wait for the next attempt of a request that failed."""
    until = None if repetition.pause is None else repetition.pause.utc
    return Waiting(reason=WaitReason.RETRY, until=until, detail=repetition.error.reason)
