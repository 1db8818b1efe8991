"""A cold `up` on the twin, over what its devices took."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench.bound import Bound, Log, bound
from bench.lab import BenchLab
from bench.measure import Effort, Ratio, Say

BOUND = 1.15


@contextmanager
def running(nodes: int, scale: float, *, instant: bool = False) -> Iterator[BenchLab]:
    """A lab whose twin runs, with blank disks; ended and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as name:
        lab = BenchLab(Path(name) / "lab", nodes=nodes, scale=scale, instant=instant).prepare()
        lab.start_twin()
        try:
            yield lab
        finally:
            lab.end()


def measure(effort: Effort, say: Say) -> list[Ratio]:
    """The makespan's ratio for each size."""
    return [_size(nodes, effort, say) for nodes in effort.labs]


def _size(nodes: int, effort: Effort, say: Say) -> Ratio:
    runs = [_once(nodes, effort.scale, say) for _ in range(effort.repeat)]
    values = tuple(took / least.total_s for took, least in runs)
    took, least = min(runs, key=lambda run: run[0])
    note = (
        f"{took:.0f} s over {least.total_s:.0f} s (flash queue {least.flash_s:.0f}, "
        f"boots and install {least.boot_s:.0f}, cluster {least.cluster_s:.0f}), a device second in {effort.scale} s"
    )
    parts = {"up_s": [run[0] for run in runs], "bound": [asdict(run[1]) for run in runs], "scale": effort.scale}
    return Ratio(f"cold up, {nodes} nodes, over its devices' longest chain", values, BOUND, note=note, parts=parts)


def _once(nodes: int, scale: float, say: Say) -> tuple[float, Bound]:
    with running(nodes, scale) as lab:
        took = lab.timed("up", "--yes")
        least = least_of(lab)
    say(f"cold up, {nodes} nodes on {lab.boards} boards: {took:.1f} s, devices {least.total_s:.1f} s")
    return took, least


def least_of(lab: BenchLab) -> Bound:
    """The lower bound of the run that a lab has seen."""
    times = lab.hardware["times"]
    return bound(lab.events(), times["service_s"] * lab.scale, times["kubelet_s"] * lab.scale)


def instant(effort: Effort, say: Say) -> list[Ratio]:
    """Cold `up` with every device time at zero: told beside what the real servers took of it. It has no bound."""
    ratios = []
    for nodes in effort.instant:
        runs = []
        for _ in range(effort.repeat):
            with running(nodes, 0.01, instant=True) as lab:
                took = lab.timed("up", "--yes")
                log = Log(lab.events())
            servers = max(log.at("node_ready", node) for node in log.nodes) - log.first("bootstrapped")
            say(f"cold up without device times, {nodes} nodes: {took:.1f} s, of it real servers {servers:.1f} s")
            runs.append((took, servers))
        took, servers = min(runs)
        note = f"{took:.1f} s over the {servers:.1f} s from the bootstrap to the last Ready node (real servers)"
        parts: dict[str, object] = {"up_s": [run[0] for run in runs], "servers_s": [run[1] for run in runs]}
        values = tuple(took / servers for took, servers in runs)
        ratios.append(
            Ratio(f"cold up, no device times, {nodes} nodes, over its servers", values, note=note, parts=parts)
        )
    return ratios
