"""What of a real lab's settings its twin does not have, kept in comments at the head of the twin's settings.

A change of such a thing shows in no preview on the twin. So the head also says what was different when the twin was
made, and a report tells it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = "Not on the twin: "
CHANGED = "Not on the twin, and changed: "
CHANGED_FROM = "Not on the twin, and changed from: "
_AHEAD = "One generation ahead of the real lab, as a blank module has to be installed: "


@dataclass(frozen=True)
class Notes:
    """The head of a twin's settings.

    Attributes:
        same: what is left out, as when the twin was made.
        changed: what is left out, and is new or another one since.
        changed_from: what it was then.
        ahead: nodes that are one generation further than in the real lab.
    """

    same: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    changed_from: tuple[str, ...] = ()
    ahead: frozenset[str] = frozenset()

    @property
    def first(self) -> tuple[str, ...]:
        """What was left out when the twin was made."""
        return (*self.same, *self.changed_from)

    def lines(self) -> list[str]:
        """As they stand in the file, without the comments' marks."""
        kinds = ((LEFT_OUT, self.same), (CHANGED, self.changed), (CHANGED_FROM, self.changed_from))
        told = [f"{kind}{note}" for kind, notes in kinds for note in notes]
        return [*told, *([f"{_AHEAD}{', '.join(sorted(self.ahead))}"] if self.ahead else [])]


def compared(now: Iterable[str], first: Iterable[str] | None, ahead: Iterable[str]) -> Notes:
    """The notes of a twin that is written now; `first` are those of when it was made, None if it is made now."""
    left_out = tuple(now)
    before = left_out if first is None else tuple(first)
    return Notes(
        tuple(note for note in left_out if note in before),
        tuple(note for note in left_out if note not in before),
        tuple(note for note in before if note not in left_out),
        frozenset(ahead),
    )


def read(file: Path) -> Notes:
    """The notes at the head of a settings file; none where there is no file, or it is not a twin's."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    lines = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    ahead = "".join(_after(lines, _AHEAD)).split(", ")
    same, changed, changed_from = (_after(lines, kind) for kind in (LEFT_OUT, CHANGED, CHANGED_FROM))
    return Notes(same, changed, changed_from, frozenset(name for name in ahead if name))


def _after(lines: Iterable[str], kind: str) -> tuple[str, ...]:
    return tuple(line.removeprefix(kind) for line in lines if line.startswith(kind))
