"""Where the time of a run went: its steps as bars on one line of time, and how long each kind of work went on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cli.run_events import Step
from cli.run_log import Run

MOST = 60  # steps on one timeline: the longest ones; a platform has hundreds of short ones
THINNEST = 0.6  # percent of the width, so that a second of an hour is still seen


@dataclass(frozen=True)
class Bar:
    """A stretch of time. `left` and `width` are percent of the run; `began` and `took` are seconds.

    Attributes:
        parts: the steps of a node or part, each a bar of its own.
    """

    name: str
    what: str
    state: str
    began: int
    took: int
    left: float
    width: float
    parts: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """A run, drawn.

    Attributes:
        took: seconds.
        owners: the nodes and parts, each from its first step to the end of its last.
        kinds: how long anything of a kind was under way, in seconds, the longest first.
        steps: the longest steps, in the order in which they began; `left_out` are the others.
    """

    took: int
    owners: tuple[Bar, ...]
    kinds: tuple[tuple[str, int], ...]
    steps: tuple[Bar, ...]
    left_out: int


def timeline(run: Run, now: int) -> Timeline:
    """Draw a run; of one that goes on, what there is of it. `now` is Unix time in seconds."""
    end = _end(run, now)
    start = min([run.began, *(step.began for step in run.steps)])
    ruler = _Ruler(start, max(1, end - start), end)
    longest = set(sorted(run.steps, key=lambda step: step.began - ruler.until(step))[:MOST])
    shown = [step for step in run.steps if step in longest]
    return Timeline(
        took=end - start,
        owners=_owners(run.steps, ruler),
        kinds=_kinds(run.steps, ruler),
        steps=tuple(ruler.step(step) for step in shown),
        left_out=len(run.steps) - len(shown),
    )


@dataclass(frozen=True)
class _Ruler:
    start: int
    length: int
    end: int

    def until(self, step: Step) -> int:
        """The end of a step; one that never ended lasts as long as its run."""
        return self.end if step.ended is None else step.ended

    def bar(self, name: str, what: str, state: str, began: int, ended: int) -> Bar:
        left = round((began - self.start) * 100 / self.length, 2)
        width = max(THINNEST, round((ended - began) * 100 / self.length, 2))
        return Bar(name, what, state, began - self.start, ended - began, min(left, 100 - THINNEST), width)

    def step(self, step: Step) -> Bar:
        """One step."""
        return self.bar(step.name, step.op, _state(step), step.began, self.until(step))


def _end(run: Run, now: int) -> int:
    if run.outcome == "running":
        return now
    return max([run.ended or run.began, *(step.ended or step.began for step in run.steps)])


def _state(step: Step) -> str:
    return "failed" if step.failed else ("done" if step.ended is not None else "not ended")


def _owners(steps: Sequence[Step], ruler: _Ruler) -> tuple[Bar, ...]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        found.setdefault(step.owner or step.name, []).append(step)
    return tuple(_owner(name, mine, ruler) for name, mine in found.items())


def _owner(name: str, steps: Sequence[Step], ruler: _Ruler) -> Bar:
    states = {_state(step) for step in steps}
    state = next(word for word in ("failed", "not ended", "done") if word in states)
    count = f"{len(steps)} step{'s' if len(steps) > 1 else ''}"
    whole = ruler.bar(name, count, state, min(s.began for s in steps), max(ruler.until(s) for s in steps))
    return replace(whole, parts=tuple(ruler.step(step) for step in steps))


def _kinds(steps: Sequence[Step], ruler: _Ruler) -> tuple[tuple[str, int], ...]:
    kinds = {step.kind for step in steps}
    lasted = {kind: _union((s.began, ruler.until(s)) for s in steps if s.kind == kind) for kind in kinds}
    return tuple(sorted(((kind, seconds) for kind, seconds in lasted.items() if seconds), key=lambda it: (-it[1], it)))


def _union(stretches: Iterable[tuple[int, int]]) -> int:
    """How long at least one of them lasted: four flashes side by side take the time of one."""
    total, reached = 0, 0
    for began, ended in sorted(stretches):
        total += max(0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
