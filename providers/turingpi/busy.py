"""Waiting for a board that is writing already: it has one transfer, and a new one would cancel it."""

from __future__ import annotations

import time
from collections.abc import Callable

from providers.deadline import Deadline
from providers.errors import DeadlineError, ProtocolError, RefusedError
from providers.turingpi.answers import State, Status
from providers.turingpi.client import Bmc


def wait_until_free(bmc: Bmc, deadline: Deadline, stall_s: float, poll_s: float, waiting: Callable[[], None]) -> bool:
    """Let a running transfer end, whoever began it.

    Args:
        bmc: the board.
        deadline: for all of it.
        stall_s: a transfer that wrote nothing for so long has ended: its worker died (facts A6).
        poll_s: between two looks.
        waiting: told at each look that found one running.

    Returns:
        Whether the board is free; False when a transfer stands still there. Nothing is cancelled.

    Raises:
        DeadlineError: it is still being written.
        HomelabError: the board does not answer.
    """
    seen, since = None, time.monotonic()
    while (status := _running(bmc)) is not None:
        if seen != (status.id, status.written):
            seen, since = (status.id, status.written), time.monotonic()
        elif time.monotonic() - since > stall_s:
            return False
        if deadline.expired:
            raise DeadlineError(f"{bmc.name}: still busy with another transfer after {deadline.seconds:.0f} s")
        waiting()
        deadline.sleep(poll_s)
    return True


def _running(bmc: Bmc) -> Status | None:
    try:
        status = bmc.flash_status()
    except (ProtocolError, RefusedError):
        return None  # firmware 1.x need not know the question
    return status if status.state is State.TRANSFERRING else None
