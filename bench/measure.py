"""What a measurement gives: a ratio's spread over its repetitions, its bound, and what it was made of."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Say = Callable[[str], None]


@dataclass(frozen=True)
class Ratio:
    """One line of the table.

    Attributes:
        name: what was measured.
        values: the ratio of each repetition, both sides taken within that repetition.
        bound: what it may be; None for what is only told.
        at_least: whether the bound is a lower one.
        note: what the numbers are made of, in words.
        parts: those numbers, in seconds unless the key says another unit; a list has one for each repetition.
    """

    name: str
    values: tuple[float, ...]
    bound: float | None = None
    at_least: bool = False
    note: str = ""
    parts: dict[str, object] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ratio:
        """What `as_json` gave."""
        kept = {key: data[key] for key in ("name", "bound", "at_least", "note", "parts")}
        return cls(values=tuple(data["values"]), **kept)

    @property
    def median(self) -> float:
        """The middle repetition, which the bound is held against."""
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether the median keeps the bound; None when there is none."""
        if self.bound is None:
            return None
        return self.median >= self.bound if self.at_least else self.median <= self.bound

    def as_json(self) -> dict[str, object]:
        """For `results.json`."""
        spread = {"min": min(self.values), "median": self.median, "max": max(self.values)}
        kept = {"name": self.name, "values": list(self.values), **spread, "bound": self.bound}
        return {**kept, "at_least": self.at_least, "holds": self.holds, "note": self.note, "parts": self.parts}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        sizes: numbers of nodes for what has no devices.
        labs: numbers of nodes for what runs on a twin with device times.
        instant: numbers of nodes for real servers without device times.
        repeat: how often each ratio is taken.
        scale: real seconds for a device second, where devices shall dominate.
        image_bytes: of the image that is streamed, unpacked.
    """

    sizes: tuple[int, ...] = (4, 16, 64, 256)
    labs: tuple[int, ...] = (4, 16)
    instant: tuple[int, ...] = (4, 16)
    repeat: int = 3
    scale: float = 0.05
    image_bytes: int = 1_306_525_696

    @classmethod
    def quick(cls) -> Effort:
        """Four nodes, once."""
        return cls(sizes=(4,), labs=(4,), instant=(4,), repeat=1, scale=0.02, image_bytes=256 << 20)
