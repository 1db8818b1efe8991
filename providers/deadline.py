"""Waiting: a deadline is made once and passed down, so that nested waits share one budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from providers.errors import DeadlineError

T = TypeVar("T")


class Deadline:
    """A point in time by which something must have happened.

    Args:
        seconds: the whole budget, in seconds.
        clock: a monotonic clock in seconds.
        sleep: how to wait, in seconds.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._end = clock() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end - self._clock())

    @property
    def expired(self) -> bool:
        """Whether the budget is used up."""
        return self.remaining == 0.0

    def within(self, seconds: float) -> Deadline:
        """A shorter deadline inside this one."""
        return Deadline(min(seconds, self.remaining), self._clock, self._sleep)

    def sleep(self, seconds: float) -> None:
        """Wait, but not past the deadline."""
        self._sleep(min(seconds, self.remaining))

    def poll(self, probe: Callable[[], T | None], what: str, interval_s: float = 1.0) -> T:
        """Call `probe` until it gives something.

        Args:
            probe: returns None for "not yet".
            what: what is waited for, as the error's subject ("node3 (10.0.0.3): maintenance mode").
            interval_s: seconds between two calls.

        Raises:
            DeadlineError: nothing came in time.
        """
        while True:
            found = probe()
            if found is not None:
                return found
            if self.expired:
                raise DeadlineError(f"{what}: not within {self.seconds:.0f} s")
            self.sleep(interval_s)
