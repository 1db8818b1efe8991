"""What people and machines get: a table, `results.json`, and a plot."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Ratio

FOLDER = Path(__file__).parent
_SIZE = re.compile(r"(\d+) nodes")


def show(ratios: Sequence[Ratio]) -> None:
    """Print the table."""
    table = Table(title="Ratios within one run; the median is held against the bound")
    for name in ("measure", "min", "median", "max", "bound", "", "made of"):
        table.add_column(name, justify="left" if name in ("measure", "made of", "") else "right")
    for ratio in ratios:
        numbers = [f"{value:.2f}" for value in (min(ratio.values), ratio.median, max(ratio.values))]
        bound = "" if ratio.bound is None else f"{'>=' if ratio.at_least else '<='} {ratio.bound:g}"
        verdict = {True: "holds", False: "MISSED", None: ""}[ratio.holds]
        table.add_row(ratio.name, *numbers, bound, verdict, ratio.note)
    Console(width=None if os.isatty(1) else 200).print(table)


def write(ratios: Sequence[Ratio], folder: Path = FOLDER, name: str = "results") -> list[Path]:
    """Write `results.json` and, where matplotlib is installed, `results.png`; gives what was written.

    What was not measured this time keeps its last result. Each says when it was taken, and what load was then: with
    other work beside it, seconds are noise.
    """
    results = folder / f"{name}.json"
    machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
    taken = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "load": list(os.getloadavg())}
    known = _known(results) | {ratio.name: {**ratio.as_json(), "taken": taken} for ratio in ratios}
    document: dict[str, Any] = {"machine": machine, "ratios": [known[key] for key in sorted(known, key=_order)]}
    results.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return [results, *_plot([Ratio.from_json(item) for item in document["ratios"]], folder / f"{name}.png")]


def _known(results: Path) -> dict[str, Any]:
    if not results.exists():
        return {}
    return {item["name"]: item for item in json.loads(results.read_text(encoding="utf-8"))["ratios"]}


def _order(name: str) -> tuple[str, int]:
    size = _SIZE.search(name)
    return (_SIZE.sub("", name), int(size[1]) if size else 0)


def _plot(ratios: Sequence[Ratio], path: Path) -> list[Path]:
    """Each ratio with its spread and its bound, and the seconds of growing labs."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  # only a developer's virtualenv has it
    except ImportError:
        return []
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 1.5 + 0.4 * max(len(ratios), 6)))
    for row, ratio in enumerate(reversed(ratios)):
        colour = "tab:red" if ratio.holds is False else "tab:blue"
        left.plot([min(ratio.values), max(ratio.values)], [row, row], color=colour, linewidth=3)
        left.plot(ratio.median, row, "o", color=colour)
        if ratio.bound is not None:
            left.plot(ratio.bound, row, "|", color="black", markersize=16)
    left.set_yticks(range(len(ratios)), [ratio.name for ratio in reversed(ratios)], fontsize=7)
    left.set_xlabel("ratio (bar: spread, dot: median, mark: bound)")
    curves = _curves(ratios)
    for kind, points in curves.items():
        right.plot([point[0] for point in points], [point[1] for point in points], "o-", label=kind)
    right.set(xscale="log", yscale="log", xlabel="nodes", ylabel="seconds (best of the repetitions)")
    if curves:
        right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return [path]


def _curves(ratios: Sequence[Ratio]) -> dict[str, list[tuple[int, float]]]:
    """Seconds over the number of nodes, ours and the floor's, for each kind that comes in several sizes."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for ratio in ratios:
        size = _SIZE.search(ratio.name)
        for key in ("ours_s", "floor_s"):
            seconds = ratio.parts.get(key)
            if size and isinstance(seconds, list):
                kind = f"{ratio.name.split(',')[0]}: {key.removesuffix('_s')}"
                curves.setdefault(kind, []).append((int(size[1]), min(seconds)))
    return curves
