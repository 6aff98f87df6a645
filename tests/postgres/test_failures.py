"""What becomes of a production when its worker fails; `python -m tests.stress matrix` has all pairs."""

import pytest

from tests.stress import worker_matrix
from tests.stress.worker_matrix import FAULTS, STAGES

CELLS = [(stage, "killed") for stage in STAGES]
CELLS += [("sent and created", fault) for fault in FAULTS if fault != "killed"]


@pytest.mark.parametrize(("stage", "fault"), CELLS)
def test_nothing_is_lost_or_paid_for_twice(stage: str, fault: str, postgres_server: str) -> None:
    """Whatever becomes of the worker at any stage of a production."""
    assert worker_matrix.failures(postgres_server, [(stage, fault, False)]) == []
