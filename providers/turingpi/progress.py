"""How far a flash is, in words and numbers for whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """What a flash is doing, in its order."""

    DOWNLOADING = "downloading"
    PREPARING = "preparing"
    WRITING = "writing"
    VERIFYING = "verifying"
    BOOTING = "booting"


@dataclass(frozen=True)
class Progress:
    """One look at a running flash.

    Attributes:
        phase: what is being done.
        bytes: done in this phase.
        total: of this phase, or 0 when unknown.
        rate: bytes per second, averaged over the phase.
        eta_s: seconds left in this phase, or None when unknown.
        note: what it waits for, when it is not about bytes.
    """

    phase: Phase
    bytes: int = 0
    total: int = 0
    rate: float = 0.0
    eta_s: float | None = None
    note: str = ""

    @property
    def percent(self) -> int | None:
        """The phase's share done, or None when its total is unknown."""
        return min(100, self.bytes * 100 // self.total) if self.total else None

    def __str__(self) -> str:
        """One short line: `writing 42 %, 5.1 MB/s, 3 min left`."""
        parts = [self.phase.value if self.percent is None else f"{self.phase.value} {self.percent} %"]
        if self.rate:
            parts.append(f"{self.rate / 1e6:.1f} MB/s")
        if self.eta_s is not None and self.rate:
            parts.append(_left(self.eta_s))
        if self.note:
            parts.append(self.note)
        return ", ".join(parts)


Watch = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """Watch nothing."""


class Meter:
    """Turns byte counts of one phase into Progress, at most one every `every_s` seconds (the last one always)."""

    def __init__(
        self, watch: Watch, phase: Phase, total: int, clock: Callable[[], float], every_s: float = 1.0
    ) -> None:
        self._watch = watch
        self._phase = phase
        self._total = total
        self._clock = clock
        self._every_s = every_s
        self._began = clock()
        self._base: int | None = None
        self._said: float | None = None

    def at(self, done: int) -> None:
        """`done` bytes of the phase are done. The first call sets where the rate counts from."""
        now = self._clock()
        if self._base is None or done < self._base:
            self._base, self._began = done, now
        due = self._said is None or now - self._said >= self._every_s or (self._total and done >= self._total)
        if not due:
            return
        self._said = now
        elapsed = now - self._began
        rate = (done - self._base) / elapsed if elapsed > 0 else 0.0
        eta_s = (self._total - done) / rate if self._total and rate > 0 else None
        self._watch(Progress(self._phase, done, self._total, rate, eta_s))


def _left(seconds: float) -> str:
    return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{max(seconds, 0):.0f} s left"
