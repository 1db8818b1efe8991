"""The program against its floor: `preview` with no change and cold `up`, at growing sizes, without any device.

The floor is a program with as many trivial dynamic resources and components on the same engine. Ours is the real
program over creates that answer at once (`bench.hollow`); that its state is what the real one makes is shown by the
preview itself, which has to find nothing to change, with every check and diff as they are.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.lab import BenchLab, Engine
from bench.measure import Effort, Ratio, Say

BOUND = 1.5
UP = ("up", "--yes", "--skip-preview")
PREVIEW = ("preview", "--expect-no-changes")
BIG = 64  # above it a cold `up` takes minutes: it is made once


def measure(effort: Effort, say: Say) -> list[Ratio]:
    """Ratios of cold `up` and of `preview` for every size."""
    return [ratio for nodes in effort.sizes for ratio in _size(nodes, effort, say)]


def _size(nodes: int, effort: Effort, say: Say) -> list[Ratio]:
    repeat = effort.repeat if nodes <= BIG else 1
    ups: list[tuple[float, float]] = []
    with _both(nodes) as (ours, floor):
        for turn in range(repeat):
            if turn:
                ours.run("stack", "rm", "--yes", "--force", "--preserve-config", "--stack", "twin")
                floor.run("stack", "rm", "--yes", "--force", "--preserve-config", "--stack", "twin")
                ours.create()
                floor.create()
            ups.append((ours.timed(*UP), floor.timed(*UP)))
            say(f"cold up, {nodes} nodes: {ups[-1][0]:.1f} s, floor {ups[-1][1]:.1f} s")
        previews = [(ours.timed(*PREVIEW), floor.timed(*PREVIEW)) for _ in range(effort.repeat)]
        say(f"preview, {nodes} nodes: {previews[-1][0]:.2f} s, floor {previews[-1][1]:.2f} s")
        sizes = {
            "state_bytes": ours.state_bytes(),
            "floor_state_bytes": floor.state_bytes(),
            "resources": ours.resources(),
            "floor_resources": floor.resources(),
        }
    return [
        _ratio(f"preview, nothing changed, {nodes} nodes, over its floor", previews, sizes),
        _ratio(f"cold up without devices, {nodes} nodes, over its floor", ups, sizes),
    ]


def _ratio(name: str, pairs: list[tuple[float, float]], sizes: dict[str, int]) -> Ratio:
    ours, floor = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    note = f"{min(ours):.1f} s over {min(floor):.1f} s"
    parts = {"ours_s": ours, "floor_s": floor, **sizes}
    return Ratio(name, tuple(a / b for a, b in pairs), BOUND, note=note, parts=parts)


@contextmanager
def _both(nodes: int) -> Iterator[tuple[Engine, Engine]]:
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as name:
        lab = BenchLab(Path(name) / "ours", nodes=nodes, hollow=True).prepare()
        below = Path(name) / "floor"
        shutil.copytree(Path(__file__).parent / "floor", below, ignore=shutil.ignore_patterns("__pycache__"))
        yield lab.engine().create(), Engine(below, {"FLOOR_NODES": str(nodes)}).create()
