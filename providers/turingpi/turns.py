"""Whose turn it is on a board: it flashes one module at a time, control planes before workers."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

_changed = threading.Condition()
_tickets: dict[str, list[Ticket]] = defaultdict(list)


@dataclass(eq=False)
class Ticket:
    """One node's place in its board's queue.

    A ticket is drawn before the node is looked at. Nobody's flash begins while another node of the board is still
    being looked at: while an upload runs, the board answers no other request.
    """

    board: str
    rank: tuple[int, ...]
    looking: bool = field(default=True)
    active: bool = field(default=False)

    def looked(self) -> None:
        """The node needs no more of the board's answers until its own turn."""
        with _changed:
            self.looking = False
            _changed.notify_all()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for this ticket's turn, and hold it while the body runs."""
        self.looked()
        with _changed:
            _changed.wait_for(self._is_next)
            self.active = True
        yield

    def _is_next(self) -> bool:
        queue = _tickets[self.board]
        if any(ticket.looking or ticket.active for ticket in queue):
            return False
        return min(queue, key=lambda t: t.rank) is self


@contextlib.contextmanager
def ticket(board: str, rank: tuple[int, ...]) -> Iterator[Ticket]:
    """Queue up at `board`; the lowest rank goes first. The ticket is given back however the body ends."""
    drawn = Ticket(board, rank)
    with _changed:
        _tickets[board].append(drawn)
    try:
        yield drawn
    finally:
        with _changed:
            _tickets[board].remove(drawn)
            _changed.notify_all()
